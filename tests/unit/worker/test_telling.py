"""What is counted, logged and written into the trail of an attempt, once it is on disk."""

from collections import Counter

import pytest
import structlog

from relay.core.decision import MethodName, Treatment
from relay.core.entry import Claimed, EntryState
from relay.core.errors import CorruptError, StoreError
from relay.core.level import Level
from relay.core.outcome import Stage, Trouble
from relay.delivery.plan import Move, Plan
from tests.support.attempting import TAKEN, Attempting, refusal, trouble
from tests.support.queue import NOW
from tests.unit.worker.test_attempt import THREE, from_null

GREYLISTED = refusal(451, "4.7.1", "Greylisted")


@pytest.fixture
async def it():
    async with Attempting() as attempting:
        attempting.told = Counter()

        def count(name, labels=None, amount=1):
            attempting.told[name.removeprefix("postern_"), *sorted((labels or {}).items())] += amount

        attempting.metrics.count = count
        yield attempting


def outcomes(it, family="recipient_outcomes_total"):
    return {tuple(dict(labels).values()): count for (name, *labels), count in it.told.items() if name == family}


async def test_each_recipient_is_counted_once_under_its_own_outcome(it):
    await it.keep(*THREE)
    await it.over({1: refusal(550, "5.1.1", "No such user"), 2: GREYLISTED})
    expected = {(kind, "example.org"): 1 for kind in ("delivered", "bounced", "deferred")}
    assert outcomes(it) == expected
    assert outcomes(it, "sender_outcomes_total") == {
        (kind, "clinic.example"): 1 for kind in ("delivered", "bounced", "deferred")
    }
    assert {labels[0] for name, *labels in it.told if name == "sender_outcomes_total"} == {
        ("outcome", kind) for kind in ("delivered", "bounced", "deferred")
    }
    way = (("level", "verified"), ("method", "tls"), ("vouched_by", "nobody"))
    assert it.told["deliveries_total", *way] == 1
    assert it.told["delivery_tls_total", ("version", "none")] == 1
    assert it.told["delivery_seconds",] == 1
    assert not any(name in {"below_floor_total", "alerts_total"} for name, *_ in it.told)


async def test_mail_without_a_sender_is_counted_too(it):
    await it.keep(message=from_null())
    await it.over(TAKEN)
    assert outcomes(it, "sender_outcomes_total") == {("delivered", "none"): 1}


async def test_a_missed_level_is_counted_by_domain_and_other_waits_are_not(it):
    await it.keep(treatment=Treatment(floor=Level.VERIFIED))
    await it.over(GREYLISTED)
    assert not outcomes(it, "below_floor_total")
    it.clock.now = NOW + 3600
    it.connector.next.append(trouble(Trouble.BELOW_FLOOR, Stage.TLS, "no STARTTLS"))
    await it.attempt()
    assert outcomes(it, "below_floor_total") == {("example.org",): 1}


async def test_the_log_has_each_end_and_each_wait_with_what_led_to_it(it):
    await it.keep(*THREE)
    with structlog.testing.capture_logs() as lines:
        await it.over({1: refusal(550, "5.1.1", "No such user ben@example.org"), 2: GREYLISTED})
    told = {line["event"]: line for line in lines}
    assert [told[kind]["number"] for kind in ("delivered", "bounced")] == [0, 1]
    for kind in ("delivered", "bounced", "deferred"):
        assert [told[kind][key] for key in ("message_id", "entry", "domain")] == ["m1", "m1.0", "example.org"]
    assert (told["delivered"]["reached"], told["delivered"]["reply"]) == ("verified", str(TAKEN))
    assert (told["bounced"]["why"], told["bounced"]["reply"][:9]) == (
        "the recipient's mail server refused the recipient", "550 5.1.1",
    )  # fmt: skip
    assert "Greylisted" in told["deferred"]["why"]
    assert (told["deferred"]["destination"], told["deferred"]["due_at"]) == ("example.org", NOW + 60)
    assert not any(mailbox.partition("@")[0] + "@" in str(line) for line in lines for mailbox in THREE)


