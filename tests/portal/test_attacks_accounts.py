"""Attacks on accounts: by a browser that was left open, by strangers who know an address, by what a search tells."""

import re
from dataclasses import replace

from relay.core.address import Address
from relay.core.portal import PostKind, Secret
from relay.portal.options import LimitOptions, Rate
from relay.portal.passphrase import Passphrases
from relay.portal.recovery import sign_out_by_operator
from tests.support.portal_site import PAT, QUICK, a_site

SAM = Address.parse("sam@mail.example")
PASSPHRASE = "correct horse battery"


async def with_passphrase(site):
    await site.change_account(passphrase=await Passphrases(QUICK).hash(PASSPHRASE))


# --- a browser that was left open


async def test_a_sign_in_of_an_hour_ago_recovers_nothing(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    await browser.get("/account/passphrase")
    await browser.send("/account/passphrase", new=PASSPHRASE, again=PASSPHRASE)
    for _ in range(6):
        site.clock.now += 600
        await browser.get("/inbox")
    before = await site.account()
    page = await browser.get("/account/recovery")
    assert 'action="/account/recovery"' not in page.text
    await browser.get("/inbox")
    answer = await browser.raw("POST", "/account/recovery", data={"csrf": browser.csrf})
    assert answer.headers["location"] == "/sign-in?next=%2Faccount%2Frecovery"
    assert await site.account() == before
    await site.take()
    await browser.get(answer.headers["location"])
    await browser.send("/sign-in", filling="email", email="pat@mail.example", way="code")
    await browser.send("/sign-in/code", code=await site.code())
    assert browser.path == "/account/recovery"
    await browser.send("/account/recovery")
    assert (await site.account()).factors == frozenset()


# --- strangers who know an address


async def test_a_stranger_who_knows_an_address_uses_up_no_answers_of_its_owner(site):
    deposit = await site.deposit()
    owner = await site.browser().sign_in(deposit)
    await with_passphrase(site)
    stranger = site.browser(network="198.51.100.9")
    said = []
    for _ in range(12):
        await stranger.get("/sign-in")
        page = await stranger.raw(
            "POST",
            "/sign-in",
            data={"csrf": stranger.csrf, "way": "passphrase", "email": "pat@mail.example", "passphrase": "x" * 12},
        )
        said.append(page.status_code)
    assert said == [400] * 10 + [429] * 2, "a stranger has a budget, too"
    answer = await owner.raw(
        "POST",
        "/sign-in",
        data={
            "csrf": await fresh_token(owner),
            "way": "passphrase",
            "email": "pat@mail.example",
            "passphrase": PASSPHRASE,
        },
    )
    assert (answer.status_code, answer.headers.get("location")) == (303, "/inbox")


async def fresh_token(browser):
    """The token of a form of a page that needs no sign-in."""
    page = await browser.raw("GET", "/sign-in")
    return re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)[1]


async def test_strangers_who_type_addresses_use_up_no_codes_of_those_who_have_a_link(tmp_path):
    limits = LimitOptions(codes_network=Rate(most=3, window=3600.0), codes_all=Rate(most=3, window=3600.0))
    async with a_site(tmp_path, limits=limits) as site:
        deposit = await site.deposit()
        stranger = site.browser()
        for number in range(5):
            await stranger.get("/sign-in")
            await stranger.send("/sign-in", filling="email", email=f"nobody{number}@mail.example", way="code")
        assert stranger.page.status_code == 429
        reader = await site.browser().sign_in(deposit)
        assert reader.page.status_code == 200
        assert reader.path.startswith("/account/choose")


async def test_what_is_refused_leaves_nothing_in_the_store(tmp_path):
    async with a_site(tmp_path, limits=LimitOptions(codes_network=Rate(most=2, window=3600.0))) as site:
        stranger = site.browser()

        async def rows():
            return await site.rooms.accounts._database.read(lambda cursor: cursor.row("SELECT count(*) FROM limits")[0])

        async def ask(number):
            await stranger.get("/sign-in")
            await stranger.send("/sign-in", filling="email", email=f"nobody{number}@mail.example", way="code")
            return stranger.page.status_code

        assert [await ask(number) for number in range(2)] == [200, 200]
        before = await rows()
        assert [await ask(number) for number in range(2, 12)] == [429] * 10
        assert await rows() == before


# --- what a search tells


async def test_a_search_tells_nothing_of_messages_that_are_closed_or_hidden(site):
    await site.deposit(secret=Secret.SHARED, origin_from="Ward Nine <nine@clinic.example>")
    deposit = await site.deposit(origin_from="Reception <desk@clinic.example>")
    browser = await site.browser().sign_in(deposit)
    page = await browser.get("/inbox")
    assert len(lines(page.text)) == 2
    found = await browser.raw("POST", "/inbox", data={"csrf": browser.csrf, "from": "nine@"})
    nothing = await browser.raw("POST", "/inbox", data={"csrf": browser.csrf, "from": "ninety@"})
    assert lines(found.text) == lines(nothing.text) == []
    assert lines((await browser.raw("POST", "/inbox", data={"csrf": browser.csrf, "from": "desk@"})).text) == [
        deposit.id
    ]
    await site.change_account(hidden_before=site.clock() + 1)
    hidden = await browser.raw("POST", "/inbox", data={"csrf": browser.csrf, "from": "desk@"})
    assert "older message" not in body(hidden.text)


