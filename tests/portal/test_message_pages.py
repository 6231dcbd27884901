"""The pages of one message: what they need, what they say to browsers, and what the trail says of them."""

import asyncio
import os
import tracemalloc
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from relay.core.portal import PostKind
from relay.core.portal_drafts import Draft, DraftKind
from tests.support.portal_site import PAT

XSS = Path(__file__).parent / "xss"
MIB = 1024 * 1024


def a_message(attachment=b"%PDF-1.4", name="scan.pdf", kind="application/pdf"):
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Bcc"] = "Dr. Ada <doctor@clinic.example>", str(PAT), "hidden@clinic.example"
    mail["Subject"] = "Your result / März"
    mail.set_content("planted-text\n")
    mail.add_alternative("<p>planted-html</p><img src='https://evil.example/x.png'>", subtype="html")
    main, _, sub = kind.partition("/")
    mail.add_attachment(attachment, main, sub, filename=name)
    return mail.as_bytes()


async def reader(site, *, opened=True, **changes):
    values = {"content": a_message(), "subject": "Your result / März", "receipts": True} | changes
    deposit = await site.deposit(**values)
    browser = await site.browser().sign_in(deposit)
    await browser.get(f"/inbox/{deposit.id}")
    if opened:
        await browser.send(f"/inbox/{deposit.id}/open")
    return browser, deposit


async def events(site):
    await site.take()
    return [event.facts.get("event") or event.facts.get("fate") for event in site.events if event.kind != "account"]


async def test_a_message_is_shown_once_it_was_opened_by_a_post(site):
    browser, deposit = await reader(site, opened=False)
    assert "Open the message" in browser.page.text
    assert "planted" not in browser.page.text
    for path in ("frame", "part/4", "eml", "pdf", "reply", "forward"):
        assert (await browser.get(f"/inbox/{deposit.id}/{path}")).status_code == 404
    assert "read" not in await events(site)
    await browser.get(f"/inbox/{deposit.id}")
    await browser.send(f"/inbox/{deposit.id}/open")
    assert browser.path == f"/inbox/{deposit.id}"
    assert "letter-frame" in browser.page.text
    assert (await events(site)).count("read") == 1
    await browser.raw("POST", f"/inbox/{deposit.id}/open", data={"csrf": "x"})
    assert (await events(site)).count("read") == 1
    assert [post.kind for post in site.posts].count(PostKind.RECEIPT) == 1


async def test_the_frame_says_to_browsers_that_nothing_runs_and_nothing_is_fetched(site):
    browser, deposit = await reader(site)
    page = await browser.get(f"/inbox/{deposit.id}/frame")
    policy = page.headers["content-security-policy"]
    for word in ("default-src 'none'", "img-src data:", "sandbox ", "form-action 'none'", "frame-ancestors 'self'"):
        assert word in policy
    assert "allow-scripts" not in policy
    assert "script-src" not in policy  # so that default-src holds for it
    assert page.headers["x-frame-options"] == "SAMEORIGIN"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "planted-html" in page.text
    assert "evil.example" not in page.text


async def test_text_is_offered_beside_html(site):
    browser, deposit = await reader(site)
    assert "not shown" in browser.page.text  # pictures from elsewhere
    page = await browser.get(f"/inbox/{deposit.id}?view=text")
    assert "planted-text" in page.text
    assert "iframe" not in page.text


@pytest.mark.parametrize(
    ("name", "kind", "served"),
    [
        ("scan.pdf", "application/pdf", "application/pdf"),
        ("page.html", "text/html", "application/octet-stream"),
        ("x.svg", "image/svg+xml", "application/octet-stream"),
        ("r\u00e9sultat.jpg", "image/jpeg", "image/jpeg"),
    ],
)
async def test_a_file_leaves_as_a_download_with_a_safe_type(site, name, kind, served):
    browser, deposit = await reader(site, content=a_message(b"<script>x</script>", name, kind))
    page = await browser.get(f"/inbox/{deposit.id}/part/4")
    assert page.content == b"<script>x</script>"
    assert page.headers["content-type"] == served
    assert page.headers["content-disposition"].startswith("attachment;")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("index", ["0", "1", "2", "3", "99", "-1", "x", "4%00"])
async def test_only_files_can_be_saved_by_their_number(site, index):
    browser, deposit = await reader(site)
    assert (await browser.get(f"/inbox/{deposit.id}/part/{index}")).status_code == 404


async def test_the_copy_as_mail_is_the_message_without_hidden_recipients(site):
    browser, deposit = await reader(site)
    page = await browser.get(f"/inbox/{deposit.id}/eml")
    assert page.content == a_message_without_bcc(deposit, await whole(site, deposit))
    assert b"hidden@" not in page.content
    assert page.headers["content-type"] == "message/rfc822"
    assert "filename*=UTF-8''Your%20result%20-%20M%C3%A4rz.eml" in page.headers["content-disposition"]


