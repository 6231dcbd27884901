"""From results to one unit of work: fates, what is tried again, what is told to whom, and the audit row of it all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from relay.core.change import AuditEvent, Change, Note, Settle, UnitOfWork
from relay.core.decision import MethodName
from relay.core.entry import Claimed, EntryState, QueueEntry, RecipientState
from relay.core.fate import Fate, FateKind
from relay.core.level import Level, Proof
from relay.core.outcome import Failure, RecipientResult
from relay.core.ports import Metrics
from relay.core.reply import EnhancedStatus, Reply
from relay.delivery import plan as planning
from relay.delivery import schedule
from relay.delivery.plan import Move, Plan
from relay.delivery.schedule import RetryOptions
from relay.delivery.trouble import Course, Disposition, disposition, of_result
from relay.mail.scrub import scrub
from relay.worker.notices import Notices, Told

log = structlog.get_logger("delivery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt came to.

    Attributes:
        unit: to be committed whole.
        fates: recipient number to fate.
        entry: the entry as it stays in the queue; ``None`` when every recipient has its fate.
        facts: of the attempt's audit event, for the log line.
        event: the audit event's kind.
        alert: the alert's name, or empty.
        missed: whether the level was not reached.
    """

    unit: UnitOfWork
    fates: dict[int, Fate]
    entry: QueueEntry | None
    facts: dict[str, Any]
    event: str
    alert: str = ""
    missed: bool = False