async def test_the_trail_says_of_a_wait_who_waits_on_which_connection_and_for_what(it):
    await it.keep(*THREE)
    await it.over({1: GREYLISTED, 2: GREYLISTED})
    (event,) = await it.events("attempt")
    assert (event.facts["method"], event.facts["floor"]) == ("tls", "clear")
    assert (event.facts["proof"]["level"], event.facts["state"]) == ("verified", "ready")
    (wait,) = event.facts["waits"]
    assert (wait["numbers"], wait["status"], wait["host"]) == ([1, 2], "4.7.1", "mx.example.org")


async def settled(it, settle, **entry):
    """One settlement of the recorder's own, committed and told."""
    made = await it.keep(**entry)
    message = await it.store.message("m1")
    claimed = await it.store.acquire(made.id)
    settlement = settle(Claimed(entry=claimed.entry, message=message, content=None))
    await it.store.commit(settlement.unit)
    it.recorder.tell(claimed, settlement)
    return (await it.left())[made.id]


async def test_a_held_copy_says_why_to_operators_trail_counters_and_log(it):
    with structlog.testing.capture_logs() as lines:
        left = await settled(it, lambda claimed: it.recorder.hold(claimed, why="no key", now=NOW, alert="held"))
    assert (left.state, left.reason) == (EntryState.HELD, "no key")
    (event,) = await it.events("held")
    assert event.facts["reason"] == "no key"
    (alert,) = await it.events("alert")
    assert (alert.facts["alert"], alert.facts["why"], alert.facts["entry"]) == ("held", "no key", "m1.0")
    assert outcomes(it) == {("held", "example.org"): 1}
    assert outcomes(it, "alerts_total") == {("held",): 1}
    (line,) = [line for line in lines if line["event"] == "alert"]
    assert [line[key] for key in ("alert", "message_id", "entry", "why")] == ["held", "m1", "m1.0", "no key"]


async def test_a_copy_that_waits_for_its_method_waits_ever_longer_and_says_so(it):
    plan = Plan(move=Move.DEFER, method=MethodName.TLS, why="not configured here: tls")
    left = await settled(it, lambda claimed: it.recorder.move(claimed, plan, now=NOW), attempts=2)
    assert (left.attempts, left.reason, left.due_at) == (3, plan.why, NOW + 240)
    (event,) = await it.events("deferred")
    assert event.facts["reason"] == plan.why


async def test_a_notice_that_nobody_takes_is_alerted_with_the_server_s_answer(it):
    await it.keep(message=from_null())
    await it.over(refusal(550, "5.1.1", "No such user"))
    ((_, notice, _),) = await it.notices_kept()
    with structlog.testing.capture_logs() as lines:
        await it.over(refusal(550, "5.1.1", "No such user"), entry_id=notice.id)
    (line,) = [line for line in lines if line["event"] == "alert"]
    assert line["why"].endswith("refused the recipient: 550 5.1.1 No such user")
    assert outcomes(it, "alerts_total") == {("undeliverable-notice",): 1}


@pytest.mark.parametrize(
    ("error", "alert", "logged"),
    [
        (CorruptError("it does not authenticate"), "corrupt", "alert"),
        (RuntimeError("a fault of ours"), "attempt-failed", "an attempt failed inside"),
        (StoreError("the disk is away"), "", "the store failed in an attempt"),
    ],
)
async def test_what_failed_inside_is_told_by_its_own_name(it, error, alert, logged):
    await it.keep()
    it.store.content_error = error
    with structlog.testing.capture_logs() as lines:
        await it.attempt()
    assert [line["message_id"] for line in lines if line["event"] == logged] == ["m1"]
    assert set(outcomes(it, "alerts_total")) >= ({(alert,)} if alert else set())
    assert it.told["attempt_seconds",] == 1


async def test_a_copy_that_ends_unsent_is_not_counted_as_delivered(it):
    await it.keep()
    await it.over(refusal(550, "5.1.1", "No such user"))
    assert not any(name in {"deliveries_total", "delivery_tls_total", "delivery_seconds"} for name, *_ in it.told)
