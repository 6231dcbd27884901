"""What stands before every page: who may ask, how much, for how long, and what every answer says to browsers."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.core.ports import Clock, Metrics
from relay.portal.network import Origins
from relay.portal.options import PortalOptions
from relay.portal.sessions import VISIT, cookie
from relay.portal.tokens import Entropy, new_token

log = structlog.get_logger("portal")

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; object-src 'none'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "strict-transport-security": "max-age=63072000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
    "x-robots-tag": "noindex, nofollow",
}
"""What every answer carries, unless its page says otherwise: a frame of a message has a stricter policy of its own."""
_MAX_PATH: Final = 1024
_SLOWEST: Final = 16 * 1024
"""Octets a second: so slow a body may come, beyond its deadline; a phone with a bad network is no attack."""
_UNPRINTED: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""What no path of ours holds; some of it no database takes as text."""
_DEPOSIT: Final = re.compile(r"[A-Za-z0-9_-]{22}\Z")
"""What is no id is somebody's own words: of those the log shows nothing (law 4)."""
_NO_QUERY: Final = re.compile(rb"[^!-~]|%00")
_OPEN: Final = ("/static/", "/brand/", "/healthz")
_METHODS: Final = frozenset({"GET", "HEAD", "POST"})


class TooBigError(Exception):
    """The body is larger than the page takes."""


class TooSlowError(Exception):
    """The body did not arrive in time."""


class Doorway:
    """The outermost layer: proxies, hosts, methods, headers, and the line in the log."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        options: PortalOptions,
        clock: Clock,
        metrics: Metrics,
        fault: Callable[[Scope, Exception], Response],
    ) -> None:
        self._app = app
        self._fault = fault
        self._origins = Origins(options.proxy)
        self._hosts = {options.host} | options.other_hosts
        self._clock = clock
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            return
        peer, port = scope.get("client") or ("", 0)
        scope["client"] = (self._origins.client(peer, scope["headers"]), port)
        began, status = self._clock(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, sending)
        except Exception as error:  # noqa: BLE001  the last line: told by the log, and never by its text
            answer = self._fault(scope, error)
            if not status:
                await answer(scope, receive, sending)
        finally:
            self._note(scope, status, self._clock() - began)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        if scope["path"] != "/healthz" and (len(hosts) != 1 or hosts[0] not in self._hosts):
            return PlainTextResponse("This name is not served here.\n", 421)
        if scope["method"] not in _METHODS:
            return PlainTextResponse("Method not allowed.\n", 405, {"allow": ", ".join(sorted(_METHODS))})
        if len(scope["raw_path"]) > _MAX_PATH or len(scope["query_string"]) > _MAX_PATH:
            return PlainTextResponse("This address is too long.\n", 414)
        if _UNPRINTED.search(scope["path"]):
            return PlainTextResponse("Not found.\n", 404)
        if _NO_QUERY.search(scope["query_string"]):
            return PlainTextResponse("This address cannot be read.\n", 400)
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """One line a request, without mailbox, token, address or query (law 4): the route, not the path."""
        route = getattr(scope.get("route"), "path", "none")
        if route in {"/healthz", "none"} and status < 500:
            return
        self._metrics.count("postern_portal_requests_total", {"route": route, "status": f"{status // 100}xx"})
        if route.startswith(("/static/", "/brand/")):
            return
        asked = str(scope.get("path_params", {}).get("deposit_id", ""))
        about = {"deposit": asked[:8]} if _DEPOSIT.match(asked) else {}
        log.info(
            "portal_request",
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            **about,
        )


class Visits:
    """Gives each browser a token of its own, to which codes and forms are bound. It says nothing of anybody."""

    def __init__(self, app: ASGIApp, *, entropy: Entropy) -> None:
        self._app = app
        self._entropy = entropy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http" or scope["path"].startswith(_OPEN) or _has_visit(scope):
            await self._app(scope, receive, send)
            return
        token = scope.setdefault("state", {})["visit"] = new_token(self._entropy)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["method"] != "POST":
                given = f"{VISIT}={token}; Path=/; Secure; HttpOnly; SameSite=Lax"
                MutableHeaders(scope=message).append("set-cookie", given)
            await send(message)

        await self._app(scope, receive, sending)


class Bounds:
    """A body is no larger than its page takes, and arrives in time."""

    def __init__(
        self, app: ASGIApp, *, options: PortalOptions, takes_files: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._app = app
        self._options = options
        self._takes_files = takes_files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._options.max_upload if self._takes_files(scope["path"]) else self._options.max_form
        if _declared(scope) > most:
            await PlainTextResponse("That is too big.\n", 413, {"connection": "close"})(scope, receive, send)
            return
        taken = 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        whole = False

        async def receiving() -> Message:
            nonlocal taken, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(began + self._options.read_deadline + taken / _SLOWEST):
                    message = await receive()
            except TimeoutError:
                raise TooSlowError from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > most:
                raise TooBigError
            return message

        await self._app(scope, receiving, send)


def _has_visit(scope: Scope) -> bool:
    return bool(cookie(Request(scope), VISIT))


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
