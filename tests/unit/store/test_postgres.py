"""What only PostgreSQL brings: connections that are lost, leases by its clock, schemas of two ages, several writers."""

import asyncio
import time
from dataclasses import replace

import psycopg
import pytest

from relay.core.change import Keep, Note, Settle
from relay.core.errors import CorruptError, ProblemsError, StoreUnavailableError
from relay.core.fate import Fate, FateKind
from relay.store import StoreOptions
from relay.store.codec import Codec
from relay.store.postgres.line import Line, connect
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.schema import MIGRATIONS, Migration
from relay.store.postgres.store import PostgresStore
from tests.support.cable import Cable
from tests.support.postgres import Cluster
from tests.support.queue import (
    BODY,
    NOW,
    ManualClock,
    PostgresHarness,
    a_message,
    an_entry,
    an_event,
    keeping,
    listed,
    until_there,
)
from tests.support.vault import FakeVault

pytestmark = pytest.mark.peers
DELIVERED = Fate(kind=FateKind.DELIVERED, at=NOW)


@pytest.fixture
async def harness(tmp_path):
    harness = PostgresHarness(tmp_path, ManualClock(), StoreOptions())
    yield harness
    await harness.end()


@pytest.fixture
async def cable(harness):
    async with Cable(harness.cluster.port) as cable:
        yield cable


async def opened(harness, name="over-the-cable", *, cable=None, **options):
    port = harness.cluster.port if cable is None else cable.port
    dsn = harness.cluster.dsn.replace(str(harness.cluster.port), str(port))
    store = PostgresStore(replace(harness.postgres, dsn=dsn, **options), FakeVault(), StoreOptions(), harness.clock)
    await store.open(name)
    harness._opened.append(store)
    return store


# --- connections that are lost ---


async def test_a_commit_whose_answer_is_lost_is_found_to_have_taken_place(harness, cable):
    store = await opened(harness, cable=cable)
    cable.cut_at, cable.deliver = b"COMMIT", True
    await store.commit(keeping(leased=True, note=True)[0])
    assert cable.cuts == 1
    assert await listed(store) == ["m1.0"]
    assert store.holds("m1.0")
    assert len(await store.outbox(limit=9)) == 1


async def test_a_commit_that_never_reached_the_database_is_found_not_to_have_taken_place(harness, cable):
    store = await opened(harness, cable=cable)
    cable.cut_at, cable.deliver = b"COMMIT", False
    with pytest.raises(StoreUnavailableError, match="nothing was applied"):
        await store.commit(keeping()[0])
    assert cable.cuts == 1
    await store.commit(keeping()[0])
    assert await listed(store) == ["m1.0"]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_cut_what_was_committed_is_there_and_what_was_refused_is_not(harness, cable, seed):
    store = await opened(harness, cable=cable)
    kept, refused = set(), set()

    async def one(lane):
        for number in range(12):
            name = f"m{lane}x{number}"
            if lane == 0 and number % 3 == seed % 3:
                cable.cut_at, cable.deliver = (b"COMMIT", b"BEGIN", b"INSERT")[number % 3], bool(seed % 2)
            try:
                await store.commit(keeping(name, note=True)[0])
            except StoreUnavailableError:
                refused.add(f"{name}.0")
                await until_there(store.stats)
            else:
                kept.add(f"{name}.0")

    await asyncio.gather(*(one(lane) for lane in range(6)))
    assert cable.cuts
    assert set(await until_there(lambda: listed(store))) == kept
    assert len(kept) + len(refused) == 72
    rows = await until_there(lambda: store.outbox(limit=200))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert sorted(f"{event.message_id}.0" for row in rows for event in row.events) == sorted(kept)


async def test_a_claim_whose_answer_is_lost_is_not_lost_with_it(harness, cable):
    store = await opened(harness, cable=cable)
    await store.commit(keeping()[0])
    cable.cut_at, cable.deliver = b"COMMIT", True
    (claimed,) = await store.claim(now=NOW, limit=5)
    assert claimed.entry.id == "m1.0"
    await store.commit((Settle(entry=claimed.entry, fates={0: DELIVERED}),))


async def test_while_the_database_is_away_every_call_fails_at_once_and_afterwards_none_does(harness, cable):
    store = await opened(harness, cable=cable)
    await store.commit(keeping("m1")[0])
    cable.cut(refuse=True)
    for _ in range(3):
        for call in (
            lambda: store.commit(keeping("m2")[0]),
            lambda: store.claim(now=NOW, limit=1),
            store.stats,
            lambda: store.count("ehr", window=60, now=NOW),
        ):
            with pytest.raises(StoreUnavailableError):
                await call()
    cable.mend()
    await until_there(lambda: store.commit(keeping("m2")[0]))
    assert await until_there(lambda: listed(store)) == ["m1.0", "m2.0"]


