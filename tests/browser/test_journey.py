"""The whole way through the portal in Chromium, on a desktop and on a phone; axe-core looks at every page.

``POSTERN_SCREENSHOTS=DIRECTORY`` writes pictures of the pages there (``docs/screenshots`` is made so).
"""

import contextlib
import os
import re
from email.message import EmailMessage
from email.policy import SMTP
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from relay.core.address import Address, ReversePath
from relay.core.portal import DepositState, PostKind, Secret
from relay.portal.brand import Brand
from relay.portal.sweep import Sweeper, SweepOptions
from relay.portal.totp import hotp
from tests.support.browsing import DESKTOP, PHONE, Served, violations
from tests.support.portal_site import code_in, text_of

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]
BRAND = Brand(name="Riverside Clinic", address="12 River Road, Springfield", phone="555-0100", accent="#0b6b5d")
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """[...document.querySelectorAll("a.button, button, input:not([type=hidden]), summary, .menu a, .foot li a")]
    .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 24).map((one) => one.outerHTML)"""
FOCUSED = """((one) => one === document.body ? "" : one.getAttribute("aria-label") || one.innerText || one.id || "")
    (document.activeElement)"""
SHOTS = os.environ.get("POSTERN_SCREENSHOTS", "")


def a_picture():
    picture = Image.new("RGB", (240, 80), "#0b6b5d")
    ImageDraw.Draw(picture).text((20, 30), "Riverside Clinic", fill="white")
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def a_message():
    mail = EmailMessage(policy=SMTP)
    mail["From"] = "Dr. Ada Example <doctor@clinic.example>"
    mail["To"] = "pat@mail.example, Sam Example <sam@mail.example>"
    mail["Subject"] = "Your lab results"
    mail["Date"] = "Mon, 02 Mar 2026 09:00:00 +0000"
    mail["Message-ID"] = "<one@clinic.example>"
    mail.set_content("Dear Pat,\n\nyour results are in. All values are in the normal range.\n\nDr. Ada\n")
    mail.add_alternative(
        '<img src="cid:logo@clinic" alt="Riverside Clinic" width="240"><h2 style="color:#0b6b5d">Your results</h2>'
        "<p>Dear Pat,</p><p>your results are in. <b>All values are in the normal range.</b></p>"
        '<table border="1" cellpadding="6" style="border-collapse:collapse"><tr><th>Test</th><th>Value</th></tr>'
        "<tr><td>HbA1c</td><td>5.4 %</td></tr><tr><td>LDL</td><td>96 mg/dL</td></tr></table>"
        '<p>More at <a href="https://clinic.example/labs">our page</a>.</p><p>Dr. Ada</p>'
        '<img src="https://tracker.example/pixel.gif">',
        subtype="html",
    )
    mail.get_payload()[1].add_related(a_picture(), "image", "png", cid="<logo@clinic>")
    mail.add_attachment(b"%PDF-1.4 made up", "application", "pdf", filename="results.pdf")
    return mail.as_bytes()


MESSAGE = a_message()
FACTS = {
    "origin_from": "Dr. Ada Example <doctor@clinic.example>",
    "origin_to": ("pat@mail.example", "Sam Example <sam@mail.example>"),
    "subject": "Your lab results",
    "date": "Mon, 02 Mar 2026 09:00:00 +0000",
    "receipts": True,
    "may_forward": True,
}


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("portal"), brand=BRAND) as portal:
        yield portal


