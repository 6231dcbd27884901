from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import Address
from relay.core.decision import MethodName, Otherwise, Treatment
from relay.core.entry import EntryState, QueueEntry, RecipientState
from relay.core.envelope import Recipient
from relay.core.level import Level
from relay.delivery.plan import (
    LEVEL_NOT_REACHED,
    NOT_CONFIGURED,
    Move,
    Plan,
    fallback_cause,
    first_method,
    method_after,
    parted,
    plan,
    switch,
    transport_floor,
    unavailable,
)
from relay.delivery.schedule import RetryOptions, expires_at, next_due, span, warn_at

TLS, SMIME, PORTAL = MethodName.TLS, MethodName.SMIME, MethodName.PORTAL
PHI = Treatment(methods=(SMIME, TLS, PORTAL), floor=Level.VERIFIED, within=900.0)


def entry(treatment=PHI, **more):
    base = {
        "id": "m.1", "message_id": "m", "destination": "x.example", "treatment": treatment, "method": TLS,
        "recipients": tuple(
            RecipientState(number=number, recipient=Recipient(address=Address.parse(f"r{number}@x.example")))
            for number in range(3)
        ),
        "state": EntryState.READY, "created_at": 1000.0, "due_at": 1000.0, "expires_at": 100_000.0,
    }  # fmt: skip
    return QueueEntry(**{**base, **more})


def test_the_first_configured_method_is_taken():
    assert first_method(PHI, {TLS, PORTAL}) is TLS
    assert first_method(PHI, {SMIME, TLS}) is SMIME
    assert first_method(PHI, set()) is None
    assert method_after(PHI, TLS, {SMIME, TLS}) is None
    assert method_after(PHI, SMIME, {PORTAL}) is PORTAL
    assert method_after(PHI, MethodName.PGP, {PORTAL}) is None


@pytest.mark.parametrize(
    ("now", "failures", "move"),
    [(1899.0, 3, Move.ATTEMPT), (1900.0, 0, Move.ATTEMPT), (1900.0, 1, Move.SWITCH), (9999.0, 0, Move.ATTEMPT)],
)
def test_within_is_spent_by_missed_levels_alone(now, failures, move):
    got = plan(entry(tls_failures=failures), now=now, configured={TLS, PORTAL})
    assert got.move is move
    assert got.method is (PORTAL if move is Move.SWITCH else TLS)


@pytest.mark.parametrize(
    ("otherwise", "late", "without"),
    [
        (Otherwise.DEFER, Move.ATTEMPT, Move.DEFER),
        (Otherwise.HOLD, Move.HOLD, Move.HOLD),
        (Otherwise.BOUNCE, Move.BOUNCE, Move.BOUNCE),
    ],
)
def test_what_the_rule_says_when_no_method_is_left(otherwise, late, without):
    one = entry(replace(PHI, otherwise=otherwise), tls_failures=1)
    assert plan(one, now=5000.0, configured={TLS}).move is late
    assert plan(one, now=1000.0, configured=set()).move is without
    assert unavailable(one, configured={TLS}, why="no key") == Plan(move=without, method=TLS, why="no key")


def test_an_unavailable_method_gives_way_at_once():
    got = plan(entry(method=SMIME), now=1000.0, configured={TLS, PORTAL})
    assert (got.move, got.method) == (Move.SWITCH, TLS)
    switched = switch(entry(tls_failures=2, due_at=5.0), PORTAL, now=7.0, why="late")
    assert (switched.method, switched.tls_failures, switched.due_at, switched.reason) == (PORTAL, 0, 7.0, "late")


def test_a_notice_of_the_portal_that_missed_its_level_leaves_the_message_there():
    one = entry(replace(PHI, otherwise=Otherwise.BOUNCE), method=PORTAL, tls_failures=3)
    assert plan(one, now=5000.0, configured={TLS, PORTAL}) == Plan(move=Move.ATTEMPT, method=PORTAL)


