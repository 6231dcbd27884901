"""What a worker has in hand: claimed entries and fresh mail, given to lanes by destination, never above a limit."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from relay.core.entry import Claimed
from relay.core.errors import StoreError
from relay.core.ports import Clock, Metrics, QueueStore
from relay.worker.lanes import Attempt, Backlog, Lane, LaneOptions, Pace
from relay.worker.strain import Strain

log = structlog.get_logger("dispatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchOptions:
    """Limits of this worker.

    Attributes:
        in_hand: entries under this worker's lease at a time, fresh mail included.
        batch: entries claimed at a time.
        poll: seconds between looks into the store when nothing else wakes the claim loop.
        lane: gives a destination's limits.
        lane_backlog: entries of one destination in hand before it is passed over in claims, so that a slow destination
            leaves room for the others.
        behind: entries in hand that no connection has taken yet, from which on a busy worker counts as behind.
        serves: whether this worker serves a destination; ``False`` where its limit is below the number of workers and
            others were picked.
    """

    in_hand: int
    batch: int
    poll: float
    lane: Callable[[str], LaneOptions]
    lane_backlog: int
    behind: int = 1_000_000
    serves: Callable[[str], bool] = lambda _: True


_FOREIGN: Final = 10_000
"""Destinations of others that are remembered, to be passed over in claims."""
_LONGEST_PAUSE: Final = 5.0
"""Seconds between claims at the most, while the store is away."""
_ASIDE: Final = 300.0
"""Seconds that an entry which could not be tried, nor ended, is kept aside before it is given back: nothing spins."""
_ASIDE_FREE: Final = 10_000
"""Entries aside that take nobody's place in hand; the next keep theirs, so that what is aside has an end (law 6)."""