async def test_a_connection_over_which_nothing_comes_is_given_up(harness, cable):
    store = await opened(harness, cable=cable, statement=0.5, connect=2, settle=1.0)
    cable.stall(on=True)
    with pytest.raises(StoreUnavailableError):
        await store.commit(keeping("m1")[0])
    cable.stall(on=False)
    cable.cut()
    await until_there(lambda: store.commit(keeping("m2")[0]))
    assert "m2.0" in await until_there(lambda: listed(store))


async def test_a_store_opens_without_its_database_and_works_once_it_is_there(harness, cable):
    cable.cut(refuse=True)
    store = await opened(harness, cable=cable)
    with pytest.raises(StoreUnavailableError):
        await store.commit(keeping()[0])
    cable.mend()
    await until_there(lambda: store.commit(keeping(leased=True)[0]))
    assert store.holds("m1.0")


async def test_a_wrong_database_is_told_at_once(harness):
    options = replace(harness.postgres, dsn=harness.cluster.dsn.replace("/postgres", "/none"))
    with pytest.raises(ProblemsError, match=r"none.*refused"):
        await PostgresStore(options, FakeVault(), StoreOptions(), harness.clock).open("x")


# --- leases ---


async def test_leases_are_not_trusted_past_their_time_and_another_node_gets_them(harness, cable):
    store = await opened(harness, cable=cable, lease=3.0, hold=2.0, beat=0.2)
    other = await harness.open()
    await store.commit(keeping(leased=True)[0])
    assert store.holds("m1.0")
    cable.cut(refuse=True)
    async with asyncio.timeout(60):
        while not await other.reap():
            assert await other.claim(now=NOW, limit=1) == []
            await asyncio.sleep(0.05)
    assert not store.holds("m1.0")
    with pytest.raises(StoreUnavailableError):
        await store.claim(now=NOW, limit=1)
    (claimed,) = await other.claim(now=NOW, limit=1)
    cable.mend()
    await until_there(lambda: store.commit(keeping("m2", leased=True)[0]))
    assert store.holds("m2.0")
    assert not store.holds("m1.0")
    await other.commit((Settle(entry=claimed.entry, fates={0: DELIVERED}),))


async def test_a_living_process_keeps_its_leases(harness):
    store = await opened(harness, "alpha-1", lease=3600.0, hold=3000.0, beat=0.05)
    other = await harness.open()
    await store.commit(keeping(leased=True)[0])
    far = "SELECT ends_at > clock_timestamp() + interval '50 minutes' FROM incarnations WHERE name = 'alpha-1'"
    for _ in range(3):
        harness.sql(
            "UPDATE incarnations SET ends_at = clock_timestamp() + interval '10 minutes' WHERE name = 'alpha-1'"
        )
        async with asyncio.timeout(60):
            while not harness.sql(far)[0][0]:  # noqa: ASYNC110 - a sign of life moves the end on
                await asyncio.sleep(0.01)
        assert await other.reap() == 0
        assert store.holds("m1.0")


async def test_a_wake_up_reaches_other_processes(harness):
    store, other = await harness.open(), await harness.open()
    woken = asyncio.Event()
    other.on_ready(woken.set)
    await asyncio.sleep(0)
    await store.commit(keeping()[0])
    async with asyncio.timeout(60):
        await woken.wait()


async def test_each_node_knows_its_place_among_those_that_serve(harness):
    alpha = await opened(harness, "alpha-1", node="alpha", beat=0.1)
    told = asyncio.Event()
    alpha.on_nodes(told.set)
    beta = await opened(harness, "beta-1", node="beta", beat=0.1)

    async def places(expected):
        async with asyncio.timeout(60):
            while [one.position for one in (alpha, beta)] != expected:  # noqa: ASYNC110 - as below
                await asyncio.sleep(0.01)

    await places([(0, 2), (1, 2)])
    assert told.is_set()
    harness.sql("UPDATE nodes SET draining = true WHERE name = 'alpha'")
    await places([(0, 1), (0, 1)])
    assert alpha.is_draining
    assert not beta.is_draining
    harness.sql("UPDATE nodes SET draining = false WHERE name = 'alpha'")
    await places([(0, 2), (1, 2)])
    await harness.close(alpha)
    async with asyncio.timeout(60):
        while beta.position != (0, 1):  # noqa: ASYNC110 - what the database tells sets no event here
            await asyncio.sleep(0.01)


# --- several writers ---


