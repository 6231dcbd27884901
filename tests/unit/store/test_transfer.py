"""A store is checked whole, and copied into the other kind and back without a change."""

from dataclasses import replace

import apsw
import pytest

from relay.core.change import Remember, Settle
from relay.core.entry import EntryState
from relay.core.errors import StoreError
from relay.core.fate import Fate, FateKind
from relay.core.ports import Known
from relay.store import SqliteStore, StoreOptions
from relay.store.codec import Codec
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.shelf import PostgresShelf
from relay.store.postgres.store import PostgresStore
from relay.store.sqlite.shelf import SqliteShelf
from relay.store.transfer import check, copy, take_stock
from tests.support.postgres import shared
from tests.support.queue import BODY, NOW, ManualClock, a_message, an_entry, keeping
from tests.support.vault import FakeVault

LARGE = 5_000
OPTIONS = StoreOptions(reserve_bytes=0, large_body=LARGE)


async def filled(directory):
    """A queue with small and large bodies, held, deferred, leased and split entries, audit events and knowledge."""
    store = SqliteStore(directory / "data", directory / "run", FakeVault(), OPTIONS, ManualClock())
    await store.open("before")
    for number in range(450):
        content = BODY * (300 if number % 50 == 0 else 1)
        fields = (
            {"state": EntryState.HELD} if number % 7 == 0 else {"due_at": NOW + number % 5, "priority": number % 3 - 1}
        )
        await store.commit(keeping(f"m{number:04}", content=content, leased=number % 9 == 0, note=True, **fields)[0])
    message = a_message("m9999", recipients=("a@example.org", "b@example.org"))
    unit, entry = keeping("m9999", leased=True, recipients=an_entry(message).recipients)
    unit = (type(unit[0])(message=message, content=BODY, entries=(entry,), leased=frozenset({entry.id})),)
    await store.commit(unit)
    split = an_entry(message, 1, numbers=[1], destination="route:backup")
    await store.commit((Settle(entry=an_entry(message, 0, numbers=[0]), split=(split,)),))
    await store.learn(Known(kind="mta-sts", name="good.example", value=b"\0policy", until=NOW + 60))
    for number in range(3):
        await store.commit((Remember(name=f"m1.1/{number}", value=b"sent", until=NOW + 60),))
    await store.close()


def shelf_in(directory):
    return SqliteShelf(directory / "data", directory / "run", LARGE)


@pytest.mark.peers
async def test_a_queue_goes_to_postgresql_and_back_unchanged(tmp_path):
    await filled(tmp_path / "first")
    options = PostgresOptions(dsn=shared().database(), node="node")
    first, middle, last = shelf_in(tmp_path / "first"), await PostgresShelf.open(options), shelf_in(tmp_path / "last")
    tallies = [await copy(first, middle), await copy(middle, last), await take_stock(first)]
    assert tallies[0] == tallies[1] == tallies[2]
    assert (tallies[0].messages, tallies[0].entries, tallies[0].outbox, tallies[0].known) == (451, 452, 450, 1)
    assert tallies[0].memos == 3
    for shelf in (first, middle, last):
        assert (await check(shelf, Codec(FakeVault())))[1] == []
        await shelf.close()
    there = PostgresStore(options, FakeVault(), OPTIONS, ManualClock())
    back = SqliteStore(tmp_path / "last/data", tmp_path / "last/run", FakeVault(), OPTIONS, ManualClock())
    for store in (there, back):
        await store.open("after")
    assert len(list((tmp_path / "last/data/bodies").iterdir())) == 9
    for store in (there, back):
        stats = await store.stats()
        assert (stats.leased, stats.bytes) == (0, tallies[0].bytes)
        claimed = await store.claim(now=NOW, limit=1000)
        assert claimed
        assert await store.content("m0050") == BODY * 300
        assert [row.events[0].message_id for row in await store.outbox(limit=2)] == ["m0000", "m0001"]
        assert await store.known("mta-sts", "good.example") is not None
        assert [memo.value for memo in await store.recall("m1.1/")] == [b"sent"] * 3
        await store.close()


