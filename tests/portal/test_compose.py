"""Replies and forwards: kept from the first word, sent once, and only to whom they may go."""

import asyncio
import dataclasses
import html
import re
from email import message_from_bytes, policy

import pytest

from relay.core.address import NULL_SENDER, Address
from relay.core.portal import DepositState, PostKind
from relay.core.portal_drafts import Draft, DraftKind, Upload
from relay.portal.compose.desk import Desk
from relay.portal.compose.people import typed
from relay.portal.ledger import Ledger
from relay.portal.options import LimitOptions, Rate
from tests.support.portal_site import PAT, a_site

MESSAGE = (
    b"From: Dr. Ada <doctor@clinic.example>\r\n"
    b"To: pat@mail.example, Sam <sam@mail.example>\r\nCc: nurse@clinic.example\r\n"
    b"Bcc: hidden@clinic.example\r\nSubject: Your result\r\nMessage-ID: <one@clinic.example>\r\n"
    b"References: <zero@clinic.example>\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\n\r\nplanted-body\r\n"
)
TO = ("pat@mail.example", "Sam <sam@mail.example>")
CC = ("nurse@clinic.example",)


async def reader(site, **changes):
    """A browser that has opened a message, and the message."""
    values = {"content": MESSAGE, "origin_to": TO, "origin_cc": CC, "may_forward": True}
    deposit = await site.deposit(**(values | changes))
    browser = await site.browser().sign_in(deposit)
    await browser.get(f"/inbox/{deposit.id}")
    if deposit.may_reply or deposit.may_forward:
        await browser.send(f"/inbox/{deposit.id}/open")
    await site.take()
    return browser, deposit


async def post(browser, path, *, file=None, **fields):
    """Send the page's form with files, as a browser does: the token first."""
    data = {"csrf": token_of(browser), **fields}
    files = {"file": file} if file else {"file": ("", b"", "application/octet-stream")}
    browser.page = await browser.client.post(path, data=data, files=files, follow_redirects=True)
    return browser.page


def token_of(browser):
    return re.search(r'name="csrf" value="([^"]+)"', browser.page.text)[1]


def parsed(one):
    return message_from_bytes(one.content, policy=policy.default)


async def sent_of(site):
    return [one for one in await site.take() if one.kind in {PostKind.REPLY, PostKind.FORWARD}]


async def test_a_reply_goes_to_the_sender_and_nobody_else(site):
    browser, deposit = await reader(site)
    page = await browser.get(f"/inbox/{deposit.id}/reply")
    assert "doctor@clinic.example" in page.text
    await post(browser, f"/inbox/{deposit.id}/reply", text="Thank you.\r\nPat", action="send")
    assert browser.path == f"/inbox/{deposit.id}/sent"
    [one] = await sent_of(site)
    assert (one.kind, one.deposit_id, one.tenant) == (PostKind.REPLY, deposit.id, "clinic")
    assert [str(to) for to in one.recipients] == ["doctor@clinic.example"]
    mail = parsed(one)
    assert mail["From"].addresses[0].addr_spec == "portal@clinic.example"
    assert mail["Reply-To"] == str(PAT)
    assert mail["Subject"] == "Re: Your result"
    assert mail["In-Reply-To"] == "<one@clinic.example>"
    assert mail["References"] == "<zero@clinic.example> <one@clinic.example>"
    assert mail.get_content() == "Thank you.\r\nPat\r\n"
    assert b"planted-body" not in one.content
    assert b"\n" not in one.content.replace(b"\r\n", b"")


async def test_a_reply_to_all_goes_to_whom_to_and_cc_disclose(site):
    browser, deposit = await reader(site)
    page = await browser.get(f"/inbox/{deposit.id}/reply?all=1")
    assert "sam@mail.example, nurse@clinic.example" in page.text
    await post(browser, f"/inbox/{deposit.id}/reply", text="x", all="1", action="send")
    [one] = await sent_of(site)
    assert [str(to) for to in one.recipients] == ["doctor@clinic.example", "sam@mail.example", "nurse@clinic.example"]
    assert b"hidden@clinic.example" not in one.content


async def test_reply_to_is_heeded(site):
    content = MESSAGE.replace(b"Bcc: hidden@", b"Reply-To: Desk <desk@")
    browser, deposit = await reader(site, content=content)
    await browser.get(f"/inbox/{deposit.id}/reply")
    await post(browser, f"/inbox/{deposit.id}/reply", text="x", action="send")
    [one] = await sent_of(site)
    assert [str(to) for to in one.recipients] == ["desk@clinic.example"]


