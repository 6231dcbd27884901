"""Acceptance: a message in memory becomes a message on disk, decided for each recipient (law 1), or is refused."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

import structlog

from relay.core.address import Address
from relay.core.change import Change, Keep, Note
from relay.core.decision import Action, MethodName, PolicyDecision
from relay.core.entry import Claimed, EntryState, QueueEntry
from relay.core.envelope import ClientSession, Envelope, Message, MessageFacts, Origin, Recipient
from relay.core.errors import AddressError, StoreError, StoreFullError
from relay.core.ids import ENTROPY_BYTES, queue_id
from relay.core.phi import Finding, FindingGroup, PhiVerdict
from relay.core.ports import Clock, Metrics, PolicyEngine, QueueStore, Scanner, ScanReport
from relay.core.reply import EnhancedStatus, Reply
from relay.intake.clients import Client
from relay.intake.entries import (
    Plan,
    QueueTimes,
    RouteFor,
    build_plan,
    distinct,
    held,
    undecided,
    under_required_tls,
)
from relay.intake.reports import ReportDesk
from relay.intake.trail import trail
from relay.mail.received import from_addresses, head_end, inspect, mend, received

log = structlog.get_logger("accept")

Bounce: TypeAlias = Callable[[Message, bytes, Sequence[tuple[Recipient, Reply, str]]], Sequence[Change]]
"""Builds the failure DSN for recipients that policy refused: message, content, (recipient, reply, why) of each.
Nothing when nobody can be told."""

Tell: TypeAlias = Callable[[Message, Sequence[PolicyDecision]], Sequence[Change]]
"""Builds the notices to those whom the deciding rules name."""


def _tell_nobody(_message: Message, _decisions: Sequence[PolicyDecision]) -> Sequence[Change]:
    return ()


_TOLD_RULES: Final = 10  # rules named in a message's log line; the audit trail names them all
_TAKEN: Final = EnhancedStatus(2, 0, 0)
LOOP: Final = Reply.of(554, "5.4.6", "Too many hops: the message is looping")
BIG_HEADER: Final = Reply.of(552, "5.3.4", "The header is larger than this server takes")
FULL: Final = Reply.of(452, "4.3.1", "No room for another message; try again later")
UNAVAILABLE: Final = Reply.of(451, "4.3.0", "Cannot take the message now; try again later")
FROM_REFUSED: Final = Reply.of(550, "5.7.1", "The From field names a mailbox that this client may not send as")
FROM_MISSING: Final = Reply.of(550, "5.7.1", "There is no From field with a mailbox; this client must send as its own")


class Hand(Protocol):
    """This worker's lanes, which deliver fresh mail without reading it back."""

    def reserve(self, destination: str) -> bool:
        """Take room for one entry; ``False``: leave it to others."""

    def give_up(self, count: int) -> None:
        """Return room that was not used."""

    def hand_over(self, claimed: Iterable[Claimed]) -> None:
        """Deliver entries for which room is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptOptions:
    """Settings of acceptance.

    Attributes:
        hostname: our name in Received and in Message-IDs that we add.
        max_hops: Received fields at which a message counts as looping (RFC 5321 section 6.3).
        max_header: octets of a header.
        times: when copies expire and warn.
        methods: the methods that are configured.
    """

    hostname: str
    max_hops: int = 50
    max_header: int = 256 * 1024
    times: QueueTimes = field(default_factory=QueueTimes)
    methods: frozenset[MethodName] = frozenset({MethodName.TLS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What acceptance works with.

    Attributes:
        bounce: builds the failure DSN for recipients that policy refused while others were taken.
        tell: builds the notices that the deciding rules ask for (``notify``).
        reports: keeps mail to report addresses; ``None``: there are none.
        entropy: ``n -> n`` random bytes from a cryptographic source.
    """

    scanner: Scanner
    policy: PolicyEngine
    store: QueueStore
    hand: Hand
    metrics: Metrics
    route_for: RouteFor
    bounce: Bounce
    clock: Clock
    entropy: Callable[[int], bytes]
    tell: Tell = _tell_nobody
    reports: ReportDesk | None = None


