"""What every store promises of memos: octets kept under a name after what they are about has left the queue."""

from dataclasses import replace

import pytest

from relay.core.change import Remember, Settle
from relay.core.errors import StoreError
from relay.core.fate import Fate, FateKind
from relay.store import StoreOptions
from tests.support.queue import HARNESSES, KINDS, NOW, ManualClock, keeping


@pytest.fixture(params=KINDS)
async def harness(request, tmp_path):
    harness = HARNESSES[request.param](tmp_path, ManualClock(), StoreOptions(reserve_bytes=0, max_memos=5))
    yield harness
    await harness.end()


def a_memo(name="m1.1/0", value=b"planted value \x00\xff", lasts=60.0):
    return Remember(name=name, value=value, until=NOW + lasts)


async def test_what_is_remembered_is_known_to_every_process_and_over_a_restart(harness):
    store, other = await harness.open(), await harness.open()
    await store.commit((a_memo(), a_memo("m1.1/1"), a_memo("m1.10/0"), a_memo("m2.1/0")))
    for one in (store, other):
        assert await one.recall("m1.1/") == [a_memo(), a_memo("m1.1/1")]
    await harness.close(store)
    await harness.close(other)
    again = await harness.open()
    assert [memo.name for memo in await again.recall("m1.")] == ["m1.1/0", "m1.1/1", "m1.10/0"]
    assert [memo.name for memo in await again.recall("m1.", limit=2)] == ["m1.1/0", "m1.1/1"]
    assert await again.recall("m3") == []


async def test_the_last_of_a_name_counts_in_one_unit_and_in_several(harness):
    store = await harness.open()
    await store.commit((a_memo(value=b"first"), a_memo(value=b"second")))
    assert await store.recall("m1.1/0") == [a_memo(value=b"second")]
    await store.commit((a_memo(value=b"third", lasts=90),))
    assert await store.recall("m1.1/0") == [a_memo(value=b"third", lasts=90)]


async def test_a_memo_lives_and_falls_with_its_unit(harness):
    store = await harness.open()
    unit, entry = keeping(leased=True)
    await store.commit(unit)
    done = Settle(entry=entry, fates={0: Fate(kind=FateKind.DELIVERED, at=NOW)})
    with pytest.raises(StoreError):
        await store.commit((a_memo("lost"), replace(done, entry=replace(entry, id="m1.9"))))
    assert await store.recall("lost") == []
    await store.commit((done, a_memo("kept")))
    assert await store.recall("kept") == [a_memo("kept")]
    assert await store.message("m1") is None


async def test_nothing_is_remembered_past_its_time(harness):
    store = await harness.open()
    await store.commit((a_memo(lasts=60), a_memo("longer", lasts=90)))
    harness.clock.now = NOW + 60
    assert await store.recall("") == [a_memo("longer", lasts=90)]
    await store.checkpoint()
    harness.clock.now = NOW
    assert await store.recall("") == [a_memo("longer", lasts=90)]


async def test_more_than_the_limit_lets_go_of_the_oldest(harness):
    store = await harness.open()
    for number in range(8):
        await store.commit((a_memo(f"d{number}", lasts=60 - number),))
    await store.checkpoint()
    assert [memo.name for memo in await store.recall("")] == [f"d{number}" for number in range(3, 8)]


async def test_without_an_end_nothing_is_kept(harness):
    store = await harness.open()
    with pytest.raises(StoreError, match="no end"):
        await store.commit((a_memo(lasts=float("inf")),))


async def test_what_went_before_makes_nothing_of_the_last_go(harness):
    """Numbers that are free again, and those that a repeated name used up, are none of what is there."""
    store = await harness.open()
    await store.commit((a_memo("old"),))
    for number in range(9):
        await store.commit((a_memo("again"), a_memo(f"short/{number}", lasts=1)))
    await store.commit((a_memo("new/0"), a_memo("new/1")))
    harness.clock.now = NOW + 5
    await store.checkpoint()
    assert await store.recall("new/") == [a_memo("new/0"), a_memo("new/1")]
