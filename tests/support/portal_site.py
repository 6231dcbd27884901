"""The whole portal in memory and one SQLite file, and browsers to visit it with: no socket, a clock that stands still.

A :class:`Browser` keeps cookies, reads forms out of pages and sends them as browsers do; a test that plays an attacker
uses :meth:`Browser.raw`.
"""

import contextlib
import html
import os
import re
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy

import httpx

from relay.core.address import Address
from relay.core.envelope import Attachment
from relay.core.phi import PhiVerdict
from relay.core.portal import Deposit, PostKind
from relay.core.ports import ScanReport
from relay.mail.notice import NoticeOptions, NoticeWriter
from relay.methods.notice import load_texts
from relay.portal.app import application
from relay.portal.furnish import furnish
from relay.portal.ledger import Ledger
from relay.portal.letters import letter_routes
from relay.portal.options import PassphraseOptions, PortalOptions
from relay.portal.sender.links import sender_page
from relay.protect.sealing import RingVault
from relay.store.portal.account_tables import SCHEMA
from relay.store.portal.accounts import StoredAccounts
from relay.store.portal.deposits import StoredDeposits
from relay.store.portal.drafts import SCHEMA as DRAFTS
from relay.store.portal.drafts import StoredDrafts
from tests.support.portal import PORTALS, a_deposit

NOW = 1_772_442_100.0
ORIGIN = "https://secure.clinic.example"
MAIL_FROM = Address.parse("portal@clinic.example")
PAT = Address.parse("pat@mail.example")
CONTENT = b"From: doctor@clinic.example\r\nSubject: planted-subject\r\n\r\nplanted-body\r\n"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36"
QUICK = PassphraseOptions(time_cost=1, memory_kib=64)

_FORM = re.compile(r"<form\b([^>]*)>(.*?)</form>", re.DOTALL)
_INPUT = re.compile(r"<input\b([^>]*)>", re.DOTALL)
_ATTRIBUTE = re.compile(r'([a-z-]+)(?:="([^"]*)")?')


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Counts:
    """Implements ``Metrics``."""

    def __init__(self) -> None:
        self.counted: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def count(self, name, labels=None, amount=1):
        key = name, tuple(sorted((labels or {}).items()))
        self.counted[key] = self.counted.get(key, 0) + amount

    def observe(self, name, value, labels=None):
        pass

    def set(self, name, value, labels=None):
        pass

    def of(self, name, **labels) -> float:
        return self.counted.get((name, tuple(sorted(labels.items()))), 0)


@dataclass(slots=True)
class Form:
    """A form of a page: where it goes, and the fields that are filled."""

    action: str
    method: str
    fields: dict[str, str]
    attributes: dict[str, str] = field(default_factory=dict)


class Site:
    """One portal: its rooms, application and mail."""

    def __init__(self, harness, rooms, app, clock, drafts, scans) -> None:
        self.harness, self.rooms, self.app, self.clock = harness, rooms, app, clock
        self.drafts, self.scans = drafts, scans
        self.number = 0
        self.posts, self.events = [], []

    async def deposit(self, **changes) -> Deposit:
        """Another message waits."""
        self.number += 1
        values = {"deposited_at": self.clock() - 60, "expires_at": self.clock() + 30 * 86400}
        content = changes.pop("content", CONTENT)
        return await self.rooms.deposits.deposit(a_deposit(self.number, **(values | changes)), content)

    async def take(self) -> list:
        """What has been handed out since: posts; all of them, and the events, gather in ``posts`` and ``events``."""
        items = await self.rooms.deposits.take_outbox(owner="test", lease=60.0, limit=1000)
        await self.rooms.deposits.forget_outbox([item.seq for item in items])
        posts = [post for item in items for post in item.posts]
        self.posts += posts
        self.events += [event for item in items for event in item.events]
        return posts

    async def code(self) -> str:
        """The one code that has been mailed since."""
        [post] = [post for post in await self.take() if post.kind is PostKind.CODE]
        return code_in(post)

    async def account(self, mailbox=PAT):
        return await self.rooms.accounts.account(mailbox)

    async def change_account(self, **changes):
        account = await self.account()
        assert await self.rooms.accounts.save(replace(account, **changes))

    def browser(self, **options) -> "Browser":
        return Browser(self, **options)


class Scans:
    """Implements ``Scanner``: finds nothing, unless ``unreadable`` says why attachments cannot be read."""

    def __init__(self) -> None:
        self.unreadable, self.seen = "", []

    async def scan(self, content, client=""):
        self.seen.append(content)
        attachments = [Attachment(type="zip", name="all.zip", size=1, unreadable=self.unreadable)]
        return ScanReport(verdict=PhiVerdict(), subject="", headers=(), attachments=tuple(attachments))


