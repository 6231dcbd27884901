"""Attacks on the web of it: forged forms, hosts, paths, sizes, cookies, markup, other people's pages."""

import asyncio
import re

import pytest
from starlette.routing import Route

from relay.core.address import Address
from relay.core.errors import StoreUnavailableError
from relay.portal.middleware import HEADERS
from relay.portal.options import LimitOptions, Rate
from tests.support.portal_site import a_site

SAM = Address.parse("sam@mail.example")
MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"


async def signed_in(site, deposit=None):
    browser = await site.browser().sign_in(deposit or await site.deposit())
    await site.take()
    return browser


def posts_of(site) -> list[str]:
    """The path of every route that takes a POST."""
    return [route.path for route in site.app.routes if isinstance(route, Route) and "POST" in (route.methods or ())]


def filled(path: str, deposit) -> str:
    path = path.replace("{deposit_id}", deposit.id).replace("{token}", "A" * 43)
    return re.sub(r"\{[^}]*\}", "1", path)


# --- forged forms


async def test_every_form_of_every_page_needs_its_token(site):
    deposit = await site.deposit(may_forward=True)
    browser = await signed_in(site, deposit)
    await site.rooms.ledger.opened(deposit)
    before = await site.account()
    paths = posts_of(site)
    assert len(paths) >= 15
    for path in paths:
        for data in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "\udcff"}):
            encoded = {name: value.encode("utf-8", "surrogatepass") for name, value in data.items()}
            answer = await browser.raw("POST", filled(path, deposit), data=encoded)
            assert answer.status_code == 403, path
    assert await site.take() == []
    assert await site.account() == before
    assert (await browser.raw("GET", "/inbox")).status_code == 200, "nobody was signed out"


async def test_a_token_is_of_no_use_in_another_browser_or_from_another_site(site):
    deposit = await site.deposit()
    mine, theirs = await signed_in(site, deposit), await signed_in(site, deposit)
    await theirs.get("/account/passphrase")
    token = theirs.csrf
    data = {"csrf": token, "new": "correct horse battery", "again": "correct horse battery"}
    assert (await mine.raw("POST", "/account/passphrase", data=data)).status_code == 403
    await mine.get("/account/passphrase")
    data["csrf"] = mine.csrf
    for where in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": where}
        assert (await mine.raw("POST", "/account/passphrase", data=data, headers=headers)).status_code == 403
    assert (await site.account()).passphrase == ""
    assert (await mine.raw("POST", "/account/passphrase", data=data)).status_code == 303


async def test_a_page_without_cookies_cannot_send_forms(site):
    deposit = await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}")
    token = browser.csrf
    browser.client.cookies.clear()
    assert (await browser.raw("POST", f"/m/{deposit.id}/code", data={"csrf": token})).status_code == 403
    assert await site.take() == []


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 400),
        ({"content-type": "text/plain"}, b"csrf=x", 400),
        ({}, b"", 403),
        ({"content-type": "multipart/form-data"}, b"--x", 400),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\n\r\n--x--", 400),
        ({"content-type": "application/x-www-form-urlencoded"}, b"&".join(b"a%d=1" % n for n in range(65)), 400),
    ],
)
async def test_what_is_no_form_is_refused(site, headers, content, status):
    deposit = await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}")
    answer = await browser.raw("POST", f"/m/{deposit.id}/code", headers=headers, content=content)
    assert answer.status_code == status
    assert await site.take() == []


async def test_files_where_none_belong_are_refused(site):
    deposit = await site.deposit()
    browser = site.browser()
    await browser.get(f"/m/{deposit.id}")
    answer = await browser.raw(
        "POST", f"/m/{deposit.id}/code", data={"csrf": browser.csrf}, files={"file": ("x", b"x", "text/plain")}
    )
    assert answer.status_code == 400
    assert await site.take() == []


# --- cookies


async def test_cookies_are_for_this_host_alone_and_for_no_script(site):
    deposit = await site.deposit()
    browser, seen = site.browser(), []

    async def noting(response):
        seen.extend(response.headers.get_list("set-cookie"))

    browser.client.event_hooks["response"] = [noting]
    await browser.sign_in(deposit)
    await browser.get("/inbox")
    await browser.send("/sign-out")
    names = {cookie.partition("=")[0] for cookie in seen}
    assert names == {"__Host-visit", "__Host-session", "__Host-device"}
    for cookie in seen:
        attributes = {part.strip().lower().partition("=")[0]: part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"secure", "httponly", "samesite", "path"} <= set(attributes)
        assert attributes["samesite"] == "samesite=lax"
        assert attributes["path"] == "path=/"
        assert "domain" not in attributes