async def test_a_message_from_nobody_cannot_be_answered(site):
    content = MESSAGE.replace(b"Dr. Ada <doctor@clinic.example>", b"nobody")
    browser, deposit = await reader(site, content=content, origin_from="nobody", sender=NULL_SENDER)
    await browser.get(f"/inbox/{deposit.id}/reply")
    page = await post(browser, f"/inbox/{deposit.id}/reply", text="x", action="send")
    assert page.status_code == 400
    assert await sent_of(site) == []


async def test_sending_twice_sends_once(site):
    """At once: whatever each finds, what is handed out has one id, by which whoever takes it knows the repetition."""
    browser, deposit = await reader(site)
    path = f"/inbox/{deposit.id}/reply"
    page = await browser.get(path)
    once = re.search(r'name="once" value="([^"]{22})"', page.text)[1]
    await post(browser, path, text="planted-words", action="save")
    draft = await site.drafts.of(deposit.id, DraftKind.REPLY)
    fields = {"csrf": token_of(browser), "text": "planted-words", "action": "send", "once": once}
    presses = [browser.client.post(path, data=fields, files={"file": ("", b"", "")}) for _ in range(4)]
    answers = await asyncio.gather(*presses)
    assert [(one.status_code, one.headers.get("location")) for one in answers] == [
        (303, f"/inbox/{deposit.id}/sent")
    ] * 4
    sent = await sent_of(site)
    assert {one.id for one in sent} == {draft.post_id}
    assert {parsed(one).get_content().strip() for one in sent} == {"planted-words"}
    assert await site.drafts.of(deposit.id, DraftKind.REPLY) is None
    again = await browser.client.post(path, data=fields, files={"file": ("", b"", "")})
    assert again.status_code == 303
    assert await sent_of(site) == [], "long after, too"


async def test_a_button_pressed_twice_sends_once_and_other_words_are_sent(site):
    browser, deposit = await reader(site)
    path = f"/inbox/{deposit.id}/reply"
    page = await browser.get(path)
    once = re.search(r'name="once" value="([^"]{22})"', page.text)[1]
    for text in ("planted-words", "planted-words", "planted-other", "planted-words"):
        await browser.get(path)
        answer = await post(browser, path, text=text, action="send", once=once)
        assert answer.url.path == f"/inbox/{deposit.id}/sent"
        assert await site.drafts.of(deposit.id, DraftKind.REPLY) is None
    said = [parsed(one).get_content().strip() for one in await sent_of(site)]
    assert said == ["planted-words", "planted-other"]
    await browser.get(path)
    await post(browser, path, text="planted-words", action="send", once=once[::-1])
    assert len(await sent_of(site)) == 1, "of another page"


async def test_a_draft_is_kept_and_offered(site):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    await post(browser, f"/inbox/{deposit.id}/reply", text="\n half a <thought>", action="save")
    assert "half a &lt;thought&gt;" in browser.page.text
    page = await browser.get(f"/inbox/{deposit.id}")
    assert f'href="/inbox/{deposit.id}/reply"' in page.text
    assert "not sent yet" in page.text
    await browser.get(f"/inbox/{deposit.id}/reply")
    await post(browser, f"/inbox/{deposit.id}/reply", text="x", action="discard")
    assert await site.drafts.of(deposit.id, DraftKind.REPLY) is None


async def test_words_are_kept_over_a_log_off(site):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    site.clock.now += site.rooms.options.sessions.idle + 10
    answer = await post(browser, f"/inbox/{deposit.id}/reply", text="a long thought", action="send")
    assert answer.url.path == "/sign-in"
    assert await sent_of(site) == []
    assert (await site.drafts.of(deposit.id, DraftKind.REPLY)).text == "a long thought"
    site.clock.now += site.rooms.options.sessions.kept_locked
    await browser.raw("POST", f"/inbox/{deposit.id}/reply", data={"text": "stolen"}, files={"file": ("", b"", "")})
    assert (await site.drafts.of(deposit.id, DraftKind.REPLY)).text == "a long thought"


