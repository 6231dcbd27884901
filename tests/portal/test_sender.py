"""What senders see and do: proved by a code that is mailed to the address that they sent from."""

import re
from dataclasses import replace
from datetime import datetime

import pytest

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.portal import DepositState, PostKind, Secret
from relay.core.portal_accounts import Account
from relay.portal.sender.links import PATH, message_of, token_of
from tests.support.portal_site import PAT, code_in, text_of

DOCTOR = Address.parse("doctor@clinic.example")
OTHER = Address.parse("other@clinic.example")
DAY = 86_400.0


async def the_code(site):
    [post] = [post for post in await site.take() if post.kind is PostKind.SENDER_CODE]
    assert post.recipients == (DOCTOR,)
    return code_in(post)


async def at(site, deposit, **options):
    """A browser of the sender's, at the page of what they sent."""
    browser = site.browser(**options)
    link = PATH + token_of(site.rooms.vault, deposit.message_id)
    await browser.get(link)
    await browser.send("/sent")
    await browser.send("/sent/code", code=await the_code(site))
    assert browser.path == link
    return browser


async def does(browser, what, deposit, **fields):
    form = browser.form(browser.path, do=what, number=str(deposit.number))
    return await browser.send_form(form, **fields)


def facts(page):
    """Each moment that a page names, as unix seconds, to the second."""
    found = re.findall(r'<dt>([^<]+)</dt><dd><time datetime="([^"]+)"', page.text)
    return {words: datetime.fromisoformat(at).timestamp() for words, at in found}


async def events(site):
    await site.take()
    return [
        (event.facts.get("event") or event.facts.get("fate"), event.facts.get("sender"))
        for event in site.events
        if event.facts.get("sender")
    ]


async def test_a_receipt_leads_to_what_became_of_the_message(site):
    deposit = await site.deposit(receipts=True)
    await site.rooms.ledger.notified(deposit.message_id, deposit.number)
    [receipt] = [post for post in await site.take() if post.kind is PostKind.RECEIPT]
    link = re.search(r"https://\S+(/sent/m/\S+)", text_of(receipt))[1]
    assert message_of(site.rooms.vault, link.removeprefix(PATH)) == deposit.message_id
    browser = site.browser()
    page = await browser.get(link)
    assert str(PAT) not in page.text
    assert await site.take() == []
    await browser.send("/sent")
    page = await browser.send("/sent/code", code=await the_code(site))
    assert browser.path == link
    assert str(PAT) in page.text
    assert "took our notice" in page.text
    assert "Not read yet" in page.text
    assert deposit.subject not in page.text


async def test_a_sender_sees_each_step(site):
    deposit = await site.deposit()
    browser = await at(site, deposit)
    seen = []
    for step in ("opened", "downloaded"):
        there = await site.rooms.deposits.find(deposit.id)
        await (site.rooms.ledger.opened(there) if step == "opened" else site.rooms.ledger.downloaded(there, "pdf"))
        seen.append((await browser.get(browser.path)).text)
    assert "First read" in seen[0]
    assert "First saved" not in seen[0]
    assert "First saved" in seen[1]
    post = site.rooms.mails.not_me(deposit, now=site.clock())[0]
    await site.rooms.ledger.answered(deposit, replace(post, kind=PostKind.REPLY))
    assert "First answered" in (await browser.get(browser.path)).text
    site.clock.now = deposit.expires_at - 60
    other = await at(site, deposit)
    site.clock.now = deposit.expires_at
    page = await other.get(other.path)
    assert "Its time is over" in page.text
    assert "Take the message back" not in page.text
    assert facts(page)["Its time ended"] == int(deposit.expires_at)


async def test_a_sender_sees_until_when_it_can_be_taken_back_and_when_it_was(site):
    deposit = await site.deposit()
    browser = await at(site, deposit)
    page = await browser.get(browser.path)
    assert facts(page)["Can be read, and taken back, until"] == int(deposit.expires_at)
    site.clock.now += 600
    await does(browser, "recall", deposit)
    page = await does(browser, "recall", deposit)
    assert facts(page)["Taken back"] == int(site.clock.now)
    assert "Can be read, and taken back, until" not in facts(page)


async def test_a_sender_sees_when_a_notice_was_given_up(site):
    deposit = await site.deposit()
    browser = await at(site, deposit)
    site.clock.now += 600
    assert await site.rooms.ledger.withdrawn(deposit.message_id, deposit.number)
    assert facts(await browser.get(browser.path))["Notice given up"] == int(site.clock.now)


