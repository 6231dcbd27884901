"""One lane a destination: entries wait in it, runners take them over connections that are reused."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from relay.core.entry import Claimed
from relay.core.ports import DeliverySession

log = structlog.get_logger("lanes")

Attempt: TypeAlias = Callable[[Claimed, DeliverySession | None], Awaitable[DeliverySession | None]]
"""Try one entry, over the given live session if it serves; returns the session to go on with, or ``None``. Never raises
for what a peer or a message does."""

Pace: TypeAlias = Callable[[str], float]
"""Takes a destination's next place in time; the seconds to wait until it comes, 0 when it is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOptions:
    """Limits of one destination in this worker.

    Attributes:
        concurrency: connections at a time.
        idle: seconds an unused connection is kept.
        messages_per_session: transactions after which a connection is closed.
    """

    concurrency: int
    idle: float
    messages_per_session: int


class Lane:
    """Entries for one destination, and the runners that deliver them.

    A runner owns at most one session. It is started when an entry finds none waiting and the limit allows one more; it
    ends when its session has been idle too long or is spent.
    """

    def __init__(self, destination: str, options: LaneOptions, attempt: Attempt, pace: Pace) -> None:
        self.destination = destination
        self._options = options
        self._attempt = attempt
        self._pace = pace
        self._queue: deque[Claimed] = deque()
        self._idle: list[asyncio.Future[Claimed | None]] = []
        self._runners: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def waiting(self) -> int:
        """Entries in hand that no runner has taken yet."""
        return len(self._queue)

    @property
    def is_empty(self) -> bool:
        """Whether the lane can be forgotten."""
        return not self._queue and not self._runners

    def push(self, claimed: Claimed) -> None:
        """Give an entry to an idle runner, or to a new one, or let it wait."""
        while self._idle:
            place = self._idle.pop()
            if not place.done():
                place.set_result(claimed)
                return
        self._queue.append(claimed)
        if len(self._runners) < self._options.concurrency:
            runner = asyncio.get_running_loop().create_task(self._run())
            self._runners.add(runner)
            runner.add_done_callback(self._forget)

    def take_waiting(self) -> list[Claimed]:
        """Take back what no runner has begun: to give it up on a drain, or to share a destination's failure."""
        waiting = list(self._queue)
        self._queue.clear()
        return waiting

    async def drain(self) -> None:
        """Let the runners finish the attempt they are in, close their sessions and end."""
        self._draining = True
        for place in self._idle:
            if not place.done():
                place.set_result(None)
        if self._runners:
            await asyncio.wait(set(self._runners))

    def cancel(self) -> None:
        """Break off whatever runs: the entries stay leased until the process ends, and are free then."""
        for runner in self._runners:
            runner.cancel()

    def _forget(self, runner: asyncio.Task[None]) -> None:
        self._runners.discard(runner)
        if not runner.cancelled() and (error := runner.exception()) is not None:
            log.error("a runner failed", domain=self.destination, exc_info=error)

    async def _run(self) -> None:
        session: DeliverySession | None = None
        sent = 0
        try:
            while (claimed := await self._next(session)) is not None:
                if (pause := self._pace(self.destination)) > 0:
                    await asyncio.sleep(pause)
                session = await self._attempt(claimed, session)
                sent += 1
                if session is None:
                    sent = 0
                elif not session.alive or sent >= self._options.messages_per_session:
                    closing, session, sent = session, None, 0
                    await closing.close()
        finally:
            if session is not None:
                with contextlib.suppress(OSError):
                    await session.close()

    async def _next(self, session: DeliverySession | None) -> Claimed | None:
        if self._queue and not self._draining:
            return self._queue.popleft()
        if session is None or self._draining:
            return None
        place: asyncio.Future[Claimed | None] = asyncio.get_running_loop().create_future()
        self._idle.append(place)
        timer = asyncio.get_running_loop().call_later(
            self._options.idle, lambda: None if place.done() else place.set_result(None)
        )
        try:
            return await place
        finally:
            timer.cancel()
            with contextlib.suppress(ValueError):
                self._idle.remove(place)
