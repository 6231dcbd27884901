"""A destination that complains is given less, or left alone, and comes back by one probe."""

import pytest

from relay.delivery.bounce import BounceAction
from relay.delivery.brake import BrakeOptions, Brakes, Pause

OPTIONS = BrakeOptions(
    spacing=2.0, widest=8.0, recovery=100.0, strikes=2, first=60.0, longest=200.0, probe=10.0, capacity=2
)


@pytest.fixture
def brakes():
    return Brakes(OPTIONS)


def test_who_did_not_complain_takes_no_room(brakes):
    assert brakes.until("a", 0.0) is None
    brakes.refused("a", BounceAction.RETRY, 0.0)
    brakes.delivered("a")
    assert len(brakes) == 0


def test_complaints_widen_the_spacing_up_to_its_limit(brakes):
    for _ in range(5):
        brakes.refused("a", BounceAction.SLOW_DOWN, 0.0)
    assert brakes.until("a", 0.0) is None
    assert brakes.until("a", 0.0) == (8.0, Pause.SLOWED)
    assert brakes.until("a", 0.0) == (16.0, Pause.SLOWED)
    assert brakes.until("b", 0.0) is None


def test_urgent_copies_are_not_slowed_down_but_heed_a_block(brakes):
    brakes.refused("a", BounceAction.SLOW_DOWN, 0.0)
    assert brakes.until("a", 0.0) is None
    assert brakes.until("a", 0.0, urgent=True) is None
    for _ in range(2):
        brakes.refused("a", BounceAction.SUSPEND, 0.0)
    assert brakes.until("a", 0.0, urgent=True) == (60.0, Pause.SUSPENDED)


def test_quiet_time_eases_the_spacing(brakes):
    brakes.refused("a", BounceAction.SLOW_DOWN, 0.0)
    brakes.refused("a", BounceAction.SLOW_DOWN, 0.0)
    assert brakes.until("a", 150.0) is None
    assert brakes.until("a", 150.0) == (152.0, Pause.SLOWED)
    assert brakes.until("a", 201.0) is None
    assert brakes.until("a", 201.0) is None


def test_one_block_alone_suspends_nothing_and_a_delivery_forgets_it(brakes):
    brakes.refused("a", BounceAction.SUSPEND, 0.0)
    assert brakes.until("a", 0.0) is None
    brakes.delivered("a")
    brakes.refused("a", BounceAction.SUSPEND, 0.0)
    assert brakes.until("a", 0.0) is None


def test_after_a_suspension_one_copy_tries_and_the_others_wait_for_what_it_meets(brakes):
    for _ in range(2):
        brakes.refused("a", BounceAction.SUSPEND, 0.0)
    assert brakes.until("a", 59.0) == (60.0, Pause.SUSPENDED)
    assert brakes.until("a", 60.0) is None
    assert brakes.until("a", 61.0) == (70.0, Pause.SUSPENDED)
    brakes.delivered("a")
    assert brakes.until("a", 62.0) is None


def test_a_probe_that_is_refused_suspends_for_twice_as_long_up_to_the_limit(brakes):
    for _ in range(2):
        brakes.refused("a", BounceAction.SUSPEND, 0.0)
    now = 60.0
    spans = []
    for _ in range(4):
        assert brakes.until("a", now) is None
        brakes.refused("a", BounceAction.SUSPEND, now)
        until, _why = brakes.until("a", now)
        spans.append(until - now)
        now = until
    assert spans == [120.0, 200.0, 200.0, 200.0]


def test_a_clock_that_is_set_back_takes_the_pause_with_it(brakes):
    for _ in range(2):
        brakes.refused("a", BounceAction.SUSPEND, 86_400.0)
    brakes.refused("b", BounceAction.SLOW_DOWN, 86_400.0)
    brakes.until("b", 86_400.0)
    assert brakes.until("a", 10.0) == (70.0, Pause.SUSPENDED)
    assert brakes.until("b", 10.0)[0] <= 20.0


def test_what_is_remembered_is_bounded(brakes):
    for name in "abc":
        brakes.refused(name, BounceAction.SLOW_DOWN, 0.0)
    assert len(brakes) == 2


@pytest.mark.parametrize("wrong", [{"spacing": 0.0}, {"strikes": 0}, {"first": 9e9}, {"capacity": 0}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        BrakeOptions(**wrong)
