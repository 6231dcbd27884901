"""A lane keeps to its limits, wastes no connection, and loses no entry whatever an attempt does."""

import asyncio

import pytest

from relay.core.entry import Claimed
from relay.worker.lanes import Lane, LaneOptions
from tests.support.queue import a_message, an_entry
from tests.support.turns import until


def claimed(number):
    message = a_message(f"m{number}")
    return Claimed(entry=an_entry(message), message=message, content=b"x")


class Connection:
    def __init__(self):
        self.alive = True
        self.closed = asyncio.Event()
        self.fails_to_close = False

    async def close(self):
        self.alive = False
        self.closed.set()
        if self.fails_to_close:
            raise ConnectionResetError("gone already")


class Attempts:
    """Attempts that end when the test says so; ``open`` ones end at once."""

    def __init__(self, *, hold=()):
        self.begun = asyncio.Queue()
        self.done = []
        self.given = []
        self.sessions = []
        self.running = 0
        self.peak = 0
        self.raises = set()
        self.gates = {number: asyncio.Event() for number in hold}
        self.returns_session = True

    async def __call__(self, item, session):
        number = int(item.message.id[1:])
        self.running += 1
        self.peak = max(self.peak, self.running)
        self.given.append(session)
        self.begun.put_nowait(number)
        try:
            if number in self.gates:
                await self.gates[number].wait()
            else:
                await asyncio.sleep(0)
            if number in self.raises:
                raise RuntimeError("a fault of ours")
        finally:
            self.running -= 1
        self.done.append(number)
        if not self.returns_session:
            return None
        if session is None:
            session = Connection()
            self.sessions.append(session)
        return session


def lane(attempts, *, concurrency=1, idle=3600.0, messages=100, pace=lambda _: 0.0):
    aside = []
    options = LaneOptions(concurrency=concurrency, idle=idle, messages_per_session=messages)
    it = Lane("example.org", options, attempts, pace, aside.append)
    it.aside = aside
    return it


async def all_begun(attempts, count):
    return [await attempts.begun.get() for _ in range(count)]


async def test_one_session_carries_entries_in_their_order():
    attempts = Attempts()
    it = lane(attempts)
    for number in range(20):
        it.push(claimed(number))
    assert await all_begun(attempts, 20) == list(range(20))
    await it.drain()
    assert attempts.done == list(range(20))
    assert len(attempts.sessions) == 1
    assert attempts.sessions[0].closed.is_set()
    assert it.is_empty


@pytest.mark.parametrize("concurrency", [1, 2, 5])
async def test_the_limit_is_reached_and_never_passed(concurrency):
    attempts = Attempts()
    it = lane(attempts, concurrency=concurrency)
    for number in range(40):
        it.push(claimed(number))
    await all_begun(attempts, 40)
    await it.drain()
    assert attempts.peak == concurrency
    assert len(attempts.sessions) <= concurrency


async def test_an_idle_session_takes_what_comes_later():
    attempts = Attempts()
    it = lane(attempts, concurrency=3)
    for number in range(5):
        it.push(claimed(number))
        await all_begun(attempts, 1)
        await until(lambda: not attempts.running)
        await asyncio.sleep(0)
    assert len(attempts.sessions) == 1
    await it.drain()


async def test_a_session_idle_too_long_is_closed_and_the_lane_empties():
    attempts = Attempts()
    it = lane(attempts, idle=0.0)
    it.push(claimed(1))
    await all_begun(attempts, 1)
    await until(lambda: attempts.sessions)
    await attempts.sessions[0].closed.wait()
    await until(lambda: it.is_empty)


async def test_sessions_that_fall_idle_one_after_the_other_all_end():
    attempts = Attempts(hold=(1, 2))
    it = lane(attempts, concurrency=3, idle=0.02)
    for number in range(3):
        it.push(claimed(number))
    await all_begun(attempts, 3)
    await until(lambda: attempts.sessions)
    await attempts.sessions[0].closed.wait()  # it was looked at while the others were at work
    for number in (1, 2):
        attempts.gates[number].set()
        await until(lambda wanted=number + 1: len(attempts.sessions) == wanted)
        await attempts.sessions[number].closed.wait()
    await until(lambda: it.is_empty)


async def test_a_session_that_was_just_used_is_taken_before_one_that_waits_longer():
    attempts = Attempts(hold=(0, 1))
    it = lane(attempts, concurrency=2)
    for number in (0, 1):
        it.push(claimed(number))
    await all_begun(attempts, 2)
    for number in (0, 1):
        attempts.gates[number].set()
        await until(lambda wanted=number + 1: len(attempts.sessions) == wanted)
        await asyncio.sleep(0)
    it.push(claimed(2))
    await all_begun(attempts, 1)
    assert attempts.given[2] is attempts.sessions[1]
    await it.drain()


async def test_what_comes_while_the_only_runner_closes_is_not_left_lying():
    attempts = Attempts()
    it = lane(attempts, idle=0.0)
    it.push(claimed(1))
    await all_begun(attempts, 1)
    await until(lambda: attempts.sessions)
    closing = asyncio.Event()
    goes_on = asyncio.Event()

    async def slow_close():
        closing.set()
        await goes_on.wait()

    attempts.sessions[0].close = slow_close
    await closing.wait()
    it.push(claimed(2))  # the limit is one connection, and that one still says QUIT
    await asyncio.sleep(0)
    assert attempts.begun.empty()
    goes_on.set()
    assert await all_begun(attempts, 1) == [2]
    await it.drain()


