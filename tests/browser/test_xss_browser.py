"""Hostile mail in a real browser: nothing of it runs, nothing is fetched, and the page stays where it is."""

from pathlib import Path

import pytest
from starlette.responses import HTMLResponse
from starlette.routing import Route

from relay.core.address import Address
from relay.portal.letters import letter_routes
from relay.portal.message import frame
from tests.support.browsing import DESKTOP, Served

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]
CORPUS = Path(__file__).parents[1] / "portal" / "xss"
HEAD = (
    b"From: Eve <eve@evil.example>\r\nTo: eve@mail.example\r\nSubject: %s\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)
EVE = Address.parse("eve@mail.example")
WATCH = "window.owned = 0; window.alert = window.confirm = window.prompt = () => { window.owned = 1; };"
OWNED = "window.owned || [...document.querySelectorAll('iframe')].some((one) => one.contentWindow.owned)"
TOUCH = """(frame) => {
  for (const one of frame.querySelectorAll("*")) {
    for (const kind of ["click", "mouseover", "focus", "error", "load", "toggle", "animationstart"])
      if (one.tagName !== "A" || kind !== "click") one.dispatchEvent(new Event(kind, { bubbles: true }));
  }
}"""


def mails():
    for path in sorted(CORPUS.glob("*.html")):
        yield path.stem, HEAD % path.stem.encode() + path.read_bytes()
    for path in sorted(CORPUS.glob("*.eml")):
        yield path.stem, path.read_bytes()


def gallery(rooms, drafts, scans):
    """The portal's routes, and a page that shows many messages in frames as the page of a message does."""

    async def show(request):
        frames = "".join(
            f"<iframe id='{one}' src='/inbox/{one}/frame' sandbox='{frame.SANDBOX}'></iframe>"
            for one in request.query_params["show"].split(",")
        )
        return HTMLResponse(f"<!doctype html><title>x</title>{frames}")

    return [Route("/gallery", show), *letter_routes(rooms, drafts, scans)]


def test_no_mail_of_the_corpus_runs_or_fetches_anything(tmp_path, chromium):
    with Served(tmp_path, around=gallery) as portal:
        context = chromium.new_context(**DESKTOP)
        context.add_init_script(WATCH)
        page = context.new_page()
        asked, popups, dialogs = [], [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("popup", lambda popup: popups.append(popup.url))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        deposits = {name: portal(opened(portal.site, name, content)) for name, content in mails()}
        assert len(deposits) > 90
        sign_in(portal, page, next(iter(deposits.values())))
        names = list(deposits)
        for start in range(0, len(names), 20):
            shown = names[start : start + 20]
            url = f"{portal.origin}/gallery?show={','.join(deposits[name].id for name in shown)}"
            page.goto(url, wait_until="load")
            for name in shown:
                inside = page.locator(f"[id='{deposits[name].id}']")
                inside.evaluate(f"(one) => ({TOUCH})(one.contentDocument)")
                assert inside.evaluate("(one) => one.contentDocument.body.innerHTML.length") > 0, name
                assert inside.evaluate("(one) => one.contentDocument.scripts.length") == 0, name
            assert not page.evaluate(OWNED), shown
            assert page.url == url
        for name in [name for name in names if (CORPUS / f"{name}.eml").exists()]:  # what stands around the frame
            page.goto(f"{portal.origin}/inbox/{deposits[name].id}")
            assert not page.evaluate(OWNED), name
            assert "<script>" in page.locator("main").inner_text() or name != "header-subject"
        for name in ("script", "img-onerror", "meta-refresh"):  # on a page of its own a message is as harmless
            page.goto(f"{portal.origin}/inbox/{deposits[name].id}/frame")
            assert not page.evaluate("window.owned"), name
        assert [url for url in asked if not url.startswith((portal.origin, "data:"))] == []
        assert popups == dialogs == []
        context.close()


async def opened(site, name, content):
    subject = f"{name} <script>top.owned=1</script>"
    return await site.rooms.ledger.opened(await site.deposit(mailbox=EVE, content=content, subject=subject))


def test_a_script_in_the_frame_would_not_run(tmp_path, chromium):
    """The second and third wall alone: a document that was not cleaned at all, under the frame's headers."""

    async def raw(_request):
        page = "<script>top.owned=1;window.owned=1</script><img src=x onerror='top.owned=1'><form action='/x'></form>"
        return HTMLResponse(page + "<img src='https://evil.example/x.png'>", headers=dict(frame.HEADERS))

    async def outer(_request):
        body = f"<h1>x</h1><iframe class=letter-frame src=/raw sandbox='{frame.SANDBOX}'></iframe>"
        return HTMLResponse(body)

    routes = [Route("/raw", raw), Route("/outer", outer)]
    with Served(tmp_path, more=lambda _rooms: routes) as portal:
        context = chromium.new_context()
        page = context.new_page()
        failed = []
        page.on("requestfailed", lambda request: failed.append(request.url))
        for path in ("/outer", "/raw"):
            page.goto(portal.origin + path)
            page.wait_for_load_state()
            assert page.evaluate("window.owned") is None
        assert set(failed) <= {"https://evil.example/x.png", f"{portal.origin}/x"}
        assert "x.png" in " ".join(failed)
        context.close()


def sign_in(portal, page, deposit):
    page.goto(f"{portal.origin}/m/{deposit.id}")
    page.get_by_role("button", name="Send me a code").click()
    page.get_by_label("Code from the email").fill(portal(portal.site.code()))
    page.get_by_role("button", name="Read my message").click()
    page.get_by_role("heading", name="Make your next visit easier").wait_for()
