"""From results to one unit of work: fates, what is tried again, what is told to whom, and the audit row of it all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from relay.core.change import AuditEvent, Change, Note, Settle, UnitOfWork
from relay.core.decision import MethodName
from relay.core.entry import Claimed, EntryState, QueueEntry, RecipientState
from relay.core.fate import Fate, FateKind
from relay.core.level import Level, Proof
from relay.core.outcome import Failure, RecipientResult
from relay.core.ports import Ended, Metrics
from relay.core.reply import EnhancedStatus
from relay.core.returning import Handled
from relay.delivery import plan as planning
from relay.delivery import schedule
from relay.delivery.bounce import Verdict
from relay.delivery.brake import Brakes, Pause
from relay.delivery.classify import Classifier
from relay.delivery.plan import Move, Plan
from relay.delivery.provider import Providers
from relay.delivery.schedule import RetryOptions
from relay.delivery.trouble import Course, Disposition, belongs_in_next_transaction, disposition, of_result
from relay.mail.echo import Echoes
from relay.worker import said
from relay.worker.meaning import EXPIRED, Meanings, named, understood
from relay.worker.notices import Notices, Told
from relay.worker.trail import context, fate_events, proof_facts

log = structlog.get_logger("delivery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt came to.

    Attributes:
        unit: to be committed whole.
        fates: recipient number to fate.
        entry: the entry as it stays in the queue; ``None`` when every recipient has its fate.
        event: what the log line calls it.
        alert: the alert's name, or empty.
        missed: whether the level was not reached.
        verdicts: recipient number to what its refusal was understood to mean.
        at: unix seconds.
        then: called once the unit is on disk.
    """

    unit: UnitOfWork
    fates: dict[int, Fate]
    entry: QueueEntry | None
    event: str
    alert: str = ""
    missed: bool = False
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    at: float = 0.0
    then: Callable[[], None] | None = None


