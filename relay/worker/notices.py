"""Messages of our own about others: failure, delay and success to senders, double bounces to the postmaster."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from relay.core.address import NULL_SENDER, Address
from relay.core.change import AuditEvent, Change, Keep, Note
from relay.core.decision import Action, MethodName, Otherwise, PolicyDecision, Treatment
from relay.core.entry import Claimed, EntryState, QueueEntry, RecipientState
from relay.core.envelope import Envelope, Message, Origin, Recipient
from relay.core.fate import Fate, FateKind
from relay.core.level import Level
from relay.core.reply import EnhancedStatus, Reply
from relay.delivery import schedule
from relay.delivery.routing import RouteTable
from relay.delivery.schedule import RetryOptions
from relay.delivery.trouble import Course, Disposition
from relay.mail import dsn
from relay.mail.told import Ruling

log = structlog.get_logger("notices")


_UNANSWERED = frozenset({Origin.NOTICE, Origin.RETURNED})
"""Nobody is told of their failure: whom they are from is the postmaster, or a stranger who may be forged."""
_RELAYED: Final = EnhancedStatus(2, 1, 9)  # RFC 3463 section 3.2: relayed to a non-compliant mailer
_TAKEN: Final = {
    FateKind.DELIVERED: "its server has the message, and reports nothing of what becomes of it",
    FateKind.NOTIFIED: "the message waits on the secure page, and a notice that says so was taken by its server",
}
"""What a copy came to that nobody further on reports success of, in plain words."""


class Told(StrEnum):
    """Who was told of a failure."""

    SENDER = "sender"
    POSTMASTER = "postmaster"
    NOBODY = "nobody"
    """A notice to the postmaster itself failed, or none could be written: an alert is all that is left."""
    NOT_WANTED = "not-wanted"
    """The sender asked for NOTIFY=NEVER, or without FAILURE (RFC 3461 section 4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Changes that keep the notices, for the same unit of work as what they tell of."""

    changes: tuple[Change, ...] = ()
    told: Told = Told.NOT_WANTED


class Notices:
    """Builds notices as new queue entries: a message of ours skips policy and has a fixed floor.

    Args:
        writer: the DSN's own settings (postmaster, reporting MTA).
        routes: where a notice goes; an internal route may carry it at any level.
        retry: how long it is tried.
        new_id: a new queue id for a time.
    """

    def __init__(
        self, writer: dsn.DsnWriter, routes: RouteTable, retry: RetryOptions, new_id: Callable[[float], str]
    ) -> None:
        self._writer = writer
        self._routes = routes
        self._retry = retry
        self._new_id = new_id

    def failure(
        self,
        message: Message,
        content: bytes | None,
        failed: Sequence[tuple[RecipientState, Disposition]],
        *,
        now: float,
    ) -> Notice:
        """Tell the sender (or, for the null sender, the postmaster) which recipients failed, and why.

        Never raises: a fault in writing a notice must not keep a copy from its end. Then nobody was told.
        """
        wanted = [item for item in failed if item[0].recipient.wants("FAILURE")]
        if message.origin is Origin.PORTAL:
            return Notice()  # a code or reminder that nobody got: whoever waits for it asks again
        if message.origin in _UNANSWERED:
            return Notice(told=Told.NOBODY)
        if not wanted:
            return Notice()
        sender = message.envelope.reverse_path.address
        to = self._writer.postmaster if sender is None else sender
        reports = tuple(_report(state, course, now=now) for state, course in wanted)
        try:
            body = self._writer.failure(message, content, reports, to=to, now=now)
        except Exception:
            log.exception("a failure notice could not be written", message_id=message.id)
            return Notice(told=Told.NOBODY)
        if sender is not None:
            return Notice(changes=self.keep(body, to, Origin.DSN, message, now=now), told=Told.SENDER)
        return Notice(changes=self.keep(body, to, Origin.NOTICE, message, now=now), told=Told.POSTMASTER)

    def refused(
        self, message: Message, content: bytes, refusals: Sequence[tuple[Recipient, Reply, str]]
    ) -> tuple[Change, ...]:
        """The failure notice for recipients that policy refused while others of the message were taken."""
        now = message.received_at
        failed = [
            (
                RecipientState(number=number, recipient=recipient),
                Disposition(course=Course.FAIL, status=reply.enhanced or EnhancedStatus(5, 7, 1), why=why, reply=reply),
            )
            for number, (recipient, reply, why) in enumerate(refusals)
        ]
        return self.failure(message, content, failed, now=now).changes

    def decided(self, message: Message, decisions: Sequence[PolicyDecision]) -> tuple[Change, ...]:
        """Tell those whom the deciding rules name under ``notify``, one notice a mailbox.

        Never raises, as :meth:`failure`.
        """
        asked: dict[str, Counter[tuple[str, Action]]] = {}
        for decision in decisions:
            treatment = decision.treatment
            for mailbox in treatment.notify:
                asked.setdefault(mailbox, Counter())[treatment.rule, treatment.action] += 1
        changes: tuple[Change, ...] = ()
        now = message.received_at
        for mailbox, rules in asked.items():
            told = [Ruling(rule=rule, action=action, recipients=count) for (rule, action), count in rules.items()]
            try:
                to = Address.parse(mailbox)
                body = self._writer.decision(message, told, to=to, now=now)
                changes += self.keep(body, to, Origin.NOTICE, message, now=now)
            except Exception:
                log.exception("a notice of a decision could not be written", message_id=message.id)
        return changes

    def delay(self, message: Message, content: bytes | None, entry: QueueEntry, *, now: float) -> Notice:
        """Tell the sender that recipients wait; the null sender is never told (RFC 3464 section 2, RFC 5321 6.1).

        Never raises, as :meth:`failure`.
        """
        sender = message.envelope.reverse_path.address
        waiting = [state for state in entry.recipients if state.recipient.wants("DELAY")]
        if sender is None or not waiting or message.origin is not Origin.CLIENT:
            return Notice()
        reports = tuple(
            dsn.Report(recipient=state.recipient, why=entry.reason, will_retry_until=entry.expires_at)
            for state in waiting
        )
        try:
            body = self._writer.delay(message, content, reports, to=sender, now=now)
        except Exception:
            log.exception("a delay notice could not be written", message_id=message.id)
            return Notice(told=Told.NOBODY)
        return Notice(changes=self.keep(body, sender, Origin.DSN, message, now=now), told=Told.SENDER)

    def success(self, claimed: Claimed, fates: Mapping[int, Fate], *, now: float) -> Notice:
        """Tell the sender of copies that were handed on to where nobody reports success, if they asked for it.

        RFC 3461 sections 5.2.2 (b) and 5.2.4 (b). The null sender is never told. Never raises, as :meth:`failure`.
        """
        message, sender = claimed.message, claimed.message.envelope.reverse_path.address
        reports = tuple(
            _handed_on(state.recipient, fates[state.number], now=now)
            for state in claimed.entry.recipients
            if state.recipient.wants("SUCCESS") and state.number in fates and fates[state.number].kind in _TAKEN
        )
        if sender is None or not reports or message.origin is not Origin.CLIENT:
            return Notice()
        try:
            body = self._writer.success(message, reports, to=sender, now=now, content=claimed.content)
        except Exception:
            log.exception("a notice of success could not be written", message_id=message.id)
            return Notice(told=Told.NOBODY)
        return Notice(changes=self.keep(body, sender, Origin.DSN, message, now=now), told=Told.SENDER)

    def keep(self, body: bytes, to: Address, origin: Origin, about: Message, *, now: float) -> tuple[Change, ...]:
        """The changes that keep a notice of ours, to one mailbox.

        About a message with REQUIRETLS it asks for that too, being no less worth protecting (RFC 8689 section 5).
        """
        message_id = self._new_id(now)
        destination = self._routes.destination(to)
        route = self._routes.route_of(destination)
        required = about.envelope.require_tls
        outside = Level.AUTHENTICATED if required else Level.VERIFIED
        treatment = Treatment(
            methods=(MethodName.TLS,),
            floor=Level.CLEAR if route is not None and route.internal else outside,
            rule=origin.value,
            otherwise=Otherwise.DEFER,
        )
        recipient = Recipient(address=to)
        message = Message(
            id=message_id,
            origin=origin,
            received_at=now,
            session=about.session,
            envelope=Envelope(
                reverse_path=NULL_SENDER, recipients=(recipient,), smtputf8=not to.is_ascii, require_tls=required
            ),
            size=len(body),
        )
        entry = QueueEntry(
            id=f"{message_id}.1",
            message_id=message_id,
            destination=destination,
            treatment=treatment,
            method=MethodName.TLS,
            recipients=(RecipientState(number=1, recipient=recipient),),
            state=EntryState.READY,
            created_at=now,
            due_at=now,
            expires_at=schedule.expires_at(treatment, self._retry, accepted_at=now),
        )
        event = AuditEvent(
            kind="notice", at=now, message_id=message_id, facts={"origin": origin.value, "about": about.id}
        )
        return (Keep(message=message, content=body, entries=(entry,)), Note(events=(event,)))


def _handed_on(recipient: Recipient, fate: Fate, *, now: float) -> dsn.Report:
    return dsn.Report(
        recipient=recipient,
        action=dsn.RELAYED,
        status=_RELAYED,
        why=_TAKEN[fate.kind],
        reply=fate.reply,
        host=fate.proof.host if fate.proof is not None else "",
        at=now,
    )


def _report(state: RecipientState, course: Disposition, *, now: float) -> dsn.Report:
    return dsn.Report(
        recipient=state.recipient,
        status=course.status,
        why=course.why,
        reply=course.reply,
        host=course.host,
        at=now,
    )