def body(page):
    return page.partition("<main")[2].partition("</main>")[0]


def lines(page):
    return re.findall(r'href="/inbox/([A-Za-z0-9_-]{10,})["/]', body(page))


# --- forms


async def test_a_charset_that_takes_long_to_undo_is_no_form(site):
    deposit = await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}")
    part = b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\na-' + b"b" * 60_000 + b"\r\n--x--\r\n"
    for charset in ("punycode", "unicode_escape", "utf-7"):
        headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
        answer = await browser.raw("POST", f"/m/{deposit.id}/code", content=part, headers=headers)
        assert answer.status_code == 400, charset
    part = part[:80] + b"\r\n--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x; charset=UTF-8"}
    answer = await browser.raw("POST", f"/m/{deposit.id}/code", content=part, headers=headers)
    assert answer.status_code == 403, "a form of ours, but for its token"


async def test_no_path_makes_a_page_link_elsewhere(site):
    for path in ("//evil.example/x", "/%5Cevil.example", "/%2F/evil.example", "/x%3Fa%23b"):
        page = await site.browser().raw("GET", f"https://secure.clinic.example{path}")
        links = re.findall(r'href="([^"]*)\?lang=es"', page.text)
        assert len(links) == 1, path
        assert re.fullmatch(r"/(?:[A-Za-z0-9%_.-][A-Za-z0-9%_./-]*)?", links[0]), links
    answer = await site.browser().raw("GET", "https://secure.clinic.example/%09/evil.example")
    assert (answer.status_code, "evil" in answer.text) == (404, False)


# --- one browser, several mailboxes


def known(browser) -> list[str]:
    return browser.client.cookies["__Host-device"].split(".")


async def test_a_browser_that_is_known_for_one_mailbox_is_a_stranger_to_another(site):
    browser = await site.browser().sign_in(await site.deposit())
    await site.take()
    [first] = known(browser)
    await browser.sign_in(await site.deposit(mailbox=SAM))
    told = [post for post in await site.take() if post.kind is PostKind.ENROLLED]
    assert [post.recipients for post in told] == [(SAM,)], "the device is new to this mailbox, which hears of it"
    assert known(browser)[1:] == [first]
    assert known(browser)[0] != first
    tokens = [[device.token for device in await site.rooms.accounts.devices(who)] for who in (PAT, SAM)]
    assert len(set(tokens[0] + tokens[1])) == 2, "no token serves two mailboxes"


async def test_whoever_copied_the_token_of_one_mailbox_is_known_for_no_other(site):
    """On a shared machine: the first user keeps a copy of their cookie, the second signs in with the same browser."""
    shared = await site.browser().sign_in(await site.deposit())
    copied = shared.client.cookies["__Host-device"]
    await shared.sign_in(await site.deposit(mailbox=SAM))
    account = await site.account(SAM)
    hashed = await Passphrases(QUICK).hash(PASSPHRASE)
    assert await site.rooms.accounts.save(replace(account, passphrase=hashed))
    thief = site.browser(network="198.51.100.9")
    for browser, status in ((thief, 400), (shared, 303)):
        token = await fresh_token(browser)
        if browser is thief:
            browser.client.cookies.set("__Host-device", copied, domain="secure.clinic.example")
        data = {"csrf": token, "way": "passphrase", "email": str(SAM), "passphrase": PASSPHRASE}
        assert (await browser.raw("POST", "/sign-in", data=data)).status_code == status


async def test_a_browser_stays_known_for_the_mailboxes_that_were_used_last(site):
    browser = site.browser()
    mailboxes = [Address.parse(f"p{number}@mail.example") for number in range(10)]
    for mailbox in mailboxes:
        await browser.sign_in(await site.deposit(mailbox=mailbox))
        await site.take()
    assert len(set(known(browser))) == 8
    await browser.sign_in(await site.deposit(mailbox=mailboxes[2]))
    assert not [post for post in await site.take() if post.kind is PostKind.ENROLLED], "still known"
    await browser.sign_in(await site.deposit(mailbox=mailboxes[0]))
    assert [post for post in await site.take() if post.kind is PostKind.ENROLLED], "made room for others"
    assert len(set(known(browser))) == 8


# --- codes from before a change


async def asked(site, deposit):
    browser = site.browser(network="198.51.100.7")
    await browser.get(f"/m/{deposit.id}")
    await browser.send(f"/m/{deposit.id}/code")
    return browser, await site.code()


async def is_in(browser) -> bool:
    return (await browser.raw("GET", "/inbox")).status_code == 200