class Walk:
    """One person's browser, and what is asserted of every page that they see."""

    def __init__(self, portal, chromium, name, **options) -> None:
        self.portal, self.site, self.name = portal, portal.site, name
        self.context = chromium.new_context(accept_downloads=True, **options)
        self.context.set_default_timeout(30_000)
        self.page = self.context.new_page()
        self.faults, self.asked, self.looked = [], [], set()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _heard(self, message):
        if message.type in {"error", "warning"} and "status of 4" not in message.text:
            self.faults.append(message.text)

    def deposit(self, mailbox="pat@mail.example", **changes):
        values = FACTS | {"content": MESSAGE, "mailbox": Address.parse(mailbox)} | changes
        return self.portal(self.site.deposit(**values))

    def go(self, path):
        self.page.goto(self.portal.origin + path)

    def press(self, name, role="button", *, leads=True, **options):
        """Press it; where it ``leads`` to a page, until that page is there: nothing is read of the one that goes."""
        pressed = self.page.get_by_role(role, name=name, **options).first
        with self.page.expect_navigation() if leads else contextlib.nullcontext():
            pressed.click()

    def send(self):
        """Press the main button of the page, whatever it says."""
        with self.page.expect_navigation():
            self.page.locator("main form button").first.click()

    def enter(self):
        """Press the Enter key on what leads to another page."""
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def at(self, heading, shot="", *, only=()):
        """This page is shown, and nothing is wrong with it."""
        self.page.get_by_role("heading", level=1, name=heading).wait_for()
        page = heading, self.page.get_by_role("alert").count(), shot
        if only or page not in self.looked:
            assert violations(self.page, only=only) == []
            self.looked.add(page)
        self.fits()
        self.shoot(shot)

    def fits(self):
        """Nothing has to be scrolled sideways (WCAG 1.4.10), and what is pressed is large enough (2.5.8)."""
        self.page.wait_for_load_state()
        assert self.page.evaluate(SIDEWAYS) <= 0, f"{self.page.url} has to be scrolled sideways"
        assert self.page.evaluate(SMALL) == []

    def shoot(self, shot):
        if shot and SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{SHOTS}/{self.name}-{shot}.png", full_page=True)

    def code(self):
        return self.portal(self.site.code())

    def sweep(self):
        """What the portal does by the clock, now."""
        rooms = self.site.rooms
        sweeper = Sweeper(
            rooms.deposits,
            rooms.ledger,
            forget=lambda: rooms.accounts.sweep(now=self.site.clock()),
            options=SweepOptions(),
            clock=self.site.clock,
        )
        self.portal(sweeper.sweep())

    def taken(self, kind):
        self.portal(self.site.take())
        return [post for post in self.site.posts if post.kind is kind]

    def come_in(self, deposit):
        """By the link of a notice, with a mailed code."""
        self.go(f"/m/{deposit.id}")
        self.at("You have a secure message", "1-landing")
        self.press("Send me a code")
        self.at("Enter your code", "2-code")
        self.page.get_by_label("Code from the email").fill(self.code())
        self.press("Read my message")

    def close(self):
        self.context.close()
        assert self.faults == []
        outside = [url for url in self.asked if not url.startswith((self.portal.origin, "data:"))]
        assert outside == []


@pytest.fixture(params=[("phone", PHONE), ("desktop", DESKTOP)], ids=lambda param: param[0])
def walk(request, portal, chromium):
    name, options = request.param
    walk = Walk(portal, chromium, name, **options)
    walk.mailbox = f"pat-{name}@mail.example"
    yield walk
    walk.close()