async def test_recall_is_asked_about_once_and_audited_with_the_sender(site):
    deposit = await site.deposit()
    browser = await at(site, deposit)
    await does(browser, "recall", deposit)
    assert (await site.rooms.deposits.find(deposit.id)).state is DepositState.WAITING
    page = await does(browser, "recall", deposit)
    assert "The message was taken back" in page.text
    assert (await site.rooms.deposits.find(deposit.id)).state is DepositState.RECALLED
    assert ("recalled", str(DOCTOR)) in await events(site)


async def test_extend_resend_and_the_secret(site):
    deposit = await site.deposit(secret=Secret.SHARED)
    browser = await at(site, deposit)
    assert "can be read for longer" in (await does(browser, "extend", deposit, days="90")).text
    assert (await site.rooms.deposits.find(deposit.id)).expires_at == site.clock() + 90 * DAY
    await does(browser, "extend", deposit, days="7")
    assert (await site.rooms.deposits.find(deposit.id)).expires_at == site.clock() + 90 * DAY
    assert "choose one of the times" in (await does(browser, "extend", deposit, days="4000")).text
    assert "letters or digits" in (await does(browser, "secret", deposit, secret="abc")).text
    assert "secret word is set" in (await does(browser, "secret", deposit, secret="blue heron")).text
    for _ in range(site.rooms.options.limits.sender_notices.most):
        assert "on its way again" in (await does(browser, "resend", deposit)).text
    notices = [post for post in await site.take() if post.kind is PostKind.NOTICE]
    assert [post.recipients for post in notices] == [(PAT,)] * len(notices)
    assert notices
    assert (await does(browser, "resend", deposit)).status_code == 429
    done = {what for what, _ in await events(site)}
    assert done >= {"extended", "resent", "secret-set"}
    assert "sender-signed-in" in [event.facts.get("event") for event in site.events]
    assert "heron" not in repr(site.events)
    reader = await site.browser().sign_in(deposit)
    await reader.get(f"/inbox/{deposit.id}/secret")
    await reader.send(f"/inbox/{deposit.id}/secret", secret="Blue Heron")
    assert reader.path == f"/inbox/{deposit.id}"


async def test_a_recovery_is_approved_for_this_sender_alone(site):
    mine, theirs = await site.deposit(), await site.deposit(message_id="m2", sender=ReversePath(OTHER))
    account = Account(mailbox=PAT, handle="h" * 43, created_at=0.0, hidden_before=site.clock())
    assert await site.rooms.accounts.save(account)
    browser = await at(site, mine)
    await does(browser, "approve", mine)
    assert not (await site.account()).may_see(mine)
    await does(browser, "approve", mine, sure="yes")
    assert (await site.account()).may_see(mine)
    assert not (await site.account()).may_see(theirs)
    assert ("approved", str(DOCTOR)) in await events(site)


async def test_the_list_is_found_by_typing_ones_address_and_shows_nobody_else_s(site):
    for number in range(3):
        await site.deposit(message_id=f"mine{number}", mailbox=Address.parse(f"p{number}@mail.example"))
    await site.deposit(message_id="theirs", sender=ReversePath(OTHER), mailbox=Address.parse("secret@mail.example"))
    browser = site.browser()
    await browser.get("/sent")
    await browser.send("/sent", email="Doctor@clinic.example")
    page = await browser.send("/sent/code", code=await the_code(site))
    assert browser.path == "/sent"
    assert re.findall(r"p\d@mail\.example", page.text) == [f"p{number}@mail.example" for number in (2, 1, 0)]
    assert "secret@mail.example" not in page.text
    page = await browser.get(re.search(r'href="(/sent/m/[^"]+)"', page.text)[1])
    assert "p2@mail.example" in page.text
    link = PATH + token_of(site.rooms.vault, "theirs")
    form = {"csrf": browser.csrf, "do": "recall", "number": "4", "sure": "yes"}
    assert (await browser.get(link)).status_code == 404
    assert (await browser.raw("POST", link, data=form)).status_code == 404


