"""What workers share goes through the store, whichever it is: what one learns, counts or forbids holds for all."""

import asyncio
import time
from dataclasses import replace

import pytest

from relay.core.address import Address
from relay.core.ports import Known
from relay.core.suppression import Cause, Suppression
from relay.intake.clients import Client
from relay.intake.throttle import (
    AUTH_THROTTLED,
    AUTH_UNAVAILABLE,
    RATE_EXCEEDED,
    RATE_UNKNOWN,
    AuthThrottle,
    RateLimiter,
    ThrottleOptions,
)
from relay.reputation.suppression import SuppressionList
from relay.store import StoreOptions
from relay.store.postgres.store import PostgresStore
from tests.support.cable import Cable
from tests.support.queue import DAY, HARNESSES, KINDS, NOW, ManualClock, PostgresHarness
from tests.support.vault import FakeVault

PAT = Address.parse("pat@clinic.example")
EXACT = ThrottleOptions(failures_per_address=4, failures_per_account=6, refresh=0.0, share=0.0)
"""Nothing is taken from a cache, and everything is told at once."""


@pytest.fixture(params=KINDS)
async def harness(request, tmp_path):
    harness = HARNESSES[request.param](tmp_path, ManualClock(), StoreOptions(reserve_bytes=0))
    yield harness
    await harness.end()


@pytest.fixture
async def two(harness):
    return await harness.open(), await harness.open()


async def test_failed_logins_at_one_count_at_the_other(harness, two):
    one, other = (AuthThrottle(store, harness.clock, EXACT) for store in two)
    for _ in range(2):
        await one.failed("192.0.2.1", "ehr")
        await other.failed("192.0.2.1", "lab")
    assert await one.refusal("192.0.2.1", "new") is AUTH_THROTTLED
    assert await other.refusal("192.0.2.1", "new") is AUTH_THROTTLED
    assert await other.refusal("192.0.2.2", "new") is None
    for number in range(4):
        await one.failed(f"192.0.2.{10 + number}", "ehr")
    assert await other.refusal("192.0.2.99", "ehr") is AUTH_THROTTLED, "of one account, from whatever addresses"


async def admitted(limiter, client):
    answer = limiter.admit(client)
    await limiter.aclose()
    return answer


def a_client(**limits):
    return Client(name="ehr", tenant="clinic", messages_per_minute=6, messages_per_hour=None, **limits)


async def test_a_clients_rate_is_one_for_all(harness, two):
    limiters = [RateLimiter(store, harness.clock, EXACT) for store in two]
    answers = [await admitted(limiters[number % 2], a_client()) for number in range(20)]
    taken = answers.count(None)
    assert 6 <= taken <= 7, "by at most what the other takes before it is told"
    assert set(answers[taken:]) == {RATE_EXCEEDED}
    harness.clock.now += 60
    assert await admitted(limiters[1], a_client()) is None


async def test_what_one_suppresses_or_lifts_holds_for_the_other(harness, two):
    one, other = (SuppressionList(store, FakeVault(), harness.clock) for store in two)
    item = Suppression(address=PAT, cause=Cause.HARD_BOUNCE, evidence="550 5.1.1", since=NOW, until=NOW + DAY)
    await one.suppress(item)
    assert await other.find(PAT) == [item]
    assert await other.lift(PAT, tenant=item.tenant, stream=item.stream)
    assert await one.find(PAT) == []


async def test_what_one_learns_of_a_domain_the_other_knows(two):
    one, other = two
    fact = Known(kind="capability", name="mail.example", value=b"starttls", until=NOW + DAY)
    await one.learn(fact)
    assert await other.known("capability", "mail.example") == fact
    await other.forget("capability", "mail.example")
    assert await one.known("capability", "mail.example") is None


# --- nodes ---


@pytest.fixture
async def nodes(tmp_path):
    harness = PostgresHarness(tmp_path, ManualClock(), StoreOptions())
    yield harness
    await harness.end()


async def a_node(harness, name, *, port=None, ahead=0.0):
    """A store of a node whose clock is so many seconds ahead."""
    dsn = harness.cluster.dsn.replace(str(harness.cluster.port), str(port or harness.cluster.port))
    options = replace(harness.postgres, dsn=dsn, node=name, by_database_clock=True)
    store = PostgresStore(options, FakeVault(), StoreOptions(), lambda: time.time() + ahead)
    await store.open(f"{name}-1")
    harness._opened.append(store)
    return store, lambda: time.time() + ahead


@pytest.mark.peers
async def test_nodes_whose_clocks_differ_count_in_the_same_windows(nodes):
    fast, slow = await a_node(nodes, "fast", ahead=3000.0), await a_node(nodes, "slow", ahead=-3000.0)
    wide = replace(EXACT, window=10 * DAY)
    throttles = [AuthThrottle(store, clock, wide) for store, clock in (fast, slow)]
    for throttle in throttles:
        for _ in range(2):
            await throttle.failed("192.0.2.1", "ehr")
    assert [await throttle.refusal("192.0.2.1", "new") for throttle in throttles] == [AUTH_THROTTLED] * 2
    store, clock = slow
    assert await store.count("brief", window=600.0, now=clock()) == 1
    await fast[0].checkpoint()
    ends = nodes.sql("SELECT count(*) FROM counters WHERE ends > extract(epoch FROM clock_timestamp())")
    assert nodes.sql("SELECT count(*) FROM counters") == ends, "the fast node swept nothing that still counts"
    assert ends[0][0] >= 2


@pytest.mark.peers
async def test_without_the_database_limits_slow_and_never_open(nodes):
    async with Cable(nodes.cluster.port) as cable:
        store, clock = await a_node(nodes, "alpha", port=cable.port)
        throttle, limiter = AuthThrottle(store, clock, EXACT), RateLimiter(store, clock, EXACT)
        assert await throttle.refusal("192.0.2.1", "ehr") is None
        assert await admitted(limiter, a_client()) is None
        before = store.position
        cable.cut(refuse=True)
        assert await throttle.refusal("192.0.2.1", "ehr") is AUTH_UNAVAILABLE
        await admitted(limiter, a_client())  # finds out
        assert await admitted(limiter, a_client()) is RATE_UNKNOWN
        assert store.position == before, "it keeps the share it had"
        cable.mend()
        await until_open(lambda: throttle.refusal("192.0.2.1", "ehr"))
        await until_open(lambda: admitted(limiter, a_client()))


async def until_open(ask):
    """Wait until nothing is refused any more: that connections are back sets no event here."""
    async with asyncio.timeout(60):
        while True:
            if await ask() is None:
                return
            await asyncio.sleep(0.02)


@pytest.mark.peers
async def test_a_node_knows_its_share_before_it_delivers_anything(nodes):
    await a_node(nodes, "alpha")
    await a_node(nodes, "beta")
    store, _ = await a_node(nodes, "gamma")
    assert store.position == (2, 3)
