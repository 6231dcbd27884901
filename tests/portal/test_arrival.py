"""The way in by a link: a page with a button, a mailed code, a session."""

from relay.core.portal import DepositState, PostKind
from tests.support.portal_site import PAT, text_of


async def test_the_whole_way_from_link_to_inbox(site):
    deposit = await site.deposit()
    browser = site.browser()
    page = await browser.get(f"/m/{deposit.id}")
    assert page.status_code == 200
    await browser.send(f"/m/{deposit.id}/code")
    assert browser.path == f"/m/{deposit.id}/code"
    [post] = await site.take()
    assert (post.kind, post.recipients, post.deposit_id) == (PostKind.CODE, (PAT,), deposit.id)
    code = text_of(post).split(": ")[1][:9]
    await browser.send(f"/m/{deposit.id}/open", code=code)
    assert browser.path == "/account/choose"
    assert (await browser.get("/inbox")).status_code == 200
    assert "planted-subject" not in text_of(post)
    assert "Your result" in browser.page.text
