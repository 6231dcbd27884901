"""Accepts connections on which TLS comes first (RFC 8314): the handshake ends before a session begins.

The event loops' own servers cannot do this so that the certificate may change while they run and the network list is
asked before the handshake; and uvloop reads from a new connection whatever its protocol says, so TLS cannot be started
on it afterwards without losing the peer's first octets.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from relay.intake.limits import Place
from relay.intake.tls import reason

log = structlog.get_logger("intake")

_BREATH = 0.1
"""Seconds to wait when the kernel gives no connection for want of descriptors or memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImplicitOptions:
    """Limits of handshakes.

    Attributes:
        handshake: seconds one may take.
        shutdown: seconds the peer may take to end TLS.
    """

    handshake: float
    shutdown: float


class ImplicitServer:
    """Listens on a bound socket, shakes hands, then gives each connection a protocol of its own.

    Args:
        bound: the socket; this server closes it.
        admit: gives a peer at an IP address its place, which it has from before its handshake; ``None``: none for it.
        protocol: makes the protocol, whose ``connection_made`` comes after the handshake; the place is its own then.
        context: the TLS context for the next handshake.
        failed: told of a handshake that did not come about: the peer's address, and why.
    """

    def __init__(
        self,
        bound: socket.socket,
        options: ImplicitOptions,
        *,
        admit: Callable[[str], Place | None],
        protocol: Callable[[Place], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        failed: Callable[[str, str], None],
    ) -> None:
        self._bound = bound
        self._options = options
        self._admit = admit
        self._protocol = protocol
        self._context = context
        self._failed = failed
        self._accepting: asyncio.Task[None] | None = None
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """What it listens on, as ``asyncio.Server.sockets``."""
        return (self._bound,)

    def start(self, backlog: int) -> None:
        """Listen; the kernel queues ``backlog`` connections."""
        self._bound.listen(backlog)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Stop listening and break off the handshakes under way; sessions go on."""
        for task in (self._accepting, *self._pending):
            if task is not None:
                task.cancel()
        self._bound.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._bound)
            except OSError as error:
                log.warning("no connection could be accepted", why=error.strerror or type(error).__name__)
                await asyncio.sleep(_BREATH)
                continue
            address = str(peer[0]).partition("%")[0]
            place = self._admit(address)
            if place is None:
                connection.close()
                continue
            task = loop.create_task(self._shake_hands(connection, address, place))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _shake_hands(self, connection: socket.socket, address: str, place: Place) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(place.leave)
            try:
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: self._protocol(place),
                    connection,
                    ssl=self._context(),
                    ssl_handshake_timeout=self._options.handshake,
                    ssl_shutdown_timeout=self._options.shutdown,
                )
                stack.pop_all()
            except (TimeoutError, OSError) as error:  # ssl.SSLError is an OSError
                self._failed(address, reason(error))
                with contextlib.suppress(OSError):
                    connection.close()
