"""Reading what came to our report addresses: matched, understood, acted on, and passed on to whoever sent the message.

All that must happen once is in the changes that are committed with the report's end; the rest (a suppression) does no
harm when it is done again. So a worker that is killed anywhere leaves the report to the next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog

from relay.core.address import Address
from relay.core.entry import Claimed, RecipientState
from relay.core.errors import AddressError
from relay.core.ports import Clock, Metrics, QueueStore
from relay.core.reply import EnhancedStatus, Reply
from relay.core.returning import REPORTS, Handled, ReportKind
from relay.core.suppression import Cause, Suppression
from relay.delivery.bounce import BounceAction, BounceClass, Verdict
from relay.delivery.classify import Classifier
from relay.delivery.dispatched import message_of
from relay.delivery.provider import Providers
from relay.mail.dsn import Report
from relay.mail.echo import ordinary
from relay.protect.returnpath import NoReturn, ReturnPath, ReturnPaths
from relay.reputation.copies import Copies, Copy
from relay.reputation.judged import Judged, judge
from relay.reputation.outcome import Outcome, Teller
from relay.reputation.returned import Kind, Returned, is_quick, read_returned
from relay.reputation.suppression import SuppressionList, suppression_event

log = structlog.get_logger("returns")

_DAY: Final = 86_400.0
_SHOWN_RECIPIENTS: Final = 50
_SENT_BACK: Final = "the recipient's mail server took the message, and it came back later"
_STILL_TRIED: Final = "a mail server further on has the message and is still trying to deliver it"
_STATES: Final = {"failed": "failed", "delayed": "delayed", "delivered": "delivered", "relayed": "delivered",
                  "expanded": "delivered"}  # fmt: skip

CountReport: TypeAlias = Callable[[Outcome, bytes], Awaitable[None]]
"""Reads a report that is counted alone, and says in the outcome what it came to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """What follows from what comes back.

    Attributes:
        hard_bounce: seconds for which a mailbox is suppressed that refused mail for good; 0: never.
        complaint: seconds for which a recipient who complained is suppressed; 0: never.
        tell_replies: whether a message's sender is told of automatic replies.
        postmaster_notices: notices a day of what belongs to no message.
    """

    hard_bounce: float = 90 * _DAY
    complaint: float = 365 * _DAY
    tell_replies: bool = True
    postmaster_notices: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderParts:
    """What reading works with.

    Attributes:
        classifier: the one in force now.
        counted: readers of reports that are only counted, by kind.
        withdraw: told which copy will not be had after all, by message id and recipient's number: a portal's notice
            that came back leaves a message that nobody reads. ``None`` where there is no portal.
    """

    store: QueueStore
    paths: ReturnPaths
    listed: SuppressionList
    teller: Teller
    classifier: Callable[[], Classifier]
    providers: Providers
    clock: Clock
    metrics: Metrics
    counted: Mapping[ReportKind, CountReport] = field(default_factory=dict)
    withdraw: Callable[[str, int], Awaitable[object]] | None = None


