"""Attacks on the way in: codes replayed, guessed and stolen, scanners of links, races, and telling who is known."""

import asyncio
import re

import pytest

from relay.core.address import Address
from relay.core.portal import DepositState, PostKind
from relay.portal.options import LimitOptions, Rate
from relay.portal.passphrase import Passphrases
from tests.support.portal_site import PAT, QUICK, a_site, code_in

SAM = Address.parse("sam@mail.example")
WRONG = "00000000"


def wrong_for(code: str) -> str:
    """Digits that are not the code."""
    return str(10**8 + int(code.replace(" ", "")) + 1)[-8:]


async def asked(site, deposit, **options):
    """A browser that asked for a code, and the code."""
    browser = site.browser(**options)
    await browser.get(f"/m/{deposit.id}")
    await browser.send(f"/m/{deposit.id}/code")
    return browser, await site.code()


async def is_in(browser) -> bool:
    return (await browser.raw("GET", "/inbox")).status_code == 200


# --- replayed, stolen, guessed


async def test_a_code_opens_one_session_and_never_another(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    form = browser.form(f"/m/{deposit.id}/open")
    await browser.send(f"/m/{deposit.id}/open", code=code)
    assert await is_in(browser)
    again = await browser.raw("POST", form.action, data=form.fields | {"code": code})
    assert again.status_code == 400
    assert "no longer works" in again.text


async def test_a_stolen_code_is_of_no_use_in_another_browser(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    thief = site.browser()
    await thief.get(f"/m/{deposit.id}/code")
    page = await thief.send(f"/m/{deposit.id}/open", code=code)
    assert page.status_code == 400
    assert not await is_in(thief)
    await browser.send(f"/m/{deposit.id}/open", code=code)
    assert await is_in(browser)


async def test_a_thief_who_asks_for_a_code_too_spoils_nobodys(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    thief, other = await asked(site, deposit)
    assert code != other
    await thief.send(f"/m/{deposit.id}/open", code=code)
    assert not await is_in(thief)
    await browser.send(f"/m/{deposit.id}/open", code=code)
    assert await is_in(browser)


async def test_a_code_for_one_message_opens_no_other_page(site):
    mine, other = await site.deposit(), await site.deposit(mailbox=SAM)
    browser, code = await asked(site, mine)
    await browser.get(f"/m/{other.id}/code")
    assert (await browser.send(f"/m/{other.id}/open", code=code)).status_code == 400
    await browser.get("/sign-in/code")
    assert (await browser.send("/sign-in/code", code=code)).status_code == 400
    assert not await is_in(browser)


async def test_a_code_ends_after_ten_minutes(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    site.clock.now += 600
    assert (await browser.send(f"/m/{deposit.id}/open", code=code)).status_code == 400
    assert not await is_in(browser)


async def test_guessing_uses_up_the_code(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    for turn in range(5):
        page = await browser.send(f"/m/{deposit.id}/open", code=wrong_for(code))
        assert page.status_code == 400
        assert ("not right" in page.text) == (turn < 4)
    page = await browser.send(f"/m/{deposit.id}/open", code=code)
    assert page.status_code == 400
    assert not await is_in(browser)


async def test_guessing_from_many_browsers_meets_the_limit_of_the_network(tmp_path):
    limits = LimitOptions(answers_network=Rate(most=7, window=900.0))
    async with a_site(tmp_path, limits=limits) as site:
        deposit = await site.deposit()
        statuses = []
        for _ in range(10):
            browser = site.browser(network="203.0.113.9")
            await browser.get(f"/m/{deposit.id}/code")
            statuses.append((await browser.send(f"/m/{deposit.id}/open", code=WRONG)).status_code)
        assert statuses == [400] * 7 + [429] * 3
        assert "Please wait" in browser.page.text
        assert browser.page.headers["retry-after"] == "901"
        elsewhere = site.browser(network="203.0.114.9")
        await elsewhere.get(f"/m/{deposit.id}/code")
        assert (await elsewhere.send(f"/m/{deposit.id}/open", code=WRONG)).status_code == 400


@pytest.mark.parametrize("network", ["2001:db8:1::1", "::ffff:203.0.113.9"])
async def test_a_network_is_a_prefix_not_an_address(tmp_path, network):
    limits = LimitOptions(answers_network=Rate(most=1, window=900.0))
    near = {"2001:db8:1::1": "2001:db8:1:ffff::9", "::ffff:203.0.113.9": "203.0.113.200"}[network]
    async with a_site(tmp_path, limits=limits) as site:
        deposit = await site.deposit()
        for address, status in ((network, 400), (near, 429)):
            browser = site.browser(network=address)
            await browser.get(f"/m/{deposit.id}/code")
            assert (await browser.send(f"/m/{deposit.id}/open", code=WRONG)).status_code == status


# --- limits of mail


async def test_a_double_press_sends_one_code(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    await browser.get(f"/m/{deposit.id}")
    form = browser.form(f"/m/{deposit.id}/code")
    for _ in range(20):
        assert (await browser.raw("POST", form.action, data=form.fields)).status_code == 303
    assert await site.take() == []
    await browser.get(f"/m/{deposit.id}/code")
    await browser.send(f"/m/{deposit.id}/open", code=code)
    assert await is_in(browser)


async def press(site, deposit, *, network="192.0.2.7") -> int:
    browser = site.browser(network=network)
    await browser.get(f"/m/{deposit.id}")
    return (await browser.send(f"/m/{deposit.id}/code")).status_code


async def test_codes_for_one_message_are_limited(site):
    deposit, other = await site.deposit(), await site.deposit()
    statuses = [await press(site, deposit, network=f"192.0.{n}.1") for n in range(8)]
    assert statuses == [200] * 6 + [429] * 2
    assert len(await site.take()) == 6
    assert await press(site, other) == 200


async def test_codes_for_one_mailbox_are_limited_over_all_its_messages(site):
    deposits = [await site.deposit() for _ in range(4)]
    statuses = [await press(site, deposits[n % 4], network=f"192.0.{n}.1") for n in range(14)]
    assert statuses == [200] * 12 + [429] * 2
    assert await press(site, await site.deposit(mailbox=SAM)) == 200


async def test_codes_asked_for_from_one_network_are_limited(tmp_path):
    async with a_site(tmp_path, limits=LimitOptions(codes_network=Rate(most=3, window=3600.0))) as site:
        deposits = [await site.deposit(mailbox=Address.parse(f"p{n}@mail.example")) for n in range(5)]
        assert [await press(site, one) for one in deposits] == [200] * 3 + [429] * 2
        assert await press(site, deposits[4], network="198.51.100.1") == 200


async def test_codes_of_everybody_are_limited(tmp_path):
    async with a_site(tmp_path, limits=LimitOptions(codes_all=Rate(most=2, window=3600.0))) as site:
        deposits = [await site.deposit(mailbox=Address.parse(f"p{n}@mail.example")) for n in range(3)]
        assert [await press(site, one, network=f"192.0.{n}.1") for n, one in enumerate(deposits)] == [200, 200, 429]


async def test_a_stranger_who_knows_the_address_keeps_nobody_from_their_message(site):
    deposit = await site.deposit()
    statuses = []
    for number in range(8):
        stranger = site.browser(network=f"203.0.{number}.1")
        await stranger.get("/sign-in")
        statuses.append((await stranger.send("/sign-in", email=str(PAT))).status_code)
    assert statuses == [200] * 5 + [429] * 3
    assert len(await site.take()) == 5
    browser, code = await asked(site, deposit)
    await browser.send(f"/m/{deposit.id}/open", code=code)
    assert await is_in(browser)


async def test_the_limit_of_a_code_is_the_same_after_a_restart(site):
    deposit = await site.deposit()
    for number in range(6):
        await press(site, deposit, network=f"192.0.{number}.1")
    from relay.store.portal.account_tables import SCHEMA
    from relay.store.portal.accounts import StoredAccounts

    again = StoredAccounts(await site.harness.database(SCHEMA), site.rooms.vault)
    object.__setattr__(site.rooms, "accounts", again)
    assert await press(site, deposit, network="198.51.100.1") == 429


# --- scanners of links


async def test_a_scanner_that_follows_links_changes_counts_and_mails_nothing(site):
    deposit = await site.deposit()
    before = await state(site)
    for method in ("GET", "HEAD"):
        for path in ("", "/code", "/not-me", "?utm=1", "/open"):
            scanner = site.browser()
            answer = await scanner.raw(method, f"/m/{deposit.id}{path}")
            assert answer.status_code in {200, 405}
    for path in ("/inbox", f"/inbox/{deposit.id}", f"/inbox/{deposit.id}/not-me", "/account/recovery", "/genuine"):
        await site.browser().raw("GET", path)
    assert await state(site) == before
    assert await site.take() == []
    assert (await site.rooms.deposits.find(deposit.id)) == deposit


async def state(site) -> dict:
    """How many rows each table holds."""
    database = site.rooms.accounts._database
    names = ("limits", "nonces", "challenges", "accounts", "sessions", "devices", "shared_secrets", "pleas", "outbox")
    return {
        name: (await database.read(lambda cursor, name=name: cursor.row(f"SELECT COUNT(*) FROM {name}")))[0]
        for name in names
    }


@pytest.mark.parametrize("path", ["/code", "/open", "/not-me", ""])
@pytest.mark.parametrize("data", [{}, {"sure": "yes", "code": WRONG}, {"csrf": "0" * 64, "sure": "yes", "code": WRONG}])
async def test_a_scanner_that_posts_does_no_harm(site, path, data):
    deposit = await site.deposit()
    before = await state(site)
    bare = site.browser()
    assert (await bare.raw("POST", f"/m/{deposit.id}{path}", data=data)).status_code in {403, 405}
    visited = site.browser()
    await visited.get(f"/m/{deposit.id}")
    assert (await visited.raw("POST", f"/m/{deposit.id}{path}", data=data)).status_code in {403, 405}
    assert await state(site) == before
    assert await site.rooms.deposits.find(deposit.id) == deposit


async def test_a_scanner_that_plays_a_whole_browser_gets_a_code_mailed_and_no_more(site):
    deposit = await site.deposit()
    scanner = site.browser(network="198.51.100.1")
    pressed = set()
    queue = [f"/m/{deposit.id}"]
    while queue:
        path = queue.pop()
        if path in pressed:
            continue
        pressed.add(path)
        await scanner.get(path)
        queue += [found for found in re.findall(r'href="(/[^"#]*)"', scanner.page.text) if "lang=" not in found]
        for form in scanner.forms():
            if form.method == "POST":
                await scanner.client.post(form.action, data=form.fields, follow_redirects=True)
    assert {f"/m/{deposit.id}/not-me", f"/m/{deposit.id}"} <= pressed
    assert await site.rooms.deposits.find(deposit.id) == deposit
    assert [post.kind for post in await site.take()] == [PostKind.CODE]
    assert not await is_in(scanner)
    browser, code = await asked(site, deposit)
    await browser.send(f"/m/{deposit.id}/open", code=code)
    assert await is_in(browser)


# --- races


async def test_of_browsers_that_race_with_one_code_one_gets_in(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    form = browser.form(f"/m/{deposit.id}/open")
    rivals = [site.browser() for _ in range(8)]
    for rival in rivals:
        rival.client.cookies.update(browser.client.cookies)
    answers = await asyncio.gather(
        *(rival.raw("POST", form.action, data=form.fields | {"code": code}) for rival in rivals)
    )
    assert sorted(answer.status_code for answer in answers) == [303] + [400] * 7
    assert (await state(site))["sessions"] == 1
    assert (await state(site))["accounts"] == 1


async def test_two_first_visits_at_once_make_one_account(site):
    deposit = await site.deposit()
    visits = [await asked(site, deposit) for _ in range(4)]
    await asyncio.gather(*(browser.send(f"/m/{deposit.id}/open", code=code) for browser, code in visits))
    assert all([await is_in(browser) for browser, _ in visits])
    assert (await state(site))["accounts"] == 1
    assert (await state(site))["sessions"] == 4


async def test_of_guesses_at_once_no_more_than_five_are_judged(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    form = browser.form(f"/m/{deposit.id}/open")
    wrong = [browser.raw("POST", form.action, data=form.fields | {"code": wrong_for(code)}) for _ in range(9)]
    answers = await asyncio.gather(*wrong)
    assert [answer.status_code for answer in answers] == [400] * 9
    assert sum("not right" in answer.text for answer in answers) == 4
    assert (await browser.send(f"/m/{deposit.id}/open", code=code)).status_code == 400


async def test_recalled_while_the_code_is_typed_shows_nothing(site):
    deposit = await site.deposit()
    browser, code = await asked(site, deposit)
    await site.rooms.ledger.recalled(deposit, by="ops", why="test")
    page = await browser.send(f"/m/{deposit.id}/open", code=code)
    assert page.status_code == 410
    assert not await is_in(browser)
    assert (await site.rooms.deposits.find(deposit.id)).state is DepositState.RECALLED


# --- telling who is known


def plain(answer) -> tuple:
    """An answer without what is random in it."""
    text = re.sub(r'(value|data-options)="[^"]*"', "", answer.text)
    headers = {name: value for name, value in answer.headers.items() if name not in {"set-cookie", "content-length"}}
    return answer.status_code, headers, text.replace("stranger@", "pat@")


async def test_the_sign_in_page_answers_alike_for_known_and_unknown(site):
    await site.deposit()
    seen = []
    for email in (str(PAT), "stranger@mail.example"):
        browser = site.browser()
        await browser.get("/sign-in")
        form = browser.form("/sign-in", way="code")
        answers = [await browser.raw("POST", "/sign-in", data=form.fields | {"email": email})]
        answers.append(await browser.get("/sign-in/code"))
        answers += [await browser.send("/sign-in/code", code=WRONG) for _ in range(6)]
        seen.append([plain(answer) for answer in answers])
    assert seen[0] == seen[1]


async def test_the_limits_of_the_sign_in_page_are_alike_for_known_and_unknown(site):
    await site.deposit()
    for email in (str(PAT), "stranger@mail.example"):
        statuses = []
        for number in range(7):
            browser = site.browser(network=f"203.0.{number}.1")
            await browser.get("/sign-in")
            statuses.append((await browser.send("/sign-in", email=email)).status_code)
        assert statuses == [200] * 5 + [429] * 2


async def test_the_answer_has_left_before_anybody_is_looked_up(site):
    """Not a measurement: the look-up is held until the whole answer is there, for known and unknown alike."""
    await site.deposit()
    browser = site.browser()
    await browser.get("/sign-in")
    form = browser.form("/sign-in", way="code")
    answered, looked_up = asyncio.Event(), []
    real = site.rooms.accounts.account

    async def held(mailbox):
        await answered.wait()
        looked_up.append(mailbox)
        return await real(mailbox)

    site.rooms.accounts.account = held

    async def noting(scope, receive, send):
        async def sending(message):
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                assert not looked_up
                answered.set()

        await site.app(scope, receive, sending)

    browser.client._transport.app = noting
    for email in (str(PAT), "stranger@mail.example"):
        answered.clear()
        looked_up.clear()
        async with asyncio.timeout(20):
            await browser.raw("POST", "/sign-in", data=form.fields | {"email": email})
        assert [str(mailbox) for mailbox in looked_up] == [email]


async def test_answering_a_code_costs_the_same_writes_for_known_and_unknown(site):
    await site.deposit()
    database, writes = site.rooms.accounts._database, []
    real = database.transact

    async def counted(work, **options):
        class Noting:
            def __init__(self, cursor):
                self.cursor = cursor

            def run(self, sql, *bindings):
                writes.append(sql)
                return self.cursor.run(sql, *bindings)

            def row(self, sql, *bindings):
                return self.cursor.row(sql, *bindings)

            rows = row

        return await real(lambda cursor: work(Noting(cursor)), **options)

    costs = []
    for email in (str(PAT), "stranger@mail.example"):
        browser = site.browser()
        await browser.get("/sign-in")
        await browser.send("/sign-in", email=email)
        database.transact = counted
        for _ in range(6):
            await browser.send("/sign-in/code", code=WRONG)
        database.transact = real
        costs.append(tuple(writes))
        writes.clear()
    assert costs[0] == costs[1]
    assert costs[0]


async def test_a_passphrase_is_hashed_for_known_and_unknown_alike(site):
    browser = await site.browser().sign_in(await site.deposit())
    await site.change_account(passphrase=await Passphrases(QUICK).hash("correct horse battery"))
    verified = []
    real = site.rooms.passphrases._verify

    def noted(hashed, secret):
        verified.append(hashed[:20])
        return real(hashed, secret)

    site.rooms.passphrases._verify = noted
    stranger = site.browser()
    seen = []
    for who, email in ((browser, str(PAT)), (browser, "stranger@mail.example"), (stranger, str(PAT))):
        await who.get("/sign-in")
        data = {"csrf": who.csrf, "way": "passphrase", "passphrase": "wrong horse battery", "email": email}
        answer = await who.raw("POST", "/sign-in", data=data)
        seen.append((answer.status_code, "That did not work" in answer.text, len(verified)))
    assert seen == [(400, True, 1), (400, True, 2), (400, True, 3)]


async def test_a_right_passphrase_without_a_known_device_or_code_lets_nobody_in(site):
    await site.browser().sign_in(await site.deposit())
    await site.change_account(passphrase=await Passphrases(QUICK).hash("correct horse battery"))
    thief = site.browser()
    await thief.get("/sign-in")
    data = {"csrf": thief.csrf, "way": "passphrase", "passphrase": "correct horse battery", "email": str(PAT)}
    assert (await thief.raw("POST", "/sign-in", data=data)).status_code == 400
    assert not await is_in(thief)


async def test_second_factors_are_limited_by_mailbox_over_networks(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    await site.change_account(passphrase=await Passphrases(QUICK).hash("correct horse battery"))
    await site.take()
    thief = await site.browser(network="203.0.113.1").sign_in(deposit)
    statuses = [(await thief.send("/sign-in/second", passphrase=f"wrong horse {n}")).status_code for n in range(10)]
    assert statuses == [400] * 10
    page = await thief.get("/sign-in/second")
    for number in range(3):
        data = {"csrf": thief.csrf, "way": "passphrase", "passphrase": "correct horse battery"}
        thief.client._transport.client = (f"203.0.{number}.1", 1)
        assert (await thief.raw("POST", "/sign-in/second", data=data)).status_code == 429
    assert page.status_code == 200
    assert browser is not thief


async def test_an_apps_six_digits_cannot_be_guessed_in_a_lifetime(site):
    """Forty answers a day of which three fit in a million: one in 8,000 a day, for somebody who reads the mailbox."""
    deposit = await site.deposit(expires_at=site.clock() + 30 * 86400)
    await site.browser().sign_in(deposit)
    await site.change_account(totp="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    await site.take()
    judged = 0
    for _ in range(12):
        thief = await site.browser().sign_in(deposit)
        for guess in ("100000", "200000", "300000", "400000", "500000"):
            judged += (await thief.send("/sign-in/second", totp=guess)).status_code == 400
            await thief.get("/sign-in/second")
        site.clock.now += 1200
    assert judged == 40


async def test_codes_are_spread_over_all_eight_digits(site):
    deposits = [await site.deposit(mailbox=Address.parse(f"p{n}@mail.example")) for n in range(30)]
    codes = []
    for number, deposit in enumerate(deposits):
        await press(site, deposit, network=f"192.0.{number}.1")
        codes += [code_in(post).replace(" ", "") for post in await site.take()]
    assert all(re.fullmatch(r"[0-9]{8}", code) for code in codes)
    assert len(set(codes)) == 30
    for place in range(8):
        assert len({code[place] for code in codes}) > 3
