"""Who is signed in: cookies, sessions, and the tokens of forms. ``require`` is the door of every page behind it."""

import re
from dataclasses import dataclass, replace
from typing import Final, cast

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.portal import Post
from relay.core.portal_accounts import UNTOLD, Account, Accounts, Assurance, Device, Session, Told
from relay.core.ports import Clock
from relay.portal.options import SessionOptions
from relay.portal.rooms import rooms_of
from relay.portal.tokens import Entropy, csrf_of, digest, new_token, same

SESSION: Final = "__Host-session"
VISIT: Final = "__Host-visit"
DEVICE: Final = "__Host-device"
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
_SEEN_EVERY: Final = 30.0  # seconds: a page loads in a burst, and one write a burst is enough
_TOKEN_LENGTH: Final = 43
_TOKEN: Final = re.compile(rf"[A-Za-z0-9_-]{{{_TOKEN_LENGTH}}}\Z")
_BETWEEN: Final = "."
_NEXT: Final = re.compile(r"/(?:inbox|account)(?:/[A-Za-z0-9_-]{1,64}){0,4}\Z")
_MAX_FIELDS: Final = 64
_MOST_KNOWN: Final = 8
"""Mailboxes for which one browser is known: the one that was used longest ago makes room."""
_OTHER_CHARSET: Final = re.compile(r"charset(?!\s*=\s*\"?utf-8\"?\s*(?:;|\Z))")
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("Chrome", "Chrome"),
    ("CriOS", "Chrome"),
    ("Safari", "Safari"),
)
"""Signs in the order in which they must be looked for: most browsers say that they are some others, too."""
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


class SignInNeededError(Exception):
    """Nobody is signed in who may see this; ``step`` is where they go on."""

    def __init__(self, *, step: str, onward: str, expired: bool = False) -> None:
        super().__init__(step)
        self.step = step
        self.onward = onward
        self.expired = expired