class Dispatcher:
    """Claims what is due, takes fresh mail from intake, and gives both to lanes.

    ``reserve`` and ``hand_over`` are the fresh way: intake reserves room before it keeps a message, keeps it under this
    worker's lease, and hands it over after the commit, so that it is delivered without being read back.
    """

    def __init__(
        self,
        store: QueueStore,
        attempt: Attempt,
        pace: Pace,
        options: DispatchOptions,
        clock: Clock,
        metrics: Metrics,
        strain: Strain | None = None,
    ) -> None:
        self._store = store
        self._attempt = attempt
        self._pace = pace
        self._options = options
        self._clock = clock
        self._metrics = metrics
        self._lanes: dict[str, Lane] = {}
        self._backlog = Backlog()
        self._strain = strain or Strain()
        self._held = 0
        self._wake = asyncio.Event()
        self._draining = False
        self._foreign: set[str] = set()
        self._returns: list[tuple[str, int]] = []  # whose lease, and the places in hand that it takes: 1 or 0
        self._aside: deque[tuple[float, str, int]] = deque()  # since when, and the same
        self._is_more = False
        store.on_ready(self._wake.set)

    def adopt(self, options: DispatchOptions) -> None:
        """Take up other limits, as nodes come and go: lanes with too many connections end some as they finish."""
        self._options = options
        self._foreign.clear()
        for name, lane in self._lanes.items():
            lane.adopt(options.lane(name))
        self._wake.set()

    @property
    def in_hand(self) -> int:
        """Entries under this worker's lease, or reserved; not those set aside."""
        return self._held

    def behind(self) -> bool:
        """Whether much waits in hand for want of processor time, so that mail is better taken more slowly now.

        What waits for slow destinations alone, while the processor rests, is no reason.
        """
        return self._backlog.entries >= self._options.behind and self._strain.felt()

    def reserve(self, destination: str) -> bool:
        """Take room for one fresh entry; ``False``: leave it unleased for others."""
        if self._draining or self._held >= self._options.in_hand or not self._options.serves(destination):
            return False
        lane = self._lanes.get(destination)
        if lane is not None and lane.waiting >= self._options.lane_backlog:
            return False
        self._held += 1
        return True

    def give_up(self, count: int) -> None:
        """Return reserved room that was not used."""
        self._held -= count
        self._wake.set()

    def hand_over(self, claimed: Iterable[Claimed]) -> None:
        """Deliver entries for which room is held; once draining, their leases are given back."""
        for item in claimed:
            destination = item.entry.destination
            if self._draining:
                self._give_back(item.entry.id)
                continue
            lane = self._lanes.get(destination)
            if lane is None:
                lane = self._lanes[destination] = Lane(
                    destination,
                    self._options.lane(destination),
                    self._attempt,
                    self._pace,
                    self._failed_at,
                    self._backlog,
                )
            lane.push(item)

    def settled(self) -> None:
        """One entry in hand has been recorded: its room is free."""
        self._held -= 1
        if self._is_more and self._held <= self._options.in_hand // 2:
            self._wake.set()

    async def run(self) -> None:
        """Claim until drained. A store that cannot be reached pauses delivery; nothing in hand is lost."""
        failures = 0
        while not self._draining:
            self._wake.clear()
            claimed = 0
            try:
                await self._return()
                claimed = await self._claim()
                if failures:
                    log.info("claiming again", failures=failures)
                failures = 0
            except StoreError as error:
                failures += 1
                if failures == 1:
                    log.warning("claiming failed, pausing", error=str(error))
            except Exception:
                self._metrics.count("postern_alerts_total", {"kind": "claiming-failed"})
                log.exception("claiming failed inside, pausing")
            if not claimed:
                await self._rest(
                    min(self._options.poll * 2.0 ** min(failures, 10), max(self._options.poll, _LONGEST_PAUSE))
                )
        await self._empty([])
        log.debug("claiming ended")

    async def _claim(self) -> int:
        room = min(self._options.in_hand - self._held, self._options.batch)
        self._sweep()
        if room <= 0:
            self._is_more = True
            return 0
        full = {name for name, lane in self._lanes.items() if lane.waiting >= self._options.lane_backlog}
        self._held += room
        taken = 0
        try:
            claimed = await self._store.claim(now=self._clock(), limit=room, skip=frozenset(self._foreign | full))
            taken = len(claimed)
        finally:
            self._held -= room - taken
        self._is_more = bool(full) or taken == room
        theirs = frozenset(item.entry.id for item in claimed if not self._options.serves(item.entry.destination))
        self.hand_over(item for item in claimed if item.entry.id not in theirs)
        if theirs:
            self._leave_to_others([item for item in claimed if item.entry.id in theirs])
            await self._return()
        return taken - len(theirs)

    def _leave_to_others(self, claimed: list[Claimed]) -> None:
        """Give back what other workers serve, and pass their destinations over from now on."""
        if len(self._foreign) > _FOREIGN:
            self._foreign.clear()
        for item in claimed:
            self._foreign.add(item.entry.destination)
            self._give_back(item.entry.id)

    # --- giving back -----------------------------------------------------

    def set_aside(self, claimed: Claimed) -> None:
        """Keep an entry out of the way for a while, under our lease but in nobody's place; then anyone may try."""
        is_free = len(self._aside) < _ASIDE_FREE
        self._aside.append((self._clock(), claimed.entry.id, 0 if is_free else 1))
        if is_free:
            self.settled()

    def _failed_at(self, claimed: Claimed) -> None:
        self._metrics.count("postern_alerts_total", {"kind": "attempt-failed"})
        self.set_aside(claimed)

    def _give_back(self, entry_id: str) -> None:
        self._returns.append((entry_id, 1))

    async def _return(self, *, everything: bool = False) -> None:
        """Give back the leases whose time has come; what the store does not take is tried again with the next."""
        now = self._clock()
        # One that was set aside in the future: the clock was set back, by days perhaps.
        while self._aside and (everything or not 0.0 <= now - self._aside[0][0] < _ASIDE):
            self._returns.append(self._aside.popleft()[1:])
        back, self._returns = self._returns, []
        if not back:
            return
        try:
            await self._store.release([entry_id for entry_id, _ in back])
        except BaseException:
            self._returns += back
            raise
        self._held -= sum(places for _, places in back)

    def _sweep(self) -> None:
        for name in [name for name, lane in self._lanes.items() if lane.is_empty]:
            del self._lanes[name]

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def drain(self, deadline: float) -> None:
        """Stop claiming, give back what no runner has begun, finish what is under way within ``deadline`` seconds.

        What the store does not take back is free when it is closed.
        """
        self._draining = True
        self._wake.set()
        lanes = list(self._lanes.values())
        await self._empty(lanes)
        ends = [asyncio.ensure_future(lane.drain()) for lane in lanes]
        if ends:
            _, late = await asyncio.wait(ends, timeout=deadline)
            if late:
                log.warning("attempts broken off at the drain deadline", lanes=len(late))
                for lane in lanes:
                    lane.cancel()
                await asyncio.wait(late)
        await self._empty(lanes)

    async def give_back(self) -> None:
        """Give back what intake still handed over while or after the drain."""
        await self._empty([])

    async def _empty(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            for claimed in lane.take_waiting():
                self._give_back(claimed.entry.id)
        try:
            await self._return(everything=True)
        except StoreError as error:
            log.warning("leases are kept until the store is closed", error=str(error))