class Recorder:
    """Builds settlements. Pure but for the chance it is given; the commit is the caller's.

    Args:
        notices: makes DSNs.
        retry: how retries are spaced.
        chance: a random number in [0, 1) for jitter.
        metrics: counts, in :meth:`tell`.
        classifier: understands refusals; without rules every reply is ``other``.
        brakes: heed what refusals ask for, in :meth:`tell`.
        providers: who runs recipients' mail, for metrics.
    """

    def __init__(
        self,
        notices: Notices,
        retry: RetryOptions,
        chance: Callable[[], float],
        metrics: Metrics,
        *,
        classifier: Classifier | None = None,
        brakes: Brakes | None = None,
        providers: Providers | None = None,
    ) -> None:
        self._notices = notices
        self._retry = retry
        self._chance = chance
        self._metrics = metrics
        self.meanings = Meanings(metrics, classifier, brakes, providers)

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
        taken_as: FateKind = FateKind.DELIVERED,
    ) -> Settlement:
        """After sending: a fate for those taken or refused for good, a retry for the rest.

        ``taken_as``: what a recipient's copy came to that was taken: ``notified`` where it was the portal's notice.
        """
        fates: dict[int, Fate] = {}
        failed: dict[int, Disposition] = {}
        again: dict[int, Disposition] = {}
        verdicts: dict[int, Verdict] = {}
        hide = said.local_parts(claimed)
        for result in map(Echoes(claimed.content).withheld, results):
            course = of_result(result)
            if course is None:
                reply = said.scrubbed(result.reply, hide)
                fates[result.number] = Fate(kind=taken_as, at=now, reply=reply, proof=proof)
                continue
            verdict = verdicts[result.number] = self.meanings.of(course)
            if course.course is Course.FAIL:
                fates[result.number] = understood(said.bounced(course, now, proof, hide), verdict)
                failed[result.number] = course
            else:
                again[result.number] = course
        facts = {"method": method.value, "floor": floor.word}
        if taken_as is FateKind.NOTIFIED:  # the copy stays in the portal at its own floor; what travels is a notice
            facts |= {"floor": claimed.entry.treatment.floor.word, "notice_floor": floor.word}
        waits = {"proof": proof_facts(proof), "waits": said.waits(claimed, again, verdicts)} if again else {}
        entry = self._again(claimed, again, now=now) if again else None
        if entry is not None and len(fates) > len(failed) and all(map(belongs_in_next_transaction, again.values())):
            entry = replace(entry, due_at=now, attempts=claimed.entry.attempts)  # some were taken: the rest, now
            verdicts = {number: verdict for number, verdict in verdicts.items() if number not in again}
        if entry is not None and any(course.course is Course.HOLD for course in again.values()):
            entry = replace(entry, state=EntryState.HELD)
        missed = any(course.spends_within for course in again.values())
        return self._settle(
            claimed, entry, fates, failed, facts=facts, waits=waits, now=now, missed=missed, verdicts=verdicts
        )

    def relayed(self, claimed: Claimed, settlement: Settlement, reported: frozenset[int], *, now: float) -> Settlement:
        """The same, and where nobody further on reports success (others than ``reported``) the sender told by us."""
        fates = {number: fate for number, fate in settlement.fates.items() if number not in reported}
        notice = self._notices.success(claimed, fates, now=now)
        return replace(settlement, unit=(*settlement.unit, *notice.changes)) if notice.changes else settlement

    def defer(self, claimed: Claimed, failure: Failure, *, now: float) -> Settlement:
        """Nothing could be tried: everyone waits, for one reason."""
        course = disposition(failure)
        again = dict.fromkeys((state.number for state in claimed.entry.recipients), course)
        verdicts = dict.fromkeys(again, self.meanings.of(course))
        waits = {"waits": said.waits(claimed, again, verdicts), "detail": failure.detail}
        settlement = self._settle(claimed, self._again(claimed, again, now=now), {}, {}, waits=waits, now=now)
        return replace(settlement, verdicts=verdicts)

    def postpone(self, claimed: Claimed, until: float, why: Pause, *, now: float) -> Settlement:
        """The destination is left in peace for now: the copy keeps its attempts and waits for its place."""
        end = schedule.deadline(claimed.entry)
        due = min([until, claimed.entry.expires_at, *([end] if end is not None and end > now else [])])
        entry = replace(claimed.entry, due_at=due, reason=why.value)
        return self._settle(claimed, entry, {}, {}, waits={"reason": why.value}, now=now, event="postponed")

    def expire(self, claimed: Claimed, *, now: float) -> Settlement:
        """The time is up, in whatever state: everyone left ends as expired, and the sender is told."""
        course = Disposition(
            course=Course.FAIL,
            status=EnhancedStatus(5, 4, 7),  # delivery time expired, RFC 3463 section 3.5
            why=f"it could not be delivered in time: {claimed.entry.reason or 'it was never tried'}",
        )
        fate = understood(Fate(kind=FateKind.EXPIRED, at=now, why=course.why), EXPIRED)
        settlement = self._end_all(claimed, fate, course, now=now, event="expired")
        return replace(settlement, verdicts=dict.fromkeys(settlement.fates, EXPIRED))

    def processed(self, claimed: Claimed, handled: Handled, *, now: float) -> Settlement:
        """A message to a report address was read; what that came to is part of the unit."""
        fate = Fate(kind=FateKind.PROCESSED, at=now, why=handled.why)
        fates = {state.number: fate for state in claimed.entry.recipients}
        settlement = self._settle(claimed, None, fates, {}, now=now)
        return replace(settlement, unit=(*settlement.unit, *handled.changes), then=handled.then)

    def keep_held(self, claimed: Claimed, *, now: float) -> Settlement:
        """A held entry fell due for its delay warning alone."""
        entry = claimed.entry
        return self._settle(claimed, entry, {}, {}, waits={"reason": entry.reason}, now=now, event="warned")

    def hold(self, claimed: Claimed, *, why: str, now: float, alert: str = "held") -> Settlement:
        """An operator must look."""
        entry = replace(claimed.entry, state=EntryState.HELD, reason=why)
        return self._settle(claimed, entry, {}, {}, waits={"reason": why}, now=now, event="held", alert=alert)

    def move(self, claimed: Claimed, plan: Plan, *, now: float) -> Settlement:
        """The plan is not to attempt: switch the method, wait, hold or bounce."""
        if plan.move is Move.HOLD:
            return self.hold(claimed, why=plan.why, now=now)
        if plan.move is Move.BOUNCE:
            course = Disposition(course=Course.FAIL, status=EnhancedStatus(5, 7, 10), why=plan.why)
            return self._end_all(claimed, said.bounced(course, now, None), course, now=now, event="bounced")
        if plan.move is Move.SWITCH:
            entry = planning.switch(claimed.entry, plan.method, now=now, why=plan.why, cause=plan.cause)
            waits = {"from": claimed.entry.method.value, "to": plan.method.value, "reason": plan.why}
            return self._settle(claimed, entry, {}, {}, waits=waits, now=now, event="switched")
        attempts = claimed.entry.attempts + 1
        entry = replace(claimed.entry, attempts=attempts, reason=plan.why)
        entry = replace(entry, due_at=schedule.next_due(entry, self._retry, now=now, chance=self._chance()))
        return self._settle(claimed, entry, {}, {}, waits={"reason": plan.why}, now=now, event="deferred")

    def part(self, claimed: Claimed, *, now: float) -> Settlement:
        """One entry for each recipient: the method in force makes a rendering for each."""
        entry, *split = (replace(one, due_at=now) for one in planning.parted(claimed.entry))
        parts = {one.id: [state.number for state in one.recipients] for one in (entry, *split)}
        return self._settle(claimed, entry, {}, {}, waits={"parts": parts}, now=now, event="parted", split=tuple(split))

    def ended(self, claimed: Claimed, ended: Ended, *, now: float) -> Settlement:
        """It met its end elsewhere before it left: nobody has it, and who ended it has told the sender."""
        fate = Fate(kind=ended.fate, at=now, why=ended.why)
        return self._settle(claimed, None, {state.number: fate for state in claimed.entry.recipients}, {}, now=now)

    # --- after the commit --------------------------------------------------

    def tell(self, claimed: Claimed, settlement: Settlement) -> None:
        """Count and log what is now on disk, and brake where the other side asks for it."""
        self.meanings.heed(claimed, settlement.fates, settlement.verdicts, settlement.at)
        if settlement.then is not None:
            settlement.then()
        for number, fate in settlement.fates.items():
            self._tell_fate(claimed, number, fate)
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
                **named(settlement.verdicts, [state.number for state in settlement.entry.recipients]),
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
                why=_cause(settlement.entry, settlement.fates),
            )

    def _tell_fate(self, claimed: Claimed, number: int, fate: Fate) -> None:
        self._count_outcome(claimed, fate.kind.value, number)
        proof = fate.proof
        if fate.kind in {FateKind.DELIVERED, FateKind.NOTIFIED} and proof is not None:
            self._metrics.observe("postern_delivery_seconds", fate.at - claimed.message.received_at)
            labels = {
                "method": claimed.entry.method.value,
                "level": proof.level.word,
                "vouched_by": proof.vouched_by.value,
            }
            self._metrics.count("postern_deliveries_total", labels)
            self._metrics.count("postern_delivery_tls_total", {"version": proof.tls_version or "none"})
        log.info(
            fate.kind.value,
            message_id=claimed.message.id,
            entry=claimed.entry.id,
            number=number,
            domain=_domain(claimed, number),
            reached=proof.level.word if proof else "",
            reply=str(fate.reply) if fate.reply else "",
            why=fate.why,
            **({"bounce_class": fate.bounce_class, "family": fate.bounce_family} if fate.bounce_class else {}),
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
            reason=said.reason(first, said.local_parts(claimed)),
        )
        due = schedule.next_due(entry, self._retry, now=now, chance=self._chance(), level_missed=missed)
        return replace(entry, due_at=due)

    def _end_all(self, claimed: Claimed, fate: Fate, course: Disposition, *, now: float, event: str) -> Settlement:
        numbers = [state.number for state in claimed.entry.recipients]
        return self._settle(
            claimed, None, dict.fromkeys(numbers, fate), dict.fromkeys(numbers, course), now=now, event=event
        )

    def _settle(
        self,
        claimed: Claimed,
        entry: QueueEntry | None,
        fates: dict[int, Fate],
        failed: dict[int, Disposition],
        *,
        now: float,
        facts: dict[str, Any] | None = None,
        waits: dict[str, Any] | None = None,
        event: str = "attempt",
        alert: str = "",
        split: tuple[QueueEntry, ...] = (),
        missed: bool = False,
        verdicts: Mapping[int, Verdict] | None = None,
    ) -> Settlement:
        """Put a unit of work together.

        Args:
            claimed: what was claimed.
            entry: what stays in the queue; ``None``: nothing.
            fates: recipient number to fate.
            failed: recipient number to what the DSN says.
            now: unix seconds.
            facts: of the attempt, for each fate's audit event.
            waits: for the audit event of what stays.
            event: that event's kind.
            alert: an alert's name, or empty.
            split: entries that take recipients over.
            missed: whether a level was not reached.
            verdicts: what the failures mean, by recipient number.
        """
        changes: list[Change] = []
        facts = dict(facts or {})
        if failed:
            notice = self._notices.failure(claimed.message, claimed.content, self._failures(claimed, failed), now=now)
            changes += notice.changes
            facts["dsn"] = notice.told.value
            if notice.told is Told.NOBODY:
                alert = alert or "undeliverable-notice"
        events = fate_events(claimed, fates, facts)
        if entry is not None:
            told = dict(waits or {})
            entry = self._warned(claimed, entry, told, changes, now=now)
            whole = {**context(claimed), **facts, **told, "due_at": entry.due_at, "state": entry.state.value}
            events.append(AuditEvent(kind=event, at=now, message_id=claimed.message.id, facts=whole))
        if alert:
            told = {"alert": alert, "entry": claimed.entry.id, "why": _cause(entry, fates)}
            events.append(AuditEvent(kind="alert", at=now, message_id=claimed.message.id, facts=told))
        stored = entry if entry is not None else _ended(claimed.entry, fates)
        return Settlement(
            unit=(Settle(entry=stored, fates=fates, split=split), *changes, Note(events=tuple(events))),
            fates=fates,
            entry=entry,
            event=event if event != "attempt" else "deferred",
            alert=alert,
            at=now,
            missed=missed,
            verdicts=verdicts or {},
        )

    def _warned(
        self, claimed: Claimed, entry: QueueEntry, told: dict[str, Any], changes: list[Change], *, now: float
    ) -> QueueEntry:
        """The entry, and its sender told of the delay if it is time; ``told`` and ``changes`` take what follows."""
        if entry.warn_at is None or entry.warn_at > now:
            return entry
        warning = self._notices.delay(claimed.message, claimed.content, entry, now=now)
        changes += warning.changes
        told["warned"] = warning.told is Told.SENDER
        return replace(entry, warn_at=None)

    @staticmethod
    def _failures(claimed: Claimed, failed: dict[int, Disposition]) -> list[tuple[RecipientState, Disposition]]:
        return [(state, failed[state.number]) for state in claimed.entry.recipients if state.number in failed]


def _domain(claimed: Claimed, number: int | None = None) -> str:
    """The domain of a recipient of the entry, or of its first."""
    states = claimed.entry.recipients
    return next((one.recipient.address.domain for one in states if number in (None, one.number)), "")


def _cause(entry: QueueEntry | None, fates: Mapping[int, Fate]) -> str:
    """Why a copy stands where it does, or how it ended."""
    if entry is not None:
        return entry.reason
    return "; ".join(dict.fromkeys(f"{fate.why}: {fate.reply}" if fate.reply else fate.why for fate in fates.values()))


def _ended(entry: QueueEntry, fates: Mapping[int, Fate]) -> QueueEntry:
    """What names the entry to delete: as it was where every recipient has a fate, else without recipients."""
    if all(state.number in fates for state in entry.recipients):
        return entry
    return replace(entry, recipients=())
