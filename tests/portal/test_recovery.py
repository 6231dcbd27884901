"""Recovery without secret questions: older messages hide until their senders, or an operator, approve."""

import re

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.portal import PostKind
from relay.portal.passphrase import Passphrases
from relay.portal.recovery import approve_by_operator, sign_out_by_operator
from tests.support.authenticator import Authenticator
from tests.support.portal_site import PAT, QUICK, said_in, text_of

DOCTOR = Address.parse("doctor@clinic.example")
LAB = Address.parse("lab@lab.example")


async def lost(site):
    """Somebody with a passphrase and a passkey, two older messages of two senders and one of nobody."""
    deposit = await site.deposit(subject="planted-old")
    await site.deposit(subject="planted-lab", sender=ReversePath(LAB))
    await site.deposit(subject="planted-null", sender=NULL_SENDER)
    first = await site.browser().sign_in(deposit)
    await first.get("/account/passkey")
    form = first.form("/account/passkey")
    await first.send("/account/passkey", credential=Authenticator().create(form.attributes["data-options"]), name="x")
    await site.change_account(passphrase=await Passphrases(QUICK).hash("correct horse battery"))
    await site.take()
    site.clock.now += 1000
    return deposit


async def recovered(site):
    deposit = await lost(site)
    browser = await site.browser().sign_in(deposit)
    assert browser.path == "/sign-in/second"
    await site.take()
    await browser.get("/account/recovery")
    await browser.send("/account/recovery")
    assert browser.path == "/inbox"
    return deposit, browser


def link_in(post) -> str:
    return re.search(r"https://secure\.clinic\.example(/approve/\S+)", text_of(post))[1]


async def test_recovery_hides_what_is_older_and_shows_what_comes(site):
    deposit, browser = await recovered(site)
    assert "planted" not in browser.page.text
    assert "3 older messages are hidden" in browser.page.text
    page = await browser.get(f"/inbox/{deposit.id}/secret")
    assert page.status_code == 404
    assert "This message is hidden" in page.text
    await site.deposit(subject="planted-new", deposited_at=site.clock())
    assert "planted-new" in (await browser.get("/inbox")).text


async def test_recovery_removes_every_way_and_tells_the_mailbox_and_the_senders(site):
    await recovered(site)
    account = await site.account()
    assert account.factors == frozenset()
    assert account.hidden_before == site.clock()
    posts = await site.take()
    assert sorted(post.recipients[0].key for post in posts if post.kind is PostKind.RECEIPT) == [DOCTOR.key, LAB.key]
    mine = [said_in(post) for post in posts if post.recipients == (PAT,)]
    assert any("said that they had lost them" in words for words in mine)
    for post in posts:
        assert b"planted" not in post.content
    assert {"recovered", "signed-in"} <= {event.facts.get("event") for event in site.events}


async def test_recovery_ends_every_other_session_and_device(site):
    deposit = await lost(site)
    thief = await site.browser().sign_in(deposit)
    await thief.send("/sign-in/second", passphrase="correct horse battery")
    assert thief.path == f"/inbox/{deposit.id}"
    browser = await site.browser().sign_in(deposit)
    await browser.get("/account/recovery")
    await browser.send("/account/recovery")
    await thief.get("/inbox")
    assert thief.path == "/sign-in"
    assert len(await site.rooms.accounts.devices(PAT)) == 1


async def test_a_sender_approves_their_own_messages_by_a_link(site):
    _, browser = await recovered(site)
    [post] = [post for post in await site.take() if post.recipients == (DOCTOR,)]
    assert str(PAT) in text_of(post)
    doctor = site.browser(network="198.51.100.1")
    for method in ("GET", "HEAD", "GET"):
        assert (await doctor.raw(method, link_in(post))).status_code == 200
    assert "planted-old" not in (await browser.get("/inbox")).text
    await doctor.get(link_in(post))
    assert str(PAT) in doctor.page.text
    await doctor.send(link_in(post))
    assert doctor.path == link_in(post), "the box was not ticked"
    await doctor.send(link_in(post), sure="yes")
    assert doctor.path == "/approved"
    page = await browser.get("/inbox")
    assert "planted-old" in page.text
    assert "planted-lab" not in page.text
    assert "2 older messages are hidden" in page.text
    assert (await doctor.get(link_in(post))).status_code == 404
    await site.take()
    assert any(event.facts.get("sender") == DOCTOR.key for event in site.events)


async def test_a_link_of_a_recovery_before_the_last_approves_nothing(site):
    _, browser = await recovered(site)
    [post] = [post for post in await site.take() if post.recipients == (DOCTOR,)]
    await site.change_account(hidden_before=site.clock() + 1)
    doctor = site.browser()
    await doctor.get(link_in(post))
    assert (await doctor.send(link_in(post), sure="yes")).status_code == 404
    assert "planted" not in (await browser.get("/inbox")).text


async def test_an_operator_approves_all(site):
    _, browser = await recovered(site)
    assert await approve_by_operator(site.rooms.accounts, PAT, by="ops", now=site.clock())
    assert not await approve_by_operator(site.rooms.accounts, PAT, by="ops", now=site.clock())
    assert not await approve_by_operator(site.rooms.accounts, LAB, by="ops", now=site.clock())
    page = await browser.get("/inbox")
    assert page.text.count("planted") == 3
    await site.take()
    assert [event.facts["operator"] for event in site.events if event.facts.get("event") == "approved"] == ["ops"]


async def test_without_a_code_recovery_leads_to_one_and_comes_back(site):
    await lost(site)
    browser = site.browser()
    await browser.get("/account/recovery")
    assert "/sign-in?next=/account/recovery" in browser.page.text
    assert browser.forms() == []
    await browser.get("/sign-in?next=/account/recovery")
    await browser.send("/sign-in", email=str(PAT))
    await browser.send("/sign-in/code", code=await site.code())
    assert browser.path == "/account/recovery"
    await browser.send("/account/recovery")
    assert browser.path == "/inbox"


async def test_whoever_has_lost_nothing_hides_nothing(site):
    browser = await site.browser().sign_in(await site.deposit(subject="planted-old"))
    await browser.get("/account/recovery")
    await browser.send("/account/recovery")
    assert browser.path == "/inbox"
    assert "planted-old" in browser.page.text
    assert (await site.account()).hidden_before == 0


async def test_an_operator_ends_all_sessions(site):
    browser = await site.browser().sign_in(await site.deposit())
    await browser.get("/inbox")
    assert browser.path == "/inbox"
    assert await sign_out_by_operator(site.rooms.accounts, PAT, by="ops", now=site.clock()) == 1
    await browser.get("/inbox")
    assert browser.path == "/sign-in"
    await site.take()
    assert [event.facts["operator"] for event in site.events if event.facts.get("event") == "signed-out"] == ["ops"]