def test_a_switch_frees_the_entry_and_says_what_led_to_it():
    late = plan(entry(tls_failures=1), now=5000.0, configured={TLS, PORTAL})
    assert (late.cause, "level was not reached" in late.why) == (LEVEL_NOT_REACHED, True)
    lacking = plan(entry(method=SMIME), now=1000.0, configured={TLS})
    assert (lacking.cause, lacking.why) == (NOT_CONFIGURED, "not configured here: smime, portal")
    held = entry(tls_failures=1, state=EntryState.HELD)
    switched = switch(held, PORTAL, now=5000.0, why=late.why, cause=late.cause)
    assert (switched.state, switched.fallback) == (EntryState.READY, LEVEL_NOT_REACHED)
    assert fallback_cause(switched) == LEVEL_NOT_REACHED
    unkeyed = unavailable(entry(), configured={TLS, PORTAL}, why="no key for it", cause="no-key")
    assert (unkeyed.method, unkeyed.why, unkeyed.cause) == (PORTAL, "no key for it", "no-key")


def test_an_entry_that_begins_under_a_later_method_tells_why():
    assert fallback_cause(entry(method=SMIME)) == "rule"
    assert fallback_cause(entry(method=TLS)) == NOT_CONFIGURED


@pytest.mark.parametrize("otherwise", [Otherwise.HOLD, Otherwise.BOUNCE])
def test_the_last_resort_names_the_methods_that_are_not_configured(otherwise):
    late = entry(replace(PHI, otherwise=otherwise), tls_failures=1)
    assert plan(late, now=5000.0, configured={TLS}).why.endswith("; not configured here: smime, portal")
    alone = entry(replace(PHI, methods=(TLS,), otherwise=otherwise), tls_failures=1)
    assert plan(alone, now=5000.0, configured={TLS}).why.endswith("in the time the rule gives")
    waits = entry(replace(PHI, otherwise=Otherwise.DEFER), tls_failures=1)
    assert "in the time the rule gives" in plan(waits, now=5000.0, configured={TLS}).why


def test_parted_entries_keep_one_recipient_each_under_ids_of_their_own():
    whole = entry()
    parts = parted(whole)
    assert [part.recipients for part in parts] == [(state,) for state in whole.recipients]
    assert parts[0].id == whole.id
    assert len({part.id for part in parts}) == 3
    assert all(part.id.startswith("m.") for part in parts)


@given(st.sampled_from(Level), st.sampled_from(Level), st.sampled_from(Level))
def test_the_floor_of_tls_is_the_highest_of_all(decided, running, rendered):
    assert transport_floor(TLS, decided=decided, running=running, rendered=rendered) == max(decided, running, rendered)
    assert transport_floor(PORTAL, decided=decided, running=running, rendered=rendered) == rendered


# --- when ---

DEFAULT = RetryOptions()


def test_spans_grow_from_five_minutes_to_four_hours():
    assert [span(DEFAULT, attempts, chance=0.5) for attempts in (1, 2, 3, 6, 7, 500)] == [
        300, 600, 1200, 9600, 14_400, 14_400,
    ]  # fmt: skip


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_spans_are_jittered_within_bounds(attempts, chance):
    assert 300 * 0.8 <= span(DEFAULT, attempts, chance=chance) <= 14_400 * 1.2


@given(
    st.floats(1000, 200_000), st.integers(1, 100), st.integers(0, 3), st.floats(0, 1, exclude_max=True), st.booleans()
)
def test_the_next_attempt_is_never_after_expiry_nor_misses_the_deadline(now, attempts, failures, chance, missed):
    one = entry(attempts=attempts, tls_failures=failures)
    due = next_due(one, DEFAULT, now=now, chance=chance, level_missed=missed)
    assert due >= now
    assert due <= max(one.expires_at, now)
    if now < 1900 and (missed or failures):
        assert due <= 1900
    if now < 1000 + 600 and not (missed or failures):
        assert due >= now + 240


def test_expiry_and_warning():
    assert expires_at(PHI, DEFAULT, accepted_at=0) == 5 * 86_400
    assert expires_at(replace(PHI, expire_after=60), DEFAULT, accepted_at=10) == 70
    assert warn_at(PHI, DEFAULT, accepted_at=0) == 4 * 3600
    assert warn_at(replace(PHI, warn_after=300), DEFAULT, accepted_at=0) == 300
    assert warn_at(replace(PHI, expire_after=60), DEFAULT, accepted_at=0) is None
    assert warn_at(PHI, RetryOptions(warn_after=0), accepted_at=0) is None


@pytest.mark.parametrize("wrong", [{"first": 0}, {"factor": 0.5}, {"jitter": 1}, {"first": 20_000}])
def test_spans_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="retry spans"):
        RetryOptions(**wrong)