async def test_the_last_two_entries_of_a_message_may_end_at_once_on_two_nodes(harness):
    stores = [await harness.open() for _ in range(2)]
    for number in range(30):
        message = a_message(f"m{number}", recipients=("a@example.org", "b@example.net"))
        entries = (an_entry(message, 0, numbers=[0]), an_entry(message, 1, numbers=[1]))
        await stores[0].commit((Keep(message=message, content=BODY, entries=entries),))
        claimed = [(await store.claim(now=NOW, limit=1))[0] for store in stores]
        units = [(Settle(entry=c.entry, fates={s.number: DELIVERED for s in c.entry.recipients}),) for c in claimed]
        await asyncio.gather(*(store.commit(unit) for store, unit in zip(stores, units, strict=True)))
    tables = ("messages", "bodies", "entries", "details")
    assert [harness.sql(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == [0, 0, 0, 0]
    assert (await stores[0].stats()).bytes == 0


async def test_the_outbox_is_read_only_as_far_as_nothing_can_come_between(harness):
    store = await harness.open()
    with psycopg.connect(harness.cluster.dsn) as slow:
        slow.execute(f'SET search_path TO "{harness.schema}"')
        slow.execute("INSERT INTO commits(id) VALUES('slow')")  # a transaction that has begun and not ended
        await store.commit((Note(events=(an_event("later"),)),))
        assert await store.outbox(limit=9) == []
        slow.commit()
    (row,) = await store.outbox(limit=9)
    assert (row.seq, row.events[0].kind) == (1, "later")


async def test_outbox_numbers_go_on_without_a_gap_and_each_node_has_its_own(harness):
    store, other = await harness.open(), await opened(harness, "other", node="elsewhere")
    for kind in ("a", "b", "c"):
        await store.commit((Note(events=(an_event(kind),)),))
        await other.commit((Note(events=(an_event(f"other {kind}"),)),))
    assert [(row.seq, row.events[0].kind) for row in await store.outbox(limit=2)] == [(1, "a"), (2, "b")]
    await store.forget_outbox(2)
    await store.forget_outbox(2)
    assert [(row.seq, row.events[0].kind) for row in await store.outbox(limit=9)] == [(3, "c")]
    await store.forget_outbox(3)
    await store.commit((Note(events=(an_event("d"),)),))
    assert [(row.seq, row.events[0].kind) for row in await store.outbox(limit=9)] == [(4, "d")]
    assert [row.events[0].kind for row in await other.outbox(limit=9)] == ["other a", "other b", "other c"]


async def test_the_outbox_keeps_its_order_when_transaction_numbers_begin_anew(harness):
    store = await harness.open()
    await store.commit((Note(events=(an_event("before"),)),))
    # What a dump that is restored into a younger cluster looks like: places far ahead of its transaction numbers.
    harness.sql("UPDATE outbox SET place = place + (1::bigint << 50)")
    await harness.close(store)
    store = await harness.open()
    await store.commit((Note(events=(an_event("after"),)),))
    assert [row.events[0].kind for row in await store.outbox(limit=9)] == ["before", "after"]


async def test_housekeeping_folds_sums_and_keeps_the_figures(harness):
    store, other = await harness.open(), await harness.open()
    for number in range(5):
        await (store, other)[number % 2].commit(keeping(f"m{number}")[0])
    before = await store.stats()
    rows = harness.sql("SELECT count(*) FROM tally")[0][0]
    await asyncio.gather(store.checkpoint(), other.checkpoint())
    assert await other.stats() == before
    assert harness.sql("SELECT count(*) FROM tally")[0][0] < rows
    assert before.bytes == 5 * len(BODY)


# --- the schema ---

NEXT = Migration(
    statements="ALTER TABLE entries ADD COLUMN colour text NOT NULL DEFAULT 'grey';"
    "ALTER TABLE messages ADD COLUMN shape text; CREATE TABLE later(id bigint PRIMARY KEY);",
    oldest=1,
)


async def test_old_and_new_nodes_work_side_by_side(harness):
    old = await harness.open()
    unit, entry = keeping("m1", leased=True, note=True)
    await old.commit(unit)
    new = PostgresStore(harness.postgres, FakeVault(), StoreOptions(), harness.clock, migrations=(*MIGRATIONS, NEXT))
    await new.open("newer")
    harness._opened.append(new)
    assert harness.sql("SELECT version, oldest FROM schema_version") == [(len(MIGRATIONS) + 1, 1)]
    again = await harness.open()  # the old code starts anew on the new schema
    await old.commit((Settle(entry=replace(entry, attempts=1)),))
    await again.commit(keeping("m2", note=True)[0])
    await new.commit(keeping("m3", note=True)[0])
    assert await listed(old) == await listed(new) == ["m1.0", "m2.0", "m3.0"]
    for store in (old, again, new):
        (claimed,) = await store.claim(now=NOW, limit=1)
        await store.commit((Settle(entry=claimed.entry, fates={0: DELIVERED}), Note(events=(an_event("fate"),))))
    assert await listed(new) == []
    assert [row.seq for row in await new.outbox(limit=9)] == [1, 2, 3, 4, 5, 6]


async def test_a_schema_that_old_code_cannot_work_on_is_refused(harness):
    breaking = replace(NEXT, oldest=len(MIGRATIONS) + 1)
    store = PostgresStore(
        harness.postgres, FakeVault(), StoreOptions(), harness.clock, migrations=(*MIGRATIONS, breaking)
    )
    await store.open("newer")
    await store.close()
    with pytest.raises(ProblemsError, match="newer version on this node too"):
        await harness.open()


class OldCodec(Codec):
    """What code that knows fewer fields makes of a newer entry."""

    def open_entry(self, entry_id, sealed):
        if entry_id.startswith("new"):
            raise CorruptError(f"{entry_id} is not of a form this version knows")
        return super().open_entry(entry_id, sealed)


async def test_mail_of_a_form_that_an_old_node_does_not_know_goes_to_a_new_one(harness):
    new, old = await harness.open(), await harness.open()
    old._codec = OldCodec(FakeVault())
    for name in ("new1", "old1", "new2"):
        await new.commit(keeping(name)[0])
    await harness.damage("details", "new2.0")
    assert [one.entry.id for one in await old.claim(now=NOW, limit=9)] == ["old1.0"]
    assert await new.claim(now=NOW, limit=9) == [], "it has not looked yet"
    await new.reap()
    assert await new.claim(now=NOW - 1, limit=9) == [], "not before it is due"
    assert await new.claim(now=NOW, limit=9, skip=frozenset({"example.org"})) == []
    assert [one.entry.id for one in await new.claim(now=NOW, limit=9)] == ["new1.0"]
    for store in (old, new, old, new):
        await store.reap()
        assert await store.claim(now=NOW, limit=9) == [], "each tries what is damaged once"
    assert (await new.stats()).leased == 2


async def test_nodes_that_start_together_migrate_once(harness):
    stores = [PostgresStore(harness.postgres, FakeVault(), StoreOptions(), harness.clock) for _ in range(4)]
    harness._opened += stores
    await asyncio.gather(*(store.open(f"n{number}") for number, store in enumerate(stores)))
    assert harness.sql("SELECT version FROM schema_version") == [(len(MIGRATIONS),)]


# --- what law 1 rests on ---


async def test_a_server_that_would_answer_too_early_is_corrected_or_refused():
    cluster = await asyncio.to_thread(lambda: Cluster().make().start())
    try:
        options = PostgresOptions(dsn=cluster.dsn, node="node")
        cluster.sql("ALTER SYSTEM SET synchronous_commit = off", schema="public")
        cluster.sql("SELECT pg_reload_conf()", schema="public")
        async with await connect(options, "test") as connection:
            cursor = await connection.execute("SHOW synchronous_commit")
            assert await cursor.fetchone() == ("on",)
        cluster.sql("ALTER SYSTEM SET fsync = off", schema="public")
        cluster.sql("SELECT pg_reload_conf()", schema="public")
        await asyncio.to_thread(until_set, cluster, "fsync", "off")
        with pytest.raises(ProblemsError, match="fsync"):
            await Line(options, "test").open()
    finally:
        await asyncio.to_thread(cluster.remove)


async def test_a_password_comes_from_its_file_at_each_connection_and_shows_nowhere(tmp_path):
    cluster = await asyncio.to_thread(lambda: Cluster().make().start())
    try:
        cluster.sql("ALTER USER postern PASSWORD 'first'", schema="public")
        hba = cluster.data / "pg_hba.conf"
        hba.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        secret = tmp_path / "password"
        secret.write_text("wrong")
        await asyncio.to_thread(cluster.stop)
        with pytest.raises(psycopg.OperationalError):
            await asyncio.to_thread(cluster.start)  # it runs, and asks for the password that we do not give
        options = PostgresOptions(dsn=cluster.dsn, node="node", password=secret.read_text)
        assert "wrong" not in repr(options)
        with pytest.raises(ProblemsError, match="refused the connection") as told:
            await Line(options, "test").open()
        assert "wrong" not in str(told.value)
        secret.write_text("first")
        async with await connect(options, "test") as connection:
            assert "first" not in connection.info.dsn
    finally:
        await asyncio.to_thread(cluster.remove)


def until_set(cluster, name, value):
    """Wait until the server has read its configuration anew."""
    while cluster.sql(f"SHOW {name}", schema="public") != [(value,)]:
        time.sleep(0.01)


async def test_leases_are_no_longer_trusted_by_a_machine_that_slept(harness, monkeypatch):
    store = await opened(harness, beat=600.0)
    changes, entry = keeping(leased=True)
    await store.commit(changes)
    assert store.holds(entry.id)
    slept, told = store._pulse._options.hold, time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: told(clock) + slept * (clock == time.CLOCK_BOOTTIME))
    assert not store.holds(entry.id)
