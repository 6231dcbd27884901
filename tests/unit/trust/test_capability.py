import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.level import Level, Proof
from relay.trust.capability import FADE, Capability, Observation, learn

LEVEL = st.sampled_from(Level)
DAY = 86_400.0


def seen(level=Level.VERIFIED, at=0.0, *, how="delivery", sha="aa", **more):
    proof = Proof(level=level, host="mx.x.example", certificate_sha256=sha, **more)
    return Observation(domain="x.example", proof=proof, how=how, at=at)


def story(*observations):
    known, told = None, []
    for one in observations:
        learnt = learn(known, one)
        known = learnt.now
        told.append(learnt)
    return told


def test_the_first_meeting_is_written_down_and_alarms_nobody():
    (first,) = story(seen(Level.CLEAR, 5.0))
    assert first.write
    assert not first.fell
    assert (first.now.best, first.now.level, first.now.best_at, first.now.best_how) == (
        "clear",
        "clear",
        5.0,
        "delivery",
    )


def test_a_fall_is_told_once_and_the_rise_after_it():
    levels = [Level.VERIFIED, Level.CLEAR, Level.ENCRYPTED, Level.VERIFIED, Level.CLEAR]
    told = story(*(seen(level, at) for at, level in enumerate(levels)))
    assert [one.fell for one in told] == [False, True, False, False, True]
    assert [one.rose for one in told] == [False, False, False, True, False]
    assert [one.now.best for one in told] == ["verified"] * 5
    assert [one.now.downgraded_at for one in told] == [0, 1, 1, 0, 4]


def test_what_was_not_reached_for_a_month_is_no_longer_expected():
    told = story(
        seen(Level.VERIFIED, 0), seen(Level.CLEAR, DAY), seen(Level.CLEAR, FADE + 1), seen(Level.CLEAR, FADE + 2)
    )
    assert [one.now.best for one in told] == ["verified", "verified", "clear", "clear"]
    assert told[2].now.downgraded_at == 0
    assert not told[3].fell


def test_nothing_new_is_written_down_once_an_hour_only():
    told = story(seen(at=0), seen(at=10), seen(at=3000, how="probe"), seen(at=3601 + 3000))
    assert [one.write for one in told] == [True, False, False, True]
    assert learn(told[-1].now, seen(at=7000, sha="bb")).write


def test_a_meeting_that_failed_keeps_the_certificate_that_was_seen():
    told = story(seen(sha="aa", issuer="CN=x", not_after=9.0), seen(Level.CLEAR, 1, sha=""))
    assert (told[1].now.certificate_sha256, told[1].now.issuer, told[1].now.not_after) == ("aa", "CN=x", 9.0)


@given(st.lists(st.tuples(LEVEL, st.floats(0, 40 * DAY)), min_size=1, max_size=12))
def test_over_any_story_alarms_and_levels_fit_together(steps):
    known, at, below = None, 1.0, False
    for level, pause in steps:
        at += pause
        before, learnt = known, learn(known, seen(level, at))
        known = learnt.now
        best = Level.from_word(known.best)
        assert known.level == level.word
        assert best >= level
        assert bool(known.downgraded_at) == (best > level)
        assert learnt.fell == (best > level and not below)
        assert not (learnt.fell and learnt.rose)
        below = best > level
        if before is not None and level >= Level.from_word(before.best):
            assert best is level
        assert Capability.decode(known.encode()) == known


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b"null", b'{"domain":"x"}'])
def test_what_is_damaged_says_so(junk):
    with pytest.raises(ValueError):  # noqa: PT011  whatever its words
        Capability.decode(junk)


def test_what_a_newer_version_wrote_of_a_server_is_read_by_an_older_one():
    """During an upgrade nodes share the memory: forgetting what a server could do would lose the alarm of its fall."""
    known = learn(None, seen(Level.VERIFIED)).now
    newer = orjson.loads(known.encode()) | {"added": {"later": 1}}
    assert Capability.decode(orjson.dumps(newer)) == known
