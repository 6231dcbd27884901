"""Outcomes of attempts on their way to disk, beside the attempts that go on."""

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Coroutine

import structlog

from relay.core.entry import Claimed
from relay.core.errors import StoreError, StoreFullError, StoreUnavailableError
from relay.core.ports import Metrics, QueueStore
from relay.worker.portal import Endings
from relay.worker.record import Recorder, Settlement

log = structlog.get_logger("attempt")

_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries to record an outcome while the store is away; the last one repeats."""


class OutcomeWriter:
    """Commits what became of each entry; the entry stays under this worker's lease until that is on disk.

    Args:
        store: where outcomes are recorded.
        recorder: says what was recorded.
        endings: tells the portal first.
        settled: told when an entry has left this worker's hand.
        set_aside: takes an entry that cannot be ended now, to give its lease back later.
        metrics: counts.
        pause: waits for seconds, between tries.
    """

    def __init__(
        self,
        store: QueueStore,
        recorder: Recorder,
        endings: Endings,
        settled: Callable[[], None],
        set_aside: Callable[[Claimed], None],
        metrics: Metrics,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._endings = endings
        self._settled = settled
        self._set_aside = set_aside
        self._metrics = metrics
        self._pause = pause
        self._writing: set[asyncio.Task[None]] = set()

    def record(self, claimed: Claimed, settlement: Settlement) -> None:
        """Commit the outcome, and say so.

        An outcome that cannot be recorded at all is alerted; its lease holds until this process ends, so that a copy
        which may have been taken is not sent over and over. One that the portal cannot be told of now is set aside.
        """
        self._begin(self._record(claimed, settlement))

    def give_back(self, claimed: Claimed) -> None:
        """The lease may have ended while the entry waited here: nothing is sent, and whoever has it now goes on."""
        log.warning("lease ended before the attempt", message_id=claimed.message.id, entry=claimed.entry.id)
        self._begin(self._give_back(claimed))

    def set_aside(self, claimed: Claimed) -> None:
        """Nothing can be recorded of it now that would not make it due at once: it is tried later."""
        self._set_aside(claimed)

    async def written(self) -> None:
        """Wait until all so far is on disk, or given up."""
        while self._writing:
            await asyncio.wait(set(self._writing))

    def give_up(self) -> None:
        """Wait no longer for a store that is away, for this process ends, and is killed if it does not.

        Nothing is lost: the lease ends with the process, and who claims the entry next tries it. What a server took
        is sent again then, as after a kill; each is alerted and named in the log.
        """
        for task in self._writing:
            task.cancel()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _record(self, claimed: Claimed, settlement: Settlement) -> None:
        leave = self._settled
        try:
            if not await self._endings.tell(claimed, settlement.fates):
                leave = functools.partial(self._set_aside, claimed)
                return
            await self._commit(claimed, settlement)
            self._recorder.tell(claimed, settlement)
        except (Exception, asyncio.CancelledError) as error:
            self._metrics.count("postern_alerts_total", {"kind": "outcome-not-recorded"})
            message_id, entry = claimed.message.id, claimed.entry.id
            if isinstance(error, asyncio.CancelledError):
                log.error(
                    "outcome not recorded", message_id=message_id, entry=entry, why="stopped while a store was away"
                )
                raise
            if isinstance(error, StoreError):
                log.error("outcome not recorded", message_id=message_id, entry=entry, why=str(error))
            else:
                log.exception("outcome not recorded", message_id=message_id, entry=entry)
        finally:
            leave()

    async def _commit(self, claimed: Claimed, settlement: Settlement) -> None:
        """While the store is away or full, try again: the peer may already have the copy."""
        for number in itertools.count():
            try:
                await self._store.commit(settlement.unit)
            except (StoreUnavailableError, StoreFullError) as error:
                log.warning("recording waits for the store", message_id=claimed.message.id, error=str(error))
                await self._pause(_PAUSES[min(number, len(_PAUSES) - 1)])
            else:
                return

    async def _give_back(self, claimed: Claimed) -> None:
        try:
            for number in itertools.count():
                try:
                    return await self._store.release([claimed.entry.id])
                except StoreUnavailableError:
                    await self._pause(_PAUSES[min(number, len(_PAUSES) - 1)])
        except StoreError as error:
            log.error("lease not given back", entry=claimed.entry.id, why=str(error))
        finally:
            self._settled()