@pytest.mark.parametrize("value", ["", "x", "A" * 43, "A" * 44, "../" * 14, "%00" * 20, "A" * 4000, "é" * 43])
async def test_made_up_cookies_let_nobody_in(site, value):
    await site.deposit()
    browser = site.browser()
    cookies = "; ".join(f"__Host-{name}={value}" for name in ("session", "visit", "device", "language"))
    for path in ("/inbox", "/account", "/sign-in/second", "/sign-in"):
        answer = await browser.raw("GET", path, headers={"cookie": cookies.encode("utf-8")})
        assert answer.status_code in {200, 303}
        assert (answer.status_code == 200) == (path == "/sign-in")


@pytest.mark.parametrize(
    ("value", "is_new"), [("", True), ("x", True), ("A" * 44, True), ("%00" * 20, True), ("A" * 43, False)]
)
async def test_a_browser_whose_visit_is_no_token_is_given_one(site, value, is_new):
    answer = await site.browser().raw("GET", "/sign-in", headers={"cookie": f"a=b; __Host-visit={value}"})
    given = [cookie for cookie in answer.headers.get_list("set-cookie") if cookie.startswith("__Host-visit=")]
    assert len(given) == is_new


async def test_a_session_that_an_attacker_planted_is_not_taken_over(site):
    attacker = await signed_in(site, await site.deposit(mailbox=SAM))
    planted = attacker.client.cookies["__Host-session"]
    victim = site.browser()
    victim.client.cookies.set("__Host-session", planted, domain="secure.clinic.example")
    await victim.sign_in(await site.deposit())
    assert victim.client.cookies["__Host-session"] != planted
    assert (await attacker.raw("GET", "/inbox")).status_code == 303


# --- what every answer says


async def every_kind_of_answer(site):
    deposit = await site.deposit()
    browser = await signed_in(site, deposit)
    stranger = site.browser()
    yield await stranger.raw("GET", f"/m/{deposit.id}")
    yield await stranger.raw("GET", "/inbox")
    yield await stranger.raw("GET", "/no-such-page")
    yield await stranger.raw("POST", f"/m/{deposit.id}/code", data={})
    yield await stranger.raw("GET", "/", headers={"host": "evil.example"})
    yield await stranger.raw("TRACE", "/")
    yield await stranger.raw("GET", "/" + "x" * 2000)
    yield await stranger.raw("GET", "/healthz")
    yield await stranger.raw("GET", "/static/no-such-file")
    yield await stranger.raw("POST", "/sign-in", content=b"x" * 100_000)
    yield await browser.raw("GET", "/inbox")
    yield await browser.raw("GET", "/account")

    async def broken(_mailbox):
        raise RuntimeError("planted-secret")

    site.rooms.accounts.account = broken
    yield await browser.raw("GET", "/inbox")


async def test_every_answer_has_the_headers_of_a_safe_page(site):
    statuses = []
    async for answer in every_kind_of_answer(site):
        statuses.append(answer.status_code)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (answer.status_code, name)
        assert "server" not in answer.headers
    assert statuses == [200, 303, 404, 403, 421, 405, 414, 200, 404, 413, 200, 200, 500]


async def test_scripts_and_styles_come_from_files_alone(site):
    browser = await signed_in(site)
    for path in ("/inbox", "/account", "/account/choose", "/account/passphrase", "/account/totp", "/account/passkey"):
        page = (await browser.get(path)).text
        for tag in re.findall(r"<script\b[^>]*>", page):
            assert 'src="/static/' in tag
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
        assert not re.search(r'(src|href|action)="(https?:)?//', page)
    assert "'unsafe" not in HEADERS["content-security-policy"]


async def test_files_may_be_kept_and_pages_may_not(site):
    browser = await signed_in(site)
    page = await browser.get("/inbox")
    assert page.headers["cache-control"] == "no-store"
    style = re.search(r'href="(/static/[^"]+)"', page.text)[1]
    assert "immutable" in (await browser.raw("GET", style)).headers["cache-control"]


# --- faults


async def test_a_fault_says_nothing_of_its_cause(site, capsys):
    browser = await signed_in(site)

    async def broken(_mailbox):
        planted = "planted-patient"
        raise RuntimeError(f"planted-secret {planted}")

    site.rooms.accounts.account = broken
    answer = await browser.raw("GET", "/inbox")
    assert answer.status_code == 500
    assert "planted" not in answer.text
    assert "Traceback" not in answer.text
    out = capsys.readouterr()
    assert "portal_fault" in out.out
    assert "planted" not in out.out + out.err


