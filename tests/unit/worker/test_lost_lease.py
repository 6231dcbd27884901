"""What waited in hand until its lease ended is given back, not sent."""

from unittest.mock import Mock

from relay.core.errors import StoreUnavailableError
from relay.store import MemoryData, MemoryStore
from relay.worker.attempt import Attempter
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
