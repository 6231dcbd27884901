"""Serves our own MTA-STS policies over HTTPS (RFC 8461 section 3.3): one document a domain, and nothing else.

It faces the Internet, so a connection gets one request, a few seconds and a few kilobytes, and no log line of its own.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import h11
import structlog

from relay.core.errors import Problem, ProblemsError
from relay.core.ports import Metrics

log = structlog.get_logger("policyhost")

PATH: Final = b"/.well-known/mta-sts.txt"
_MAX_HEAD: Final = 8192
_CHUNK: Final = 4096
_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHostOptions:
    """What is served where.

    Attributes:
        address, port: where it listens; port 0 takes any free one.
        policies: by domain, the text of its policy file.
        deadline: seconds for one connection, handshake to last octet.
        connections: how many at once; beyond it they are closed at once.
    """

    address: str
    port: int = 443
    policies: Mapping[str, bytes] = field(default_factory=dict)
    deadline: float = 10.0
    connections: int = 256


class PolicyHost:
    """The web server. ``adopt`` changes what it serves, and its certificate, while it runs."""

    def __init__(self, options: PolicyHostOptions, context: ssl.SSLContext, *, metrics: Metrics | None = None) -> None:
        self._options = options
        self._context = context
        self._metrics = metrics
        self._hosts = _by_host(options.policies)
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = options.port

    async def start(self) -> None:
        """Listen; ``port`` is the real one then.

        Raises:
            ProblemsError: the address cannot be bound.
        """
        address, port = self._options.address, self._options.port
        listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, port))
            listening.listen(128)
        except OSError as error:
            listening.close()
            what = f"cannot listen for MTA-STS policies: {error.strerror}"
            hint = "change tls.publish.address or tls.publish.port"
            raise ProblemsError(Problem(where=f"{address}:{port}", what=what, hint=hint)) from error
        listening.setblocking(False)  # noqa: FBT003  the standard library's signature
        self._listening = listening
        self.port = listening.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept(listening))

    def adopt(self, policies: Mapping[str, bytes], context: ssl.SSLContext) -> None:
        """Serve these from now on, under this certificate."""
        self._hosts, self._context = _by_host(policies), context

    async def stop(self) -> None:
        """Close, whatever is under way."""
        tasks = [*self._tasks, *([self._accepting] if self._accepting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listening)
            except OSError as error:  # out of file descriptors, or the client was gone already
                log.warning("a connection was not accepted", why=error.strerror)
                await asyncio.sleep(_PAUSE)
                continue
            if len(self._tasks) >= self._options.connections:
                sock.close()
                continue
            task = loop.create_task(self._meet(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _meet(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_CHUNK, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(self._options.deadline):
                transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=self._context)
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                await self._answer(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, h11.ProtocolError):
            return  # whoever comes with anything but one good request is of no interest
        finally:
            if transport is not None:
                transport.abort()
            sock.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await reader.read(_CHUNK))
        if not isinstance(event, h11.Request):
            return
        status, body = self._document(event)
        headers = [
            ("Content-Type", "text/plain"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        writer.write(http.send(h11.Response(status_code=status, headers=headers)) or b"")
        if event.method != b"HEAD":
            writer.write(http.send(h11.Data(data=body)) or b"")
        await writer.drain()
        if self._metrics is not None:
            self._metrics.count("postern_mta_sts_served_total", {"code": str(status)})

    def _document(self, request: h11.Request) -> tuple[int, bytes]:
        if request.method not in (b"GET", b"HEAD"):
            return 405, b"only GET is served here\n"
        host = next((value for name, value in request.headers if name == b"host"), b"")
        name = host.decode("ascii", "replace").partition(":")[0].rstrip(".").lower()
        policy = self._hosts.get(name)
        if policy is None or request.target != PATH:
            return 404, b"no such document\n"
        return 200, policy


def _by_host(policies: Mapping[str, bytes]) -> Mapping[str, bytes]:
    return {f"mta-sts.{domain}": text for domain, text in policies.items()}
