"""Signing in without a link, the second factor, sessions and their ends."""

import re

import pytest

from relay.core.address import Address
from relay.core.portal import PostKind
from relay.portal.brand import Brand
from relay.portal.passphrase import Passphrases
from relay.portal.totp import STEP, hotp
from tests.support.authenticator import Authenticator
from tests.support.portal_site import NOW, PAT, QUICK, a_site, code_in

PHRASE = "correct horse battery"
TOTP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


async def with_code(site, browser, *, onward="") -> None:
    await browser.get("/sign-in" + (f"?next={onward}" if onward else ""))
    await browser.send("/sign-in", email=str(PAT))
    assert browser.path == "/sign-in/code"
    await browser.send("/sign-in/code", code=await site.code())


async def with_phrase(site) -> None:
    """An account that has a passphrase, and a deposit."""
    await site.browser().sign_in(await site.deposit())
    await site.change_account(passphrase=await Passphrases(QUICK).hash(PHRASE))
    await site.take()


def passkey_form(browser, action):
    [form] = [form for form in browser.forms() if form.action == action and "data-passkey" in form.attributes]
    return form


# --- a code


async def test_a_code_from_the_sign_in_page(site):
    await site.deposit()
    browser = site.browser()
    await with_code(site, browser)
    assert browser.path == "/account/choose"
    assert (await browser.get("/inbox")).status_code == 200


async def test_a_code_goes_to_the_mailbox_as_the_sender_wrote_it(site):
    await site.deposit()
    browser = site.browser()
    await browser.get("/sign-in")
    await browser.send("/sign-in", email=" PAT@Mail.Example ")
    [post] = await site.take()
    assert post.recipients == (PAT,)
    await browser.send("/sign-in/code", code=code_in(post))
    assert browser.path == "/account/choose"


async def test_where_people_wanted_to_go_they_come_after_signing_in(site):
    deposit = await site.deposit()
    await site.browser().sign_in(deposit)
    browser = site.browser()
    await browser.get(f"/inbox/{deposit.id}/secret")
    assert (browser.path, browser.page.url.query) == (
        "/sign-in",
        f"next=/inbox/{deposit.id}/secret".encode().replace(b"/", b"%2F"),
    )
    await browser.send("/sign-in", email=str(PAT))
    await browser.send("/sign-in/code", code=await site.code())
    await browser.get(re.search(r'href="(/inbox/[^"]*)">Not now', browser.page.text)[1])
    assert browser.path.startswith(f"/inbox/{deposit.id}")


@pytest.mark.parametrize(
    "onward",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/inbox/../m/x",
        "/inbox//evil.example",
        "/sign-out",
        "/inbox/a?x=1",
        "/inbox/a\r\nSet-Cookie: a=b",
        "javascript:alert(1)",
        "/account/x/y/z/a/b/c",
        "/inboxes",
    ],
)
async def test_nobody_is_led_elsewhere(site, onward):
    await site.deposit()
    browser = site.browser()
    await browser.get("/sign-in", params={"next": onward})
    form = browser.form("/sign-in", way="code")
    assert form.fields["next"] == "/inbox"
    answer = await browser.raw("POST", "/sign-in", data=form.fields | {"email": str(PAT), "next": onward})
    assert answer.headers["location"] == "/sign-in/code"
    code = await site.code()
    answer = await browser.raw(
        "POST", "/sign-in/code", data={"csrf": form.fields["csrf"], "code": code, "next": onward}
    )
    assert answer.headers["location"] == "/account/choose"


async def test_an_address_that_is_none_is_said_to_be_none(site):
    browser = site.browser()
    for typed in (
        "",
        "pat",
        "pat@",
        "@mail.example",
        "a b@c",
        "x" * 300 + "@mail.example",
        "pat@mail.example\r\nBcc: x@y",
    ):
        await browser.get("/sign-in")
        page = await browser.send("/sign-in", email=typed)
        assert page.status_code == 400
    assert await site.take() == []


