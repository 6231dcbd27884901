"""With a synchronous standby nothing is promised that is not on both, whatever cuts the wait for it short."""

import asyncio
import contextlib
import uuid
from dataclasses import replace

import pytest

from relay.core.errors import StoreUnavailableError
from relay.core.ports import QueueFilter
from relay.store import StoreOptions
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.store import PostgresStore
from tests.support.postgres import Cluster
from tests.support.queue import NOW, ManualClock, keeping
from tests.support.vault import FakeVault

pytestmark = pytest.mark.peers
WAITING = "SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class Pair:
    """A primary, its synchronous standby, and stores that know both."""

    def __init__(self, primary, standby):
        self.primary, self.standby = primary, standby
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        dsn = f"postgresql://postern@{hosts}/postgres"
        self.options = PostgresOptions(dsn=dsn, node="node", connect=2.0, schema=f"t{uuid.uuid4().hex}")
        self.stores = []

    async def open(self, name="store", **options):
        store = PostgresStore(replace(self.options, **options), FakeVault(), StoreOptions(), ManualClock())
        await store.open(name)
        self.stores.append(store)
        return store

    def lose_standby(self):
        """From here on every commit waits for what does not come."""
        self.primary.wait_for_standby()
        self.standby.stop()

    def waiting(self):
        """Commits that wait for the standby: server process, and since when."""
        return self.primary.sql(WAITING)

    async def until_waiting(self, but=()):
        async with asyncio.timeout(60):
            while True:
                found = set(await asyncio.to_thread(self.waiting)) - set(but)
                if found:
                    return found.pop()
                await asyncio.sleep(0.02)

    def cut_short(self, waiting):
        """What an operator does who loses patience: the commit stays, with a warning."""
        pid, _ = waiting
        assert self.primary.sql("SELECT pg_cancel_backend(%s)", (pid,)) == [(True,)]

    async def close(self):
        for store in self.stores:
            await store.close()


@contextlib.contextmanager
def two_servers():
    primary = Cluster().make().start()
    standby = Cluster()
    try:
        yield primary, standby.copy_of(primary).start()
    finally:
        standby.remove()
        primary.remove()


@pytest.fixture(scope="module")
def servers():
    with two_servers() as servers:
        yield servers


@pytest.fixture
async def pair(servers):
    pair = Pair(*servers)
    yield pair
    await pair.close()


async def listed(store):
    """What is in the queue, once the connection for reading is back."""
    async with asyncio.timeout(60):
        while True:
            try:
                return [entry.id async for entry in store.entries(QueueFilter())]
            except StoreUnavailableError:
                await asyncio.sleep(0.02)


def on_standby(pair):
    return [name for (name,) in pair.standby.sql("SELECT id FROM messages ORDER BY id", schema=pair.options.schema)]


async def test_a_commit_confirmed_with_a_reservation_is_promised_only_once_the_standby_has_it(pair):
    store = await pair.open()
    await asyncio.to_thread(pair.lose_standby)
    keeping_it = asyncio.create_task(store.commit(keeping()[0]))
    first = await pair.until_waiting()
    pair.cut_short(first)
    second = await pair.until_waiting(but=[first])
    assert not keeping_it.done(), "the server said COMMIT, with a warning"
    pair.cut_short(second)
    await pair.until_waiting(but=[first, second])
    assert not keeping_it.done(), "and again for the question about it"
    await asyncio.to_thread(pair.standby.start)
    await keeping_it
    assert await asyncio.to_thread(on_standby, pair) == ["m1"]
    assert await listed(store) == ["m1.0"]


async def test_a_commit_that_the_promoted_standby_does_not_have_was_not_promised():
    with two_servers() as servers:
        pair = Pair(*servers)
        try:
            await fail_over(pair)
        finally:
            await pair.close()


async def fail_over(pair):
    store = await pair.open(settle=120.0)
    await store.commit(keeping("before")[0])
    await asyncio.to_thread(pair.lose_standby)
    keeping_it = asyncio.create_task(store.commit(keeping()[0]))
    pair.cut_short(await pair.until_waiting())
    await pair.until_waiting()
    await asyncio.to_thread(pair.primary.kill)
    await asyncio.to_thread(pair.standby.start)
    await asyncio.to_thread(pair.standby.promote)
    with pytest.raises(StoreUnavailableError, match="nothing was applied"):
        await keeping_it
    await store.commit(keeping("after")[0])
    assert await listed(store) == ["after.0", "before.0"]


async def test_while_the_standby_is_away_mail_is_refused_at_once_and_nothing_piles_up_on_the_server(pair):
    store = await pair.open(statement=1.0, settle=0.5)
    await asyncio.to_thread(pair.lose_standby)
    with pytest.raises(StoreUnavailableError):
        await store.commit(keeping(leased=True)[0])
    for call in (lambda: store.commit(keeping("m2")[0]), lambda: store.claim(now=NOW, limit=1), store.stats):
        with pytest.raises(StoreUnavailableError, match="standby"):
            await call()
    seen = set()
    async with asyncio.timeout(60):
        while len(seen) < 4:  # as many questions were asked and given up
            waiting = await asyncio.to_thread(pair.waiting)
            assert len(waiting) <= 2
            seen.update(pid for pid, _ in waiting)
            await asyncio.sleep(0.02)
    await asyncio.to_thread(pair.standby.start)
    claimed = []
    async with asyncio.timeout(60):
        while not claimed:
            with contextlib.suppress(StoreUnavailableError):
                claimed = await store.claim(now=NOW, limit=9)
            await asyncio.sleep(0.02)
    assert [one.entry.id for one in claimed] == ["m1.0"], "what was refused may be there: it is given back, not lost"