async def test_files_go_with_it(site):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    octets = bytes(range(256)) * 3000
    await post(
        browser, f"/inbox/{deposit.id}/reply", text="see", action="add", file=("ph\u00f6to.jpg", octets, "image/jpeg")
    )
    assert "ph\u00f6to.jpg" in browser.page.text
    await post(
        browser, f"/inbox/{deposit.id}/reply", text="see", action="add", file=("b.pdf", b"%PDF-", "application/pdf")
    )
    remove = (await site.drafts.of(deposit.id, DraftKind.REPLY)).uploads[1].id
    await post(browser, f"/inbox/{deposit.id}/reply", text="see", action=f"remove:{remove}")
    await post(browser, f"/inbox/{deposit.id}/reply", text="see it", action="send")
    [one] = await sent_of(site)
    mail = parsed(one)
    [file] = mail.iter_attachments()
    assert (file.get_filename(), file.get_content_type(), file.get_content()) == (
        "ph\u00f6to.jpg",
        "image/jpeg",
        octets,
    )
    assert mail.get_body().get_content() == "see it\r\n"
    assert site.scans.seen == [one.content]


@pytest.mark.parametrize("name", ["virus.exe", "page.html", "macro.docm", "a.pdf.js"])
async def test_files_that_run_are_not_taken_and_the_words_stay(site, name):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    page = await post(browser, f"/inbox/{deposit.id}/reply", text="my words", action="add", file=(name, b"x", "x/y"))
    assert page.status_code == 400
    assert 'role="alert"' in page.text
    assert "my words" in page.text
    assert (await site.drafts.of(deposit.id, DraftKind.REPLY)).uploads == ()


async def test_files_are_bounded_in_number_and_size(tmp_path):
    from relay.portal.compose.desk import ComposeOptions
    from relay.portal.letters import letter_routes

    stores = []

    def routes(rooms):
        stores.append(rooms)
        return letter_routes(rooms, site_drafts, Refusing(""), options=ComposeOptions(files=2, octets=1000))

    async with a_site(tmp_path) as outer:
        site_drafts = outer.drafts
        outer.app.router.routes[:0] = routes(outer.rooms)  # in front of those with the usual limits
        browser, deposit = await reader(outer)
        path = f"/inbox/{deposit.id}/reply"
        await browser.get(path)
        page = await post(browser, path, text="w", action="add", file=("a.pdf", b"x" * 1001, "application/pdf"))
        assert (page.status_code, "too big" in page.text) == (400, True)
        assert (await outer.drafts.of(deposit.id, DraftKind.REPLY)).uploads == ()
        await post(browser, path, text="w", action="add", file=("a.pdf", b"x" * 600, "application/pdf"))
        page = await post(browser, path, text="w", action="add", file=("b.pdf", b"x" * 401, "application/pdf"))
        assert page.status_code == 400
        await post(browser, path, text="w", action="add", file=("c.pdf", b"x" * 400, "application/pdf"))
        page = await post(browser, path, text="w", action="add", file=("d.pdf", b"", "application/pdf"))
        assert (page.status_code, "up to 2 files" in page.text) == (400, True)
        assert [one.name for one in (await outer.drafts.of(deposit.id, DraftKind.REPLY)).uploads] == ["a.pdf", "c.pdf"]


class Refusing:
    def __init__(self, unreadable):
        self.unreadable = unreadable


@pytest.mark.parametrize("reason", ["bomb", "depth", "files", "crash", "timeout"])
async def test_what_brings_a_reader_down_is_not_sent(site, reason):
    browser, deposit = await reader(site)
    site.scans.unreadable = reason
    await browser.get(f"/inbox/{deposit.id}/reply")
    page = await post(browser, f"/inbox/{deposit.id}/reply", text="my words", action="send")
    assert page.status_code == 400
    assert "my words" in page.text
    assert await sent_of(site) == []


async def test_nothing_is_sent_without_words(site):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    page = await post(browser, f"/inbox/{deposit.id}/reply", text=" \n ", action="send")
    assert (page.status_code, "write something" in page.text) == (400, True)
    page = await post(browser, f"/inbox/{deposit.id}/reply", text="x" * 50_001, action="send")
    assert (page.status_code, "too long" in page.text) == (400, True)
    assert len((await site.drafts.of(deposit.id, DraftKind.REPLY)).text) == 50_001  # and nothing of it is lost
    assert await sent_of(site) == []


async def test_a_forward_goes_to_whom_the_reader_types_with_the_whole_message(site):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/forward")
    await post(browser, f"/inbox/{deposit.id}/forward", to="sam@mail.example; ann@home.example", text="", action="send")
    [one] = await sent_of(site)
    assert one.kind is PostKind.FORWARD
    assert [str(to) for to in one.recipients] == ["sam@mail.example", "ann@home.example"]
    [file] = parsed(one).iter_attachments()
    assert (file.get_filename(), file.get_content_type()) == ("message.eml", "application/octet-stream")
    assert b"planted-body" in file.get_content()
    assert b"hidden@" not in file.get_content()