async def whole(site, deposit):
    return b"".join([piece async for piece in site.rooms.deposits.content(deposit.id)])


def a_message_without_bcc(_deposit, content):
    return content.replace(b"Bcc: hidden@clinic.example\r\n", b"")


async def test_the_copy_as_pdf(site):
    browser, deposit = await reader(site)
    page = await browser.get(f"/inbox/{deposit.id}/pdf")
    assert page.content.startswith(b"%PDF-")
    assert page.headers["content-type"] == "application/pdf"
    assert page.headers["content-disposition"].startswith("attachment;")


async def test_the_trail_says_what_was_saved_and_a_head_saves_nothing(site):
    browser, deposit = await reader(site)
    for path in ("part/4", "eml", "pdf"):
        answer = await browser.raw("HEAD", f"/inbox/{deposit.id}/{path}")
        assert answer.status_code == 200
    assert "downloaded" not in await events(site)
    for path in ("part/4", "eml", "pdf"):
        await browser.get(f"/inbox/{deposit.id}/{path}")
    assert (await events(site)).count("downloaded") == 3
    forms = [event.facts["form"] for event in site.events if event.facts.get("event") == "downloaded"]
    assert forms == ["attachment", "eml", "pdf"]


@pytest.mark.parametrize("name", [path.name for path in sorted(XSS.glob("*.eml"))])
async def test_pages_of_hostile_messages_hold_no_markup_of_theirs(site, name):
    subject = "<script>top.owned=1</script>"
    browser, deposit = await reader(
        site, content=(XSS / name).read_bytes(), subject=subject, origin_from='"><svg onload=x> <e@vil.example>'
    )
    for path in (f"/inbox/{deposit.id}", f"/inbox/{deposit.id}?view=text", "/inbox", f"/inbox/{deposit.id}/reply"):
        page = await browser.get(path)
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert "<svg" not in page.text
        assert "onload=x>" not in page.text.replace("&gt;", "")


async def test_a_damaged_message_is_said_to_be_damaged(site):
    content = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!! nothing\r\n"
    browser, _ = await reader(site, content=content)
    assert "could not show all" in browser.page.text


async def test_a_draft_that_cannot_be_opened_keeps_nobody_from_reading(site, capsys):
    """It is damaged, or a newer version on another node kept it, with a field that this one does not know."""
    browser, deposit = await reader(site)
    values = {"id": "draft-1", "post_id": "01J00000000000000001", "saved_at": site.clock()}
    kept = await site.drafts.save(Draft(deposit_id=deposit.id, kind=DraftKind.REPLY, **values))
    newer = site.rooms.vault.seal("portal-draft", kept.id, b'{"id": "x", "novel": 1}')
    await site.drafts._database.transact(lambda cursor: cursor.run("UPDATE drafts SET sealed = ?", newer))
    page = await browser.get(f"/inbox/{deposit.id}")
    assert page.status_code == 200
    assert "planted-text" in (await browser.get(f"/inbox/{deposit.id}?view=text")).text
    assert (await browser.get(f"/inbox/{deposit.id}/reply")).status_code == 409
    told = capsys.readouterr().out
    assert "portal_draft_unreadable" in told
    assert "a newer version" in told


async def test_no_message_at_all_is_a_page_without_text(site):
    browser, deposit = await reader(site, content=b"")
    assert "has no text" in browser.page.text
    assert (await browser.get(f"/inbox/{deposit.id}/pdf")).status_code == 200
    assert (await browser.get(f"/inbox/{deposit.id}/eml")).status_code == 200
    assert (await browser.get(f"/inbox/{deposit.id}/frame")).status_code == 200


async def test_a_large_attachment_streams_without_being_held(site):
    """8 MiB leave, and no more than 3 are ever held: what is held does not grow with what leaves."""
    octets = os.urandom(8 * MIB)
    browser, deposit = await reader(site, content=a_message(octets))
    taken = 0

    async def send(message):
        nonlocal taken
        taken += len(message.get("body", b""))

    request = browser.client.build_request("GET", f"/inbox/{deposit.id}/part/4")
    path = request.url.path
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("192.0.2.7", 50000), "server": ("secure.clinic.example", 443),
    }  # fmt: skip

    async def receive():
        await asyncio.Event().wait()  # the browser neither sends more nor goes away

    tracemalloc.start()
    try:
        await site.app(scope, receive, send)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken == len(octets)
    assert most < 3 * MIB
