"""The clients of the benchmark: sessions that send one message after the other and note how long each 250 took.

`load.py` reads one JSON object of options from its standard input, makes the messages, prints ``ready``, waits for a
line, sends, and prints one JSON object: for each message the moments (CLOCK_MONOTONIC, ns) of its beginning and of its
250, and how many were refused.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, field

import uvloop
from messages import SENDER, Kind, message, recipients


@dataclass(slots=True, kw_only=True)
class Options:
    """What to send.

    Attributes:
        host, port: where to.
        first, count: numbers of the messages.
        sessions: sessions side by side.
        reuse: many messages a connection, else one.
        rate: messages a second in all, begun on time whatever the answers; 0: each session as fast as it is answered.
    """

    host: str
    port: int
    first: int
    count: int
    sessions: int = 20
    reuse: bool = True
    rate: float = 0.0
    kind: Kind = field(default_factory=Kind)


class Replies(asyncio.Protocol):
    """Reads replies, several at a time; writes are the caller's affair."""

    def __init__(self) -> None:
        self._rest = b""
        self._codes: list[int] = []
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.features: set[str] = set()

    def connection_made(self, transport) -> None:  # noqa: ANN001  the base class's signature
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            self.features.add(line[4:].decode("latin-1").partition(" ")[0])
            if line[3:4] != b"-":
                self._codes.append(int(line[:3]))
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("the server closed the connection"))

    def _look(self) -> None:
        if self._waiter is not None and not self._waiter.done() and len(self._codes) >= self._wanted:
            self._waiter.set_result(None)

    async def take(self, count: int = 1) -> list[int]:
        """The codes of the next replies."""
        self._wanted = count
        if len(self._codes) < count:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self._codes = self._codes[:count], self._codes[count:]
        return taken


class Load:
    """Sends, and remembers when."""

    def __init__(self, options: Options) -> None:
        self.options = options
        numbers = range(options.first, options.first + options.count)
        self.contents = [message(number, options.kind) + b".\r\n" for number in numbers]
        self.begun = [0] * options.count
        self.taken = [0] * options.count
        self.refused = 0
        self._next = 0
        self._start = 0.0

    async def run(self) -> None:
        self._start = time.monotonic()
        await asyncio.gather(*(self._session() for _ in range(self.options.sessions)))

    async def _session(self) -> None:
        wire = None
        while (index := self._next) < self.options.count:
            self._next += 1
            if self.options.rate:
                await asyncio.sleep(max(0.0, self._start + index / self.options.rate - time.monotonic()))
            self.begun[index] = time.monotonic_ns()
            wire = wire or await self._connect()
            if await self._send(wire, index):
                self.taken[index] = time.monotonic_ns()
            else:
                self.refused += 1
            if not self.options.reuse:
                await self._quit(wire)
                wire = None
        if wire is not None:
            await self._quit(wire)

    async def _connect(self) -> Replies:
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(Replies, self.options.host, self.options.port)
        await wire.take()
        wire.transport.write(b"EHLO load.clinic.example\r\n")
        await wire.take()
        return wire

    async def _send(self, wire: Replies, index: int) -> bool:
        to = recipients(self.options.first + index, self.options.kind)
        group = [f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<{one}>" for one in to), "DATA"]
        if "PIPELINING" in wire.features:
            wire.transport.write("".join(f"{line}\r\n" for line in group).encode())
            codes = await wire.take(len(group))
        else:
            codes = []
            for line in group:
                wire.transport.write(f"{line}\r\n".encode())
                codes += await wire.take()
        if codes[-1] != 354:
            return False
        wire.transport.write(self.contents[index])
        return await wire.take() == [250]

    @staticmethod
    async def _quit(wire: Replies) -> None:
        wire.transport.write(b"QUIT\r\n")
        await wire.take()
        wire.transport.close()


def main() -> None:
    given = json.loads(sys.stdin.readline())
    load = Load(Options(**given | {"kind": Kind(**given["kind"])}))
    print("ready", flush=True)
    sys.stdin.readline()
    uvloop.run(load.run())
    noted = json.dumps({"begun": load.begun, "taken": load.taken, "refused": load.refused}).encode()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:  # print, unbuffered, loses what the pipe has no room for
        out.write(noted)


if __name__ == "__main__":
    main()
