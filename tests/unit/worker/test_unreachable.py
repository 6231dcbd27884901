"""A dead destination is waited for once, not once a copy."""

import pytest

from relay.core.outcome import Failure, Stage, Trouble
from relay.worker.unreachable import SharingOptions, Unreachable

TIMED_OUT = Failure(trouble=Trouble.NETWORK, stage=Stage.CONNECT, detail="timed out")


def knowing(failure=TIMED_OUT, *, took=30.0):
    known = Unreachable(SharingOptions(after=2.0, window=10.0))
    known.learn("dead.example", failure, started=100.0, now=100.0 + took)
    return known


def test_what_took_long_is_shared_for_a_short_while():
    known = knowing()
    assert known.failure("dead.example", now=130.0) is TIMED_OUT
    assert known.failure("other.example", now=130.0) is None
    assert known.failure("dead.example", now=139.9) is TIMED_OUT
    assert known.failure("dead.example", now=140.0) is None
    assert known.failure("dead.example", now=131.0) is None  # forgotten, not only over


def test_what_fails_at_once_is_tried_again():
    assert knowing(took=0.01).failure("dead.example", now=100.1) is None


@pytest.mark.parametrize("trouble", sorted(set(Trouble) - {Trouble.NETWORK, Trouble.DNS}))
def test_what_may_be_the_copys_own_trouble_is_not_shared(trouble):
    failure = Failure(trouble=trouble, stage=Stage.TLS, detail="x")
    assert knowing(failure).failure("dead.example", now=131.0) is None


def test_it_is_bounded():
    known = Unreachable()
    for number in range(5000):
        known.learn(f"d{number}.example", TIMED_OUT, started=0.0, now=30.0)
    assert sum(known.failure(f"d{number}.example", now=31.0) is not None for number in range(5000)) == 1000
    known.learn("late.example", TIMED_OUT, started=0.0, now=60.0)
    assert known.failure("late.example", now=61.0) is TIMED_OUT


def test_a_clock_that_is_set_back_keeps_nobody_waiting():
    known = Unreachable()
    for number in range(1000):
        known.learn(f"d{number}.example", TIMED_OUT, started=7000.0, now=7200.0)
    assert known.failure("d1.example", now=3600.0) is None
    known.learn("late.example", TIMED_OUT, started=3600.0, now=3630.0)
    assert known.failure("late.example", now=3631.0) is TIMED_OUT, "what was learnt before makes room"