@pytest.mark.parametrize(
    "to", ["", "nobody", "a@b", "a@b.example, <script>@x", ", ".join(f"p{n}@x.example" for n in range(6))]
)
async def test_a_forward_needs_good_addresses(site, to):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/forward")
    page = await post(browser, f"/inbox/{deposit.id}/forward", to=to, text="", action="send")
    assert page.status_code == 400
    assert "<script>" not in page.text
    assert await sent_of(site) == []


@pytest.mark.parametrize(("what", "changes"), [("reply", {"may_reply": False}), ("forward", {"may_forward": False})])
async def test_what_policy_forbids_is_not_there(site, what, changes):
    browser, deposit = await reader(site, **changes)
    page = await browser.get(f"/inbox/{deposit.id}")
    assert f"/inbox/{deposit.id}/{what}" not in page.text
    assert (await browser.get(f"/inbox/{deposit.id}/{what}")).status_code == 404
    token = {"x-csrf-token": token_of(browser)}
    answer = await browser.raw("POST", f"/inbox/{deposit.id}/upload?kind={what}&name=a&type=b/c&size=1", headers=token)
    assert answer.status_code == 404


async def test_a_message_of_another_cannot_be_answered(site):
    browser, _ = await reader(site)
    other = await site.deposit(mailbox=Address.parse("sam@mail.example"), content=MESSAGE)
    for path in ("reply", "forward", "sent", "frame", "part/0", "eml", "pdf", ""):
        assert (await browser.get(f"/inbox/{other.id}/{path}".rstrip("/"))).status_code == 404
    await browser.get("/inbox")
    fields = {"csrf": "x", "text": "t", "action": "send"}
    answer = await browser.raw("POST", f"/inbox/{other.id}/reply", data=fields, files={"file": ("", b"", "")})
    assert answer.status_code == 404
    assert await sent_of(site) == []


@pytest.mark.parametrize("token", ["", "x" * 64, None])
async def test_a_form_from_elsewhere_keeps_and_sends_nothing(site, token):
    browser, deposit = await reader(site)
    data = {"text": "forged", "action": "send"} | ({} if token is None else {"csrf": token})
    for file in (("", b"", ""), ("a.pdf", b"x", "application/pdf")):
        answer = await browser.raw("POST", f"/inbox/{deposit.id}/reply", data=data, files={"file": file})
        assert answer.status_code == 403
    answer = await browser.raw("POST", f"/inbox/{deposit.id}/upload?kind=reply&name=a&type=b/c&size=1")
    assert answer.status_code == 403
    assert await site.drafts.of(deposit.id, DraftKind.REPLY) is None
    assert await sent_of(site) == []


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"content-type": "multipart/form-data"}, b"x"),
        ({"content-type": "multipart/form-data; boundary=a"}, b"not a form"),
        ({"content-type": "multipart/form-data; boundary=a"}, b"--a\r\n" * 5000),
        (
            {"content-type": "multipart/form-data; boundary=a"},
            b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\ny',
        ),
        ({"content-type": "application/x-www-form-urlencoded"}, b"text=x&action=send"),
        ({"content-type": "text/plain"}, b"x"),
        ({}, b""),
    ],
)
async def test_what_is_no_form_is_refused(site, headers, content):
    browser, deposit = await reader(site)
    answer = await browser.raw("POST", f"/inbox/{deposit.id}/reply", headers=headers, content=content)
    assert answer.status_code in {400, 403, 413}
    assert await site.drafts.of(deposit.id, DraftKind.REPLY) is None


async def test_too_many_or_too_large_fields_are_refused(site):
    browser, deposit = await reader(site)
    many = {"csrf": token_of(browser)} | {f"f{number}": "x" for number in range(50)}
    answer = await browser.raw("POST", f"/inbox/{deposit.id}/reply", data=many, files={"file": ("", b"", "")})
    assert answer.status_code == 413
    large = {"csrf": token_of(browser), "text": "x" * 300_000}
    answer = await browser.raw("POST", f"/inbox/{deposit.id}/reply", data=large, files={"file": ("", b"", "")})
    assert answer.status_code == 413


async def test_a_part_whose_header_does_not_end_is_refused(site):
    browser, deposit = await reader(site)
    token = token_of(browser).encode()
    first = b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n' + token + b"\r\n--x\r\n"
    for header in (b"X-Long: " + b"x" * 20_000, b"\r\n".join(b"X-%d: y" % number for number in range(4000))):
        rest = header + b'\r\nContent-Disposition: form-data; name="text"\r\n\r\nplanted\r\n--x--\r\n'
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = await browser.raw("POST", f"/inbox/{deposit.id}/reply", content=first + rest, headers=headers)
        assert answer.status_code in {400, 413}
    assert await site.drafts.of(deposit.id, DraftKind.REPLY) is None


