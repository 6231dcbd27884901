"""A load of small messages over SMTP, each with a token of its own, and a record of which of them was promised."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_QUEUED = re.compile(rb"queued as (\S+)")
_TOKEN = re.compile(rb"token-(\d+)-end")
_AGAIN = 0.02  # seconds until a relay that refuses connections is asked again
_LAST = 120  # seconds in which every session ends its last message, or something hangs


def tokens_in(content: bytes) -> list[int]:
    """The tokens of a message that arrived somewhere."""
    return sorted({int(number) for number in _TOKEN.findall(content)})


def small_message(token: int, recipient: str) -> bytes:
    """About 300 octets."""
    return (
        f"From: ehr@clinic.example\r\nTo: {recipient}\r\nSubject: Notice {token}\r\n"
        f"Message-ID: <load.{token}@clinic.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n"
        f"The lift is being repaired. token-{token}-end\r\n"
    ).encode()


@dataclass
class Load:
    """Sessions that send one message after the other until :meth:`stop`.

    Attributes:
        promised: token to queue id, of messages whose final dot was answered 250.
        unanswered: tokens whose session ended between DATA and the answer: they may or may not have been kept.
        refused: reply codes given at any stage.
        connections_lost: how often a session ended before its end.
    """

    host: str
    port: int
    recipient: Callable[[int], str] = lambda token: f"box{token % 7}@mail.example"
    sessions: int = 4
    message: Callable[[int, str], bytes] = small_message
    pause: float = 0.0
    promised: dict[int, str] = field(default_factory=dict)
    unanswered: set[int] = field(default_factory=set)
    refused: Counter = field(default_factory=Counter)
    connections_lost: int = 0
    limit: int | None = None

    def __post_init__(self):
        self._numbers = itertools.count(1)
        self._ended = asyncio.Event()
        self._grew = asyncio.Condition()
        self._tasks = []

    def start(self):
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self.sessions)]

    async def stop(self):
        """Let each session end the message it is in.

        Raises:
            TimeoutError: one did not come to an end.
        """
        self._ended.set()
        async with asyncio.timeout(_LAST):
            await asyncio.gather(*self._tasks)

    async def run(self, count: int):
        """Send until so many messages were begun, then end."""
        self.limit = count
        self.start()
        await asyncio.gather(*self._tasks)

    async def wait_promised(self, count: int):
        """Wait until so many messages in all were promised."""
        async with self._grew:
            await self._grew.wait_for(lambda: len(self.promised) >= count)

    async def _run(self):
        while not self._ended.is_set():
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port)
            except OSError:
                await asyncio.sleep(_AGAIN)
                continue
            try:
                await self._session(reader, writer)
            except (OSError, EOFError):
                self.connections_lost += 1
                await asyncio.sleep(_AGAIN)
            else:
                return
            finally:
                writer.close()

    async def _session(self, reader, writer):
        await _reply(reader)
        writer.write(b"EHLO load.clinic.example\r\n")
        await _reply(reader)
        while not self._ended.is_set():
            token = next(self._numbers)
            if self.limit is not None and token > self.limit:
                break
            await self._send(token, reader, writer)
            if self.pause:
                await asyncio.sleep(self.pause)
        writer.write(b"QUIT\r\n")
        await _reply(reader)

    async def _send(self, token, reader, writer):
        recipient = self.recipient(token)
        writer.write(f"MAIL FROM:<ehr@clinic.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
        codes = [(await _reply(reader))[0] for _ in range(3)]
        if codes[-1] != 354:
            self.refused[next(code for code in codes if code >= 400)] += 1  # the others follow from the first
            writer.write(b"RSET\r\n")
            await _reply(reader)
            return
        self.unanswered.add(token)
        writer.write(self.message(token, recipient) + b".\r\n")
        code, line = await _reply(reader)
        self.unanswered.discard(token)
        if code == 250:
            self.promised[token] = _QUEUED.search(line)[1].decode()
            async with self._grew:
                self._grew.notify_all()
        else:
            self.refused[code] += 1


async def _reply(reader):
    """Code and last line of one reply.

    Raises:
        EOFError: the connection ended, or the relay said 421.
    """
    while True:
        line = await reader.readuntil(b"\n")  # IncompleteReadError is an EOFError
        if line[3:4] != b"-":
            break
    code = int(line[:3])
    if code == 421:
        raise EOFError(line.decode("utf-8", "replace"))
    return code, line