async def test_a_code_from_before_a_change_of_the_ways_in_leads_nowhere(site):
    deposit = await site.deposit()
    owner = await site.browser().sign_in(deposit)
    await site.take()
    for change in (enrols, removes, recovers, is_signed_out):
        thief, code = await asked(site, deposit)
        await change(site, owner, deposit)
        page = await thief.send(f"/m/{deposit.id}/open", code=code)
        assert (page.status_code, change.__name__) == (400, change.__name__)
        assert not await is_in(thief)
        assert (await thief.raw("GET", "/sign-in/second")).headers["location"].startswith("/sign-in")
        await site.take()


async def enrols(site, owner, _deposit):
    await owner.get("/account/passphrase")
    await owner.send("/account/passphrase", new=PASSPHRASE, again=PASSPHRASE)
    assert (await site.account()).passphrase


async def removes(site, owner, _deposit):
    await owner.get("/account")
    await owner.send_form(owner.form("/account/remove", way="passphrase"))
    assert not (await site.account()).passphrase


async def recovers(site, owner, deposit):
    await with_passphrase(site)
    await owner.get("/account/recovery")
    await owner.send("/account/recovery")
    assert (await site.account()).hidden_before == site.clock()
    await site.change_account(hidden_before=0.0)


async def is_signed_out(site, _owner, _deposit):
    assert await sign_out_by_operator(site.rooms.accounts, PAT, by="ops", now=site.clock())


async def test_a_code_that_was_taken_just_before_a_change_begins_no_session(site):
    """The code is right, and the account changes before the session is kept."""
    deposit = await site.deposit()
    await site.browser().sign_in(deposit)
    await site.take()
    thief, code = await asked(site, deposit)
    real = site.rooms.accounts.start

    async def overtaken(session, **options):
        account = await site.account()
        assert await site.rooms.accounts.save(replace(account, totp="JBSWY3DPEHPK3PXP"), end_sessions="")
        return await real(session, **options)

    site.rooms.accounts.start = overtaken
    form = thief.form(f"/m/{deposit.id}/open")
    answer = await thief.raw("POST", form.action, data=form.fields | {"code": code})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    site.rooms.accounts.start = real
    assert not await is_in(thief)


async def test_a_right_second_factor_uses_up_no_code_of_another_browser(site):
    """Only a change of the ways in ends codes; that a passkey or app was used does not."""
    deposit = await site.deposit()
    await site.browser().sign_in(deposit)
    await site.take()
    waiting, code = await asked(site, deposit)
    await site.change_account(totp_step=7)
    await waiting.send(f"/m/{deposit.id}/open", code=code)
    assert await is_in(waiting)


# --- floods of mail


async def test_nobody_floods_a_mailbox_by_typing_its_address_for_a_day(site):
    """Alike for an address that is known here and for one that is not."""
    await site.deposit()
    said = {}
    for email in (str(PAT), "stranger@mail.example"):
        began = site.clock()
        said[email] = []
        for hour in range(8):
            site.clock.now = began + hour * 3600.0
            for number in range(5):
                stranger = site.browser(network=f"203.{hour}.{number}.1")
                await stranger.get("/sign-in")
                said[email].append((await stranger.send("/sign-in", email=email)).status_code)
    assert said[str(PAT)] == said["stranger@mail.example"] == [200] * 20 + [429] * 20
    assert len(await site.take()) == 20


async def test_codes_for_a_recovery_have_a_rate_of_their_own(site):
    await site.browser().sign_in(await site.deposit())
    await with_passphrase(site)
    await site.take()
    seen = []
    for email in (str(PAT), "stranger@mail.example"):
        answers = []
        for number in range(5):
            visitor = site.browser(network=f"203.0.{number}.1")
            await visitor.get("/sign-in?next=/account/recovery")
            form = visitor.form("/sign-in", way="code")
            answer = await visitor.raw("POST", "/sign-in", data=form.fields | {"email": email})
            answers.append((answer.status_code, answer.headers.get("location"), len(answer.content)))
        seen.append(answers)
    assert seen[0] == seen[1], "the same words for an address that is not known"
    assert [status for status, *_ in seen[0]] == [303] * 3 + [429] * 2
    assert len(await site.take()) == 3
    owner = site.browser(network="198.51.100.1")
    await owner.get("/sign-in")
    assert (await owner.send("/sign-in", email=str(PAT))).status_code == 200, "a code to sign in with is another matter"


async def test_recoveries_of_a_mailbox_are_few_a_day(site):
    deposit = await site.deposit()
    owner = await site.browser().sign_in(deposit)
    mailed = []
    for _ in range(4):
        await with_passphrase(site)
        await site.take()
        await owner.get("/account/recovery")
        status = (await owner.send("/account/recovery")).status_code
        mailed.append((status, len(await site.take())))
        site.clock.now += 1
    assert mailed == [(200, 2), (200, 2), (200, 2), (429, 0)], "the mailbox and its one sender, three times"
    assert (await site.account()).passphrase
