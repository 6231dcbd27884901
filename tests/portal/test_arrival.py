"""The way in by a link: a page with a button, a mailed code, a session; and "this is not for me"."""

import dataclasses
import re

import pytest

from relay.core.address import NULL_SENDER, Address
from relay.core.portal import DepositState, PostKind
from tests.support.portal_site import NOW, PAT, PHONE, a_site, code_in, said_in, text_of

DOCTOR = Address.parse("doctor@clinic.example")


async def test_the_whole_way_from_link_to_inbox(site):
    deposit = await site.deposit()
    browser = site.browser()
    page = await browser.get(f"/m/{deposit.id}")
    assert page.status_code == 200
    await browser.send(f"/m/{deposit.id}/code")
    assert browser.path == f"/m/{deposit.id}/code"
    [post] = await site.take()
    assert (post.kind, post.recipients, post.deposit_id) == (PostKind.CODE, (PAT,), deposit.id)
    await browser.send(f"/m/{deposit.id}/open", code=code_in(post))
    assert browser.path == "/account/choose"
    assert (await browser.get("/inbox")).status_code == 200
    assert "Your result" in browser.page.text
    assert "Your result" not in text_of(post)


@pytest.mark.parametrize("typed", ["{}", " {} ", "{0[0]} {0[1]}{0[2]}{0[3]}{0[4]}-{0[5]}{0[6]}{0[7]}"])
async def test_a_code_may_be_typed_as_people_type(site, typed):
    deposit = await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}")
    await browser.send(f"/m/{deposit.id}/code")
    code = (await site.code()).replace(" ", "")
    await browser.send(f"/m/{deposit.id}/open", code=typed.format(code))
    assert browser.path == "/account/choose"


async def test_a_wrong_code_is_no_dead_end_for_a_page_that_is_loaded_anew_or_in_another_language(site):
    """A telephone that comes back from its mail program loads the page again: by GET, where a form had led."""
    deposit = await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}")
    await browser.send(f"/m/{deposit.id}/code")
    code = await site.code()
    page = await browser.send(f"/m/{deposit.id}/open", code="1")
    assert page.status_code == 400
    assert "<title>Please check: Enter your code" in page.text
    assert re.search(r'<input id="code"[^>]* aria-invalid="true" autofocus', page.text)
    for path in (f"/m/{deposit.id}/open", f"/m/{deposit.id}/open?lang=es"):
        assert (await browser.get(path)).status_code == 200
        assert f'action="/m/{deposit.id}/open"' in browser.page.text
    await browser.send(f"/m/{deposit.id}/open", code=code)
    assert browser.path == "/account/choose"


async def test_who_has_lost_the_mailbox_is_told_what_to_do(site):
    deposit = await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}")
    await browser.send(f"/m/{deposit.id}/code")
    assert "no longer yours? Please call the sender" in browser.page.text
    assert "no longer yours" not in (await browser.get("/sign-in/code")).text, "nobody has asked there by a link"


async def test_the_first_visit_offers_more_and_later_ones_lead_to_the_message(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    assert (browser.path, browser.page.url.query) == ("/account/choose", f"next=/inbox/{deposit.id}".encode())
    assert f'href="/inbox/{deposit.id}"' in browser.page.text
    await browser.get("/inbox")
    await browser.send("/sign-out")
    assert browser.path == "/signed-out"
    await browser.sign_in(deposit)
    assert browser.path == f"/inbox/{deposit.id}"


async def test_whoever_is_signed_in_goes_straight_to_the_message(site):
    deposit, other = await site.deposit(), await site.deposit(mailbox=Address.parse("sam@mail.example"))
    browser = await site.browser().sign_in(deposit)
    await browser.get(f"/m/{deposit.id}")
    assert browser.path == f"/inbox/{deposit.id}"
    await browser.get(f"/m/{deposit.id}/code")  # went back: the code that was there is used up
    assert browser.path == f"/inbox/{deposit.id}"
    for page in (f"/m/{other.id}", f"/m/{other.id}/code"):
        await browser.get(page)
        assert browser.path == page


async def test_a_new_device_is_mailed_and_a_known_one_is_not(site):
    deposit = await site.deposit()
    browser = site.browser(agent=PHONE)
    for mails in (1, 0):
        await browser.sign_in(deposit)
        posts = [post for post in await site.take() if post.kind is PostKind.ENROLLED]
        assert len(posts) == mails
        if posts:
            assert "Chrome, Android" in text_of(posts[0])
        await browser.get("/inbox")
        await browser.send("/sign-out")
    signed_in = [event.facts for event in site.events if event.facts.get("event") == "signed-in"]
    assert signed_in == [{"event": "signed-in", "recipients": [str(PAT)], "way": "code"}] * 2


async def test_mail_and_pages_speak_the_language_of_the_message_or_the_readers(site):
    deposit = await site.deposit(language="es")
    browser = site.browser(language="")
    await browser.get(f"/m/{deposit.id}")
    assert '<html lang="es">' in browser.page.text
    await browser.send(f"/m/{deposit.id}/code")
    [post] = await site.take()
    assert "Su código es:" in text_of(post)
    await browser.get(f"/m/{deposit.id}?lang=en")
    assert '<html lang="en">' in browser.page.text
    await browser.get(f"/m/{deposit.id}")
    assert '<html lang="en">' in browser.page.text, "what the reader chose stays"
    await browser.get(f"/m/{deposit.id}?lang=xx")
    assert '<html lang="en">' in browser.page.text
    assert browser.client.cookies["__Host-language"] == "en"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (DepositState.EXPIRED, "no longer here"),
        (DepositState.RECALLED, "taken back"),
        (DepositState.WITHDRAWN, "taken back"),
    ],
)
async def test_a_message_that_is_gone_says_so_and_mails_nothing(site, state, words):
    deposit = await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}")
    await site.rooms.deposits.change(dataclasses.replace(deposit, state=state), expected=deposit.state)
    page = await browser.send(f"/m/{deposit.id}/code")
    assert page.status_code == 410
    assert words in page.text
    assert await site.take() == []