class RefusedError(Exception):
    """A request that is answered by an error page: its status, and the key of its words (``error.<key>``)."""

    def __init__(self, status: int, key: str, *, wait: float = 0.0) -> None:
        super().__init__(key)
        self.status = status
        self.key = key
        self.wait = wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A session that began, and what its browser must hold."""

    session: Session
    session_token: str
    device_tokens: tuple[str, ...]
    is_new_device: bool


class Sessions:
    """Begins, finds and ends sessions. Cookies hold tokens; the store holds their digests.

    A browser is known for a mailbox by a token that is that mailbox's alone: whoever copied the one it got for another
    mailbox, or had it before, is known for no more than they were.
    """

    def __init__(self, accounts: Accounts, options: SessionOptions, clock: Clock, entropy: Entropy) -> None:
        self._accounts = accounts
        self._options = options
        self._clock = clock
        self._entropy = entropy

    @property
    def options(self) -> SessionOptions:
        """How long a sign-in holds."""
        return self._options

    async def current(self, request: Request) -> Session | None:
        """The session of this request, read once; ``locked`` when it was idle for too long."""
        if not hasattr(request.state, "session"):
            request.state.session = await self._find(request)
        return cast("Session | None", request.state.session)

    async def _find(self, request: Request) -> Session | None:
        token = cookie(request, SESSION)
        if token is None:
            return None
        now = self._clock()
        session = await self._accounts.session(digest(token), now=now)
        if session is None:
            return None
        silent = now - session.seen_at
        if silent >= self._options.idle:
            is_over = silent >= self._options.idle + self._options.kept_locked
            return None if is_over else replace(session, locked=True)
        if silent >= _SEEN_EVERY:
            await self._accounts.seen(session.key, at=now)
            session = replace(session, seen_at=now)
        return session

    async def known_device(self, request: Request, mailbox: Address) -> Device | None:
        """This browser, if it has signed in for the mailbox before and not too long ago."""
        known = [await self._accounts.device(mailbox, digest(token)) for token in device_tokens(request)]
        since = self._clock() - self._options.device
        return next((device for device in known if device is not None and device.last_seen > since), None)

    async def pend(self, request: Request, account: Account, *, tenant: str) -> Issued:
        """Begin a session that shows nothing until the second factor is given.

        Raises:
            SignInNeededError: as for :meth:`start`.
        """
        return await self._issue(request, account, Assurance.PENDING, tenant=tenant, device=None, told=UNTOLD)

    async def start(
        self, request: Request, account: Account, assurance: Assurance, *, tenant: str, event: AuditEvent, post: Post
    ) -> Issued:
        """Begin a session; a browser that is new to the mailbox is remembered, and ``post`` goes out for it.

        The session that the browser had ends: no token from before a sign-in is of use after it.

        Args:
            request: of the browser.
            account: whose, as it was read when its owner proved themselves.
            assurance: what it rests on.
            tenant: whose pages it shows.
            event: for the audit trail.
            post: tells the mailbox of a new device.

        Raises:
            SignInNeededError: the ways to sign in have changed meanwhile; what was proved leads nowhere.
        """
        now, device = self._clock(), await self.known_device(request, account.mailbox)
        held = device_tokens(request)
        if device is not None:
            seen, told = replace(device, last_seen=now), Told(events=(event,))
            issued = await self._issue(request, account, assurance, tenant=tenant, device=seen, told=told)
            order = sorted(held, key=lambda token: digest(token) != seen.token)
            return replace(issued, device_tokens=tuple(order))
        token = new_token(self._entropy)
        device = Device(
            id=new_token(self._entropy)[:22],
            token=digest(token),
            name=browser_name(request.headers.get("user-agent", "")),
            first_seen=now,
            last_seen=now,
        )
        told = Told(posts=(post,), events=(event,))
        issued = await self._issue(request, account, assurance, tenant=tenant, device=device, told=told)
        return replace(issued, device_tokens=(token, *held)[:_MOST_KNOWN], is_new_device=True)

    async def _issue(
        self,
        request: Request,
        account: Account,
        assurance: Assurance,
        *,
        tenant: str,
        device: Device | None,
        told: Told,
    ) -> Issued:
        now = self._clock()
        token, old = new_token(self._entropy), cookie(request, SESSION)
        session = Session(
            key=digest(token),
            mailbox=account.mailbox,
            assurance=assurance,
            device=device.id if device else "",
            tenant=tenant,
            created_at=now,
            seen_at=now,
            expires_at=now + self._options.life,
        )
        replaces = digest(old) if old else ""
        if not await self._accounts.start(session, device=device, replaces=replaces, told=told, era=account.era):
            raise SignInNeededError(step="/sign-in", onward="/inbox")
        request.state.session = session
        return Issued(session=session, session_token=token, device_tokens=(), is_new_device=False)

    async def end(self, request: Request) -> None:
        """End the request's session, whatever its state."""
        token = cookie(request, SESSION)
        if token is not None:
            await self._accounts.end(digest(token))
        request.state.session = None

    def hand_over(self, response: Response, issued: Issued) -> None:
        """Give the browser its cookies."""
        set_cookie(response, SESSION, issued.session_token)
        if issued.device_tokens:
            set_cookie(response, DEVICE, _BETWEEN.join(issued.device_tokens), lasts=self._options.device)


def browser_name(agent: str) -> str:
    """What a person recognises a browser by, such as ``Firefox, Android``; nothing of the header is repeated."""
    browser = next((name for sign, name in _BROWSERS if sign in agent), "")
    system = next((name for sign, name in _SYSTEMS if sign in agent), "")
    return ", ".join(part for part in (browser, system) if part) or "?"


def visit_of(request: Request) -> str:
    """The digest of this browser's visit: what codes and tickets are bound to. Empty for one that keeps no cookies."""
    token = cookie(request, VISIT) or getattr(request.state, "visit", "")
    return digest(token) if token else ""


