"""Someone on the wire, who records what he sees of a connection and changes it."""

import asyncio
import contextlib

from relay.core.ports import ConnectError
from tests.support.listening import Listening
from tests.support.net import transaction
from tests.support.trust import GOOD

WORDS = (b"MAIL FROM", b"RCPT TO", b"ehr@clinic", b"patient-of-ours", b"planted-text")
"""What of a protected copy he must never see."""
CONTENT = b"Subject: planted-text\r\n\r\nplanted-text\r\n"
INJECTED = (
    b"250-mx.good.example\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 1\r\n",
    b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go on\r\n250 2.0.0 Taken\r\n",
    b"221 2.0.0 Bye\r\n",
)
"""Answers that he gives for a server, to take ours for those of the protected connection."""


class Meddler(Listening):
    """Sits before a server and records both directions.

    Args:
        strip: he takes STARTTLS out of what the server offers.
        inject: plain words that he puts behind the server's 220 to STARTTLS, in the same piece, so that a careless
            client takes them for words of the protected connection.
        commands: plain commands that he puts behind the client's STARTTLS, for a careless server.
    """

    def __init__(self, port, *, strip=False, inject=b"", commands=b""):
        self._port, self._strip, self._inject, self._commands = port, strip, inject, commands
        self.injected = 0
        self.seen = bytearray()

    async def _serve(self, reader, writer):
        there, away = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._pass(reader, away), self._pass(there, writer, back=True))
        finally:
            away.transport.abort()
            writer.transport.abort()

    async def _pass(self, reader, writer, *, back=False):
        asked = len(self.seen)
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                self.seen += piece
                if back and self._strip:
                    piece = piece.replace(b"250-STARTTLS\r\n", b"").replace(b"250 STARTTLS\r\n", b"250 NOOP\r\n")
                if back and self._inject and piece.startswith(b"220") and b"STARTTLS\r\n" in self.seen[asked:]:
                    piece += self._inject
                    self.injected += 1
                if not back and self._commands and piece == b"STARTTLS\r\n":
                    piece += self._commands
                    self.injected += 1
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof() if writer.can_write_eof() else writer.close()


async def attempted(it, floor):
    """A copy to ``good.example``, as often as a worker would try; the last one's trouble, ``None`` when it went."""
    for failures in range(3):
        try:
            session = await it.connector.connect(GOOD, floor=floor, tls_failures=failures)
        except ConnectError as error:
            trouble = error.failures[-1].trouble
            continue
        result = await session.transact(transaction(f"patient-of-ours@{GOOD}", content=CONTENT, floor=floor))
        await session.close()
        (one,) = result.results
        if one.delivered:
            return None
        trouble = one.failure.trouble
    return trouble