class ReportReader:
    """Reads one message to a report address after the other. Implements :data:`relay.core.returning.ReadReport`."""

    def __init__(self, parts: ReaderParts, options: ReaderOptions) -> None:
        self._parts = parts
        self._options = options
        self._copies = Copies(parts.store)

    async def __call__(self, claimed: Claimed) -> Handled:
        """Read it.

        Raises:
            StoreError: the store cannot be asked now; the report waits.
        """
        message = claimed.message
        kind = ReportKind(claimed.entry.destination.removeprefix(REPORTS))
        outcome = Outcome(report=message, kind=kind.value, now=self._parts.clock())
        content = claimed.content or b""
        counted = self._parts.counted.get(kind)
        if counted is not None:
            await counted(outcome, content)
        elif kind in (ReportKind.DMARC, ReportKind.TLS):
            outcome.came_to("unread", "nobody here reads such reports")
        else:
            await self._returned(outcome, kind, claimed, await _read(content))
        return outcome.handled(self._parts.metrics)

    async def _returned(self, outcome: Outcome, kind: ReportKind, claimed: Claimed, returned: Returned) -> None:
        outcome.facts |= {"form": returned.form, "returned": returned.kind.value}
        judged = judge(returned, self._parts.classifier())
        path = self._path(kind, claimed.entry.recipients[0].recipient.address, returned, outcome.report.received_at)
        copy = await self._copies.find(path, now=outcome.now) if path is not None else None
        if copy is None:
            await self._unmatched(outcome, returned, judged)
            return
        outcome.facts["about"] = copy.sent.message_id
        if returned.kind is Kind.FEEDBACK:
            await self._complained(outcome, copy, returned, judged)
        elif kind is ReportKind.COMPLAINT:
            await self._unmatched(outcome, returned, judged)
        elif returned.kind is Kind.AUTO_REPLY:
            self._replied(outcome, copy)
        elif returned.kind is Kind.RECEIPT:
            outcome.came_to("receipt", "a disposition notification: the message arrived")
        else:
            await self._bounced(outcome, copy, judged)

    def _path(self, kind: ReportKind, address: Address, returned: Returned, came_at: float) -> ReturnPath | None:
        """The signed address that a report came to, or that the message it is about was sent under."""
        if kind is not ReportKind.RETURN:
            try:
                address = Address.parse(returned.mail_from)
            except AddressError:
                return None
        found = self._parts.paths.read(address, came_at)
        return None if isinstance(found, NoReturn) else found

    # --- bounces ---------------------------------------------------------------

    async def _bounced(self, outcome: Outcome, copy: Copy, judged: tuple[Judged, ...]) -> None:
        about, numbers = message_of(copy.sent), set()
        reports: dict[str, list[Report]] = {"failed": [], "delayed": [], "delivered": []}
        repeated = False
        for one in sorted(judged, key=lambda item: item.recipient.action != "failed"):
            state, exact = copy.recipient(one.recipient.address)
            what = _STATES.get(one.recipient.action, "failed")
            if state is None or state.number in numbers:
                continue
            numbers.add(state.number)
            if copy.is_told(state.number, what):
                repeated = True
                continue
            outcome.changes.append(copy.mark(state.number, what))
            reports[what].append(_report(state, one, what, outcome.now))
            if what == "failed" and self._parts.withdraw is not None:
                await self._parts.withdraw(about.id, state.number)
            await self._learn(outcome, copy, state, one, what, exact=exact)
        if not numbers:
            self._unclear(outcome, copy)
            return
        if not any(reports.values()):
            outcome.came_to("repeated", "it says again what was said before")
            return
        teller = self._parts.teller
        notices = (
            *teller.failed(about, reports["failed"], now=outcome.now),
            *teller.delayed(about, reports["delayed"], now=outcome.now),
            *teller.delivered(about, reports["delivered"], now=outcome.now),
        )
        outcome.changes += notices
        outcome.facts |= {"recipients": sum(map(len, reports.values())), "passed_on": bool(notices)}
        outcome.came_to("matched", f"about message {about.id}" + (", in part said before" if repeated else ""))

    async def _learn(
        self, outcome: Outcome, copy: Copy, state: RecipientState, one: Judged, what: str, *, exact: bool
    ) -> None:
        """Count one recipient's bounce, tell the audit trail, and suppress where it says so for good."""
        verdict, sent = one.verdict, copy.sent
        facts = {"entry": sent.entry_id, "numbers": [state.number], "outcome": what}
        if verdict is not None:
            facts |= {"class": verdict.klass.value, "family": verdict.family.value, "rule": verdict.rule}
            self._count(outcome, copy, state, verdict)
        outcome.tell("returned", sent.message_id, **facts, status=_safe_status(one.recipient.status))
        if verdict is None or what != "failed" or not exact or not self._options.hard_bounce:
            return
        if not copy.is_ones_own:
            return  # each of its recipients saw the address, and could write in another's name
        if verdict.action is BounceAction.SUPPRESS and verdict.permanent:
            said = ordinary(one.recipient.reason)
            evidence = f"{said} ({verdict.klass.value}, rule {verdict.rule}, {sent.message_id}, came back later)"
            await self._suppress(outcome, copy, state, Cause.HARD_BOUNCE, evidence, self._options.hard_bounce, "")

    def _count(self, outcome: Outcome, copy: Copy, state: RecipientState, verdict: Verdict) -> None:
        domain, sender = state.recipient.address.domain, copy.sent.sender.domain or "none"
        klass, family = verdict.klass.value, verdict.family.value
        provider = self._parts.providers.of(domain, copy.sent.host)
        outcome.count("bounces", {"class": klass, "course": "returned", "recipient_domain": domain})
        outcome.count("bounce_families", {"family": family, "course": "returned", "sending_domain": sender})
        outcome.count("provider_bounces", {"provider": provider, "family": family, "course": "returned"})
        if verdict.action is BounceAction.TELL:
            outcome.count("alerts", {"kind": f"bounce-{klass}"})

    def _unclear(self, outcome: Outcome, copy: Copy) -> None:
        if copy.is_told(0, "unclear"):
            return outcome.came_to("repeated", "something unclear came back before")
        about = message_of(copy.sent)
        outcome.changes.append(copy.mark(0, "unclear"))
        outcome.changes += self._parts.teller.unclear(about, _mailboxes(copy), now=outcome.now)
        outcome.tell("returned", about.id, entry=copy.sent.entry_id, outcome="unclear")
        return outcome.came_to("unclear", f"about message {about.id}, and not to be understood")

    # --- replies and complaints --------------------------------------------------

    def _replied(self, outcome: Outcome, copy: Copy) -> None:
        state, about = copy.sent.recipients[0], message_of(copy.sent)
        provider = self._parts.providers.of(state.recipient.address.domain, copy.sent.host)
        outcome.count("auto_replies", {"provider": provider, "sending_domain": copy.sent.sender.domain or "none"})
        if copy.is_told(state.number, "replied"):
            return outcome.came_to("repeated", "another automatic reply")
        outcome.changes.append(copy.mark(state.number, "replied"))
        if self._options.tell_replies:
            outcome.changes += self._parts.teller.replied(about, _mailboxes(copy), now=outcome.now)
        outcome.tell("returned", about.id, entry=copy.sent.entry_id, outcome="auto-reply")
        return outcome.came_to("auto-reply", f"an automatic reply to message {about.id}")

    async def _complained(self, outcome: Outcome, copy: Copy, returned: Returned, judged: tuple[Judged, ...]) -> None:
        one = judged[0]
        state, _ = copy.recipient(one.recipient.address)
        if one.verdict is None or one.verdict.klass is not BounceClass.COMPLAINT:
            return outcome.came_to(
                "feedback", f"feedback of type {_word(returned.feedback_type)}, which is no complaint"
            )
        domain = (state or copy.sent.recipients[0]).recipient.address.domain
        provider = self._parts.providers.of(domain, copy.sent.host)
        outcome.count("complaints", {"provider": provider, "sending_domain": copy.sent.sender.domain or "none"})
        if state is None:
            outcome.tell("returned", copy.sent.message_id, entry=copy.sent.entry_id, outcome="complaint")
            return outcome.came_to("complaint", f"of one of several recipients of message {copy.sent.message_id}")
        if copy.is_told(state.number, "complained"):
            return outcome.came_to("repeated", "the same recipient complained before")
        outcome.changes.append(copy.mark(state.number, "complained"))
        numbers = [state.number]
        outcome.tell("returned", copy.sent.message_id, entry=copy.sent.entry_id, numbers=numbers, outcome="complaint")
        if self._options.complaint and copy.is_ones_own:
            evidence = f"feedback report of type {_word(returned.feedback_type)} about {copy.sent.message_id}"
            stream = copy.sent.stream
            await self._suppress(outcome, copy, state, Cause.COMPLAINT, evidence, self._options.complaint, stream)
        return outcome.came_to("complaint", f"a complaint about message {copy.sent.message_id}")

    async def _suppress(
        self, outcome: Outcome, copy: Copy, state: RecipientState, cause: Cause, evidence: str, lasts: float,
        stream: str,
    ) -> None:  # fmt: skip
        listed, address, tenant = self._parts.listed, state.recipient.address, copy.sent.tenant
        item = Suppression(
            address=address, tenant=tenant, stream=stream, cause=cause, evidence=evidence, since=outcome.now,
            until=outcome.now + lasts,
        )  # fmt: skip
        if not await listed.heeds(item):
            return
        await listed.suppress(item)
        outcome.events.append(suppression_event(item, outcome.now, message_id=copy.sent.message_id))
        provider = self._parts.providers.of(address.domain, copy.sent.host)
        outcome.count("suppressions", {"cause": cause.value, "recipient_domain": address.domain})
        outcome.count("provider_suppressions", {"cause": cause.value, "provider": provider})

    # --- what belongs to nothing ---------------------------------------------------

    async def _unmatched(self, outcome: Outcome, returned: Returned, judged: tuple[Judged, ...]) -> None:
        outcome.came_to("unmatched", "it belongs to no message that is remembered")
        verdict = next((one.verdict for one in judged if one.verdict is not None), None)
        outcome.tell("returned", outcome.report.id, outcome="unmatched", form=returned.form)
        most = self._options.postmaster_notices
        now, session = outcome.now, outcome.report.session
        if not most or await self._parts.store.count("unmatched-notices", window=_DAY, now=now) > most:
            return
        facts = [
            f"address for: {outcome.kind}",
            f"from: {session.network or 'unknown'}",
            f"what it is: {returned.kind.value}{f' ({returned.form})' if returned.form else ''}",
            f"what it says: {verdict.klass.value if verdict is not None else 'nothing that is understood'}",
            f"octets: {outcome.report.size}",
        ]
        outcome.changes += self._parts.teller.unmatched(outcome.report, facts, now=now)