def cookie(request: Request, name: str) -> str | None:
    """A token from a cookie, or ``None`` when it is missing or not of a token's form."""
    value = request.cookies.get(name, "")
    return value if _TOKEN.match(value) else None


def device_tokens(request: Request) -> tuple[str, ...]:
    """The tokens by which this browser is known, one a mailbox, last used first."""
    value = request.cookies.get(DEVICE, "")
    if len(value) > _MOST_KNOWN * (_TOKEN_LENGTH + 1):
        return ()
    return tuple(dict.fromkeys(token for token in value.split(_BETWEEN) if _TOKEN.match(token)))


def set_cookie(response: Response, name: str, value: str, *, lasts: float | None = None) -> None:
    """Set a cookie that no script, no other host and no form of another site gets (RFC 6265bis section 4.1.3.2)."""
    age = None if lasts is None else int(lasts)
    response.set_cookie(name, value, max_age=age, path="/", secure=True, httponly=True, samesite="lax")


def drop_cookie(response: Response, name: str) -> None:
    """Take a cookie back."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")


async def require(request: Request, *, also_locked: bool = False) -> Session:
    """Who is signed in.

    Args:
        request: of the page.
        also_locked: let a session pass that was idle for too long: to keep a draft, and for nothing else. Look at
            ``locked`` then.

    Raises:
        SignInNeededError: nobody is, or a second factor is missing; the application answers by leading there.
    """
    session = await rooms_of(request).sessions.current(request)
    onward = onward_path(request.url.path)
    if session is None:
        raise SignInNeededError(step="/sign-in", onward=onward, expired=cookie(request, SESSION) is not None)
    if session.assurance is Assurance.PENDING:
        raise SignInNeededError(step="/sign-in" if session.locked else "/sign-in/second", onward=onward)
    if session.locked and not also_locked:
        raise SignInNeededError(step="/sign-in", onward=onward, expired=True)
    return session


def onward_path(path: str) -> str:
    """The path if it may follow a sign-in: one of our own pages, and nothing that leads elsewhere; else the inbox."""
    return path if _NEXT.match(path) else "/inbox"


def csrf_token(request: Request) -> str:
    """The token of the forms of this page."""
    held = cookie(request, SESSION) or cookie(request, VISIT) or getattr(request.state, "visit", "")
    return csrf_of(held) if held else ""


def check_csrf(request: Request, token: str) -> None:
    """Let a form pass that one of our pages sent from this browser.

    Raises:
        RefusedError: 403; it came from elsewhere, or its cookie is not the page's.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise RefusedError(403, "forbidden")
    held = [value for name in (SESSION, VISIT) if (value := cookie(request, name))]
    if not any([same(token, csrf_of(value)) for value in held]):  # noqa: C419  a list: no early end
        raise RefusedError(403, "forbidden")


async def form_of(request: Request) -> FormData:
    """The fields of a form without files, once its token is checked.

    Raises:
        RefusedError: 403 for its token; 400 for what is no form, has files, or too many fields.
    """
    written = request.headers.get("content-type", "").lower()
    kind = written.partition(";")[0].strip()
    if kind not in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        raise RefusedError(400 if kind else 403, "bad_request" if kind else "forbidden")
    if _OTHER_CHARSET.search(written):  # the form would be undone by any codec that it names, however slow
        raise RefusedError(400, "bad_request")
    form = await request.form(max_files=0, max_fields=_MAX_FIELDS)
    if any("\0" in value for pair in form.multi_items() for value in pair if isinstance(value, str)):
        raise RefusedError(400, "bad_request")  # no keyboard writes it, and no database takes it as text
    check_csrf(request, text(form, CSRF_FIELD))
    return form


def text(form: FormData, name: str) -> str:
    """A field's text; empty when it is missing."""
    value = form.get(name, "")
    return value if isinstance(value, str) else ""