def authenticator(walk):
    """A platform authenticator that verifies its user (CDP's WebAuthn domain)."""
    session = walk.context.new_cdp_session(walk.page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def totp_of(key, at):
    return hotp(key.replace(" ", ""), int(at // 30))


def test_from_the_notice_to_the_log_off(walk):
    authenticator(walk)
    page, site = walk.page, walk.site
    deposit = walk.deposit(walk.mailbox)

    # The first visit: a code, and an offer of something better.
    walk.come_in(deposit)
    walk.at("Make your next visit easier", "3-choose")
    walk.press("Choose a passphrase", "link")
    walk.at("Choose a passphrase", "4-passphrase")
    page.get_by_label("New passphrase").fill("short")
    page.get_by_label("The same passphrase again").fill("short")
    page.evaluate("document.querySelectorAll('[minlength]').forEach((e) => e.removeAttribute('minlength'))")
    walk.press("Save")
    walk.at("Choose a passphrase")
    for label in ("New passphrase", "The same passphrase again"):
        page.get_by_label(label).fill("violet tractor quietly seven")
    walk.press("Save")

    # Reading.
    walk.go(f"/inbox/{deposit.id}")
    walk.at("New message", "5-unopened")
    walk.press("Open the message")
    walk.at("Your lab results", "6-message")
    frame = page.frame_locator(".letter-frame")
    frame.get_by_text("All values are in the normal range.").wait_for()
    assert frame.locator("img[alt='Riverside Clinic']").evaluate("(e) => e.complete && e.naturalWidth") == 240
    assert page.locator(".letter-frame").evaluate("(e) => e.contentDocument.scripts.length") == 0
    height = page.locator(".letter-frame").evaluate("(e) => [e.clientHeight, e.contentDocument.body.scrollHeight]")
    assert height[0] >= height[1]
    assert [str(post.recipients[0]) for post in walk.taken(PostKind.RECEIPT)][-1] == "doctor@clinic.example"
    walk.press("Show as plain text", "link")
    walk.at("Your lab results", "7-text")

    # Saving.
    saved = {}
    for name in ("Save the file results.pdf", "Save as PDF", "Save as email file (EML)"):
        with page.expect_download() as download:
            walk.press(name, "link", leads=False)
        saved[name] = Path(download.value.path()).read_bytes(), download.value.suggested_filename
    assert saved["Save the file results.pdf"] == (b"%PDF-1.4 made up", "results.pdf")
    assert saved["Save as PDF"][0].startswith(b"%PDF-")
    assert saved["Save as email file (EML)"] == (MESSAGE, "Your lab results.eml")

    # Answering, with a file that the page's script brings in pieces.
    walk.press("Reply", "link", exact=True)
    walk.at("Your reply", "8-reply")
    page.get_by_role("textbox", name="Your message").fill("Thank you, that is good news.")
    photo = b"\xff\xd8" + bytes(700_000)
    page.get_by_label("Add a file").set_input_files({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo})
    page.get_by_text("photo.jpg").first.wait_for()
    page.get_by_role("button", name="Remove the file photo.jpg").wait_for()
    walk.at("Your reply", "9-reply-file")
    assert page.get_by_role("textbox", name="Your message").input_value() == "Thank you, that is good news."
    walk.press("Send my reply")
    walk.at("Your reply is on its way", "10-sent")
    [reply] = [post for post in walk.taken(PostKind.REPLY) if post.deposit_id == deposit.id]
    assert [str(to) for to in reply.recipients] == ["doctor@clinic.example"]
    assert len(reply.content) > len(photo)

    # A passkey, and an app with codes.
    walk.go("/account")
    walk.at("Your account")
    walk.press("Set up a passkey", "link")
    walk.at("Set up a passkey", "11-passkey")
    walk.press("Set up now")
    walk.at("Your account", "12-account")
    walk.press("Set up an app", "link")
    walk.at("Set up an app with codes", "13-totp")
    key = page.locator("code.key").inner_text()
    page.get_by_label("The 6 digits from the app").fill(totp_of(key, site.clock()))
    walk.press("Turn it on")
    walk.at("Your account")

    # Leaving, and coming back with each of them.
    walk.press("Sign out")
    walk.at("You are signed out", "14-signed-out")
    walk.go("/sign-in")
    walk.at("Sign in", "15-sign-in")
    walk.press("Sign in with a passkey")
    walk.at("Your messages", "16-inbox")
    walk.press("Sign out")
    site.clock.now += 60
    for label, button, answer in (
        ("Code from your app", "code", lambda: totp_of(key, site.clock())),
        ("Your passphrase", "passphrase", lambda: "violet tractor quietly seven"),
    ):
        walk.go("/sign-in")
        page.get_by_label("Your email address").first.fill(walk.mailbox)
        walk.press("Send me a code")
        page.get_by_label("Code from the email").fill(walk.code())
        walk.press("Read my message")
        walk.at("Check that it is you", f"17-second-{button}")
        page.get_by_label(label).fill(answer())
        page.get_by_label(label).focus()
        walk.enter()
        walk.at("Your messages")
        walk.press("Sign out")
        walk.at("You are signed out")


def test_recall_expiry_and_log_off(walk):
    page, site = walk.page, walk.site
    mailbox = f"other-{walk.name}@mail.example"
    mistaken, kept = walk.deposit(mailbox), walk.deposit(mailbox)
    short = walk.deposit(mailbox, subject="Old news", expires_at=site.clock() + 300)
    walk.come_in(kept)
    walk.press("Not now, show my message", "link")
    walk.at("New message")

    # "This is not for me" takes the message away and tells its sender.
    walk.go(f"/inbox/{mistaken.id}")
    walk.press("This is not for me", "link")
    walk.at("Is this message not for you?", "18-not-me")
    walk.press("This is not for me")
    walk.at("Thank you for telling us")
    walk.go(f"/inbox/{mistaken.id}")
    walk.at("This message was taken back", "19-recalled")

    # "This is not for me" is on pages of no one message, too.
    walk.go("/inbox")
    walk.press("This is not for me", "link")
    walk.at("Did you get this by mistake?", "18-not-mine")
    assert page.locator(".messages li").count() == 2

    # What is over is gone, and says so: from that moment, and once it is deleted; to its link as well.
    site.clock.now += 300
    walk.go(f"/inbox/{short.id}")
    walk.at("This message is no longer here", "20-expired")
    walk.sweep()
    assert walk.portal(site.rooms.deposits.find(short.id)).state is DepositState.EXPIRED
    for path in (f"/inbox/{short.id}", f"/m/{short.id}"):
        walk.go(path)
        walk.at("This message is no longer here")
    walk.go("/inbox")
    assert page.locator(".messages li").count() == 1

    # What was written stays when the session ends.
    walk.go(f"/inbox/{kept.id}")
    walk.press("Open the message")
    walk.press("Reply", "link", exact=True)
    page.get_by_role("textbox", name="Your message").fill("I had begun to write")
    site.clock.now += site.rooms.options.sessions.idle + 1
    walk.press("Send my reply")
    walk.at("Sign in", "21-logged-off")
    assert page.get_by_text("You were signed out").is_visible()
    site.clock.now += 1
    page.get_by_label("Your email address").first.fill(mailbox)
    walk.press("Send me a code")
    page.get_by_label("Code from the email").fill(walk.code())
    walk.press("Read my message")
    walk.at("Your reply")
    assert page.get_by_role("textbox", name="Your message").input_value() == "I had begun to write"

    # Forwarding asks for an address, says what is wrong with it, and loses nothing.
    walk.go(f"/inbox/{kept.id}/forward")
    walk.at("Send this message to someone else", "22-forward")
    page.get_by_label("Email address of the person").fill("nobody")
    walk.press("Send it")
    walk.at("Send this message to someone else")
    assert page.get_by_role("alert").is_visible()
    assert page.get_by_label("Email address of the person").input_value() == "nobody"


def test_a_sender_sees_what_became_of_their_message_and_acts(walk):
    page, site = walk.page, walk.site
    sender = Address.parse(f"doctor-{walk.name}@clinic.example")
    deposit = walk.deposit(
        walk.mailbox, sender=ReversePath(sender), secret=Secret.SHARED, message_id=f"sent {walk.name}"
    )
    walk.portal(site.take())
    walk.portal(site.rooms.ledger.notified(deposit.message_id, deposit.number))
    [receipt] = walk.taken(PostKind.RECEIPT)[-1:]
    walk.go(re.search(r"(/sent/m/\S+)", text_of(receipt))[1])
    walk.at("What became of your message?", "23-sent-start")
    walk.press("Send me a code")
    walk.at("Enter your code", "24-sent-code")
    walk.portal(site.take())
    [mailed] = [post for post in site.posts if post.kind is PostKind.SENDER_CODE and post.recipients == (sender,)]
    page.get_by_label("Code from the email").fill(code_in(mailed))
    walk.press("Show what I sent")
    walk.at("Your secure message", "25-sent")
    assert page.get_by_text("Their mail server took our notice").is_visible()
    walk.press("Give it more time")
    walk.at("Your secure message", "26-sent-extended")
    assert page.get_by_text("The message can be read for longer.").is_visible()
    page.get_by_label("Secret word").fill("blue heron")
    walk.press("Set the secret word")
    assert page.get_by_text("The secret word is set.").is_visible()
    walk.press("Send the notice again")
    assert page.get_by_text("The notice is on its way again.").is_visible()
    walk.press("Secure messages that you sent", "link")
    walk.at("Secure messages that you sent", "27-sent-list")
    page.locator(".messages a").first.click()
    walk.at("Your secure message")
    walk.press("Take the message back")
    walk.at("Take this message back?", "28-sent-recall")
    walk.press("Take the message back")
    walk.at("Your secure message", "29-sent-recalled")
    assert page.get_by_text("The message was taken back.").is_visible()
    assert walk.portal(site.rooms.deposits.find(deposit.id)).state is DepositState.RECALLED
    walk.press("Sign out")
    walk.at("You are signed out")


PLACES = ["/inbox", "/account", "/account/totp", "/account/passphrase", "/genuine", "/sign-in", "/nowhere"]
PLACES += ["/not-mine", "/sent", "/not-me"]
SIZES = {"narrow": (320, 640), "zoomed": (640, 450)}  # 320 CSS pixels, and a laptop at 200 %


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spanish", PHONE | {"locale": "es-MX"}),
        ("dark", PHONE | {"color_scheme": "dark"}),
        ("high-contrast", DESKTOP | {"forced_colors": "active"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pages_for_everybody(portal, chromium, name, options):
    """Spanish, dark, forced colours; each page 320 pixels wide, too, and as a laptop at 200 % shows it."""
    walk = Walk(portal, chromium, name, **options)
    deposit = walk.deposit(f"{name}@mail.example")

    def look(number, shot):
        if name == "high-contrast":  # the colours are the system's: there is no contrast of ours to measure
            walk.fits()
            walk.shoot(f"{number:02d}-{shot}")
            return
        walk.at(re.compile("."), f"{number:02d}-{shot}", only=["color-contrast"])
        for size, (width, height) in SIZES.items():
            walk.page.set_viewport_size({"width": width, "height": height})
            walk.fits()
            if name == "dark":
                walk.shoot(f"{number:02d}-{shot}-{size}")
        walk.page.set_viewport_size(options["viewport"])

    walk.go(f"/m/{deposit.id}")
    assert walk.page.locator("html").get_attribute("lang") == ("es" if name == "spanish" else "en")
    look(1, "landing")
    walk.send()
    look(2, "code")
    walk.page.locator("#code").fill(walk.code())
    walk.send()
    look(3, "choose")
    walk.go(f"/inbox/{deposit.id}")
    walk.send()
    look(4, "message")
    for number, path in enumerate((f"/inbox/{deposit.id}/reply?all=1", f"/inbox/{deposit.id}/forward", *PLACES), 5):
        walk.go(path)
        look(number, path.rpartition("/")[2].partition("?")[0])
    if name == "spanish":
        assert walk.page.locator("html").get_attribute("lang") == "es"
        assert walk.page.get_by_text("Gracias").first.is_visible()
    walk.close()


def test_the_whole_way_without_a_script_and_by_keyboard(portal, chromium):
    walk = Walk(portal, chromium, "keyboard", java_script_enabled=False, **DESKTOP)
    page = walk.page
    deposit = walk.deposit("keys@mail.example")

    def tab_to(name):
        for _ in range(40):
            page.keyboard.press("Tab")
            if name in page.evaluate(FOCUSED):
                return
        raise AssertionError(f"{name} cannot be reached by the keyboard on {page.url}")

    walk.go(f"/m/{deposit.id}")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "Skip to the content"
    tab_to("Send me a code")
    walk.enter()
    page.get_by_role("heading", name="Enter your code").wait_for()
    tab_to("code")
    page.keyboard.type(walk.code())
    walk.enter()
    page.get_by_role("heading", name="Make your next visit easier").wait_for()
    tab_to("Not now")
    walk.enter()
    page.get_by_role("heading", name="New message").wait_for()
    tab_to("Open the message")
    walk.enter()
    page.get_by_role("heading", level=1, name="Your lab results").wait_for()
    tab_to("Reply")
    walk.enter()
    page.get_by_role("heading", level=1, name="Your reply").wait_for()
    tab_to("text")
    page.keyboard.type("By keyboard alone.")
    page.locator("#file").set_input_files({"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-"})
    tab_to("Add this file")
    walk.enter()
    page.get_by_text("a.pdf").first.wait_for()
    tab_to("Send my reply")
    walk.enter()
    page.get_by_role("heading", name="Your reply is on its way").wait_for()
    [reply] = [post for post in walk.taken(PostKind.REPLY) if post.deposit_id == deposit.id]
    assert b"By keyboard alone." in reply.content
    assert b"a.pdf" in reply.content
    walk.close()


def test_a_warning_comes_before_the_log_off_and_can_be_answered(portal, chromium):
    walk = Walk(portal, chromium, "idle", **PHONE)
    page = walk.page
    deposit = walk.deposit("idle@mail.example")
    walk.come_in(deposit)
    page.get_by_role("heading", name="Make your next visit easier").wait_for()
    page.clock.install()
    walk.go("/inbox")
    warning = page.get_by_role("alertdialog")
    page.clock.fast_forward("12:30")
    assert not warning.is_visible()
    page.clock.fast_forward("01:00")
    warning.wait_for()
    assert violations(page) == []
    assert page.get_by_role("button", name="Stay signed in").evaluate("(one) => one === document.activeElement")
    with page.expect_response("**/account/alive") as answer:
        walk.press("Stay signed in", leads=False)
    assert answer.value.ok
    warning.wait_for(state="hidden")
    page.clock.fast_forward("12:30")
    assert not warning.is_visible()
    page.clock.fast_forward("03:00")
    page.get_by_role("heading", level=1, name="Sign in").wait_for()
    assert page.get_by_text("You were signed out").is_visible()
    walk.close()


def test_who_reads_in_one_window_is_not_logged_off_by_another(portal, chromium):
    walk = Walk(portal, chromium, "windows", **PHONE)
    deposit = walk.deposit("windows@mail.example")
    walk.come_in(deposit)
    walk.page.get_by_role("heading", name="Make your next visit easier").wait_for()
    walk.page.clock.install()
    walk.go("/inbox")
    other = walk.context.new_page()
    other.goto(portal.origin + "/account")
    walk.page.clock.fast_forward("13:30")  # in both
    warnings = [page.get_by_role("alertdialog") for page in (walk.page, other)]
    for warning in warnings:
        warning.wait_for()
    other.get_by_role("button", name="Stay signed in").click()
    for warning in warnings:
        warning.wait_for(state="hidden")
    walk.page.clock.fast_forward("13:30")
    for warning in warnings:
        warning.wait_for()
    other.reload()
    warnings[0].wait_for(state="hidden")

    # Who was logged off comes back to where they were.
    walk.go(f"/inbox/{deposit.id}")
    with walk.page.expect_navigation(url="**/sign-in?*"):
        walk.page.clock.fast_forward("16:00")
    walk.page.get_by_role("heading", level=1, name="Sign in").wait_for()
    assert walk.page.locator("input[name='next']").first.input_value() == f"/inbox/{deposit.id}"
    walk.close()


def test_what_is_wrong_is_in_the_title_and_has_the_focus(portal, chromium):
    walk = Walk(portal, chromium, "wrong", **PHONE)
    page = walk.page
    deposit = walk.deposit("wrong@mail.example")
    walk.go(f"/m/{deposit.id}")
    walk.press("Send me a code")
    code = walk.code()
    page.get_by_label("Code from the email").fill("1")
    walk.press("Read my message")
    walk.at("Enter your code")
    assert page.title().startswith("Please check: ")
    page.wait_for_function("document.activeElement.id === 'code'")
    walk.press("Español", "link")
    page.locator("#code").fill(code)
    walk.send()
    walk.go(f"/inbox/{deposit.id}?lang=en")
    walk.press("Open the message")
    walk.go(f"/inbox/{deposit.id}/reply?all=1")
    walk.press("Español", "link")
    assert page.locator("input[name='all']").input_value() == "1", "still to all"
    walk.go(f"/inbox/{deposit.id}/reply?all=1&lang=en")
    walk.press("Send my reply")
    walk.at("Your reply to all")
    page.wait_for_function("document.activeElement.getAttribute('role') === 'alert'")
    walk.close()


PRESS = """() => document.querySelector('form[action$="/open"]').dispatchEvent(
    new Event("submit", {bubbles: true, cancelable: true}))"""
"""What a press of the button tells scripts, and whether they let the form go."""


def test_a_second_press_does_not_break_off_the_answer_to_the_first(portal, chromium):
    """On a slow line people press again: the cookie of the session would be lost, and a code is right once."""
    walk = Walk(portal, chromium, "impatient", **PHONE)
    page = walk.page
    deposit = walk.deposit("impatient@mail.example")
    walk.go(f"/m/{deposit.id}")
    walk.press("Send me a code")
    assert [page.evaluate(PRESS), page.evaluate(PRESS)] == [True, False]
    page.evaluate("window.dispatchEvent(new Event('pageshow'))")  # who goes back may press anew
    assert page.evaluate(PRESS)
    page.evaluate("window.dispatchEvent(new Event('pageshow'))")
    page.get_by_label("Code from the email").fill(walk.code())
    walk.press("Read my message")
    page.get_by_role("heading", name="Make your next visit easier").wait_for()
    page.go_back()  # the page of the code leads on for who is in
    page.wait_for_url(f"**/inbox/{deposit.id}")
    walk.close()


def test_going_back_after_sending_offers_nothing_to_send_again(portal, chromium):
    walk = Walk(portal, chromium, "back", **PHONE)
    page = walk.page
    deposit = walk.deposit("back@mail.example")
    walk.come_in(deposit)
    page.get_by_role("heading", name="Make your next visit easier").wait_for()
    walk.go(f"/inbox/{deposit.id}")
    walk.press("Open the message")
    page.get_by_role("heading", level=1, name="Your lab results").wait_for()
    words = page.get_by_role("textbox", name="Your message")

    # What is not sent is there again.
    walk.go(f"/inbox/{deposit.id}/reply")
    words.fill("Thank you")
    page.evaluate("document.dispatchEvent(new Event('portal-leave'))")  # keeps it, as leaving does
    page.get_by_text("Saved").first.wait_for()
    walk.press("Back", "link", exact=True)
    page.get_by_role("heading", level=1, name="Your lab results").wait_for()
    page.go_back()
    page.get_by_role("heading", level=1, name="Your reply").wait_for()
    assert words.input_value() == "Thank you"

    # What was sent is not.
    walk.press("Send my reply")
    page.get_by_role("heading", level=1, name="Your reply is on its way").wait_for()
    page.go_back()
    page.get_by_role("heading", level=1, name="Your reply").wait_for()
    page.wait_for_function("document.querySelector('textarea').value === ''")
    walk.press("Send my reply")
    page.get_by_role("alert").first.wait_for()
    assert len([post for post in walk.taken(PostKind.REPLY) if post.deposit_id == deposit.id]) == 1

    # On paper a message names its clinic, and nothing that can only be pressed.
    walk.go(f"/inbox/{deposit.id}")
    page.emulate_media(media="print")
    assert page.locator(".brand").is_visible()
    for name in ("Messages", "Reply", "Save as PDF", "Save the file results.pdf"):
        assert not page.get_by_role("link", name=name, exact=True).first.is_visible()
    page.frame_locator(".letter-frame").get_by_text("All values are in the normal range.").wait_for()
    walk.close()