async def test_while_the_store_is_away_people_are_asked_to_come_back(site):
    browser = await signed_in(site)

    async def away(_mailbox):
        raise StoreUnavailableError("the portal's store does not answer")

    site.rooms.accounts.account = away
    answer = await browser.raw("GET", "/inbox")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "61")
    assert "Your messages are safe" in answer.text


# --- hosts, paths, methods


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "secure.clinic.example.evil.example",
        "secure.clinic.example:8443",
        "secure.clinic.example.",
        "",
        "secure.clinic.example, evil.example",
        "secure.clinic.example@evil.example",
        "127.0.0.1",
        "secure.clinic.example\t",
    ],
)
async def test_other_hosts_are_not_served(site, host):
    answer = await site.browser().raw("GET", "/sign-in", headers={"host": host})
    assert answer.status_code == 421
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["secure.clinic.example", "SECURE.clinic.EXAMPLE", "alias.clinic.example"])
async def test_named_hosts_are_served(tmp_path, host):
    async with a_site(tmp_path, other_hosts=frozenset({"alias.clinic.example"})) as site:
        assert (await site.browser().raw("GET", "/sign-in", headers={"host": host})).status_code == 200


async def test_a_host_header_never_reaches_a_link(site):
    deposit = await site.deposit()
    browser = site.browser()
    headers = {"x-forwarded-host": "evil.example", "forwarded": "host=evil.example", "x-original-url": "/inbox"}
    browser.client.headers.update(headers)
    page = await browser.get(f"/m/{deposit.id}")
    await browser.send(f"/m/{deposit.id}/code")
    [post] = await site.take()
    assert "evil" not in page.text
    assert b"evil" not in post.content


async def raw_path(site, path: bytes, query: bytes = b"") -> int:
    """The status of a path as it stands, for clients tidy it up."""
    status = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            status.append(message["status"])

    from urllib.parse import unquote

    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "query_string": query,
        "headers": [(b"host", b"secure.clinic.example")],
        "client": ("192.0.2.7", 1),
        "server": ("x", 1),
        "scheme": "https",
        "root_path": "",
        "http_version": "1.1",
    }
    await site.app(scope, receive, send)
    return status[0]


@pytest.mark.parametrize(
    "path",
    [
        b"/static/../app.py",
        b"/static/%2e%2e/app.py",
        b"/static/..%2fapp.py",
        b"/static/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        b"/static//etc/passwd",
        b"/static/portal.css%00.py",
        b"/static/PORTAL.CSS",
        b"/static/",
        b"/brand/..%2f..%2fapp.py",
        b"//evil.example/",
        b"/inbox/",
        b"/INBOX",
        b"/m/",
        b"/m/..",
        b"/m/../inbox",
        b"/m/%00",
        b"/m/" + b"A" * 900,
        b"/m/%ff%fe",
        b"/account/../../inbox",
        b"/.git/config",
        b"/docs",
        b"/openapi.json",
        b"/approve/" + b"A" * 43,
        b"/approve/%0d%0aSet-Cookie:%20a=b",
    ],
)
async def test_paths_lead_nowhere_but_to_pages(site, path):
    await site.deposit()
    assert await raw_path(site, path) == 404


async def test_a_path_or_query_without_end_is_refused(site):
    assert await raw_path(site, b"/m/" + b"A" * 5000) == 414
    assert await raw_path(site, b"/sign-in", b"next=" + b"A" * 5000) == 414


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
async def test_other_methods_are_refused(site, method):
    answer = await site.browser().raw(method, "/sign-in")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


# --- sizes and slowness


async def test_a_form_without_end_is_refused_before_and_while_it_comes(site):
    browser = site.browser()
    await browser.get("/sign-in")
    declared = await browser.raw("POST", "/sign-in", content=b"csrf=" + b"x" * 100_000)
    assert declared.status_code == 413

    async def pieces():
        for _ in range(100):
            yield b"x" * 10_000

    headers = {"content-type": "application/x-www-form-urlencoded"}
    streamed = await browser.raw("POST", "/sign-in", content=pieces(), headers=headers)
    assert (streamed.status_code, streamed.headers["connection"]) == (413, "close")


