"""Serves the application with uvicorn inside the running loop: TLS, PROXY protocol, and deadlines for slow clients."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from relay.core.errors import Problem, ProblemsError
from relay.portal.deadlines import Deadlines
from relay.portal.middleware import HEADERS
from relay.portal.proxyheader import ProxyHeaderError, read_header

log = structlog.get_logger("portal")

_MAX_HEADERS: Final = 32 * 1024
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where and how to listen.

    Attributes:
        address: an IP address.
        port: 0 takes any free one.
        proxies: networks whose connections begin with a PROXY header; empty: none do.
        speakers: networks of proxies that speak for many: their connections are not counted by client.
        connections: how many at once; beyond it the answer is 503.
        connections_per_client: how many at once from one IPv4 address or IPv6 /48, so that one host leaves others room.
        handshake_deadline: seconds for a TLS handshake, and for the end of one.
        header_deadline: seconds for a request's headers to arrive.
        write_deadline: seconds for a client to take what of an answer waits for it, ``high_water`` octets at the most.
        high_water: octets of an answer that may wait for one client.
        keep_alive: seconds an idle connection is kept.
        drain: seconds that answers under way get at the end.
    """

    address: str = "127.0.0.1"
    port: int = 8443
    proxies: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    connections: int = 256
    connections_per_client: int = 64
    handshake_deadline: float = 15.0
    header_deadline: float = 30.0
    write_deadline: float = 60.0
    high_water: int = 64 * 1024
    keep_alive: int = 20
    drain: int = 10


class PortalServer:
    """Listens, and serves until it is stopped."""

    def __init__(self, options: ServerOptions, app: Starlette, context: ssl.SSLContext | None) -> None:
        """Take the application.

        Args:
            options: where and how.
            app: what is served.
            context: for TLS; ``None``: a proxy does it.
        """
        self._options = options
        config = uvicorn.Config(
            self._bounded(app),
            http=_protocol(options),
            loop="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MAX_HEADERS,
            timeout_keep_alive=options.keep_alive,
            timeout_graceful_shutdown=options.drain,
        )
        config.load()
        config.ssl = context
        self._server = _Server(config, handshake_deadline=options.handshake_deadline)
        self._task: asyncio.Task[None] | None = None
        self.port = options.port

    async def start(self) -> None:
        """Listen, and return when requests are answered; ``port`` is the real one then.

        Raises:
            ProblemsError: the address cannot be bound.
        """
        listening = self._bind()
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        ready = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Answer what is under way and close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task

    def _bounded(self, app: ASGIApp) -> ASGIApp:
        """The application while there is room; uvicorn's own answer would lack what every answer says to browsers."""

        async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
            state, most = self._server.server_state, self._options.connections
            if len(state.connections) < most and len(state.tasks) <= most:
                await app(scope, receive, send)
                return
            headers = {**HEADERS, "retry-after": "10", "connection": "close"}
            await PlainTextResponse("Too many people are here now. Please try again.\n", 503, headers)(
                scope, receive, send
            )

        return bounded

    def _bind(self) -> socket.socket:
        address, port = self._options.address, self._options.port
        listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, port))
        except OSError as error:
            listening.close()
            what, hint = f"the portal cannot listen: {error.strerror}", "change portal.address or portal.port"
            raise ProblemsError(Problem(where=f"{address}:{port}", what=what, hint=hint)) from error
        return listening


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, *, handshake_deadline: float) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._handshake_deadline = handshake_deadline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which sets no deadlines for TLS, nor lets one be set."""
        await self.lifespan.startup()
        context = self.config.ssl
        deadline = self._handshake_deadline if context is not None else None
        self.servers = [
            await asyncio.get_running_loop().create_server(
                self._protocol,
                sock=listening,
                ssl=context,
                backlog=self.config.backlog,
                ssl_handshake_timeout=deadline,
                ssl_shutdown_timeout=deadline,
            )
            for listening in sockets or ()
        ]
        self.started = True
        self.up.set()

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process has its own handlers."""
        yield


def _protocol(options: ServerOptions) -> type[asyncio.Protocol]:
    """The HTTP protocol's class: uvicorn makes an object of it for each connection, with arguments of its own."""

    class Protocol(_Visitor):
        header_deadline = options.header_deadline
        write_deadline = options.write_deadline
        high_water = options.high_water
        said = HEADERS
        proxies = _networks(options.proxies)
        speakers = _networks(options.speakers)
        most = options.connections_per_client
        crowd: ClassVar[Counter[str]] = Counter()

    return Protocol


def _networks(texts: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


class _Visitor(Deadlines):
    """Reads the PROXY header where there must be one, and lets one client open so many connections and no more."""

    proxies: tuple[_Network, ...]
    speakers: tuple[_Network, ...]
    most: int
    crowd: ClassVar[Counter[str]]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._awaited = b"" if self.proxies else None
        self._counted = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if self.proxies and not self._is_in(self.proxies):
            log.warning("a connection that comes from no proxy", peer=self.client[0] if self.client else "")
            transport.abort()
            return
        if not self._has_room():
            transport.abort()

    def data_received(self, data: bytes) -> None:
        rest = self._after_proxy_header(data)
        if rest is not None:
            super().data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self.crowd[self._counted] -= 1
            if not self.crowd[self._counted]:
                del self.crowd[self._counted]
            self._counted = ""
        super().connection_lost(exc)

    def _has_room(self) -> bool:
        """Count the connection, and say whether its client has not too many."""
        peer = self._peer()
        if peer is None or self.proxies or self._is_in(self.speakers):
            return True
        self._counted = str(ipaddress.ip_network((peer, 32 if peer.version == 4 else 48), strict=False))
        self.crowd[self._counted] += 1
        return self.crowd[self._counted] <= self.most

    def _peer(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            address = ipaddress.ip_address(self.client[0] if self.client else "")
        except ValueError:
            return None
        # On "::" the kernel writes IPv4 clients so (RFC 4291 section 2.5.5.2): one prefix would hold them all.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return mapped or address

    def _is_in(self, networks: tuple[_Network, ...]) -> bool:
        peer = self._peer()
        return peer is not None and any(peer in network for network in networks)

    def _after_proxy_header(self, data: bytes) -> bytes | None:
        """What follows the PROXY header; ``None`` while it is not there, or must not be served."""
        if self._awaited is None:
            return data
        self._awaited += data
        try:
            header = read_header(self._awaited)
        except ProxyHeaderError as error:
            log.warning("a proxy's connection is refused", detail=str(error))
            self.transport.abort()
            return None
        if header is None:
            return None
        rest, self._awaited = self._awaited[header.size :], None
        if header.client is not None:
            self.client = header.client
        return rest or None