async def test_nobody_floods_a_sender_with_answers(tmp_path):
    async with a_site(tmp_path, limits=LimitOptions(written=Rate(most=2, window=3600.0))) as site:
        browser, deposit = await reader(site)
        path = f"/inbox/{deposit.id}/reply"
        for _ in range(2):
            await browser.get(path)
            assert (await post(browser, path, text="planted-words", action="send")).status_code == 200
        await browser.get(path)
        assert (await post(browser, path, text="planted-third", action="send")).status_code == 429
        assert len(await sent_of(site)) == 2
        assert (await site.drafts.of(deposit.id, DraftKind.REPLY)).text == "planted-third", "nothing is lost"
        site.clock.now += 600
        await browser.get("/inbox")
        for _ in range(5):
            site.clock.now += 601
            await browser.get("/inbox")
        await browser.get(path)
        assert (await post(browser, path, text="planted-third", action="send")).status_code == 200


async def test_a_file_in_steps_goes_on_where_it_broke_off(site):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    path, token = f"/inbox/{deposit.id}/upload?kind=reply", {"x-csrf-token": token_of(browser)}

    async def ask(query, content=b""):
        answer = await browser.raw("POST", f"{path}&{query}", headers=token, content=content)
        is_json = answer.headers["content-type"] == "application/json"
        return answer.status_code, answer.json() if is_json else None

    status, known = await ask("name=scan.pdf&type=application/pdf&size=10")
    assert (status, known["received"]) == (200, 0)
    upload = known["upload"]
    assert (await ask(f"upload={upload}&start=0", b"01234"))[1]["received"] == 5
    assert (await ask(f"upload={upload}&start=0", b"01234"))[1]["received"] == 5
    assert (await ask(f"upload={upload}&start=9", b"9"))[1]["received"] == 5
    page = await post(browser, f"/inbox/{deposit.id}/reply", text="x", action="send")
    assert (page.status_code, "did not arrive whole" in page.text) == (400, True)
    assert (await ask(f"upload={upload}&start=5", b"56789"))[1]["received"] == 10
    await post(browser, f"/inbox/{deposit.id}/reply", text="x", action="send")
    [one] = await sent_of(site)
    [file] = parsed(one).iter_attachments()
    assert file.get_content() == b"0123456789"
    assert (await ask(f"upload={upload}&start=0", b"x"))[0] == 404
    assert (await ask("name=a.exe&type=b/c&size=1"))[0] == 400
    assert (await ask("name=a.pdf&type=b/c&size=-1"))[0] == 400
    assert (await ask("name=a.pdf&type=b/c&size=99999999999"))[0] == 400


async def test_an_upload_of_another_draft_cannot_be_written(site):
    browser, deposit = await reader(site)
    theirs, their_deposit = await reader(site, mailbox=Address.parse("sam@mail.example"))
    token = {"x-csrf-token": token_of(theirs)}
    begun = await theirs.raw(
        "POST", f"/inbox/{their_deposit.id}/upload?kind=reply&name=a.pdf&type=b/c&size=3", headers=token
    )
    upload = begun.json()["upload"]
    answer = await browser.raw(
        "POST",
        f"/inbox/{deposit.id}/upload?kind=reply&upload={upload}&start=0",
        headers={"x-csrf-token": token_of(browser)},
        content=b"bad",
    )
    assert answer.status_code == 404


async def test_a_recalled_message_takes_its_drafts_along(site):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    await post(browser, f"/inbox/{deposit.id}/reply", text="x", action="save")
    ended = dataclasses.replace(await site.rooms.deposits.find(deposit.id), state=DepositState.RECALLED)
    assert await site.rooms.deposits.change(ended, expected=DepositState.OPENED)
    assert (await browser.get(f"/inbox/{deposit.id}/reply")).status_code == 410
    assert await site.drafts.sweep(before=0.0) == 1


