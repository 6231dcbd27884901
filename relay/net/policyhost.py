"""Serves our own MTA-STS policies over HTTPS (RFC 8461 section 3.3): one document a domain, and nothing else.

It faces the Internet, so a connection gets one request, a few seconds and a few kilobytes, and no log line of its own.
"""

import asyncio
import contextlib
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
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = options.port

    async def start(self) -> None:
        """Listen; ``port`` is the real one then.

        Raises:
            ProblemsError: the address cannot be bound.
        """
        address, port = self._options.address, self._options.port
        try:
            self._server = await asyncio.start_server(self._meet, address, port, limit=_CHUNK)
        except OSError as error:
            what = f"cannot listen for MTA-STS policies: {error.strerror}"
            hint = "change tls.publish.address or tls.publish.port"
            raise ProblemsError(Problem(where=f"{address}:{port}", what=what, hint=hint)) from error
        self.port = self._server.sockets[0].getsockname()[1]

    def adopt(self, policies: Mapping[str, bytes], context: ssl.SSLContext) -> None:
        """Serve these from now on, under this certificate."""
        self._hosts, self._context = _by_host(policies), context

    async def stop(self) -> None:
        """Close, whatever is under way."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= self._options.connections:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError, h11.ProtocolError):
                async with asyncio.timeout(self._options.deadline):
                    await writer.start_tls(self._context)
                    await self._answer(reader, writer)
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

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
