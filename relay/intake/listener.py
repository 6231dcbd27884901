"""A listener: an address and port that takes mail in, its options and the rooms its connections ask."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import structlog

from relay.core.address import Address
from relay.core.envelope import ClientSession, Envelope
from relay.core.errors import Problem, ProblemsError
from relay.core.ports import Clock, Metrics
from relay.core.reply import Reply
from relay.intake.clients import Client, ClientDirectory, Network, contains
from relay.intake.connection import Connection
from relay.intake.implicit import ImplicitOptions, ImplicitServer
from relay.intake.limits import ByteBudget, ConnectionCount, ConnectionLimits, Place
from relay.intake.replies import NOT_ADMITTED
from relay.intake.reports import ReportDesk
from relay.intake.throttle import AuthThrottle, RateLimiter
from relay.intake.tls import LEGACY_VERSIONS
from relay.smtp.server_limits import SessionLimits

log = structlog.get_logger("intake")

_SHOWN_AFTER: Final = 0.25  # seconds


class Accept(Protocol):
    """What takes a message: :meth:`relay.intake.accept.Acceptor.accept`."""

    def __call__(
        self, session: ClientSession, envelope: Envelope, content: bytes, *, client: Client | None = None
    ) -> Awaitable[Reply]:
        """Answer the final dot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """One listener's settings.

    Attributes:
        name: in logs, metrics, policies.
        address: IP address to listen on.
        port: 0 for any free one.
        limits: of a session; also which of STARTTLS and AUTH it offers and requires.
        implicit_tls: TLS from the first octet (RFC 8314); ``limits.starttls`` is off then.
        networks: who may connect; empty: anyone.
        trusted: networks whose peers are a named client without AUTH.
        connections: limits of this listener in this worker.
        idle_timeout: seconds until the next command (RFC 5321 section 4.5.3.2.7).
        command_timeout: seconds for a begun command line, and for a TLS handshake.
        data_timeout: seconds for a whole message.
        data_idle_timeout: seconds between two pieces of a message.
        close_timeout: seconds for the last reply to be read.
        backlog: connections the kernel queues.
        reports: whether who is no client may write to report addresses.
    """

    name: str
    address: str
    port: int
    limits: SessionLimits
    implicit_tls: bool = False
    networks: tuple[Network, ...] = ()
    trusted: tuple[tuple[Network, str], ...] = ()
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    idle_timeout: float = 300.0
    command_timeout: float = 60.0
    data_timeout: float = 1800.0
    data_idle_timeout: float = 180.0
    close_timeout: float = 5.0
    backlog: int = 1024
    reports: bool = False


Suppressed: TypeAlias = Callable[[Address, str, str], Reply | None]
"""Why a recipient gets no mail of a tenant and stream; ``None`` when it does. Never waits."""


