"""What waited in hand until its lease ended is given back, not sent."""

import asyncio
from unittest.mock import Mock

import structlog

from relay.core.decision import MethodName
from relay.core.errors import StoreUnavailableError
from relay.core.fate import Fate, FateKind
from relay.store import MemoryData, MemoryStore
from relay.worker.attempt import Attempter
from relay.worker.outcomes import OutcomeWriter
from relay.worker.portal import Endings
from relay.worker.record import Settlement
from tests.support.queue import NOW, ManualClock, keeping
from tests.support.vault import FakeVault


class LosingStore(MemoryStore):
    """A store whose leases are no longer certain, and which is away for the first release."""

    away = 1

    def holds(self, entry_id):
        del entry_id
        return False

    async def release(self, entry_ids):
        if self.away:
            self.away -= 1
            raise StoreUnavailableError("away")
        await super().release(entry_ids)


async def test_an_entry_whose_lease_ended_is_given_back_unattempted():
    store = LosingStore(FakeVault(), ManualClock(), None, MemoryData())
    await store.open("worker")
    await store.commit(keeping()[0])
    (claimed,) = await store.claim(now=NOW, limit=1)
    connector, settled, pauses = Mock(), Mock(), []

    async def pause(seconds):
        pauses.append(seconds)

    attempt = Attempter(
        store=store,
        policy=Mock(),
        methods={},
        connector=connector,
        routes=Mock(),
        outgoing=Mock(),
        recorder=Mock(),
        settled=settled,
        clock=ManualClock(),
        metrics=Mock(),
        pause=pause,
    )
    session = object()
    assert await attempt(claimed, session) is session
    await attempt.finish()
    settled.assert_called_once_with()
    connector.connect.assert_not_called()
    assert len(pauses) == 1
    assert [each.entry.id for each in await store.claim(now=NOW, limit=1)] == ["m1.0"]


async def test_what_no_store_takes_is_given_up_when_the_process_ends_and_the_next_to_claim_it_tells_it():
    data = MemoryData()
    store = MemoryStore(FakeVault(), ManualClock(), None, data)
    await store.open("worker")
    await store.commit(keeping(method=MethodName.PORTAL)[0])
    (claimed,) = await store.claim(now=NOW, limit=1)
    waits, settled, metrics = asyncio.Event(), Mock(), Mock()

    class Away:
        """A portal whose store comes back after the process has ended."""

        is_away = True

        async def notified(self, message_id, number, *, told=False):
            if self.is_away:
                raise StoreUnavailableError("away")
            recorded.append((message_id, number, told))

        async def withdrawn(self, message_id, number):
            raise AssertionError((message_id, number))

    async def pause(_seconds):
        waits.set()
        await asyncio.Event().wait()

    recorded, portal = [], Away()
    taken = Settlement(unit=(), fates={0: Fate(kind=FateKind.NOTIFIED, at=NOW)}, entry=None, event="notified")
    writer = OutcomeWriter(store, Mock(), Endings(portal, pause), settled, Mock(), metrics, pause)
    with structlog.testing.capture_logs() as lines:
        writer.record(claimed, taken)
        await asyncio.wait_for(waits.wait(), 60)
        writer.give_up()
        await asyncio.wait_for(writer.written(), 60)
    assert [(line["event"], line["message_id"]) for line in lines if line["log_level"] == "error"] == [
        ("outcome not recorded", "m1")
    ]
    metrics.count.assert_called_once_with("postern_alerts_total", {"kind": "outcome-not-recorded"})
    settled.assert_called_once_with()
    await store.close()
    portal.is_away = False
    after = MemoryStore(FakeVault(), ManualClock(), None, data)
    await after.open("the-next")
    (again,) = await after.claim(now=NOW, limit=1)
    assert again.entry == claimed.entry
    assert await Endings(portal, pause).tell(again, taken.fates)
    assert recorded == [("m1", 0, False)]
    await after.close()
