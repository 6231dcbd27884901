"""What a worker has in hand: never above its limit, always accounted for, and given back when it drains."""

import asyncio
import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.change import Keep, Settle
from relay.core.entry import Claimed
from relay.core.errors import StoreUnavailableError
from relay.core.ports import QueueFilter
from relay.store import MemoryData, MemoryStore
from relay.worker import dispatch
from relay.worker.dispatch import Dispatcher, DispatchOptions
from relay.worker.lanes import LaneOptions
from tests.support.delivering import Observed
from tests.support.queue import BODY, ManualClock, a_message, an_entry
from tests.support.turns import until
from tests.support.vault import FakeVault


class FlakyStore(MemoryStore):
    """A memory store that refuses what it is told to, and tells when it was asked."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.failing = set()
        self.error = StoreUnavailableError("away")
        self.asked = asyncio.Queue()
        self.skipped = []
        self.gate = None

    def _check(self, what):
        self.asked.put_nowait(what)
        if what in self.failing:
            raise self.error

    async def claim(self, **options):
        self._check("claim")
        self.skipped.append(options["skip"])
        found = await super().claim(**options)
        if self.gate is not None:
            await self.gate.wait()
        return found

    async def release(self, entry_ids):
        self._check("release")
        await super().release(entry_ids)


class Felt:
    """Feels as the test says."""

    busy = False

    def felt(self):
        return self.busy


class Worker:
    """A dispatcher over a memory store whose attempts end when the test says so."""

    def __init__(self, *, in_hand=4, batch=3, backlog=100, concurrency=1, serves=lambda _: True, poll=3600.0, behind=1):
        self.clock = ManualClock()
        self.data = MemoryData()
        self.store = FlakyStore(FakeVault(), self.clock, None, self.data)
        self.metrics = Observed()
        self.options = DispatchOptions(
            in_hand=in_hand,
            batch=batch,
            poll=poll,
            lane=lambda _: LaneOptions(concurrency=concurrency, idle=3600.0, messages_per_session=1000),
            lane_backlog=backlog,
            behind=behind,
            serves=serves,
        )
        self.strain = Felt()
        self.dispatcher = Dispatcher(
            self.store, self._attempt, lambda _: 0.0, self.options, self.clock, self.metrics, self.strain
        )
        self.begun = asyncio.Queue()
        self.gates = {}
        self.open = False
        self.raising = False
        self.most = 0
        self.attempted = []
        self.task = None
        self._number = 0

    async def start(self):
        await self.store.open("worker")
        self.task = asyncio.create_task(self.dispatcher.run())
        await self.asked("claim")
        await self.turn()

    async def asked(self, what):
        while await self.store.asked.get() != what:
            pass

    async def turn(self, times=8):
        for _ in range(times):
            await asyncio.sleep(0)

    def message(self, destination="example.org", **fields):
        self._number += 1
        message = a_message(f"m{self._number:04}", size=len(BODY))
        return message, an_entry(message, destination=destination, **fields)

    async def keep(self, destination="example.org", *, leased=False, **fields):
        message, entry = self.message(destination, **fields)
        leases = frozenset({entry.id}) if leased else frozenset()
        await self.store.commit((Keep(message=message, content=BODY, entries=(entry,), leased=leases),))
        return Claimed(entry=entry, message=message, content=BODY)

    async def _attempt(self, claimed, session):
        self.most = max(self.most, self.dispatcher.in_hand)
        self.attempted.append(claimed.entry.id)
        gate = self.gates.setdefault(claimed.entry.id, asyncio.Event())
        self.begun.put_nowait(claimed.entry.id)
        if not self.open:
            await gate.wait()
        if self.raising:
            raise RuntimeError("a fault of ours")
        await self.store.commit((Settle(entry=claimed.entry, fates=dict.fromkeys([0], "gone")),))
        self.dispatcher.settled()

    async def finish(self, *, close=True):
        self.open = True
        for gate in self.gates.values():
            gate.set()
        await self.dispatcher.drain(3600.0)
        await self.task
        if close:
            await self.store.close()

    async def left(self):
        return [entry.id async for entry in self.store.entries(QueueFilter())]

    def aside(self):
        """Entries under its lease that take no place in hand."""
        waiting = [*self.dispatcher._aside, *self.dispatcher._returns]
        return sum(places == 0 for *_, places in waiting)

    def leased(self):
        return sorted(key for key, stored in self.data.entries.items() if stored.lease is not None)


@contextlib.asynccontextmanager
async def working(**options):
    worker = Worker(**options)
    await worker.start()
    try:
        yield worker
    finally:
        if not worker.task.done():
            worker.store.failing.clear()
            await worker.finish()


async def test_all_that_is_due_is_attempted_and_the_hand_is_empty_after():
    async with working(in_hand=4, batch=3, concurrency=2) as worker:
        worker.open = True
        kept = [await worker.keep() for _ in range(25)]
        names = [await worker.begun.get() for _ in range(25)]
        assert sorted(names) == [item.entry.id for item in kept]
        await until(lambda: not worker.dispatcher.in_hand)
        assert worker.most <= 4
        assert await worker.left() == []


async def test_more_is_claimed_as_room_comes_free_without_waiting_for_the_poll():
    async with working(in_hand=1, batch=10) as worker:
        await worker.keep()
        await worker.keep()
        first = await worker.begun.get()
        await worker.turn()
        assert worker.leased() == [first]
        worker.gates[first].set()
        assert await worker.begun.get() != first


async def test_nothing_due_costs_one_look_until_something_wakes():
    async with working() as worker:
        await worker.turn(50)
        assert worker.store.asked.empty()


async def test_a_settled_entry_does_not_ask_the_store_when_it_had_nothing_more():
    async with working(in_hand=100, batch=100) as worker:
        fresh = await worker.keep(leased=True)
        assert worker.dispatcher.reserve("example.org")
        worker.open = True
        worker.dispatcher.hand_over([fresh])
        await worker.begun.get()
        await until(lambda: not worker.dispatcher.in_hand)
        await worker.turn()
        assert worker.store.asked.empty()


async def test_what_falls_due_unnoticed_is_found_by_the_poll():
    async with working(poll=0.001) as worker:
        kept = await worker.keep(due_at=worker.clock.now + 60)
        worker.clock.now += 60
        assert await worker.begun.get() == kept.entry.id


async def test_an_outage_of_the_store_pauses_and_the_end_of_it_resumes():
    async with working(poll=0.001) as worker:
        worker.store.failing = {"claim"}
        kept = await worker.keep()
        await worker.asked("claim")
        await worker.asked("claim")
        assert worker.begun.empty()
        assert worker.dispatcher.in_hand == 0
        worker.store.failing = set()
        assert await worker.begun.get() == kept.entry.id


async def test_a_fault_of_our_own_in_claiming_is_told_and_does_not_end_the_claiming():
    async with working(poll=0.001) as worker:
        worker.store.error = RuntimeError("a fault of ours")
        worker.store.failing = {"claim"}
        await worker.keep()
        await worker.asked("claim")
        await worker.asked("claim")
        worker.store.failing = set()
        await worker.begun.get()
        assert worker.metrics.counts["postern_alerts_total"] >= 1


async def test_a_full_lane_is_passed_over_and_others_are_served():
    async with working(in_hand=10, batch=3, backlog=3) as worker:
        for _ in range(8):
            await worker.keep("slow.example")
        await worker.begun.get()
        await worker.turn(40)
        other = await worker.keep("quick.example")
        assert await worker.begun.get() == other.entry.id
        assert frozenset({"slow.example"}) in worker.store.skipped
        assert not worker.dispatcher.reserve("slow.example")
        assert worker.dispatcher.reserve("quick.example")
        worker.dispatcher.give_up(1)


async def test_it_is_behind_when_it_is_busy_and_more_waits_than_it_likes():
    async with working(in_hand=10, behind=2) as worker:
        for _ in range(4):
            await worker.keep("one.example")
        await worker.begun.get()
        await worker.turn(40)
        assert not worker.dispatcher.behind(), "a slow destination alone is no reason to take mail more slowly"
        worker.strain.busy = True
        assert worker.dispatcher.behind()
        worker.open = True
        for gate in worker.gates.values():
            gate.set()
        await worker.turn(200)
        assert len(worker.attempted) == 4
        assert not worker.dispatcher.behind()


async def test_what_others_serve_is_given_back_and_then_passed_over():
    async with working(serves=lambda name: name != "theirs.example") as worker:
        theirs = await worker.keep("theirs.example")
        ours = await worker.keep("ours.example")
        assert await worker.begun.get() == ours.entry.id
        await worker.turn(40)
        assert theirs.entry.id not in worker.leased()
        assert worker.dispatcher.in_hand == 1
        assert "theirs.example" in worker.store.skipped[-1]
        assert not worker.dispatcher.reserve("theirs.example")
        while not worker.store.asked.empty():
            worker.store.asked.get_nowait()
        await worker.turn(40)
        assert worker.store.asked.empty(), "it does not go round in circles over what others serve"


async def test_what_cannot_be_given_back_now_is_given_back_later():
    async with working(serves=lambda name: name != "theirs.example", poll=0.001) as worker:
        worker.store.failing = {"release"}
        theirs = await worker.keep("theirs.example")
        await worker.asked("release")
        await worker.asked("release")
        assert worker.leased() == [theirs.entry.id]
        assert worker.dispatcher.in_hand == 1
        worker.store.failing = set()
        await worker.asked("claim")
        await worker.turn()
        assert worker.leased() == []
        assert worker.dispatcher.in_hand == 0


async def test_an_entry_whose_attempt_raises_is_kept_aside_and_then_free_again():
    async with working(poll=0.001) as worker:
        worker.open = worker.raising = True
        kept = await worker.keep()
        assert await worker.begun.get() == kept.entry.id
        for _ in range(3):
            await worker.asked("claim")
        assert worker.attempted == [kept.entry.id], "it does not spin"
        assert worker.leased() == [kept.entry.id]
        worker.raising = False
        worker.clock.now += 301
        assert await worker.begun.get() == kept.entry.id
        await until(lambda: not worker.dispatcher.in_hand)
        assert await worker.left() == []


async def test_entries_set_aside_take_nobody_s_place():
    async with working(in_hand=2, batch=2, poll=0.001) as worker:
        worker.open = worker.raising = True
        aside = [await worker.keep() for _ in range(5)]
        for _ in aside:
            await worker.begun.get()
        await until(lambda: not worker.dispatcher.in_hand)
        worker.raising = False
        other = await worker.keep()
        assert await worker.begun.get() == other.entry.id
        await until(lambda: not worker.dispatcher.in_hand)
        assert sorted(await worker.left()) == worker.leased() == sorted(item.entry.id for item in aside)
        worker.clock.now += 301
        await until(lambda: not worker.data.entries)
        await until(lambda: not worker.dispatcher.in_hand)


async def test_how_many_are_aside_in_nobody_s_place_has_an_end(monkeypatch):
    monkeypatch.setattr(dispatch, "_ASIDE_FREE", 3)
    async with working(in_hand=2, batch=2, poll=0.001) as worker:
        worker.open = worker.raising = True
        for _ in range(6):
            await worker.keep()
        for _ in range(5):
            await worker.begun.get()
        await until(lambda: worker.dispatcher.in_hand == 2)
        await worker.asked("claim")
        assert len(worker.attempted) == 5, "the sixth finds no place"
        worker.raising = False
        worker.clock.now += 301
        await until(lambda: not worker.data.entries)
        await until(lambda: not worker.dispatcher.in_hand)


async def test_an_entry_set_aside_is_free_at_once_when_the_clock_was_set_back():
    async with working(poll=0.001) as worker:
        worker.open = worker.raising = True
        kept = await worker.keep()
        assert await worker.begun.get() == kept.entry.id
        await worker.asked("claim")
        worker.clock.now -= 86_400
        await until(lambda: not worker.leased())


async def test_drain_gives_back_what_waits_and_finishes_what_runs():
    async with working(in_hand=4, batch=4) as worker:
        for _ in range(4):
            await worker.keep()
        running = await worker.begun.get()
        await worker.turn()
        ending = asyncio.ensure_future(worker.dispatcher.drain(3600.0))
        await worker.turn()
        assert worker.leased() == [running]
        assert not ending.done()
        worker.gates[running].set()
        await ending
        await worker.task
        assert worker.dispatcher.in_hand == 0
        assert len(await worker.left()) == 3
        assert worker.leased() == []


async def test_what_was_being_claimed_as_the_drain_began_is_given_back_unattempted():
    async with working() as worker:
        worker.store.gate = asyncio.Event()
        await worker.keep()
        await worker.asked("claim")
        ending = asyncio.ensure_future(worker.dispatcher.drain(3600.0))
        await worker.turn()
        worker.store.gate.set()
        await ending
        await worker.task
        assert worker.attempted == []
        assert worker.leased() == []
        assert worker.dispatcher.in_hand == 0


async def test_fresh_mail_that_comes_too_late_is_left_to_others():
    async with working() as worker:
        assert worker.dispatcher.reserve("example.org")
        fresh = await worker.keep(leased=True)
        await worker.dispatcher.drain(3600.0)
        worker.dispatcher.hand_over([fresh])
        await worker.task
        assert not worker.dispatcher.reserve("example.org")
        assert worker.attempted == []
        await worker.dispatcher.give_back()
        assert worker.leased() == [], "also while the process goes on, as on a node that is drained"
        assert worker.dispatcher.in_hand == 0
        await worker.store.close()


async def test_the_drain_deadline_breaks_off_what_hangs_and_its_lease_holds_until_the_end():
    async with working() as worker:
        kept = await worker.keep()
        await worker.begun.get()
        await worker.dispatcher.drain(0.0)
        assert worker.leased() == [kept.entry.id]
        await worker.store.close()
        assert worker.leased() == []


async def test_a_store_away_does_not_keep_a_worker_from_draining():
    async with working(in_hand=4, batch=4) as worker:
        await worker.keep()
        await worker.keep()
        running = await worker.begun.get()
        await worker.turn()
        worker.store.failing = {"release"}
        worker.gates[running].set()
        worker.open = True
        await worker.dispatcher.drain(3600.0)
        await worker.task
        worker.store.failing = set()
        await worker.store.close()
        assert worker.leased() == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.sampled_from(["a.example", "b.example", "theirs.example"])),
        st.tuples(st.just("reserve"), st.sampled_from(["a.example", "b.example", "theirs.example"])),
        st.tuples(st.just("fresh"), st.booleans()),
        st.tuples(st.just("settle"), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.sampled_from([(), ("claim",), ("release",), ("claim", "release")])),
        st.tuples(st.just("raise"), st.integers(0, 5)),
        st.tuples(st.just("later"), st.sampled_from([1, 400])),
        st.tuples(st.just("wake"), st.none()),
    ),
    max_size=40,
)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, limit=st.integers(1, 5), batch=st.integers(1, 4), backlog=st.integers(1, 3))
def test_whatever_happens_the_hand_is_within_its_limit_and_balanced(steps, limit, batch, backlog):
    asyncio.run(_history(steps, limit, batch, backlog))


async def _history(steps, limit, batch, backlog):
    worker = Worker(in_hand=limit, batch=batch, backlog=backlog, serves=lambda name: name != "theirs.example")
    await worker.start()
    reserved = []
    kept = 0
    for step, argument in steps:
        if step == "keep":
            await worker.keep(argument)
            kept += 1
        elif step == "reserve" and worker.dispatcher.reserve(argument):
            assert argument != "theirs.example"
            reserved.append(argument)
        elif step == "fresh" and reserved:
            destination = reserved.pop()
            if argument:
                worker.dispatcher.hand_over([await worker.keep(destination, leased=True)])
                kept += 1
            else:
                worker.dispatcher.give_up(1)
        elif step == "settle":
            for gate in list(worker.gates.values())[: argument + 1]:
                gate.set()
        elif step == "raise":
            worker.raising = argument == 0
        elif step == "fail":
            worker.store.failing = set(argument)
        elif step == "later":
            worker.clock.now += argument
        elif step == "wake":
            worker.dispatcher._wake.set()
        await worker.turn()
        assert 0 <= worker.dispatcher.in_hand <= limit
        assert len(worker.leased()) - worker.aside() + len(reserved) <= limit
    worker.dispatcher.give_up(len(reserved))
    worker.raising = False
    worker.store.failing = set()
    await worker.finish(close=False)
    assert worker.dispatcher.in_hand == 0
    assert worker.leased() == []
    done = kept - len(await worker.left())
    assert len(worker.attempted) >= done >= 0
    await worker.store.close()
