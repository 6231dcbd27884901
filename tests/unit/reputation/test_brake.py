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


def test_spacing_doubles_with_each_complaint():
    brakes = Brakes(BrakeOptions(spacing=2.0, widest=1e9, recovery=100.0))
    widths = []
    for _ in range(20):
        brakes.refused("a", BounceAction.SLOW_DOWN, 0.0)
        first, _why = brakes.until("a", 0.0) or (0.0, None)
        second, _why = brakes.until("a", 0.0)
        widths.append(second - first)
    assert widths[:4] == [2.0, 4.0, 8.0, 16.0]
    assert widths[15:] == [2.0**16] * 5, "the exponent is bounded"


def test_a_suspension_without_end_is_bounded_by_its_longest():
    brakes = Brakes(BrakeOptions(strikes=1, first=1.0, longest=1e12, probe=1.0))
    now = 0.0
    for _ in range(40):
        brakes.refused("a", BounceAction.SUSPEND, now)
        until, _why = brakes.until("a", now)
        span, now = until - now, until
        assert brakes.until("a", now) is None
    assert span == pytest.approx(2.0**32)


def test_an_answer_to_a_copy_under_way_changes_nothing_of_a_suspension(brakes):
    for _ in range(6):
        brakes.refused("a", BounceAction.SUSPEND, 0.0)
    assert brakes.until("a", 30.0) == (60.0, Pause.SUSPENDED)
    assert brakes.until("a", 60.0) is None
    for _ in range(3):  # the probe's answer, and two of copies that were slow
        brakes.refused("a", BounceAction.SUSPEND, 60.0)
    assert brakes.until("a", 60.0) == (180.0, Pause.SUSPENDED)


def test_a_delivery_ends_a_suspension_and_forgets_what_led_to_it_but_not_the_spacing(brakes):
    brakes.refused("a", BounceAction.SLOW_DOWN, 0.0)
    for _ in range(2):
        brakes.refused("a", BounceAction.SUSPEND, 0.0)
    brakes.delivered("a")
    assert brakes.until("a", 0.0) is None
    assert brakes.until("a", 0.0) == (2.0, Pause.SLOWED)
    brakes.refused("a", BounceAction.SUSPEND, 0.0)
    assert brakes.until("a", 0.0)[1] is Pause.SLOWED, "one strike: those before count no more"
    brakes.refused("a", BounceAction.SUSPEND, 0.0)
    assert brakes.until("a", 0.0) == (60.0, Pause.SUSPENDED), "as long as the first time"


def test_a_destination_that_delivers_is_forgotten_once_nothing_slows_it(brakes):
    brakes.refused("a", BounceAction.SUSPEND, 0.0)
    assert len(brakes) == 1
    brakes.delivered("a")
    assert len(brakes) == 0


def test_recovery_goes_step_by_step_however_often_it_is_looked_at(brakes):
    for _ in range(3):
        brakes.refused("a", BounceAction.SLOW_DOWN, 0.0)
    for now in range(0, 251, 50):  # two whole spans of 100 s: of three steps one is left
        brakes.until("a", float(now))
    assert brakes.until("a", 290.0) is None
    assert brakes.until("a", 290.0) == (292.0, Pause.SLOWED)
    assert [brakes.until("a", 300.0), brakes.until("a", 300.0)] == [None, None]
    brakes.refused("a", BounceAction.SLOW_DOWN, 1000.0)  # long quiet: it begins at the first step
    assert brakes.until("a", 1000.0) is None
    assert brakes.until("a", 1000.0) == (1002.0, Pause.SLOWED)


def test_a_clock_that_is_set_back_takes_the_recovery_with_it(brakes):
    brakes.refused("a", BounceAction.SLOW_DOWN, 86_400.0)
    assert brakes.until("a", 10.0) is None
    assert brakes.until("a", 110.0) is None
    assert brakes.until("a", 110.0) is None, "a span of quiet passed after the clock went back"


def test_the_longest_without_complaint_is_forgotten_first(brakes):
    for name in "aba":
        brakes.refused(name, BounceAction.SUSPEND, 0.0)
    brakes.refused("c", BounceAction.SUSPEND, 0.0)
    assert brakes.until("a", 0.0) == (60.0, Pause.SUSPENDED)


@pytest.mark.parametrize(
    "right", [{"spacing": 60.0}, {"strikes": 1}, {"first": 7200.0}, {"capacity": 1}, {"recovery": 0.5, "probe": 0.5}]
)
def test_options_at_their_edges_are_taken(right):
    assert BrakeOptions(**right)


@pytest.mark.parametrize("wrong", [{"spacing": 61.0}, {"recovery": 0.0}, {"first": 0.0}, {"probe": 0.0}])
def test_options_just_outside_are_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        BrakeOptions(**wrong)