def _nobody(_address: Address, _tenant: str, _stream: str) -> Reply | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What all listeners of a worker share."""

    accept: Accept
    throttle: AuthThrottle
    rates: RateLimiter
    budget: ByteBudget
    connections: ConnectionCount
    metrics: Metrics
    clock: Clock
    suppressed: Suppressed = _nobody
    reports: ReportDesk | None = None


class Listener:
    """Listens with ``SO_REUSEPORT``, so that every worker has a socket of its own and the kernel shares the load out.

    Attributes:
        tls: the context for new handshakes; replace it to change the certificate while running.
        directory: the clients; replace it on reload.
    """

    def __init__(
        self, options: ListenerOptions, rooms: Rooms, directory: ClientDirectory, tls: ssl.SSLContext | None = None
    ) -> None:
        if tls is None and (options.implicit_tls or options.limits.starttls):
            raise ValueError(f"listener {options.name}: TLS is wanted and there is no certificate")
        self.options = options
        self.directory = directory
        self.tls = tls
        self.accept = rooms.accept
        self.throttle, self.rates = rooms.throttle, rooms.rates
        self.budget, self.metrics, self.clock = rooms.budget, rooms.metrics, rooms.clock
        self.suppressed = rooms.suppressed
        self.reports = rooms.reports
        self._all = rooms.connections
        self._mine = ConnectionCount(options.connections)
        self._open: set[Connection] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | ImplicitServer | None = None
        self._shows = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def port(self) -> int:
        """The port it listens on; the chosen one where 0 was configured.

        Raises:
            RuntimeError: it does not listen.
        """
        if self._server is None:
            raise RuntimeError(f"listener {self.options.name} is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            ProblemsError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        options = self.options
        try:
            bound = _bind(options.address, options.port)
        except OSError as error:
            raise ProblemsError(
                Problem(
                    where=f"listener {options.name}",
                    what=f"cannot listen on {options.address} port {options.port}: {error.strerror}",
                    hint="another program may hold the port, or the address is not this machine's",
                )
            ) from error
        if options.implicit_tls:
            self._server = self._implicit(bound, loop)
            self._server.start(options.backlog)
        else:
            self._server = await loop.create_server(lambda: Connection(self, loop), sock=bound, backlog=options.backlog)
        log.info("listening", listener=options.name, endpoint=f"{options.address}:{self.port}")

    def _implicit(self, bound: socket.socket, loop: asyncio.AbstractEventLoop) -> ImplicitServer:
        options = self.options
        return ImplicitServer(
            bound,
            ImplicitOptions(handshake=options.command_timeout, shutdown=options.close_timeout),
            admit=self._place,
            protocol=lambda place: Connection(self, loop, place),
            context=self._context,
            failed=self.tls_failed,
        )

    def _place(self, address: str) -> Place | None:
        place = self.place()
        return place if self.refusal(address, place) is None else None

    def _context(self) -> ssl.SSLContext:
        if self.tls is None:
            raise RuntimeError(f"listener {self.options.name}: no certificate")
        return self.tls

    async def drain(self, deadline: float) -> None:
        """Stop listening; answer the messages in hand, say 421 to all; cut off what is left after ``deadline`` seconds.

        A message whose acceptance is under way is waited for in any case: its store may be committing it.
        """
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.drain()
        try:
            await asyncio.wait_for(self._empty.wait(), deadline)
        except TimeoutError:
            log.warning("connections cut off", listener=self.options.name, connections=len(self._open))
            for connection in list(self._open):
                connection.abort()
        while self._work:
            await asyncio.wait(set(self._work))

    # --- for its connections ------------------------------------------------

    def place(self) -> Place:
        """An untaken place among the connections here and those of all listeners."""
        return Place(self._mine, self._all)

    def refusal(self, address: str, place: Place) -> Reply | None:
        """Let a peer take its place; or why it may not connect, counted and logged."""
        options = self.options
        if options.networks and not (address and contains(options.networks, address)):
            refusal: Reply | None = NOT_ADMITTED
        else:
            refusal = place.take(address)
        if refusal is not None:
            self.metrics.count("connections_refused", {"listener": options.name, "code": str(refusal.code)})
            log.info("connection refused", listener=options.name, peer=address, code=refusal.code)
        return refusal

    def joined(self, connection: Connection) -> None:
        """A counted connection begins."""
        self._open.add(connection)
        self._empty.clear()
        self._count_open()

    def left(self, connection: Connection) -> None:
        """A counted connection ended."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()
        self._count_open()

    def refused(self, address: str, verb: str, reply: Reply) -> None:
        """Count and log a refusal. ``verb`` is a command that exists, or empty."""
        name, enhanced = self.options.name, str(reply.enhanced or "none")
        self.metrics.count("commands_refused", {"listener": name, "code": str(reply.code), "enhanced": enhanced})
        log.info("refused", peer=address, listener=name, verb=verb, code=reply.code, why=reply.text)

    def tls_failed(self, address: str, why: str) -> None:
        """Count and log a handshake that did not come about."""
        self.metrics.count("tls_handshakes_failed", {"listener": self.options.name})
        log.info("TLS handshake failed", peer=address, listener=self.options.name, why=why)

    def tls_begun(self, address: str, version: str) -> None:
        """Count a handshake; log it when it is one that only the legacy switch lets in."""
        labels = {"listener": self.options.name, "tls_version": version}
        self.metrics.count("tls_in", labels)
        if version in LEGACY_VERSIONS:
            self.metrics.count("tls_legacy", labels)
            log.warning("a peer used legacy TLS", peer=address, **labels)

    def working(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it is done, the connection's end notwithstanding."""
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def gauge(self) -> None:
        """Show how many octets are in flight, in a moment and until there are none: it is read every few seconds."""
        if not self._shows:
            self._shows = True
            asyncio.get_running_loop().call_later(_SHOWN_AFTER, self._show)

    def _show(self) -> None:
        self._shows = False
        self.metrics.set("in_flight_bytes", self.budget.used)
        if self.budget.used:
            self.gauge()

    def _count_open(self) -> None:
        self.metrics.set("connections_open", len(self._open), {"listener": self.options.name})

    def client_by_network(self, address: str) -> Client | None:
        """The client that this listener takes a peer for without AUTH."""
        return self.directory.by_network(self.options.trusted, address) if self.options.trusted else None


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if address != "::" else 0)
        bound.setblocking(False)  # noqa: FBT003 - the signature is the socket's
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound
