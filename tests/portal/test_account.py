"""What people set beside the mailed code: each change is mailed, needs a fresh sign-in, and ends other sessions."""

import hashlib
import json
import re

import pytest

from relay.core.portal import PostKind, Secret
from relay.core.portal_accounts import Factor
from relay.portal.totp import STEP, hotp
from tests.support.authenticator import Authenticator
from tests.support.portal_site import NOW, PAT, QUICK, a_site, said_in

PHRASE = "correct horse battery"


async def signed_in(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    await site.take()
    return browser


async def told(site) -> str:
    """What the mailbox was told by the one mail since."""
    [post] = await site.take()
    assert (post.kind, post.recipients) == (PostKind.ENROLLED, (PAT,))
    return said_in(post)


async def set_phrase(browser, phrase=PHRASE, **fields):
    await browser.get("/account/passphrase")
    return await browser.send("/account/passphrase", new=phrase, again=phrase, **fields)


async def set_app(browser, *, now) -> str:
    await browser.get("/account/totp")
    secret = re.search(r"secret=([A-Z2-7]+)", browser.page.text)[1]
    await browser.send("/account/totp", totp=hotp(secret, int(now) // STEP))
    return secret


async def set_passkey(browser, device, **changes):
    await browser.get("/account/passkey")
    form = browser.form("/account/passkey")
    answer = device.create(form.attributes["data-options"])
    return await browser.send("/account/passkey", **({"credential": answer, "name": "My phone"} | changes))


# --- setting


async def test_a_passphrase_is_set_mailed_and_kept_as_a_hash(site):
    browser = await signed_in(site)
    await set_phrase(browser)
    assert "Your change is saved" in browser.page.text
    assert "A passphrase was set" in await told(site)
    account = await site.account()
    assert account.passphrase.startswith("$argon2id$")
    assert account.factors == {Factor.PASSPHRASE}


async def test_changing_a_passphrase_takes_the_old_one(site):
    browser = await signed_in(site)
    await set_phrase(browser)
    before = (await site.account()).passphrase
    assert (await set_phrase(browser, "another horse battery", current="wrong horse battery")).status_code == 400
    assert (await site.account()).passphrase == before
    await set_phrase(browser, "another horse battery", current=PHRASE)
    assert "Your change is saved" in browser.page.text
    assert (await site.account()).passphrase != before


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("short", "at least 12 characters"),
        ("x" * 257, "no more than 256 characters"),
        ("aaaaaaaaaaaaaa", "on a list of stolen ones"),
        ("abcdefghijklmnop", "on a list of stolen ones"),
        ("pat@mail.example1", "on a list of stolen ones"),
        ("zebra piano lamp", "on a list of stolen ones"),
    ],
)
async def test_weak_passphrases_are_refused_with_a_reason(tmp_path, phrase, words):
    breached = tmp_path / "breached.txt"
    breached.write_text(hashlib.sha1(b"zebra piano lamp").hexdigest().upper() + ":17\n")
    import dataclasses

    async with a_site(tmp_path, passphrase=dataclasses.replace(QUICK, breached=breached)) as site:
        browser = await signed_in(site)
        page = await set_phrase(browser, phrase)
        assert page.status_code == 400
        assert words in page.text
        assert phrase not in page.text.replace(str(PAT), "") or phrase in str(PAT)
        assert (await site.account()).factors == frozenset()
        assert await site.take() == []


async def test_the_two_must_be_the_same(site):
    browser = await signed_in(site)
    await browser.get("/account/passphrase")
    page = await browser.send("/account/passphrase", new=PHRASE, again="correct horse batteri")
    assert page.status_code == 400
    assert "not the same" in page.text


async def test_an_app_counts_from_its_first_code_on(site):
    browser = await signed_in(site)
    await browser.get("/account/totp")
    assert 'src="data:image/png;base64,' in browser.page.text
    key = re.search(r"secret=([A-Z2-7]+)", browser.page.text)[1]
    page = await browser.send("/account/totp", totp="000000")
    assert page.status_code == 400
    assert re.search(r"secret=([A-Z2-7]+)", page.text)[1] == key, "the key that was typed stays"
    await browser.send("/account/totp", totp=hotp(key, int(NOW) // STEP))
    assert "An app with codes was set up" in await told(site)
    account = await site.account()
    assert (account.totp, account.totp_step) == (key, int(NOW) // STEP)


async def test_a_key_that_waited_too_long_is_made_anew(site):
    browser = await signed_in(site)
    await browser.get("/account/totp")
    form = browser.form("/account/totp")
    site.clock.now += 599
    key = re.search(r"secret=([A-Z2-7]+)", browser.page.text)[1]
    site.clock.now += 1
    answer = await browser.raw(
        "POST", "/account/totp", data=form.fields | {"totp": hotp(key, int(site.clock.now) // STEP)}
    )
    assert answer.status_code == 303
    assert (await site.account()).totp == ""


async def test_a_passkey_is_made_for_this_host_and_mailbox(site):
    browser = await signed_in(site)
    await browser.get("/account/passkey")
    options = json.loads(browser.form("/account/passkey").attributes["data-options"])
    assert options["rp"]["id"] == "secure.clinic.example"
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert options["user"]["name"] == str(PAT)
    await set_passkey(browser, Authenticator())
    assert "A passkey was added" in await told(site)
    [key] = (await site.account()).passkeys
    assert (key.name, key.created_at) == ("My phone", NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"credential": ""},
        {"credential": "{}"},
        {"credential": "[]"},
        {"credential": '{"id": 1}'},
        {"credential": '{"id":"x","rawId":"x","type":"public-key","response":{}}'},
        {"credential": "x" * 20_000},
        {"ticket": ""},
        {"ticket": "AAAA"},
    ],
)
async def test_what_is_no_passkey_is_none(site, wrong):
    browser = await signed_in(site)
    page = await set_passkey(browser, Authenticator(), **wrong)
    assert page.status_code == 400
    assert (await site.account()).passkeys == ()
    assert await site.take() == []


@pytest.mark.parametrize(
    "device", [Authenticator(origin="https://secure.clinic.example.evil"), Authenticator(verifies=False)]
)
async def test_a_passkey_of_another_origin_or_without_its_user_is_none(site, device):
    browser = await signed_in(site)
    assert (await set_passkey(browser, device)).status_code == 400
    assert (await site.account()).passkeys == ()


async def test_ten_passkeys_are_enough(site):
    browser = await signed_in(site)
    for _ in range(10):
        assert (await set_passkey(browser, Authenticator())).status_code == 200
    assert (await set_passkey(browser, Authenticator())).status_code == 400
    assert len((await site.account()).passkeys) == 10


# --- removing


async def test_each_way_can_be_removed_and_is_mailed(site):
    browser = await signed_in(site)
    await set_phrase(browser)
    await set_app(browser, now=site.clock())
    await set_passkey(browser, Authenticator())
    await site.take()
    [key] = (await site.account()).passkeys
    for fields, words in (
        ({"way": "passphrase"}, "The passphrase was removed"),
        ({"way": "totp"}, "The app with codes was removed"),
        ({"way": "passkey", "id": key.id}, "A passkey was removed"),
    ):
        await browser.get("/account")
        form = browser.form("/account/remove", **fields)
        browser.page = await browser.client.post("/account/remove", data=form.fields, follow_redirects=True)
        assert "It is removed" in browser.page.text
        assert words in await told(site)
    assert (await site.account()).factors == frozenset()


@pytest.mark.parametrize("fields", [{}, {"way": "passphrase"}, {"way": "passkey", "id": "x"}, {"way": "x"}])
async def test_what_is_not_there_cannot_be_removed(site, fields):
    browser = await signed_in(site)
    await browser.get("/account")
    answer = await browser.raw("POST", "/account/remove", data={"csrf": browser.csrf} | fields)
    assert answer.status_code == 400
    assert await site.take() == []


# --- what changing takes, and what it ends


@pytest.mark.parametrize("path", ["/account/passphrase", "/account/totp", "/account/passkey"])
async def test_ways_are_changed_shortly_after_signing_in_or_after_proving_it_again(site, path):
    browser = await signed_in(site)
    site.clock.now += 600
    await browser.get(path)
    assert browser.path == "/sign-in"
    await site.browser().sign_in(await site.deposit())


async def test_a_factor_proves_it_again(site):
    browser = await signed_in(site)
    await set_phrase(browser)
    site.clock.now += 600
    await browser.get("/account/totp")
    assert browser.path == "/sign-in/second"
    await browser.send("/sign-in/second", passphrase=PHRASE)
    assert browser.path == "/account/totp"


async def test_a_change_ends_all_other_sessions_and_forgets_other_devices(site):
    deposit = await site.deposit()
    mine, other = await site.browser().sign_in(deposit), await site.browser().sign_in(deposit)
    await other.get("/inbox")
    assert other.path == "/inbox"
    await set_phrase(mine)
    await other.get("/inbox")
    assert other.path == "/sign-in"
    await mine.get("/account")
    assert mine.path == "/account"
    assert mine.page.text.count("Last seen") == 1


async def test_of_two_changes_at_once_one_is_refused(site):
    browser = await signed_in(site)
    await browser.get("/account/passphrase")
    form = browser.form("/account/passphrase")
    real = site.rooms.accounts.account

    async def stale(mailbox):
        account = await real(mailbox)
        await site.rooms.accounts.save(account)
        return account

    site.rooms.accounts.account = stale
    answer = await browser.raw("POST", "/account/passphrase", data=form.fields | {"new": PHRASE, "again": PHRASE})
    assert answer.status_code == 409
    site.rooms.accounts.account = real
    assert (await site.account()).factors == frozenset()
    assert await site.take() == []


# --- devices


async def test_devices_are_listed_and_signed_out(site):
    deposit = await site.deposit()
    mine, other = await site.browser().sign_in(deposit), await site.browser().sign_in(deposit)
    await mine.get("/account")
    assert mine.page.text.count("Firefox, Linux") == 2
    devices = await site.rooms.accounts.devices(PAT)
    session = await site.rooms.accounts.session(
        hashlib.sha256(mine.client.cookies["__Host-session"].encode()).hexdigest(), now=NOW
    )
    [theirs] = [device for device in devices if device.id != session.device]
    browser_form = mine.form("/account/devices", id=theirs.id)
    mine.page = await mine.client.post("/account/devices", data=browser_form.fields, follow_redirects=True)
    assert mine.page.text.count("Firefox, Linux") == 1
    await other.get("/inbox")
    assert other.path == "/sign-in"


async def test_all_other_devices_at_once(site):
    deposit = await site.deposit()
    mine, other = await site.browser().sign_in(deposit), await site.browser().sign_in(deposit)
    await site.take()
    await mine.get("/account")
    [form] = [form for form in mine.forms() if form.action == "/account/devices" and "id" not in form.fields]
    mine.page = await mine.client.post("/account/devices", data=form.fields, follow_redirects=True)
    assert mine.path == "/account"
    assert "signed out" in await told(site)
    await other.get("/inbox")
    assert other.path == "/sign-in"


# --- what messages ask for


async def test_a_message_may_ask_for_a_factor_before_it_is_read(site):
    deposit = await site.deposit(secret=Secret.ENROLLED, subject="planted-subject")
    browser = await site.browser().sign_in(deposit)
    await browser.get(f"/inbox/{deposit.id}")
    assert (browser.path, "must" in str(browser.page.url.query)) == ("/account/choose", True)
    assert "The sender asks for more safety" in browser.page.text
    assert "Not now" not in browser.page.text
    page = await browser.get("/inbox")
    assert "planted-subject" not in page.text
    await browser.get(f"/account/passphrase?next=/inbox/{deposit.id}")
    form = browser.form("/account/passphrase")
    answer = await browser.raw("POST", "/account/passphrase", data=form.fields | {"new": PHRASE, "again": PHRASE})
    assert answer.headers["location"] == f"/inbox/{deposit.id}"
    assert "planted-subject" in (await browser.get("/inbox")).text
