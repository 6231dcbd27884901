"""A scriptable SMTP server: the recipients' side of the simulated Internet, with every misbehaviour a relay meets."""

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from relay.demo.behaviour import KEYWORDS, Greylist, PeerBehaviour, ReceivedMessage, StartTls
from relay.demo.session import Ended, Record, Session

__all__ = ["KEYWORDS", "Greylist", "Peer", "PeerBehaviour", "ReceivedMessage", "StartTls"]


class Peer(Record):
    """An SMTP server on a loopback address, in the running loop.

    Attributes:
        host, port: where it listens; the port is known once started.
        behaviour: may be replaced while it runs; connections keep the one they began with.
        session_type: what serves a connection; a subclass may remember more of it.
    """

    session_type: type[Session] = Session

    def __init__(self, behaviour: PeerBehaviour | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self.behaviour = behaviour or PeerBehaviour()
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and end every connection, as a crash would."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close at the loop's next turn

    async def wait_messages(self, count: int = 1, timeout: float = 60.0) -> list[ReceivedMessage]:  # noqa: ASYNC109  it says what was missing
        """Wait until so many messages were taken, and return all.

        Raises:
            TimeoutError: saying how many came.
        """
        await self._wait(lambda: len(self.messages) >= count, timeout, f"{count} messages")
        return self.messages

    async def wait_connections(self, count: int = 1, timeout: float = 60.0) -> None:  # noqa: ASYNC109  as above
        """Wait until so many connections came.

        Raises:
            TimeoutError: saying how many came.
        """
        await self._wait(lambda: self.connections >= count, timeout, f"{count} connections")

    async def _wait(self, done: Callable[[], bool], timeout: float, wanted: str) -> None:  # noqa: ASYNC109  as above
        try:
            async with asyncio.timeout(timeout), self.changed:
                await self.changed.wait_for(done)
        except TimeoutError:
            raise TimeoutError(
                f"{self.host}:{self.port}: wanted {wanted}; there were {self.connections} connections, "
                f"{len(self.messages)} messages taken and {len(self.refused)} refused"
            ) from None

    def _behaviour_now(self) -> PeerBehaviour:
        behaviour, number = self.behaviour, self.connections
        while behaviour.then is not None and number > behaviour.connections:
            number -= behaviour.connections
            behaviour = behaviour.then
        return behaviour

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine always runs in a task
        self._tasks.add(task)
        self.connections += 1
        session = self.session_type(self, self._behaviour_now(), self.connections, reader, writer)
        try:
            with contextlib.suppress(Ended, ConnectionError, asyncio.CancelledError, TimeoutError):
                await self.announce()
                await session.run()
        finally:
            self._tasks.discard(task)
            session.writer.transport.abort() if session.abrupt else session.writer.close()
