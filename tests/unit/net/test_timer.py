"""One timer for deadlines that follow one another: it rings at the last one, and only there."""

import pytest

from relay.net.timer import Timer


class Handle:
    def __init__(self, at, call):
        self.at, self.call, self.cancelled = at, call, False

    def when(self):
        return self.at

    def cancel(self):
        self.cancelled = True


class Loop:
    """A loop whose time moves when told."""

    def __init__(self):
        self.now = 0.0
        self.handles = []

    def time(self):
        return self.now

    def call_at(self, at, call):
        self.handles.append(Handle(at, call))
        return self.handles[-1]

    def advance(self, now):
        """Move on, calling what falls due on the way."""
        while due := [one for one in self.handles if not one.cancelled and one.at <= now]:
            first = min(due, key=Handle.when)
            self.handles.remove(first)
            self.now = max(self.now, first.at)
            first.call()
        self.now = now

    @property
    def waiting(self):
        return [one.at for one in self.handles if not one.cancelled]


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def rung():
    return []


@pytest.fixture
def timer(loop, rung):
    return Timer(loop, lambda: rung.append(loop.time()))


def test_the_last_deadline_rings_once(loop, rung, timer):
    timer.set(10.0)
    timer.set(30.0)
    loop.advance(29.0)
    assert rung == []
    loop.advance(100.0)
    assert rung == [30.0]


def test_an_earlier_deadline_replaces_a_later_one(loop, rung, timer):
    timer.set(300.0)
    timer.set(5.0)
    loop.advance(1000.0)
    assert rung == [5.0]


def test_at_rest_nothing_rings_and_nothing_is_left_waiting(loop, rung, timer):
    timer.set(10.0)
    timer.rest()
    loop.advance(1000.0)
    assert rung == []
    assert loop.waiting == []


def test_after_a_rest_the_next_deadline_rings(loop, rung, timer):
    timer.set(10.0)
    timer.rest()
    timer.set(20.0)
    assert loop.waiting == [10.0]  # what waited already serves
    loop.advance(1000.0)
    assert rung == [20.0]


def test_a_deadline_after_the_handle_of_a_rest_has_come_rings(loop, rung, timer):
    timer.set(10.0)
    timer.rest()
    loop.advance(15.0)
    timer.set(20.0)
    loop.advance(1000.0)
    assert rung == [20.0]


def test_stopped_it_waits_for_nothing(loop, rung, timer):
    timer.set(10.0)
    timer.stop()
    assert loop.waiting == []
    loop.advance(1000.0)
    assert rung == []