async def test_autosave_answers_with_the_time(site):
    browser, deposit = await reader(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    answer = await browser.raw(
        "POST", f"/inbox/{deposit.id}/reply", data={"csrf": token_of(browser), "text": "words", "action": "autosave"},
        files={"x": ("", b"", "")},
    )  # fmt: skip
    assert answer.json() == {"saved": "9:01 AM"}
    assert (await site.drafts.of(deposit.id, DraftKind.REPLY)).text == "words"


class Tab:
    """A window on the page of an answer, and what its form holds besides the words."""

    def __init__(self, browser, path) -> None:
        self._browser, self._path = browser, path

    async def show(self):
        return self.showing(await self._browser.get(self._path))

    def showing(self, page):
        self.page = html.unescape(page.text)
        self._form = {name: field_of(page.text, name) for name in ("csrf", "once", "seen")}
        [words] = re.findall(r"<textarea id=.text.[^>]*>([^<]*)", page.text)
        self.words = html.unescape(words).strip()
        return self

    async def press(self, action, text, file=("", b"", "")):
        data = self._form | {"text": text, "action": action}
        return await self._browser.client.post(self._path, data=data, files={"file": file})

    async def autosave(self, text):
        return (await self.press("autosave", text)).json()


def field_of(page, name):
    return re.search(rf'name="{name}" value="([^"]*)"', page)[1]


@pytest.fixture
async def tabs(site):
    """Two windows on one answer that nobody has begun, and who asks what is kept."""
    browser, deposit = await reader(site)
    path = f"/inbox/{deposit.id}/reply"

    async def kept():
        return await site.drafts.of(deposit.id, DraftKind.REPLY)

    return await Tab(browser, path).show(), await Tab(browser, path).show(), kept


async def test_a_window_goes_on_saving_its_own_words(tabs):
    one, _, kept = tabs
    for text in ("a", "a b", "a b c"):
        assert await one.autosave(text) == {"saved": "9:01 AM"}
    assert ((await kept()).text, (await kept()).beside) == ("a b c", ())
    assert (await one.show()).words == "a b c"
    assert await one.autosave("other") == {"saved": "9:01 AM"}, "it showed what it replaces"
    assert (await one.press("send", "other")).status_code == 303


async def test_of_two_windows_on_one_answer_neither_loses_a_word(site, tabs):
    one, two, kept = tabs
    await one.autosave("planted-one")
    assert "another window" in (await two.autosave("planted-two"))["note"]
    await one.autosave("planted-one more")
    await two.autosave("planted-two more")
    draft = await kept()
    assert (draft.text, [each.text for each in draft.beside]) == ("planted-one more", ["planted-two more"])
    third = await one.__class__(two._browser, two._path).show()
    assert (third.words, "planted-two more" in third.page) == ("planted-one more", True)


@pytest.mark.parametrize("action", ["send", "save", "discard", "add"])
async def test_a_button_does_nothing_to_what_its_window_did_not_show(site, tabs, action):
    one, two, kept = tabs
    await one.autosave("planted-one")
    answer = await two.press(action, "planted-two")
    assert (answer.status_code, await sent_of(site)) == (400, [])
    two.showing(answer)
    assert "wrote this in another window, too" in two.page
    assert (two.words, "planted-one" in two.page) == ("planted-two", True)
    draft = await kept()
    assert (draft.text, [each.text for each in draft.beside]) == ("planted-two", ["planted-one"])
    assert (await two.press("send", "planted-two")).status_code == 303, "now it has shown all"
    assert [parsed(each).get_content().strip() for each in await sent_of(site)] == ["planted-two"]
    assert await kept() is None


async def test_words_that_another_window_keeps_beside_do_not_vanish_with_a_press_of_the_first(site, tabs):
    one, two, kept = tabs
    await one.autosave("planted-one")
    await two.autosave("planted-two")
    answer = await one.press("send", "planted-one")
    assert (answer.status_code, await sent_of(site)) == (400, [])
    assert "planted-two" in one.showing(answer).page
    assert (await one.press("discard", "planted-one")).status_code == 303
    assert await kept() is None


async def test_a_file_of_another_window_is_shown_before_it_is_sent(site, tabs):
    one, two, _ = tabs
    await two.press("add", "planted-words", file=("planted.pdf", b"%PDF-", "application/pdf"))
    answer = await one.press("send", "planted-words")
    assert (answer.status_code, await sent_of(site)) == (400, [])
    assert "planted.pdf" in one.showing(answer).page
    assert (await one.press("send", "planted-words", file=("more.pdf", b"%PDF-", "application/pdf"))).status_code == 303
    [post] = await sent_of(site)
    assert [each.get_filename() for each in parsed(post).iter_attachments()] == ["planted.pdf", "more.pdf"]


@pytest.mark.parametrize("action", ["send", "discard"])
async def test_an_autosave_that_comes_late_brings_nothing_back(site, tabs, action):
    one, _, kept = tabs
    await one.autosave("planted-words")
    assert (await one.press(action, "planted-words")).status_code == 303
    late = await one.press("autosave", "planted-wor")
    assert (late.status_code, "already" in late.json()["gone"]) == (409, True)
    assert await kept() is None


async def test_an_autosave_that_is_under_way_while_it_is_sent_brings_nothing_back(site, tabs, monkeypatch):
    one, _, kept = tabs
    await one.autosave("planted-words")
    save = type(site.drafts).save

    async def sent_first(drafts, draft, **more):
        monkeypatch.undo()
        assert (await one.press("send", "planted-words")).status_code == 303
        return await save(drafts, draft, **more)

    monkeypatch.setattr(type(site.drafts), "save", sent_first)
    assert "already" in (await one.autosave("planted-words"))["gone"]
    assert await kept() is None
    assert len(await sent_of(site)) == 1


async def test_what_another_window_writes_while_this_one_sends_is_kept(site, tabs, monkeypatch):
    one, two, kept = tabs
    await one.autosave("planted-words")
    answered = Ledger.answered

    async def slowly(ledger, *what):
        monkeypatch.undo()
        assert "another window" in (await two.autosave("planted-two"))["note"]
        return await answered(ledger, *what)

    monkeypatch.setattr(Ledger, "answered", slowly)
    assert (await one.press("send", "planted-words")).status_code == 303
    assert [parsed(each).get_content().strip() for each in await sent_of(site)] == ["planted-words"]
    assert (await kept()).text == "planted-two"
    assert await two.autosave("planted-two more") == {"saved": "9:01 AM"}
    assert (await two.press("send", "planted-two more")).status_code == 303
    assert await kept() is None


async def test_a_file_that_another_window_adds_while_this_one_sends_is_kept(site, tabs, monkeypatch):
    one, two, kept = tabs
    await one.press("add", "planted-words", file=("sent.pdf", b"%PDF-", "application/pdf"))
    await one.show()
    await two.show()
    answered = Ledger.answered

    async def slowly(ledger, *what):
        monkeypatch.undo()
        added = await two.press("add", "planted-words", file=("late.pdf", b"%PDF-late", "application/pdf"))
        assert added.status_code == 303
        return await answered(ledger, *what)

    monkeypatch.setattr(Ledger, "answered", slowly)
    assert (await one.press("send", "planted-words")).status_code == 303
    [post] = await sent_of(site)
    assert [each.get_filename() for each in parsed(post).iter_attachments()] == ["sent.pdf"]
    draft = await kept()
    assert (draft.text, [upload.name for upload in draft.uploads]) == ("", ["late.pdf"])
    await one.show()
    assert (await one.press("send", "planted-more")).status_code == 303
    [post] = await sent_of(site)
    [late] = parsed(post).iter_attachments()
    assert (late.get_filename(), late.get_content()) == ("late.pdf", b"%PDF-late")
    assert await kept() is None


async def test_a_file_that_another_window_takes_away_while_this_one_sends_does_not_leave_empty(site, tabs, monkeypatch):
    one, two, kept = tabs
    await one.press("add", "planted-words", file=("sent.pdf", b"%PDF-", "application/pdf"))
    await one.show()
    await two.show()
    [upload] = (await kept()).uploads
    attached = Desk._attached

    async def slowly(desk, *what):
        monkeypatch.undo()
        assert (await two.press(f"remove:{upload.id}", "planted-words")).status_code == 303
        return await attached(desk, *what)

    monkeypatch.setattr(Desk, "_attached", slowly)
    answer = await one.press("send", "planted-words")
    assert (answer.status_code, "did not arrive whole" in answer.text) == (400, True)
    assert await sent_of(site) == []
    assert ((await kept()).text, (await kept()).uploads) == ("planted-words", ())


@pytest.mark.parametrize("gone", ["send", "discard"])
async def test_what_is_written_after_another_window_sent_is_kept_and_not_sent_unasked(site, tabs, gone):
    one, two, kept = tabs
    await one.press("save", "planted-words")
    await one.show()
    await two.show()
    await one.press(gone, "planted-words")
    await site.take()
    assert "already" in (await two.autosave("planted-words and more"))["note"]
    await one.show()
    await one.press("discard", "planted-words")
    answer = await two.press("send", "planted-words and more")
    assert (answer.status_code, await sent_of(site)) == (400, [])
    assert "sent or thrown away already" in two.showing(answer).page
    assert two.words == (await kept()).text == "planted-words and more"
    assert (await two.press("send", "planted-words and more")).status_code == 303
    assert len(await sent_of(site)) == 1


async def test_what_is_thrown_away_twice_is_away(tabs):
    one, two, kept = tabs
    await one.press("save", "planted-words")
    await one.show()
    await two.show()
    assert (await one.press("discard", "planted-words")).status_code == 303
    assert (await two.press("discard", "planted-words")).status_code == 303
    assert await kept() is None


async def test_words_kept_beside_are_bounded_and_the_newest_stay(tabs):
    one, two, kept = tabs
    others = [await Tab(one._browser, one._path).show() for _ in range(9)]
    await one.autosave("planted-words")
    for number, tab in enumerate(others):
        await tab.autosave(f"planted-{number}")
    empty = await two.press("autosave", "")
    assert empty.status_code == 200
    assert [each.text for each in (await kept()).beside] == [f"planted-{number}" for number in (5, 6, 7, 8)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.example", (["a@b.example"], "")),
        (" a@b.example ;c@d.example\n", (["a@b.example", "c@d.example"], "")),
        ("a@b.example A@B.example", (["A@b.example"], "")),
        ("a@b.example oops", ([], "oops")),
        ("a@localhost", ([], "a@localhost")),
        ("", ([], "")),
    ],
)
def test_addresses_that_readers_type(text, expected):
    found, wrong = typed(text, 5)
    assert ([str(one) for one in found], wrong) == expected


