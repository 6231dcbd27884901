"""What every store promises as ``Knowledge``: what is known of other domains, shared by all processes."""

import asyncio

import pytest

from relay.core.change import AuditEvent, Note
from relay.core.ports import Known
from relay.store import StoreOptions
from tests.support.queue import HARNESSES, KINDS, NOW, ManualClock


@pytest.fixture(params=KINDS)
async def harness(request, tmp_path):
    options = StoreOptions(reserve_bytes=0, max_known=3)
    harness = HARNESSES[request.param](tmp_path, ManualClock(), options)
    yield harness
    await harness.end()


def a_fact(name="good.example", *, kind="mta-sts", value=b"\x00policy\xff", lasts=60.0):
    return Known(kind=kind, name=name, value=value, until=NOW + lasts)


async def test_what_is_learnt_is_known_to_every_process_and_over_a_restart(harness):
    store, other = await harness.open(), await harness.open()
    await store.learn(a_fact())
    assert await store.known("mta-sts", "good.example") == a_fact()
    assert await other.known("mta-sts", "good.example") == a_fact()
    await harness.close(store)
    await harness.close(other)
    again = await harness.open()
    assert await again.known("mta-sts", "good.example") == a_fact()


async def test_learning_again_replaces_and_kinds_and_names_are_apart(harness):
    store = await harness.open()
    await store.learn(a_fact())
    await store.learn(a_fact(value=b"newer", lasts=90))
    await store.learn(a_fact(kind="capability", value=b"another kind"))
    assert await store.known("mta-sts", "good.example") == a_fact(value=b"newer", lasts=90)
    assert await store.known("capability", "good.example") == a_fact(kind="capability", value=b"another kind")
    assert await store.known("mta-sts", "other.example") is None


async def test_what_is_known_is_replaced_only_while_it_is_what_was_seen(harness):
    store, other = await harness.open(), await harness.open()
    first, second, third = (a_fact(value=value) for value in (b"1", b"2", b"3"))
    assert not await store.learn(second, over=first), "nothing is known yet"
    assert await store.learn(first, over=None)
    assert not await other.learn(second, over=None), "something is known"
    assert await other.learn(second, over=first)
    assert not await store.learn(third, over=first), "it has changed since"
    assert await store.known("mta-sts", "good.example") == second
    assert await store.learn(third, over=second)
    assert await other.learn(first), "in any case"
    harness.clock.now = first.until
    late = a_fact(value=b"late", lasts=120)
    assert await store.learn(late, over=None), "what is past its time is not known"
    assert await other.known("mta-sts", "good.example") == late


async def test_what_is_told_of_it_is_kept_with_it_or_neither(harness):
    store = await harness.open()
    first, second = (a_fact(name, value=b"1") for name in ("one.example", "two.example"))
    told = [AuditEvent(kind="alert", at=NOW, facts={"host": name}) for name in ("a", "b", "c", "d")]
    assert await store.learn(first, over=None, events=(told[0], told[1]))
    assert not await store.learn(first, over=None, events=(told[3],)), "it is known already"
    mail = Note(events=(AuditEvent(kind="accepted", at=NOW, message_id="m"),))
    at_once = [store.learn(second, events=(told[2],)), store.commit((mail,)), store.learn(first, events=(told[3],))]
    await asyncio.gather(*at_once, store.commit((mail,)))
    rows = await store.outbox(limit=50)
    hosts = [event.facts["host"] for row in rows for event in row.events if event.kind == "alert"]
    assert hosts[:2] == ["a", "b"]
    assert sorted(hosts[2:]) == ["c", "d"]
    assert [event.kind for row in rows for event in row.events].count("accepted") == 2
    assert len({row.seq for row in rows}) == len(rows)


async def test_of_two_that_replace_the_same_at_once_one_does(harness):
    stores = [await harness.open() for _ in range(3)]
    seen = a_fact(value=b"0")
    await stores[0].learn(seen)
    for number in range(1, 8):
        rivals = [a_fact(value=b"%d of %d" % (number, place)) for place in range(len(stores))]
        answers = await asyncio.gather(
            *(store.learn(fact, over=seen) for store, fact in zip(stores, rivals, strict=True))
        )
        assert answers.count(True) == 1
        seen = rivals[answers.index(True)]
        assert await stores[0].known("mta-sts", "good.example") == seen


async def test_nothing_is_known_past_its_time(harness):
    store = await harness.open()
    await store.learn(a_fact(lasts=60))
    harness.clock.now = NOW + 59
    assert await store.known("mta-sts", "good.example") is not None
    harness.clock.now = NOW + 60
    assert await store.known("mta-sts", "good.example") is None
    assert await store.all_known("mta-sts") == []
    await store.checkpoint()
    harness.clock.now = NOW
    assert await store.known("mta-sts", "good.example") is None


async def test_what_is_forgotten_is_unknown(harness):
    store = await harness.open()
    await store.learn(a_fact())
    await store.forget("mta-sts", "good.example")
    await store.forget("mta-sts", "never-known.example")
    assert await store.known("mta-sts", "good.example") is None


async def test_all_that_is_known_comes_in_pages_by_name(harness):
    store = await harness.open()
    for name in ("c.example", "a.example", "b.example"):
        await store.learn(a_fact(name))
    await store.learn(a_fact("x.example", kind="capability"))
    first = await store.all_known("mta-sts", limit=2)
    assert [one.name for one in first] == ["a.example", "b.example"]
    assert await store.all_known("mta-sts", after="b.example", limit=2) == [a_fact("c.example")]
    assert await store.all_known("mta-sts", after="c.example") == []


async def test_a_flood_of_one_kind_lets_go_of_no_other(harness):
    store = await harness.open()
    await store.learn(a_fact("pat@mail.example", kind="suppressed", lasts=10))
    for number in range(5):
        await store.learn(a_fact(f"host{number}.example", lasts=100 + number))
    await store.checkpoint()
    assert [one.name for one in await store.all_known("suppressed")] == ["pat@mail.example"]
    assert [one.name for one in await store.all_known("mta-sts")] == [f"host{number}.example" for number in (2, 3, 4)]


async def test_more_than_the_limit_lets_go_of_what_ends_first(harness):
    store = await harness.open()
    for number, lasts in enumerate((50, 10, 40, 20, 30)):
        await store.learn(a_fact(f"d{number}.example", lasts=lasts))
    await store.checkpoint()
    assert [one.name for one in await store.all_known("mta-sts")] == ["d0.example", "d2.example", "d4.example"]
