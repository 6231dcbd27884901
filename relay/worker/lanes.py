"""One lane a destination: entries wait in it, runners take them over connections that are reused."""

import asyncio
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
for what a peer or a message does; raises when it could not so much as be recorded that the entry was tried."""

SetAside: TypeAlias = Callable[[Claimed], None]
"""Takes back an entry whose attempt raised."""

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


@dataclass(slots=True)
class Backlog:
    """What waits in all lanes of a worker: entries in hand that no runner has taken yet."""

    entries: int = 0


class Lane:
    """Entries for one destination, and the runners that deliver them.

    A runner owns at most one session. It is started when an entry finds none waiting and the limit allows one more; it
    ends when nothing waits and it has no session, or its session has been idle too long.

    Args:
        destination: its key.
        options: limits.
        attempt: tries one entry.
        pace: gives places in time.
        set_aside: told of an entry whose attempt raised; the lane goes on without it.
        backlog: counts what waits here among the rest.
    """

    def __init__(
        self,
        destination: str,
        options: LaneOptions,
        attempt: Attempt,
        pace: Pace,
        set_aside: SetAside,
        backlog: Backlog | None = None,
    ) -> None:
        self.destination = destination
        self._options = options
        self._attempt = attempt
        self._pace = pace
        self._set_aside = set_aside
        self._backlog = backlog or Backlog()
        self._queue: deque[Claimed] = deque()
        self._idle: dict[asyncio.Future[Claimed | None], float] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._runners: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    def adopt(self, options: LaneOptions) -> None:
        """Take up other limits."""
        self._options = options
        self._staff()

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
            place, _ = self._idle.popitem()  # the one that has not waited long: the others may end
            if not place.done():
                place.set_result(claimed)
                return
        self._queue.append(claimed)
        self._backlog.entries += 1
        self._staff()

    def _staff(self) -> None:
        """One more runner, if something waits and the limit allows it."""
        if not self._queue or self._stop.is_set() or len(self._runners) >= self._options.concurrency:
            return
        runner = asyncio.get_running_loop().create_task(self._run())
        self._runners.add(runner)
        runner.add_done_callback(self._forget)

    def take_waiting(self) -> list[Claimed]:
        """Take back what no runner has begun, to give it up on a drain."""
        waiting = list(self._queue)
        self._queue.clear()
        self._backlog.entries -= len(waiting)
        return waiting

    async def drain(self) -> None:
        """Let the runners finish the attempt they are in, close their sessions and end; what waits goes on waiting."""
        self._stop.set()
        for place in self._idle:
            _end(place)
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
        self._staff()  # for what came while it was closing its session
        if not self._runners and self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    async def _run(self) -> None:
        session: DeliverySession | None = None
        sent = 0
        try:
            while (claimed := await self._next(session)) is not None:
                if not await self._take_turn(claimed):
                    break
                session, used = await self._try(claimed, session), session
                sent = sent + 1 if session is used else 1
                if session is not None and (not session.alive or sent >= self._options.messages_per_session):
                    closing, session, sent = session, None, 0
                    await self._close(closing)
        finally:
            if session is not None:
                await self._close(session)

    async def _take_turn(self, claimed: Claimed) -> bool:
        """Wait for the destination's next place in time; ``False``: the lane drains, and the entry waits again."""
        if (pause := self._pace(self.destination)) <= 0:
            return True
        try:
            await asyncio.wait_for(self._stop.wait(), pause)
        except TimeoutError:
            return True
        except asyncio.CancelledError:
            self._put_back(claimed)
            raise
        self._put_back(claimed)
        return False

    def _put_back(self, claimed: Claimed) -> None:
        self._queue.appendleft(claimed)
        self._backlog.entries += 1

    async def _try(self, claimed: Claimed, session: DeliverySession | None) -> DeliverySession | None:
        try:
            return await self._attempt(claimed, session)
        except Exception:
            log.exception("an attempt could not be made", domain=self.destination, entry=claimed.entry.id)
            self._set_aside(claimed)
        if session is not None:  # who knows what state it is in
            await self._close(session)
        return None

    async def _close(self, session: DeliverySession) -> None:
        try:
            await session.close()
        except Exception:
            log.exception("a session could not be closed", domain=self.destination)

    async def _next(self, session: DeliverySession | None) -> Claimed | None:
        if self._stop.is_set() or len(self._runners) > self._options.concurrency:
            return None  # whoever is left over when all have looked is staffed anew
        if self._queue:
            self._backlog.entries -= 1
            return self._queue.popleft()
        if session is None:
            return None
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Claimed | None] = loop.create_future()
        self._idle[place] = loop.time() + self._options.idle
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._options.idle, self._sweep, loop)
        try:
            return await place
        finally:
            self._idle.pop(place, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """End runners that have been idle too long. One timer for all: a busy lane's would be set at each message."""
        self._sweeping = None
        now = loop.time()
        for place, until in self._idle.items():
            if until <= now:
                _end(place)
        left = [until for place, until in self._idle.items() if not place.done()]
        if left:
            self._sweeping = loop.call_at(min(left), self._sweep, loop)


def _end(place: "asyncio.Future[Claimed | None]") -> None:
    if not place.done():
        place.set_result(None)