class Acceptor:
    """Takes one message after the other. ``parts.policy`` may stand for whichever policy is running."""

    def __init__(self, options: AcceptOptions, parts: Parts) -> None:
        self._options = options
        self._parts = parts

    async def accept(
        self, session: ClientSession, envelope: Envelope, content: bytes, *, client: Client | None = None
    ) -> Reply:
        """Scan, decide, keep; the reply is for the final dot. 250 is given only when all is on disk (law 1).

        Never raises: whatever fails inside is logged with the message's id, and the client is told to come again.
        """
        now = self._parts.clock()
        message_id = queue_id(now, self._parts.entropy(ENTROPY_BYTES))
        judged: dict[str, Any] = {}
        try:
            reply = await self._accept(message_id, now, session, envelope, content, client, judged)
        except StoreFullError:
            reply = FULL
        except StoreError as error:
            log.warning("not kept", message_id=message_id, error=str(error))
            reply = UNAVAILABLE
        except Exception as error:  # noqa: BLE001 - a fault of ours must not lose the message nor show itself
            # The type and place only: an exception's text may quote the message (law 4).
            log.error("acceptance failed", message_id=message_id, error=type(error).__name__, where=_place(error))
            self._parts.metrics.count("intake_errors", {"stage": "accept"})
            reply = UNAVAILABLE
        self._parts.metrics.observe("accept_seconds", max(0.0, self._parts.clock() - now))
        self._tell(message_id, session, envelope, len(content), reply, judged)
        return reply

    async def _accept(
        self,
        message_id: str,
        now: float,
        session: ClientSession,
        envelope: Envelope,
        content: bytes,
        client: Client | None,
        judged: dict[str, Any],
    ) -> Reply:
        envelope = distinct(envelope)
        if head_end(content) > self._options.max_header:  # before anything reads a header without end
            return BIG_HEADER
        seen = inspect(content)
        desk = self._parts.reports
        kind = desk.kind_of(envelope) if desk is not None else None
        refusal = self._refusal(seen.hops, client if kind is None else None, content)
        if refusal is None and desk is not None and kind is not None:
            refusal = await desk.refusal(kind, envelope, content)
        if refusal is not None:
            return refusal
        hostname = self._options.hostname
        trace = received(session=session, envelope=envelope, hostname=hostname, queue_id=message_id, now=now)
        author = str(envelope.reverse_path.address or "")
        mended = mend(content, seen, trace=trace, message_id=f"<{message_id}@{hostname}>", now=now, author=author)
        await asyncio.sleep(0)  # stage by stage (docs/architecture.md)
        report, failure = await self._scan(message_id, mended.content, session.client)
        await asyncio.sleep(0)
        if desk is not None and kind is not None:
            message, entry, event = desk.keep(
                kind, message_id, session, envelope,
                size=len(mended.content), verdict=report.verdict, header_id=mended.message_id, now=now,
            )  # fmt: skip
            return await self._commit(message, mended.content, (entry,), [Note(events=(event,))])
        message = Message(
            id=message_id,
            origin=Origin.CLIENT,
            received_at=now,
            session=session,
            envelope=envelope,
            size=len(mended.content),
            verdict=report.verdict,
            message_id=mended.message_id,
            attachments=report.attachments,
            stream=client.stream if client is not None else "transactional",
        )
        decisions = self._decide(message, report, failure)
        judged["phi"] = report.verdict.phi.word
        judged["rules"] = list(dict.fromkeys(decision.treatment.rule for decision in decisions))[:_TOLD_RULES]
        route_for, times, configured = self._parts.route_for, self._options.times, self._options.methods
        plan = build_plan(message, decisions, route_for=route_for, times=times, configured=configured)
        return await self._keep(message, mended.content, decisions, plan, failure)

    def _refusal(self, hops: int, client: Client | None, content: bytes) -> Reply | None:
        if hops >= self._options.max_hops:
            return LOOP
        return _refused_author(client, content) if client is not None and client.check_from else None

    async def _scan(self, message_id: str, content: bytes, client: str) -> tuple[ScanReport, str]:
        """The report, and why the scan failed (empty when it did not)."""
        started = self._parts.clock()
        try:
            report = await self._parts.scanner.scan(content, client)
        except Exception as error:  # noqa: BLE001 - a scan that fails raises protection (law 3)
            log.error("the scan failed", message_id=message_id, error=type(error).__name__, where=_place(error))
            self._parts.metrics.count("intake_errors", {"stage": "scan"})
            finding = Finding(kind="unreadable: error", group=FindingGroup.UNREADABLE, part="", start=0, end=0)
            return ScanReport(verdict=PhiVerdict(findings=(finding,)), subject="", headers=()), "the scan failed"
        metrics = self._parts.metrics
        metrics.observe("scan_seconds", max(0.0, self._parts.clock() - started))
        metrics.count("scan_verdicts", {"phi": report.verdict.phi.word})
        for kind, count in report.verdict.counts().items():
            metrics.count("findings", {"kind": kind}, count)
        return report, ""

    def _decide(self, message: Message, report: ScanReport, failure: str) -> list[PolicyDecision]:
        facts = MessageFacts(
            session=message.session,
            envelope=message.envelope,
            subject=report.subject,
            headers=report.headers,
            size=message.size,
            verdict=report.verdict,
            attachments=report.attachments,
            stream=message.stream,
            received_at=message.received_at,
        )
        decisions = [
            self._decide_one(message.id, facts, recipient.address, failure) for recipient in facts.envelope.recipients
        ]
        return [under_required_tls(one) for one in decisions] if message.envelope.require_tls else decisions

    def _decide_one(self, message_id: str, facts: MessageFacts, recipient: Address, failure: str) -> PolicyDecision:
        try:
            decision = self._parts.policy.decide(facts, recipient)
        except Exception as error:  # noqa: BLE001 - what cannot be decided protects (law 3)
            self._parts.metrics.count("policy_errors")
            log.error("policy failed", message_id=message_id, error=type(error).__name__, where=_place(error))
            return undecided(recipient, "the policy could not be evaluated")
        if decision.error:
            self._parts.metrics.count("policy_errors")
            return held(decision, "the policy could not be evaluated")
        if failure and decision.treatment.action is not Action.REJECT:
            return held(decision, failure)
        return decision

    async def _keep(
        self, message: Message, content: bytes, decisions: Sequence[PolicyDecision], plan: Plan, failure: str
    ) -> Reply:
        for decision in decisions:
            treatment = decision.treatment
            self._parts.metrics.count("messages_decided", {"rule": treatment.rule, "action": str(treatment.action)})
        events = trail(message, plan, decisions, failure)
        told = self._parts.tell(message, decisions)
        if not plan.entries:
            await self._parts.store.commit((Note(events=events), *told))
            return plan.rejected[0][2]
        more: list[Change] = [Note(events=events), *told]
        if plan.rejected:
            more += self._parts.bounce(
                message,
                content,
                [
                    (state.recipient, reply, f"refused by the rule {decision.treatment.rule}")
                    for state, decision, reply in plan.rejected
                ],
            )
        return await self._commit(message, content, plan.entries, more)

    async def _commit(
        self, message: Message, content: bytes, entries: Sequence[QueueEntry], more: Iterable[Change]
    ) -> Reply:
        """Keep a message with what belongs to it, and hand over what this worker has room for."""
        leased = [
            entry for entry in entries
            if entry.state is EntryState.READY and self._parts.hand.reserve(entry.destination)
        ]  # fmt: skip
        keep = Keep(
            message=message, content=content, entries=tuple(entries), leased=frozenset(entry.id for entry in leased)
        )
        try:
            await self._parts.store.commit((keep, *more))
        except BaseException:
            self._parts.hand.give_up(len(leased))
            raise
        self._parts.hand.hand_over([Claimed(entry=entry, message=message, content=content) for entry in leased])
        return Reply(250, _TAKEN, (f"Ok: queued as {message.id}",))

    def _tell(
        self,
        message_id: str,
        session: ClientSession,
        envelope: Envelope,
        size: int,
        reply: Reply,
        judged: dict[str, Any],
    ) -> None:
        metrics = self._parts.metrics
        if reply.is_positive:
            metrics.count("messages_received", {"listener": session.listener, "client": session.client})
            metrics.observe("message_size_bytes", size)
        else:
            metrics.count("messages_refused", {"listener": session.listener, "code": str(reply.code)})
        log.info(
            "accepted" if reply.is_positive else "refused",
            message_id=message_id,
            client=session.client,
            listener=session.listener,
            sender_domain=envelope.reverse_path.domain,
            recipients=len(envelope.recipients),
            size=size,
            code=reply.code,
            enhanced=str(reply.enhanced or ""),
            **({} if reply.is_positive else {"why": reply.text}),
            **judged,
        )


def _refused_author(client: Client, content: bytes) -> Reply | None:
    """Why a client that must write in its own name may not write this."""
    try:
        authors = [Address.parse(text) for text in from_addresses(content)]
    except AddressError:
        return FROM_REFUSED
    if not authors:
        return FROM_MISSING
    return None if all(client.may_write_as(author) for author in authors) else FROM_REFUSED


def _place(error: BaseException) -> str:
    """Module and line where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}" if trace is not None else ""