async def test_a_message_past_its_time_is_gone_before_the_sweeper_comes(site):
    deposit = await site.deposit(expires_at=NOW + 100)
    browser = await site.browser().sign_in(deposit)
    site.clock.now = NOW + 100
    for path in (f"/m/{deposit.id}", f"/inbox/{deposit.id}/secret"):
        page = await browser.get(path)
        assert page.status_code == 410
    assert "Your result" not in (await browser.get("/inbox")).text


# --- this is not for me


async def test_not_me_by_the_link_asks_first_and_then_recalls_and_tells_the_sender(site):
    deposit, other = await site.deposit(), await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}/not-me")
    assert 'type="checkbox"' in browser.page.text
    await browser.send(f"/m/{deposit.id}/not-me")
    assert browser.path == f"/m/{deposit.id}/not-me"
    assert (await site.rooms.deposits.find(deposit.id)).state is DepositState.WAITING
    await browser.send(f"/m/{deposit.id}/not-me", sure="yes")
    assert browser.path == "/not-me"
    assert (await site.rooms.deposits.find(deposit.id)).state is DepositState.RECALLED
    assert (await site.rooms.deposits.find(other.id)).state is DepositState.WAITING
    [post] = await site.take()
    assert (post.kind, post.recipients) == (PostKind.RECEIPT, (DOCTOR,))
    words = said_in(post)
    assert "nobody had opened it" in words
    assert str(PAT) in words
    assert "Your result" not in words
    [fate] = [event for event in site.events if event.kind == "fate"]
    assert fate.facts["fate"] == "recalled"


async def test_not_me_from_inside_needs_one_press(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    await site.rooms.ledger.opened(deposit)
    await site.take()
    await browser.get(f"/inbox/{deposit.id}/not-me")
    await browser.send(f"/inbox/{deposit.id}/not-me")
    assert browser.path == "/not-me"
    [post] = await site.take()
    assert "it had been opened on 2026-03-02" in said_in(post)
    assert (await browser.get(f"/inbox/{deposit.id}/not-me")).status_code == 410


async def test_not_me_twice_tells_the_sender_once(site):
    deposit = await site.deposit()
    first, second = site.browser(), site.browser()
    for browser in (first, second):
        await browser.get(f"/m/{deposit.id}/not-me")
    await first.send(f"/m/{deposit.id}/not-me", sure="yes")
    assert (await second.send(f"/m/{deposit.id}/not-me", sure="yes")).status_code == 410
    assert len(await site.take()) == 1


async def test_the_null_sender_is_told_nothing(site):
    deposit = await site.deposit(sender=NULL_SENDER)
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}/not-me")
    await browser.send(f"/m/{deposit.id}/not-me", sure="yes")
    assert await site.take() == []
    assert (await site.rooms.deposits.find(deposit.id)).state is DepositState.RECALLED


async def test_what_a_genuine_notice_looks_like(site):
    page = await site.browser().get("/genuine")
    assert "portal@clinic.example" in page.text
    assert "https://secure.clinic.example/" in page.text


async def test_each_tenant_has_its_look(tmp_path):
    from relay.portal.brand import Brand

    brands = {"clinic": Brand(name="Riverside Clinic", phone="555 0100", accent="#aa0000", logo=b"\x89PNG logo")}
    async with a_site(tmp_path, brands=brands) as site:
        deposit = await site.deposit()
        browser = site.browser()
        page = await browser.get(f"/m/{deposit.id}")
        assert "Riverside Clinic" in page.text
        [style, logo] = [part.split('"')[0] for part in page.text.split('="')[1:] if part.startswith("/brand/")]
        assert "--accent" in (await browser.get(style)).text
        assert (await browser.get(logo)).content == b"\x89PNG logo"
        await browser.get(f"/m/{deposit.id}")
        await browser.send(f"/m/{deposit.id}/code")
        [post] = await site.take()
        assert b"From: Riverside Clinic <portal@clinic.example>" in post.content
        assert "Phone: 555 0100" in text_of(post)
        assert "Riverside" not in (await browser.get("/sign-in")).text