class Recorder:
    """Builds settlements. Pure but for the chance it is given; the commit is the caller's.

    Args:
        notices: makes DSNs.
        retry: how retries are spaced.
        chance: a random number in [0, 1) for jitter.
        metrics: counts, in :meth:`tell`.
    """

    def __init__(self, notices: Notices, retry: RetryOptions, chance: Callable[[], float], metrics: Metrics) -> None:
        self._notices = notices
        self._retry = retry
        self._chance = chance
        self._metrics = metrics

    # --- what an attempt can come to ---------------------------------------

    def conclude(
        self,
        claimed: Claimed,
        *,
        method: MethodName,
        floor: Level,
        results: Sequence[RecipientResult],
        proof: Proof | None,
        now: float,
    ) -> Settlement:
        """After sending: a fate for those taken or refused for good, a retry for the rest."""
        fates: dict[int, Fate] = {}
        failed: dict[int, Disposition] = {}
        again: dict[int, Disposition] = {}
        for result in results:
            course = of_result(result)
            if course is None:
                fates[result.number] = Fate(kind=FateKind.DELIVERED, at=now, reply=_scrubbed(result.reply), proof=proof)
            elif course.course is Course.FAIL:
                fates[result.number] = _bounced(course, now, proof)
                failed[result.number] = course
            else:
                again[result.number] = course
        facts = {
            "method": method.value,
            "floor": floor.word,
            "proof": _proof_facts(proof),
            "results": {str(number): _fate_facts(fate) for number, fate in fates.items()}
            | {str(number): _course_facts(course) for number, course in again.items()},
        }
        entry = self._again(claimed, again, now=now) if again else None
        missed = any(course.spends_within for course in again.values())
        return replace(self._settle(claimed, entry, fates, failed, facts=facts, now=now), missed=missed)

    def defer(self, claimed: Claimed, failure: Failure, *, now: float) -> Settlement:
        """Nothing could be tried: everyone waits, for one reason."""
        course = disposition(failure)
        again = dict.fromkeys((state.number for state in claimed.entry.recipients), course)
        facts = {"results": {str(number): _course_facts(course) for number in again}, "detail": failure.detail}
        return self._settle(claimed, self._again(claimed, again, now=now), {}, {}, facts=facts, now=now)

    def expire(self, claimed: Claimed, *, now: float) -> Settlement:
        """The time is up, in whatever state: everyone left ends as expired, and the sender is told."""
        course = Disposition(
            course=Course.FAIL,
            status=EnhancedStatus(5, 4, 7),  # delivery time expired, RFC 3463 section 3.5
            why=f"it could not be delivered in time: {claimed.entry.reason or 'it was never tried'}",
        )
        fate = Fate(kind=FateKind.EXPIRED, at=now, why=course.why)
        return self._end_all(claimed, fate, course, now=now, event="expired")

    def keep_held(self, claimed: Claimed, *, now: float) -> Settlement:
        """A held entry fell due for its delay warning alone."""
        entry = replace(claimed.entry, due_at=claimed.entry.due_at)
        return self._settle(claimed, entry, {}, {}, facts={"reason": entry.reason}, now=now, event="warned")

    def hold(self, claimed: Claimed, *, why: str, now: float, alert: str = "held") -> Settlement:
        """An operator must look."""
        entry = replace(claimed.entry, state=EntryState.HELD, reason=why)
        return self._settle(claimed, entry, {}, {}, facts={"reason": why}, now=now, event="held", alert=alert)

    def move(self, claimed: Claimed, plan: Plan, *, now: float) -> Settlement:
        """The plan is not to attempt: switch the method, wait, hold or bounce."""
        if plan.move is Move.HOLD:
            return self.hold(claimed, why=plan.why, now=now)
        if plan.move is Move.BOUNCE:
            course = Disposition(course=Course.FAIL, status=EnhancedStatus(5, 7, 10), why=plan.why)
            return self._end_all(claimed, _bounced(course, now, None), course, now=now, event="bounced")
        if plan.move is Move.SWITCH:
            entry = planning.switch(claimed.entry, plan.method, now=now, why=plan.why)
            facts = {"from": claimed.entry.method.value, "to": plan.method.value, "reason": plan.why}
            return self._settle(claimed, entry, {}, {}, facts=facts, now=now, event="switched")
        attempts = claimed.entry.attempts + 1
        entry = replace(claimed.entry, attempts=attempts, reason=plan.why)
        entry = replace(entry, due_at=schedule.next_due(entry, self._retry, now=now, chance=self._chance()))
        return self._settle(claimed, entry, {}, {}, facts={"reason": plan.why}, now=now, event="deferred")

    # --- after the commit --------------------------------------------------

    def tell(self, claimed: Claimed, settlement: Settlement) -> None:
        """Count and log what is now on disk."""
        for number, fate in settlement.fates.items():
            self._tell_fate(claimed, number, fate)
        facts = settlement.facts
        if settlement.entry is not None:
            outcome = "held" if settlement.entry.state is EntryState.HELD else "deferred"
            for state in settlement.entry.recipients:
                self._count_outcome(claimed, outcome, state.number)
            log.info(
                settlement.event,
                message_id=claimed.message.id,
                entry=claimed.entry.id,
                domain=_domain(claimed),
                destination=claimed.entry.destination,
                due_at=round(settlement.entry.due_at, 3),
                why=settlement.entry.reason,
            )
        if settlement.missed:
            self._metrics.count("postern_below_floor_total", {"recipient_domain": _domain(claimed)})
        if settlement.alert:
            self._metrics.count("postern_alerts_total", {"kind": settlement.alert})
            log.error(
                "alert",
                alert=settlement.alert,
                message_id=claimed.message.id,
                entry=claimed.entry.id,
                why=facts.get("reason", ""),
            )

    def _tell_fate(self, claimed: Claimed, number: int, fate: Fate) -> None:
        self._count_outcome(claimed, fate.kind.value, number)
        proof = fate.proof
        if fate.kind is FateKind.DELIVERED and proof is not None:
            domain = _domain(claimed, number)
            self._metrics.observe("postern_delivery_seconds", fate.at - claimed.message.received_at)
            labels = {
                "method": claimed.entry.method.value,
                "level": proof.level.word,
                "vouched_by": proof.vouched_by.value,
            }
            self._metrics.count("postern_deliveries_total", labels)
            self._metrics.count("postern_delivery_tls_total", {"version": proof.tls_version or "none"})
            if proof.level is Level.CLEAR:
                self._metrics.count("postern_clear_deliveries_total", {"recipient_domain": domain})
        log.info(
            fate.kind.value,
            message_id=claimed.message.id,
            entry=claimed.entry.id,
            number=number,
            domain=_domain(claimed, number),
            reached=proof.level.word if proof else "",
            reply=str(fate.reply) if fate.reply else "",
            why=fate.why,
        )

    def _count_outcome(self, claimed: Claimed, outcome: str, number: int) -> None:
        domain, sender = _domain(claimed, number), claimed.message.envelope.reverse_path.domain or "none"
        self._metrics.count("postern_recipient_outcomes_total", {"outcome": outcome, "recipient_domain": domain})
        self._metrics.count("postern_sender_outcomes_total", {"outcome": outcome, "sending_domain": sender})

    # --- inside --------------------------------------------------------------

    def _again(self, claimed: Claimed, again: dict[int, Disposition], *, now: float) -> QueueEntry:
        entry = claimed.entry
        missed = any(course.spends_within for course in again.values())
        first = next(iter(again.values()))
        entry = replace(
            entry,
            recipients=tuple(state for state in entry.recipients if state.number in again),
            attempts=entry.attempts + 1,
            tls_failures=entry.tls_failures + missed,
            reason=_reason(first),
        )
        due = schedule.next_due(entry, self._retry, now=now, chance=self._chance(), level_missed=missed)
        return replace(entry, due_at=due)

    def _end_all(self, claimed: Claimed, fate: Fate, course: Disposition, *, now: float, event: str) -> Settlement:
        numbers = [state.number for state in claimed.entry.recipients]
        facts = {"results": {str(number): _fate_facts(fate) for number in numbers}, "reason": course.why}
        return self._settle(
            claimed,
            None,
            dict.fromkeys(numbers, fate),
            dict.fromkeys(numbers, course),
            facts=facts,
            now=now,
            event=event,
        )

    def _settle(
        self,
        claimed: Claimed,
        entry: QueueEntry | None,
        fates: dict[int, Fate],
        failed: dict[int, Disposition],
        *,
        facts: dict[str, Any],
        now: float,
        event: str = "attempt",
        alert: str = "",
    ) -> Settlement:
        changes: list[Change] = []
        told: dict[str, Any] = {}
        if entry is not None and entry.warn_at is not None and entry.warn_at <= now:
            changes += self._notices.delay(claimed.message, claimed.content, entry, now=now).changes
            entry = replace(entry, warn_at=None)
            told["warned"] = True
        if failed:
            notice = self._notices.failure(claimed.message, claimed.content, self._failures(claimed, failed), now=now)
            changes += notice.changes
            told["dsn"] = notice.told.value
            if notice.told is Told.NOBODY and not alert:
                alert = "undeliverable-notice"
        stored = entry if entry is not None else replace(claimed.entry, recipients=())
        facts = {
            "entry": claimed.entry.id,
            "destination": claimed.entry.destination,
            "attempt": claimed.entry.attempts + 1,
            "rule": claimed.entry.treatment.rule,
            "policy": claimed.entry.treatment.policy_version,
            **facts,
            **told,
        }
        note = AuditEvent(kind=event, at=now, message_id=claimed.message.id, facts=facts)
        return Settlement(
            unit=(Settle(entry=stored, fates=fates), *changes, Note(events=(note,))),
            fates=fates,
            entry=entry,
            facts=facts,
            event=event if event != "attempt" else "deferred",
            alert=alert,
        )

    @staticmethod
    def _failures(claimed: Claimed, failed: dict[int, Disposition]) -> list[tuple[RecipientState, Disposition]]:
        return [(state, failed[state.number]) for state in claimed.entry.recipients if state.number in failed]


