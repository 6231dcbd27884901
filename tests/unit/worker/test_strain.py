"""A thread is busy when it would have run nearly all the time, whether it was let or had to wait."""

import time

import pytest

from relay.worker import strain
from relay.worker.strain import Strain, wanted


class World:
    """A clock, and what the thread has wanted of its time."""

    def __init__(self):
        self.now = self.had = 1000.0
        self.strain = Strain(lambda: self.now, lambda: self.had)
        self.strain.felt()

    def after(self, seconds, share):
        self.now += seconds
        self.had += seconds * share
        return self.strain.felt()


def test_a_busy_stretch_is_felt_and_forgotten():
    world = World()
    assert not world.after(0.06, 0.5)
    assert world.after(0.06, 0.95)
    assert world.after(0.06, 0.9)
    assert not world.after(0.06, 0.3)


def test_short_stretches_are_judged_together():
    world = World()
    world.after(0.06, 0.95)
    assert all(world.after(0.01, 0.0) for _ in range(4)), "50 ms have not passed"
    assert not world.after(0.02, 0.0)


def test_a_stretch_in_which_nobody_asked_says_nothing():
    world = World()
    world.after(0.06, 0.95)
    assert not world.after(5.0, 1.0)
    assert world.after(0.06, 1.0)


def spin():
    """Run for 20 ms."""
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass


def test_what_it_ran_counts():
    before = wanted()
    spin()
    assert wanted() - before >= 0.02


@pytest.mark.parametrize("text", [None, "", "12 x 3\n", "12\n"])
def test_where_the_system_does_not_say_how_long_it_waited_what_it_ran_counts(tmp_path, monkeypatch, text):
    path = tmp_path / "schedstat"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(strain, "_WAITED", path)
    before = time.thread_time()
    assert before <= wanted() <= time.thread_time()


def test_what_it_waited_for_a_processor_counts(tmp_path, monkeypatch):
    path = tmp_path / "schedstat"
    path.write_text("5000000000 7000000000 3\n")
    monkeypatch.setattr(strain, "_WAITED", path)
    before = time.thread_time()
    assert before + 7 <= wanted() <= time.thread_time() + 7