async def test_one_mailbox_is_one_sender_however_its_letters_are_written(site):
    older = await site.deposit(message_id="older", sender=ReversePath(Address.parse("Doctor@clinic.example")))
    browser = await at(site, await site.deposit(message_id="newer"))
    page = await browser.get("/sent")
    assert len(set(re.findall(r'href="(/sent/m/[^"]+)"', page.text))) == 2
    page = await browser.get(PATH + token_of(site.rooms.vault, older.message_id))
    assert (page.status_code, str(older.mailbox) in page.text) == (200, True)


async def test_it_opens_no_inbox_and_no_reader_s_code_opens_it(site):
    deposit = await site.deposit(mailbox=DOCTOR, sender=ReversePath(OTHER))
    mine = await site.deposit(message_id="mine")
    browser = await at(site, mine)
    await browser.get(f"/inbox/{deposit.id}")
    assert browser.path == "/sign-in"
    reader = await site.browser().sign_in(deposit)
    page = await reader.get("/sent")
    assert "Enter the email address" in page.text
    await reader.send("/sent", email=str(DOCTOR))
    sender_code = await the_code(site)
    await reader.get(f"/m/{mine.id}/code")
    page = await reader.send(f"/m/{mine.id}/open", code=sender_code)
    assert page.status_code == 400


async def test_nobody_learns_who_has_sent_anything(site):
    await site.deposit()
    pages = []
    for address in (str(DOCTOR), "nobody@clinic.example"):
        browser = site.browser()
        await browser.get("/sent")
        page = await browser.send("/sent", email=address)
        pages.append((page.status_code, str(page.url), re.sub(r'value="[0-9a-f]{64}"', "", page.text)))
    assert pages[0] == pages[1]
    assert [post.recipients for post in await site.take()] == [(DOCTOR,)]


@pytest.mark.parametrize("path", ["/sent", "/sent/code", "/sent/m/made-up", "/sent/out"])
async def test_a_get_mails_and_changes_nothing(site, path):
    deposit = await site.deposit()
    browser = site.browser()
    for link in (path, PATH + token_of(site.rooms.vault, deposit.message_id)):
        for method in ("GET", "HEAD"):
            await browser.raw(method, link)
    assert await site.take() == []
    assert site.events == []


async def test_a_post_needs_the_page_s_token_and_its_browser(site):
    deposit = await site.deposit()
    browser = await at(site, deposit)
    act = {"do": "recall", "number": str(deposit.number), "sure": "yes"}
    assert (await browser.raw("POST", browser.path, data=act)).status_code == 403
    thief = site.browser(network="198.51.100.9")
    await thief.get("/sent")
    stolen = browser.client.cookies.get("__Host-sender")
    thief.client.cookies.set("__Host-sender", stolen, domain="secure.clinic.example")
    page = await thief.raw("POST", browser.path, data=act | {"csrf": thief.csrf})
    assert "Send me a code" in page.text
    assert (await site.rooms.deposits.find(deposit.id)).state is DepositState.WAITING


async def test_it_ends_by_the_clock_and_by_signing_out(site):
    deposit = await site.deposit()
    browser = await at(site, deposit)
    link, held = browser.path, browser.client.cookies.get("__Host-sender")
    await browser.send("/sent/out")
    browser.client.cookies.set("__Host-sender", held, domain="secure.clinic.example")
    assert str(PAT) not in (await browser.get(link)).text
    browser = await at(site, deposit)
    site.clock.now += site.rooms.options.sessions.sender
    assert str(PAT) not in (await browser.get(link)).text


async def test_the_null_sender_has_no_pages(site):
    deposit = await site.deposit(sender=NULL_SENDER)
    browser = site.browser()
    await browser.get(PATH + token_of(site.rooms.vault, deposit.message_id))
    page = await browser.send("/sent")
    assert page.status_code == 400
    assert await site.take() == []


async def test_codes_have_the_budget_of_the_link(site):
    deposit = await site.deposit()
    link = PATH + token_of(site.rooms.vault, deposit.message_id)
    asked = []
    for _ in range(site.rooms.options.limits.codes_message.most + 1):
        browser = site.browser()
        await browser.get(link)
        asked.append((await browser.send("/sent")).status_code)
    assert asked == [200] * (len(asked) - 1) + [429]


def test_a_link_that_was_changed_leads_nowhere(site):
    vault = site.rooms.vault
    token = token_of(vault, "m1")
    assert message_of(vault, token) == "m1"
    for other in ("", "x", token[:-2], token[:-2] + ("AA" if token[-2:] != "AA" else "BB"), token * 9, "é"):
        assert message_of(vault, other) == ""