def _domain(claimed: Claimed, number: int | None = None) -> str:
    """The domain of a recipient of the entry, or of its first."""
    states = claimed.entry.recipients
    return next((one.recipient.address.domain for one in states if number in (None, one.number)), "")


def _scrubbed(reply: Reply | None) -> Reply | None:
    return None if reply is None else replace(reply, lines=tuple(scrub(line) for line in reply.lines))


def _bounced(course: Disposition, now: float, proof: Proof | None) -> Fate:
    return Fate(kind=FateKind.BOUNCED, at=now, reply=_scrubbed(course.reply), why=course.why, proof=proof)


def _reason(course: Disposition) -> str:
    host = f" ({course.host})" if course.host else ""
    answer = f": {scrub(str(course.reply))}" if course.reply is not None else ""
    return f"{course.why}{host}{answer}"


def _proof_facts(proof: Proof | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    return {
        "level": proof.level.word,
        "vouched_by": proof.vouched_by.value,
        "host": proof.host,
        "address": proof.address,
        "tls_version": proof.tls_version,
        "cipher": proof.cipher,
        "certificate_sha256": proof.certificate_sha256,
        "issuer": proof.issuer,
        "not_after": proof.not_after,
        "failure": proof.failure,
    }


def _fate_facts(fate: Fate) -> dict[str, Any]:
    return {"fate": fate.kind.value, "reply": str(fate.reply) if fate.reply else "", "why": fate.why}


def _course_facts(course: Disposition) -> dict[str, Any]:
    return {
        "course": course.course.value,
        "status": str(course.status),
        "why": course.why,
        "host": course.host,
        "reply": scrub(str(course.reply)) if course.reply is not None else "",
    }