# --- a draft that cannot be opened


async def damaged(site, deposit, kind=DraftKind.REPLY):
    """A draft with a file, whose row was damaged."""
    await site.drafts.save(Draft(id="draft-1", deposit_id=deposit.id, kind=kind, post_id="01J1", saved_at=site.clock()))
    upload = Upload(id="upload-1", name="a.pdf", content_type="application/pdf", size=3)
    assert await site.drafts.add("draft-1", upload, most=10, octets=100)
    await site.drafts.append("upload-1", 0, b"abc")
    await site.drafts._database.transact(lambda cursor: cursor.run("UPDATE drafts SET sealed = ?", b"damaged"))


async def rows_of(site):
    sql = "SELECT (SELECT count(*) FROM drafts), (SELECT count(*) FROM uploads), (SELECT count(*) FROM upload_pieces)"
    return await site.drafts._database.read(lambda cursor: tuple(cursor.row(sql)))


async def test_what_cannot_be_opened_is_thrown_away_by_a_button(site):
    browser, deposit = await reader(site)
    path = f"/inbox/{deposit.id}/reply"
    await damaged(site, deposit)
    page = await browser.get(path)
    assert page.status_code == 409
    assert "cannot open what you had begun" in page.text
    assert await rows_of(site) == (1, 1, 1), "nothing goes before the button is pressed"
    page = await post(browser, path, action="anew")
    assert (page.status_code, browser.path) == (200, path)
    assert await rows_of(site) == (0, 0, 0)
    await post(browser, path, text="planted-anew", action="send")
    assert [parsed(one).get_content().strip() for one in await sent_of(site)] == ["planted-anew"]


