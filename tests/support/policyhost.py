"""A web server for MTA-STS policies that answers, or fails to, as a test says."""

import asyncio
import contextlib
import re
import ssl

from relay.demo.authority import Authority, Certificate
from tests.support.listening import Listening

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.good.example\r\nmax_age: 86400\r\n"


def answer(body: bytes = POLICY, *, status: str = "200 OK", media: str = "text/plain", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class PolicyHost(Listening):
    """Serves one raw answer to every request.

    Attributes:
        raw: the octets of the answer; ``None``: it is silent.
        requests, bodies: request heads, and what came with them, so far.
        names: SNI names asked for.
    """

    def __init__(self, certificate: Certificate, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.raw: bytes | None = answer()
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        self.names: list[str | None] = []
        self.connections = 0
        self.host, self.port = host, port
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate.cert, certificate.key)
        self._tls.sni_callback = lambda _live, name, _context: self.names.append(name)

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if size := re.search(rb"content-length: (\d+)", self.requests[-1], re.IGNORECASE):
                    self.bodies.append(await reader.readexactly(int(size[1])))
                self.asked.set()
                await self.gate.wait()
                if self.raw is None:
                    await reader.read()
                else:
                    writer.write(self.raw)
                    await writer.drain()
                    writer.write_eof() if writer.can_write_eof() else None
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.close()


def policy_host(authority: Authority, domain: str = "good.example", **more) -> PolicyHost:
    """One with a good certificate for ``mta-sts.DOMAIN``."""
    return PolicyHost(authority.issue(f"mta-sts.{domain}"), **more)