@contextlib.asynccontextmanager
async def a_site(directory, *, kind="sqlite", more=None, around=letter_routes, **options):
    """A portal over a database of this kind; ``options`` override those of :class:`PortalOptions`.

    ``more(rooms)`` gives routes in the place of those of messages, ``around(rooms, drafts, scans)`` besides them.
    """
    clock = Clock()
    harness = PORTALS[kind](directory, clock)
    database = await harness.database(SCHEMA, DRAFTS)
    vault = RingVault(harness.ring, os.urandom)
    deposits = StoredDeposits(database, vault, clock, os.urandom)
    chosen = PortalOptions(**({"origin": ORIGIN, "mail_from": MAIL_FROM, "passphrase": QUICK} | options))
    writer = NoticeWriter(NoticeOptions(origin=chosen.origin, mail_from=chosen.mail_from, texts=load_texts()))
    counts = Counts()
    rooms = furnish(
        chosen,
        deposits=deposits,
        accounts=StoredAccounts(database, vault),
        ledger=Ledger(
            deposits,
            writer,
            clock=clock,
            entropy=os.urandom,
            metrics=counts,
            page=sender_page(vault, chosen.origin),
        ),
        vault=vault,
        clock=clock,
        entropy=os.urandom,
        metrics=counts,
    )
    drafts, scans = StoredDrafts(database, vault), Scans()
    routes = more(rooms) if more else around(rooms, drafts, scans)
    try:
        yield Site(harness, rooms, application(rooms, routes), clock, drafts, scans)
    finally:
        await harness.end()


class Browser:
    """Visits pages, keeps cookies, sends forms."""

    def __init__(self, site, *, network="192.0.2.7", agent=FIREFOX, language="en") -> None:
        self.site = site
        transport = httpx.ASGITransport(site.app, client=(network, 50000), raise_app_exceptions=True)
        headers = {"user-agent": agent, "accept-language": language}
        self.client = httpx.AsyncClient(transport=transport, base_url=site.rooms.options.origin, headers=headers)
        self.page: httpx.Response | None = None

    async def get(self, path, **options):
        """Visit a page, and follow where it leads."""
        self.page = await self.client.get(path, follow_redirects=True, **options)
        return self.page

    async def send(self, which="", /, **fields):
        """Send a form of the page at hand: the one to this path (or the only one), with these fields typed in."""
        return await self.send_form(self.form(which, filling=fields) if which else self.forms()[0], **fields)

    async def send_form(self, found: Form, **fields):
        """Send this form."""
        self.page = await self.client.request(
            found.method,
            found.action,
            data=found.fields | fields,
            follow_redirects=True,
            headers={"sec-fetch-site": "same-origin"},
        )
        return self.page

    async def raw(self, method, path, **options):
        """A request as it is told, with the cookies at hand; nothing is followed."""
        return await self.client.request(method, path, **options)

    def forms(self) -> list[Form]:
        """The forms of the page at hand, without those of the frame around it."""
        return [form for form in forms_of(self.page.text) if form.action != "/sign-out"]

    def form(self, action, *, filling=(), **fields) -> Form:
        """The form that goes there and has these fields; of several the first in which ``filling`` can be typed."""
        found = [form for form in forms_of(self.page.text) if form.action == action]
        found = [form for form in found if all(form.fields.get(name) == value for name, value in fields.items())]
        if not found:
            there = [form.action for form in self.forms()]
            raise AssertionError(f"no form to {action} on {self.page.url}: {there}")
        return next((form for form in found if set(filling) <= set(form.fields)), found[0])

    @property
    def csrf(self) -> str:
        return self.forms()[0].fields["csrf"]

    @property
    def path(self) -> str:
        return self.page.url.path

    async def sign_in(self, deposit) -> "Browser":
        """The whole way by a link, as far as it goes with the code."""
        await self.get(f"/m/{deposit.id}")
        await self.send(f"/m/{deposit.id}/code")
        await self.send(f"/m/{deposit.id}/open", code=await self.site.code())
        return self


def forms_of(page: str) -> list[Form]:
    """The forms of a page."""
    found = []
    for head, body in _FORM.findall(page):
        attributes = _attributes(head)
        fields = {}
        for inside in _INPUT.findall(body):
            one = _attributes(inside)
            if "name" in one and one.get("type") not in {"checkbox", "submit"}:
                fields[one["name"]] = one.get("value", "")
        found.append(Form(attributes.get("action", ""), attributes.get("method", "get").upper(), fields, attributes))
    return found


def _attributes(text: str) -> dict[str, str]:
    return {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(text)}


def text_of(post) -> str:
    """The words of a mail."""
    return message_from_bytes(post.content, policy=policy.default).get_content().replace("\r\n", "\n")


def code_in(post) -> str:
    """The code of a mail."""
    return re.search(r": ([0-9]{4} [0-9]{4})\n", text_of(post))[1]


def said_in(post) -> str:
    """The words of a mail on one line."""
    return " ".join(text_of(post).split())