async def test_a_slow_upload_has_as_long_as_it_is_large(tmp_path):
    async with a_site(tmp_path, read_deadline=0.0, max_form=10_000_000) as site:
        browser = site.browser()
        await browser.get("/sign-in")

        async def pieces():
            yield b"x" * 5_000_000
            await asyncio.sleep(0)
            yield b"x"

        headers = {"content-type": "application/x-www-form-urlencoded"}
        async with asyncio.timeout(20):
            assert (await browser.raw("POST", "/sign-in", content=pieces(), headers=headers)).status_code != 408


async def test_a_form_that_does_not_arrive_is_given_up(tmp_path):
    async with a_site(tmp_path, read_deadline=0.05) as site:
        browser = site.browser()
        await browser.get("/sign-in")

        async def stalling():
            yield b"csrf="
            await asyncio.Event().wait()

        headers = {"content-type": "application/x-www-form-urlencoded"}
        async with asyncio.timeout(20):
            answer = await browser.raw("POST", "/sign-in", content=stalling(), headers=headers)
        assert answer.status_code == 408


# --- markup


async def test_nothing_that_is_typed_or_sent_becomes_markup(site):
    deposit = await site.deposit(subject=MARKUP, origin_from=MARKUP)
    browser = await signed_in(site, deposit)
    pages = [
        await browser.raw("GET", "/inbox", params={"after": MARKUP}),
        await browser.raw("GET", "/inbox"),
        await browser.raw("GET", "/sign-in", params={"next": MARKUP, "expired": MARKUP}),
        await browser.raw("GET", "/account", params={"done": MARKUP}),
        await browser.raw("GET", "/" + MARKUP.replace("/", "")),
        await browser.raw("GET", "/sign-in/code", params={"next": MARKUP, "lang": MARKUP}),
    ]
    await browser.get("/inbox")
    data = {"csrf": re.search(r'name="csrf" value="([0-9a-f]+)"', browser.page.text)[1]}
    pages.append(await browser.raw("POST", "/inbox", data=data | {"from": MARKUP, "since": MARKUP[:10]}))
    await browser.get("/sign-in")
    pages.append(await browser.raw("POST", "/sign-in", data={"csrf": browser.csrf, "email": MARKUP, "way": MARKUP}))
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
    assert "&lt;script&gt;" in pages[1].text


async def test_the_name_of_a_passkey_and_of_a_browser_is_text(site):
    from tests.support.authenticator import Authenticator

    browser = await site.browser(agent=f"Firefox {MARKUP} Linux").sign_in(await site.deposit())
    await browser.get("/account/passkey")
    answer = Authenticator().create(browser.form("/account/passkey").attributes["data-options"])
    page = await browser.send("/account/passkey", credential=answer, name=MARKUP)
    assert browser.path == "/account"
    assert "<script>alert" not in page.text
    assert "Firefox, Linux" in page.text


# --- other people's pages


async def test_the_message_of_another_mailbox_is_as_if_it_were_not_there(site):
    theirs = await site.deposit(mailbox=SAM, subject="planted-sams")
    browser = await signed_in(site)
    for path in (f"/inbox/{theirs.id}", f"/inbox/{theirs.id}/secret", f"/inbox/{theirs.id}/not-me"):
        found = await browser.raw("GET", path)
        missing = await browser.raw("GET", path.replace(theirs.id, "deposit-99999999999999"))
        assert found.status_code == missing.status_code == 404
        assert found.text == missing.text.replace("deposit-99999999999999", theirs.id)
    await browser.get("/inbox")
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', browser.page.text)[1]
    for path in posts_of(site):
        if path.startswith("/inbox/{deposit_id}"):
            answer = await browser.raw("POST", filled(path, theirs), data={"csrf": token, "sure": "yes", "secret": "x"})
            assert answer.status_code in {400, 403, 404}, path
    assert await site.rooms.deposits.find(theirs.id) == theirs
    assert "planted-sams" not in browser.page.text


async def test_a_device_of_another_mailbox_cannot_be_signed_out(site):
    theirs = await signed_in(site, await site.deposit(mailbox=SAM))
    [device] = await site.rooms.accounts.devices(SAM)
    browser = await signed_in(site)
    await browser.get("/account")
    answer = await browser.raw("POST", "/account/devices", data={"csrf": browser.csrf, "id": device.id})
    assert answer.status_code == 303
    assert (await theirs.raw("GET", "/inbox")).status_code == 200