async def _read(content: bytes) -> Returned:
    return read_returned(content) if is_quick(content) else await asyncio.to_thread(read_returned, content)


def _mailboxes(copy: Copy) -> list[Address]:
    return [state.recipient.address for state in copy.sent.recipients[:_SHOWN_RECIPIENTS]]


def _report(state: RecipientState, one: Judged, what: str, now: float) -> Report:
    """What the sender is told of one recipient: of the answer only what every server says."""
    action = one.recipient.action if what == "delivered" else ""
    if one.verdict is None or what == "delivered":
        return Report(recipient=state.recipient, why=_SENT_BACK, action=action, at=now)
    klass = 5 if what == "failed" else 4
    status = one.verdict.status
    told = EnhancedStatus(klass, status.subject, status.detail) if status is not None else None
    why, reply = _SENT_BACK if what == "failed" else _STILL_TRIED, _reply(one, told)
    if reply is None and (said := ordinary(one.recipient.reason)):
        why = f"{why}: {said}"
    return Report(recipient=state.recipient, why=why, status=told, reply=reply, at=now)


def _reply(one: Judged, status: EnhancedStatus | None) -> Reply | None:
    """The answer, whitelisted word by word; ``None`` where there was no SMTP reply."""
    verdict = one.verdict
    if verdict is None or not 400 <= verdict.code <= 599:
        return None
    enhanced = status if status is not None and status.klass == verdict.code // 100 else None
    text = one.recipient.reason
    for shown in (str(verdict.code), str(verdict.status or "")):
        text = text.replace(shown, "", 1) if shown else text
    return Reply(verdict.code, enhanced, (ordinary(text).strip(" -:;,") or "no words",))


def _safe_status(text: str) -> str:
    return str(EnhancedStatus.parse(text) or "")


def _word(text: str) -> str:
    """A feedback type as RFC 5965 section 7.3 has them; anything else is ``other``."""
    return text if text in {"abuse", "fraud", "virus", "not-spam", "auth-failure", "opt-out"} else "other"