# --- the second factor


async def test_a_passphrase_is_asked_for_after_the_code_and_nothing_shows_before(site):
    await with_phrase(site)
    browser = site.browser()
    await with_code(site, browser)
    assert browser.path == "/sign-in/second"
    for path in ("/inbox", "/account", "/account/passphrase", "/inbox/deposit-00000000000001/secret"):
        page = await browser.get(path)
        assert browser.path == "/sign-in/second"
        assert "Your result" not in page.text
    page = await browser.send("/sign-in/second", passphrase="wrong horse battery")
    assert (page.status_code, browser.path) == (400, "/sign-in/second")
    await browser.send("/sign-in/second", passphrase=f" {PHRASE} ")
    assert browser.path == "/inbox/deposit-00000000000001"
    devices = [post for post in await site.take() if post.kind is PostKind.ENROLLED]
    assert len(devices) == 1


async def test_a_code_of_the_app_is_good_once(site):
    await site.browser().sign_in(await site.deposit())
    await site.change_account(totp=TOTP)
    await site.take()
    first, second = site.browser(), site.browser()
    for browser in (first, second):
        await with_code(site, browser)
    code = hotp(TOTP, int(NOW) // STEP)
    await first.send("/sign-in/second", totp=code)
    assert first.path == "/inbox"
    assert (await second.send("/sign-in/second", totp=code)).status_code == 400
    site.clock.now += STEP
    await second.send("/sign-in/second", totp=hotp(TOTP, int(site.clock.now) // STEP))
    assert second.path == "/inbox"


async def with_passkey(site) -> Authenticator:
    device = Authenticator()
    browser = await site.browser().sign_in(await site.deposit())
    await browser.get("/account/passkey")
    form = passkey_form(browser, "/account/passkey")
    await browser.send("/account/passkey", credential=device.create(form.attributes["data-options"]), name="My phone")
    assert browser.path == "/account"
    assert "My phone" in browser.page.text
    await site.take()
    return device


async def test_a_passkey_alone_signs_in(site):
    device = await with_passkey(site)
    browser = site.browser()
    await browser.get("/sign-in")
    form = passkey_form(browser, "/sign-in")
    answer = device.get(form.attributes["data-options"])
    await browser.client.post("/sign-in", data=form.fields | {"credential": answer})
    assert (await browser.get("/inbox")).status_code == 200
    assert browser.path == "/inbox"
    assert (await site.account()).passkeys[0].used_at == NOW
    assert [post.kind for post in await site.take()] == [PostKind.ENROLLED]


async def test_a_passkey_serves_as_second_factor(site):
    device = await with_passkey(site)
    browser = site.browser()
    await with_code(site, browser)
    form = passkey_form(browser, "/sign-in/second")
    await browser.send("/sign-in/second", credential=device.get(form.attributes["data-options"]))
    assert browser.path == "/inbox"


async def test_a_known_device_needs_no_code(site):
    await with_phrase(site)
    browser = site.browser()
    await with_code(site, browser)
    await browser.send("/sign-in/second", passphrase=PHRASE)
    await browser.send("/sign-out")
    browser.page = await browser.client.get("/sign-in")
    form = browser.form("/sign-in", way="passphrase")
    answer = await browser.raw("POST", "/sign-in", data=form.fields | {"email": str(PAT), "passphrase": PHRASE})
    assert answer.headers["location"] == "/inbox"
    await browser.get("/inbox")
    assert browser.path == "/inbox"


async def test_a_device_is_forgotten_after_half_a_year(site):
    await with_phrase(site)
    browser = site.browser()
    await with_code(site, browser)
    await browser.send("/sign-in/second", passphrase=PHRASE)
    site.clock.now += site.rooms.options.sessions.device
    await browser.get("/sign-in")
    form = browser.form("/sign-in", way="passphrase")
    answer = await browser.raw("POST", "/sign-in", data=form.fields | {"email": str(PAT), "passphrase": PHRASE})
    assert answer.status_code == 400


# --- sessions


async def test_the_session_locks_after_fifteen_minutes_without_use(site):
    browser = await site.browser().sign_in(await site.deposit())
    for _ in range(3):
        site.clock.now += 899
        assert (await browser.get("/inbox")).status_code == 200
        assert browser.path == "/inbox"
    site.clock.now += 900
    page = await browser.get("/inbox")
    assert (browser.path, browser.page.url.query) == ("/sign-in", b"expired=1")
    assert "You were signed out" in page.text
    site.clock.now -= 500
    await browser.get("/inbox")
    assert browser.path == "/sign-in", "the cookie is gone with it"


async def test_being_there_keeps_the_session(site):
    browser = await site.browser().sign_in(await site.deposit())
    await browser.get("/inbox")
    csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', browser.page.text)[1]
    for _ in range(4):
        site.clock.now += 800
        answer = await browser.raw("POST", "/account/alive", headers={"x-csrf-token": csrf})
        assert answer.status_code == 204
    await browser.get("/inbox")
    assert browser.path == "/inbox"


async def test_without_scripts_the_page_warns_and_one_press_stays(site):
    browser = await site.browser().sign_in(await site.deposit())
    page = await browser.get("/account")
    leads = re.search(r'<noscript><meta http-equiv="refresh" content="780; url=([^"]+)">', page.text)[1]
    assert leads == "/idle?next=/account"
    site.clock.now += 780
    page = await browser.get(leads)
    assert 'content="120; url=/sign-in?expired=1&amp;next=/account"' in page.text
    assert str(PAT) not in page.text
    site.clock.now += 110
    await browser.send("/idle")
    assert browser.path == "/account"
    site.clock.now += 780
    await browser.get("/idle?next=/account")
    site.clock.now += 120
    await browser.send("/idle")
    assert browser.path == "/sign-in", "being led to the warning kept nothing alive"


async def test_pages_look_like_the_clinic_that_wrote_last(tmp_path):
    brands = {"clinic": Brand(name="Riverside Clinic")}
    async with a_site(tmp_path, brands=brands) as site:
        await site.deposit()
        browser = site.browser()
        await with_code(site, browser)
        assert "Riverside Clinic" in (await browser.get("/inbox")).text


async def test_a_working_day_is_the_most(site):
    browser = await site.browser().sign_in(await site.deposit())
    for _ in range(40):
        site.clock.now += 719
        await browser.get("/inbox")
        assert browser.path == "/inbox"
    site.clock.now += 100
    await browser.get("/inbox")
    assert browser.path == "/sign-in"


async def test_signing_out_ends_the_session_for_whoever_holds_the_cookie(site):
    browser = await site.browser().sign_in(await site.deposit())
    thief = site.browser()
    thief.client.cookies.update(browser.client.cookies)
    assert (await thief.raw("GET", "/inbox")).status_code == 200
    await browser.get("/inbox")
    await browser.send("/sign-out")
    assert browser.path == "/signed-out"
    assert (await thief.raw("GET", "/inbox")).status_code == 303
    assert {"__Host-session", "__Host-visit"} & set(browser.client.cookies) <= {"__Host-visit"}


async def test_signing_in_ends_the_session_before_and_takes_a_new_token(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    before = browser.client.cookies["__Host-session"]
    await with_code(site, browser)
    assert browser.client.cookies["__Host-session"] != before
    thief = site.browser()
    thief.client.cookies.set("__Host-session", before, domain="secure.clinic.example")
    assert (await thief.raw("GET", "/inbox")).status_code == 303


async def test_two_mailboxes_in_one_browser_are_two_accounts(site):
    mine = await site.deposit()
    theirs = await site.deposit(mailbox=Address.parse("sam@mail.example"), subject="planted-sams")
    browser = await site.browser().sign_in(mine)
    await browser.sign_in(theirs)
    page = await browser.get("/inbox")
    assert "planted-sams" in page.text
    assert "Your result" not in page.text