@pytest.mark.parametrize("file", [None, ("b.pdf", b"%PDF-1.4", "application/pdf")])
async def test_what_was_written_since_is_kept_when_it_is_begun_anew(site, file):
    browser, deposit = await reader(site)
    path = f"/inbox/{deposit.id}/forward"
    page = await browser.get(path)
    once = re.search(r'name="once" value="([^"]{22})"', page.text)[1]
    await damaged(site, deposit, DraftKind.FORWARD)
    words = {"text": "planted <words>", "to": "sam@mail.example", "once": once}
    page = await post(browser, path, file=file, **words, action="send")
    assert page.status_code == 409
    assert "planted &lt;words&gt;" in page.text
    assert await sent_of(site) == []
    fields = dict(re.findall(r'name="(once|seen|to)"[^>]* value="([^"]*)"', page.text))
    await post(browser, path, **fields, text="planted <words>", action="anew")
    draft = await site.drafts.of(deposit.id, DraftKind.FORWARD)
    assert (draft.text, draft.to, draft.uploads) == ("planted <words>", "sam@mail.example", ())


async def test_a_script_goes_on_trying_to_save_beside_what_cannot_be_opened(site):
    browser, deposit = await reader(site)
    path = f"/inbox/{deposit.id}/reply"
    await browser.get(path)
    await damaged(site, deposit)
    assert (await post(browser, path, text="planted", action="autosave")).status_code == 503


async def test_begin_anew_throws_nothing_away_that_can_be_opened(site):
    browser, deposit = await reader(site)
    path = f"/inbox/{deposit.id}/reply"
    await browser.get(path)
    await post(browser, path, text="planted-words", action="save")
    await post(browser, path, action="anew")
    assert (await site.drafts.of(deposit.id, DraftKind.REPLY)).text == "planted-words"
