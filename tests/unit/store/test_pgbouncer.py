"""Behind PgBouncer: in session mode all works, in any other mode nothing begins."""

import asyncio
from dataclasses import replace

import pytest

from relay.core.change import Settle
from relay.core.errors import ProblemsError, StoreUnavailableError
from relay.core.fate import Fate, FateKind
from relay.store import StoreOptions
from relay.store.postgres.store import PostgresStore
from tests.support.postgres import Bouncer
from tests.support.queue import NOW, ManualClock, PostgresHarness, keeping, listed, until_there
from tests.support.vault import FakeVault

pytestmark = pytest.mark.peers


@pytest.fixture
async def harness(tmp_path):
    harness = PostgresHarness(tmp_path, ManualClock(), StoreOptions())
    yield harness
    await harness.end()


async def opened(harness, bouncer, name, **options):
    options = replace(harness.postgres, dsn=bouncer.dsn, node=name, **options)
    store = PostgresStore(options, FakeVault(), StoreOptions(), harness.clock)
    await store.open(name)
    harness._opened.append(store)
    return store


async def test_in_session_mode_nodes_share_wake_and_settle(harness):
    with Bouncer(harness.cluster, "session") as bouncer:
        store, other = await opened(harness, bouncer, "alpha"), await opened(harness, bouncer, "beta")
        called = asyncio.Event()
        other.on_ready(called.set)
        await asyncio.gather(*(store.commit(keeping(f"m{number}", note=True)[0]) for number in range(30)))
        async with asyncio.timeout(60):
            await called.wait()
        claimed = [one.entry for node in (other, store) for one in await node.claim(now=NOW, limit=15)]
        assert len({entry.id for entry in claimed}) == 30
        fate = Fate(kind=FateKind.DELIVERED, at=NOW)
        for node, entries in ((other, claimed[:15]), (store, claimed[15:])):
            await asyncio.gather(*(node.commit((Settle(entry=entry, fates={0: fate}),)) for entry in entries))
        assert await listed(other) == []
        assert other.position == (1, 2)
        await harness.close(store)
        await harness.close(other)


async def test_when_the_pooler_is_killed_it_is_met_again(harness):
    with Bouncer(harness.cluster, "session") as bouncer:
        store = await opened(harness, bouncer, "alpha")
        await store.commit(keeping("before")[0])
        bouncer.kill()
        with pytest.raises(StoreUnavailableError):
            await store.commit(keeping("during")[0])
        bouncer.start()
        await until_there(lambda: store.commit(keeping("after")[0]))
        assert await until_there(lambda: listed(store)) == ["after.0", "before.0"]
        await harness.close(store)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_gives_sessions_away_is_refused(harness, mode):
    with Bouncer(harness.cluster, mode) as bouncer:
        with pytest.raises(ProblemsError, match=r"pooler that gives a server session away.*pool_mode = session"):
            await opened(harness, bouncer, "alpha")
        assert harness.sql("SELECT to_regnamespace(%s) IS NULL", (harness.schema,)) == [(True,)], "nothing was made"


async def test_a_pool_that_is_too_small_is_told(harness):
    refused = pytest.raises(ProblemsError, match="no second server session")
    with Bouncer(harness.cluster, "session", size=1) as bouncer, refused:
        await opened(harness, bouncer, "alpha", connect=1.0)
