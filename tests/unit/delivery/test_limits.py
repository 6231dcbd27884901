import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.limits import Meter, Pacer, Rate


def test_a_burst_and_then_one_at_a_time():
    meter = Meter(Rate(per_second=2, burst=3))
    assert [meter.take(10.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert meter.take(100.0) == 0


@given(st.floats(0.1, 50), st.integers(1, 5), st.lists(st.floats(0, 2), min_size=1, max_size=60))
def test_no_window_holds_more_than_the_rate_and_its_burst(per_second, burst, gaps):
    meter, now, places = Meter(Rate(per_second=per_second, burst=burst)), 0.0, []
    for gap in gaps:
        now += gap
        places.append(now + meter.take(now))
    places.sort()
    for first in range(len(places)):
        for last in range(first, len(places)):
            allowed = burst + (places[last] - places[first]) * per_second
            assert last - first + 1 <= allowed + 1e-6


def test_destinations_are_paced_apart_and_forgotten_when_idle():
    pacer = Pacer(Rate(per_second=1), {"slow.example": Rate(per_second=0.1)}, capacity=2)
    assert pacer.take("a.example", 0.0) == 0
    assert pacer.take("a.example", 0.0) == 1
    assert pacer.take("slow.example", 0.0) == 0
    assert pacer.take("slow.example", 0.0) == 10
    assert pacer.take("b.example", 5.0) == 0
    assert len(pacer) == 2
    assert pacer.take("slow.example", 5.0) == 15, "the idle one was forgotten, not this one"


def test_without_a_rate_nothing_waits_or_is_kept():
    pacer = Pacer(None)
    assert [pacer.take("a.example", 0.0) for _ in range(100)] == [0.0] * 100
    assert len(pacer) == 0


@pytest.mark.parametrize("wrong", [{"per_second": 0}, {"per_second": 1, "burst": 0}])
def test_rates_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="a rate is"):
        Rate(**wrong)


def test_another_rate_opens_nothing_by_itself():
    pacer = Pacer(Rate(per_second=1.0))
    assert [pacer.take("one.example", 0.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    pacer.adopt(Rate(per_second=0.5))
    assert [pacer.take("one.example", 0.0) for _ in range(2)] == [3.0, 5.0]
    for share in (1.0, 0.5, 1.0):  # nodes that come and go again and again
        pacer.adopt(Rate(per_second=share))
    assert pacer.take("one.example", 0.0) == 7.0
    pacer.adopt(None)
    assert pacer.take("one.example", 0.0) == 0.0


def test_each_destination_takes_up_its_own_other_rate_and_one_without_is_forgotten():
    pacer = Pacer(Rate(per_second=1.0))
    for name in ("own.example", "other.example"):
        assert [pacer.take(name, 0.0) for _ in range(2)] == [0.0, 1.0]
    pacer.adopt(None, {"own.example": Rate(per_second=0.25, burst=3)})
    assert len(pacer) == 1
    assert [pacer.take("other.example", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert [pacer.take("own.example", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 4.0]
    pacer.adopt(Rate(per_second=1.0))
    assert [pacer.take("new.example", 10.0) for _ in range(2)] == [0.0, 1.0]


def test_who_is_idle_is_forgotten_before_who_waits_and_of_those_the_longest_unused():
    pacer = Pacer(Rate(per_second=1.0), capacity=3)
    for name, times in (("a", 5), ("idle", 1), ("b", 5)):
        for _ in range(times):
            pacer.take(f"{name}.example", 0.0)
    pacer.take("c.example", 1.0)  # the idle one goes for it
    assert len(pacer) == 3
    assert pacer.take("a.example", 1.0) == 4.0
    pacer.take("d.example", 1.0)  # nobody is idle: b, unused for the longest, goes
    assert len(pacer) == 3
    assert pacer.take("a.example", 1.0) == 5.0
    assert pacer.take("b.example", 1.0) == 0.0


def test_room_is_made_only_where_none_is_left():
    pacer = Pacer(Rate(per_second=1.0), capacity=3)
    for number in range(3):
        pacer.take(f"{number}.example", 10.0 * number)
        assert len(pacer) == number + 1