async def test_a_passkey_of_somebody_else_opens_nothing(site):
    from tests.support.authenticator import Authenticator

    device = Authenticator()
    sam = await site.browser().sign_in(await site.deposit(mailbox=SAM))
    await sam.get("/account/passkey")
    form = sam.form("/account/passkey")
    await sam.send("/account/passkey", credential=device.create(form.attributes["data-options"]), name="x")
    pat = await signed_in(site)
    await site.change_account(totp="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    thief = await site.browser().sign_in(await site.deposit())
    assert thief.path == "/sign-in/second"
    await thief.get("/sign-in")
    form = next(form for form in thief.forms() if "data-passkey" in form.attributes)
    answer = device.get(form.attributes["data-options"])
    await thief.get("/sign-in/second")
    data = {"csrf": thief.csrf, "way": "passkey", "ticket": form.fields["ticket"], "credential": answer}
    assert (await thief.raw("POST", "/sign-in/second", data=data)).status_code == 400
    assert (await thief.raw("GET", "/inbox")).status_code == 303
    assert pat is not thief


async def test_a_passkeys_answer_is_of_use_once_and_in_its_browser(site):
    from tests.support.authenticator import Authenticator

    device = Authenticator()
    browser = await site.browser().sign_in(await site.deposit())
    await browser.get("/account/passkey")
    form = browser.form("/account/passkey")
    await browser.send("/account/passkey", credential=device.create(form.attributes["data-options"]), name="x")
    victim, thief = site.browser(), site.browser()
    for one in (victim, thief):
        await one.get("/sign-in")
    form = next(form for form in victim.forms() if "data-passkey" in form.attributes)
    data = form.fields | {"credential": device.get(form.attributes["data-options"])}
    assert (await thief.raw("POST", "/sign-in", data=data | {"csrf": thief.csrf})).status_code == 400
    assert (await victim.raw("POST", "/sign-in", data=data)).status_code == 303
    assert (await victim.raw("POST", "/sign-in", data=data)).status_code == 400
    await victim.get("/sign-in")
    assert (await victim.raw("POST", "/sign-in", data=data | {"csrf": victim.csrf})).status_code == 400


async def test_a_copied_passkey_gives_itself_away(site):
    from tests.support.authenticator import Authenticator

    device = Authenticator(count=5)
    browser = await site.browser().sign_in(await site.deposit())
    await browser.get("/account/passkey")
    form = browser.form("/account/passkey")
    await browser.send("/account/passkey", credential=device.create(form.attributes["data-options"]), name="x")
    copy = Authenticator(count=1, keys=dict(device.keys))
    for one, status in ((device, 303), (copy, 400)):
        visitor = site.browser()
        await visitor.get("/sign-in")
        form = next(form for form in visitor.forms() if "data-passkey" in form.attributes)
        data = form.fields | {"credential": one.get(form.attributes["data-options"])}
        assert (await visitor.raw("POST", "/sign-in", data=data)).status_code == status


# --- proxies


@pytest.mark.parametrize(
    ("proxy", "headers", "shared"),
    [
        ({}, {"x-forwarded-for": "198.51.100.{}"}, True),
        ({"networks": ("192.0.2.0/24",), "header": "x-forwarded-for"}, {"x-forwarded-for": "198.51.{}.1"}, False),
        (
            {"networks": ("192.0.2.0/24",), "header": "x-forwarded-for"},
            {"x-forwarded-for": "9.9.{}.9, 198.51.100.1"},
            True,
        ),
        ({"networks": ("10.0.0.0/8",), "header": "x-forwarded-for"}, {"x-forwarded-for": "198.51.{}.1"}, True),
        (
            {"networks": ("192.0.2.0/24",), "header": "forwarded"},
            {"forwarded": 'for="198.51.{}.1:80";proto=https'},
            False,
        ),
        ({"networks": ("192.0.2.0/24",), "header": "forwarded"}, {"x-forwarded-for": "198.51.{}.1"}, True),
    ],
)
async def test_only_named_proxies_say_who_asks(tmp_path, proxy, headers, shared):
    from relay.portal.options import ProxyOptions

    limits = LimitOptions(answers_network=Rate(most=1, window=900.0))
    async with a_site(tmp_path, limits=limits, proxy=ProxyOptions(**proxy)) as site:
        deposit = await site.deposit()
        statuses = []
        for number in (1, 2):
            browser = site.browser(network="192.0.2.7")
            browser.client.headers.update({name: value.format(number) for name, value in headers.items()})
            await browser.get(f"/m/{deposit.id}/code")
            statuses.append((await browser.send(f"/m/{deposit.id}/open", code="00000000")).status_code)
        assert statuses == [400, 429 if shared else 400]