async def test_nothing_is_copied_onto_something(tmp_path):
    await filled(tmp_path / "first")
    await filled(tmp_path / "other")
    first, other = shelf_in(tmp_path / "first"), shelf_in(tmp_path / "other")
    before = await take_stock(other)
    with pytest.raises(StoreError, match="not empty"):
        await copy(first, other)
    assert await take_stock(other) == before
    await first.close()
    await other.close()


@pytest.mark.peers
async def test_a_database_at_work_is_not_copied(tmp_path):
    options = PostgresOptions(dsn=shared().database(), node="busy")
    store = PostgresStore(options, FakeVault(), OPTIONS, ManualClock())
    await store.open("working")
    shelf = await PostgresShelf.open(options)
    with pytest.raises(StoreError, match="busy"):
        await shelf.require_rest()
    await shelf.close()
    await store.close()
    shelf = await PostgresShelf.open(options)
    await shelf.require_rest()
    await shelf.close()


DAMAGE = {
    "bodies": ("UPDATE bodies SET sealed = zeroblob(length(sealed)) WHERE message_id = 'm0001'", "body of m0001"),
    "facts": ("UPDATE messages SET facts = zeroblob(9) WHERE id = 'm0001'", "facts of m0001"),
    "details": ("UPDATE details SET sealed = zeroblob(9) WHERE entry_id = 'm0001.0'", "entry of m0001.0"),
    "outbox": ("UPDATE outbox SET sealed = zeroblob(9) WHERE seq = 3", "outbox of a row"),
    "a body gone": ("DELETE FROM bodies WHERE message_id = 'm0001'", "the body is missing"),
    "an entry moved": ("UPDATE entries SET destination = 'evil.example' WHERE id = 'm0001.0'", "differs from what is"),
    "a message gone": ("DELETE FROM messages WHERE id = 'm0001'", "1 entries without their message"),
    "details gone": ("DELETE FROM details WHERE entry_id = 'm0001.0'", "1 entries without their details"),
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_check_finds_what_is_wrong(tmp_path, kind):
    store = SqliteStore(tmp_path / "data", tmp_path / "run", FakeVault(), OPTIONS, ManualClock())
    await store.open("x")
    for number in range(4):
        await store.commit(keeping(f"m{number:04}", note=True)[0])
    await store.close()
    statement, told = DAMAGE[kind]
    with apsw.Connection(str(tmp_path / "data/queue.db")) as connection:
        connection.execute(statement)
    connection.close()
    shelf = shelf_in(tmp_path)
    tally, wrong = await check(shelf, Codec(FakeVault()))
    await shelf.close()
    assert tally.outbox == 4
    assert any(told in fault for fault in wrong), wrong


async def test_a_check_of_a_queue_at_work_misses_nothing_that_was_delivered_meanwhile(tmp_path):
    store = SqliteStore(tmp_path / "data", tmp_path / "run", FakeVault(), OPTIONS, ManualClock())
    await store.open("at-work")
    for number in range(3):
        await store.commit(keeping(f"m{number}", content=BODY * 300)[0])
    (damaged,) = [path for path in (tmp_path / "data/bodies").iterdir() if path.name.endswith("-3")]
    damaged.unlink()
    shelf = shelf_in(tmp_path)
    assert await shelf.outbox(0, 1) == []  # reading has begun
    for claimed in await store.claim(now=NOW, limit=2):
        gone = {0: Fate(kind=FateKind.DELIVERED, at=NOW)}
        await store.commit((Settle(entry=replace(claimed.entry, recipients=()), fates=gone),))
    tally, wrong = await check(shelf, Codec(FakeVault()))
    assert (tally.messages, wrong) == (1, ["m2: the body is missing"])
    await shelf.close()
    await store.close()
