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

import h11
import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from relay.core.errors import Problem, ProblemsError
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
        header_deadline: seconds for a request's headers to arrive.
        keep_alive: seconds an idle connection is kept.
        drain: seconds that answers under way get at the end.
    """

    address: str = "127.0.0.1"
    port: int = 8443
    proxies: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    connections: int = 256
    connections_per_client: int = 64
    header_deadline: float = 30.0
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
            app,
            http=_protocol(options),
            loop="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MAX_HEADERS,
            limit_concurrency=options.connections,
            timeout_keep_alive=options.keep_alive,
            timeout_graceful_shutdown=options.drain,
        )
        config.load()
        config.ssl = context
        self._server = _Server(config)
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
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process has its own handlers."""
        yield


def _protocol(options: ServerOptions) -> type[asyncio.Protocol]:
    """The HTTP protocol's class: uvicorn makes an object of it for each connection, with arguments of its own."""

    class Protocol(_Deadlines):
        header_deadline = options.header_deadline
        proxies = _networks(options.proxies)
        speakers = _networks(options.speakers)
        most = options.connections_per_client
        crowd: ClassVar[Counter[str]] = Counter()

    return Protocol


def _networks(texts: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


class _Deadlines(H11Protocol):
    """Reads the PROXY header where there must be one, and gives every request's headers a deadline.

    uvicorn bounds idle connections and sizes, but not how slowly a header trickles in, nor how many one client opens.
    """

    header_deadline: float
    proxies: tuple[_Network, ...]
    speakers: tuple[_Network, ...]
    most: int
    crowd: ClassVar[Counter[str]]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._awaited = b"" if self.proxies else None
        self._deadline: asyncio.TimerHandle | None = None
        self._counted = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if self.proxies and not self._is_in(self.proxies):
            log.warning("a connection that comes from no proxy", peer=self.client[0] if self.client else "")
            transport.abort()
            return
        if not self._has_room():
            transport.abort()
            return
        self._arm()

    def data_received(self, data: bytes) -> None:
        rest = self._after_proxy_header(data)
        if rest is None:
            return
        super().data_received(rest)
        if self.conn.their_state is h11.IDLE:
            self._arm()
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
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
            return ipaddress.ip_address(self.client[0] if self.client else "")
        except ValueError:
            return None

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

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.header_deadline, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