async def test_what_comes_as_a_runner_ends_without_a_session_is_taken():
    attempts = Attempts(hold={1})
    attempts.returns_session = False
    it = lane(attempts)
    it.push(claimed(1))
    await all_begun(attempts, 1)
    (runner,) = it._runners
    attempts.gates[1].set()
    await until(runner.done)  # it is done, and nobody has been told yet
    it.push(claimed(2))
    assert await all_begun(attempts, 1) == [2]
    await it.drain()


async def test_a_session_is_spent_after_its_messages():
    attempts = Attempts()
    it = lane(attempts, messages=3)
    for number in range(7):
        it.push(claimed(number))
    await all_begun(attempts, 7)
    await it.drain()
    assert len(attempts.sessions) == 3
    assert all(session.closed.is_set() for session in attempts.sessions)


async def test_a_dead_session_is_closed_and_not_used_again():
    attempts = Attempts(hold={2})
    it = lane(attempts)
    it.push(claimed(1))
    it.push(claimed(2))
    await all_begun(attempts, 2)
    attempts.sessions[0].alive = False
    attempts.gates[2].set()
    it.push(claimed(3))
    await all_begun(attempts, 1)
    await it.drain()
    assert attempts.given[2] is None
    assert attempts.sessions[0].closed.is_set()


async def test_an_attempt_that_raises_costs_its_session_and_nothing_else():
    attempts = Attempts()
    attempts.raises = {1}
    it = lane(attempts)
    for number in range(4):
        it.push(claimed(number))
    await all_begun(attempts, 4)
    await it.drain()
    assert attempts.done == [0, 2, 3]
    assert [item.message.id for item in it.aside] == ["m1"]
    assert attempts.sessions[0].closed.is_set(), "what an attempt left behind carries nothing more"
    assert attempts.given[2] is None


async def test_a_session_that_cannot_be_closed_stops_nobody():
    attempts = Attempts()
    it = lane(attempts, messages=2)
    for number in range(2):
        it.push(claimed(number))
    await all_begun(attempts, 1)
    await until(lambda: attempts.sessions)
    attempts.sessions[0].fails_to_close = True
    it.push(claimed(2))
    assert (await all_begun(attempts, 2))[-1] == 2
    await it.drain()
    assert attempts.done == [0, 1, 2]


async def test_drain_ends_what_runs_and_leaves_what_waits():
    attempts = Attempts(hold={1})
    it = lane(attempts)
    for number in (1, 2, 3):
        it.push(claimed(number))
    await all_begun(attempts, 1)
    ending = asyncio.ensure_future(it.drain())
    await asyncio.sleep(0)
    it.push(claimed(4))
    assert not ending.done()
    attempts.gates[1].set()
    await ending
    assert attempts.done == [1]
    assert attempts.sessions[0].closed.is_set()
    assert [item.message.id for item in it.take_waiting()] == ["m2", "m3", "m4"]


async def test_cancel_breaks_off_and_closes_the_kept_session():
    attempts = Attempts(hold={2})
    it = lane(attempts)
    it.push(claimed(1))
    it.push(claimed(2))
    await all_begun(attempts, 2)
    it.cancel()
    await until(lambda: it.is_empty)
    assert attempts.done == [1]
    assert attempts.sessions[0].closed.is_set()


async def test_a_runner_that_waits_for_its_place_gives_the_entry_back_on_a_drain():
    attempts = Attempts()
    asked = asyncio.Event()

    def pace(_):
        asked.set()
        return 3600.0

    it = lane(attempts, pace=pace)
    it.push(claimed(1))
    it.push(claimed(2))
    await asked.wait()
    await asyncio.sleep(0)
    await it.drain()
    assert [item.message.id for item in it.take_waiting()] == ["m1", "m2"]
    assert attempts.done == []


async def test_a_paced_entry_goes_when_its_place_has_come():
    attempts = Attempts()
    it = lane(attempts, pace=lambda _: 0.0001)
    it.push(claimed(1))
    assert await all_begun(attempts, 1) == [1]
    await it.drain()


async def test_no_task_is_left_behind():
    before = asyncio.all_tasks()
    attempts = Attempts()
    attempts.raises = {3, 4}
    it = lane(attempts, concurrency=4, messages=2)
    for number in range(30):
        it.push(claimed(number))
    await all_begun(attempts, 30)
    await it.drain()
    assert asyncio.all_tasks() == before
    assert it.is_empty


async def test_a_lower_limit_ends_connections_as_they_finish_and_loses_nothing():
    attempts = Attempts(hold=range(4))
    it = lane(attempts, concurrency=4)
    for number in range(30):
        it.push(claimed(number))
    assert sorted(await all_begun(attempts, 4)) == [0, 1, 2, 3]
    it.adopt(LaneOptions(concurrency=1, idle=3600.0, messages_per_session=100))
    attempts.peak = 0
    for gate in attempts.gates.values():
        gate.set()
    await until(lambda: len(attempts.done) == 30)
    assert sorted(attempts.done) == list(range(30))
    later = [attempts.begun.get_nowait() for _ in range(26)]
    assert later == sorted(later)
    await until(lambda: len(it._runners) == 1)
    await it.drain()


async def test_a_higher_limit_is_used_by_what_waits():
    attempts = Attempts(hold=range(3))
    it = lane(attempts)
    for number in range(3):
        it.push(claimed(number))
    await all_begun(attempts, 1)
    it.adopt(LaneOptions(concurrency=3, idle=3600.0, messages_per_session=100))
    it.push(claimed(3))
    assert sorted(await all_begun(attempts, 2)) == [1, 2]
    for gate in attempts.gates.values():
        gate.set()
    await until(lambda: len(attempts.done) == 4)
    await it.drain()
