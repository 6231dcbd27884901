"""Addresses of ours that mail comes back to: recipients of a listener like others, save that anyone may write there.

They are few, each takes one kind of report, and what was not made by us is refused before a message is sent.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.decision import MethodName, Otherwise, Treatment
from relay.core.entry import EntryState, QueueEntry, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Origin
from relay.core.phi import PhiVerdict
from relay.core.ports import Clock, Metrics
from relay.core.reply import Reply
from relay.core.returning import REPORTS, ReportKind
from relay.intake.clients import Client
from relay.protect.returnpath import NoReturn, ReturnPaths

REPORTS_ONLY: Final = Reply.of(550, "5.7.1", "Only return and report addresses take mail here")
ALONE: Final = Reply.of(452, "4.5.3", "A report address takes a message alone; send it again for this recipient")
_NO_RETURN: Final = {
    NoReturn.FORGED: Reply.of(550, "5.1.1", "No such return address: nothing was sent from it"),
    NoReturn.EXPIRED: Reply.of(550, "5.1.1", "This return address is no longer in use"),
}
_IN_THREAD: Final = 64 * 1024
_PACKED: Final = frozenset({ReportKind.DMARC, ReportKind.TLS})
"""Compressed as a rule: a small message unfolds to much."""
"""Octets from which a message is read off the event loop."""
_MAX_TEXT: Final = 200

Recognise: TypeAlias = Callable[[ReportKind, bool, bytes], str]
"""Why a message is not what its address takes; empty when it is. Given: the address's kind, whether its sender is the
null sender, the message. Never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Which addresses there are, and what they take.

    Attributes:
        domains: return domains, in A-labels: every address there is a signed one.
        mailboxes: kind by mailbox, in lower case.
        max_size: octets of a message.
        messages_per_minute, messages_per_hour: from all who are no clients together.
        keep_for: seconds until a message that could not be read ends as expired.
    """

    domains: frozenset[str] = frozenset()
    mailboxes: Mapping[str, ReportKind] = field(default_factory=dict)
    max_size: int = 10 * 1024 * 1024
    messages_per_minute: int = 600
    messages_per_hour: int = 10_000
    keep_for: float = 5 * 86_400.0


class ReportDesk:
    """Knows the report addresses, and keeps what comes to them.

    Args:
        options: the addresses.
        paths: knows signed addresses.
        recognise: reads a message before it is promised anything.
    """

    def __init__(
        self, options: ReportOptions, paths: ReturnPaths, recognise: Recognise, clock: Clock, metrics: Metrics
    ) -> None:
        self.options = options
        self._paths = paths
        self._recognise = recognise
        self._clock = clock
        self._metrics = metrics
        self.stranger = Client(
            name="reports",
            messages_per_minute=options.messages_per_minute,
            messages_per_hour=options.messages_per_hour,
        )
        """Whom everyone without a name is counted as."""

    def look(self, address: Address) -> ReportKind | Reply | None:
        """What the address takes; the reply that refuses one we did not make; ``None`` when it is not of this kind."""
        if address.domain not in self.options.domains:
            return self.options.mailboxes.get(address.key)
        found = self._paths.read(address, self._clock())
        if not isinstance(found, NoReturn):
            return ReportKind.RETURN
        self._metrics.count("returned_mail", {"kind": ReportKind.RETURN.value, "result": found.value})
        return _NO_RETURN[found]

    def kind_of(self, envelope: Envelope) -> ReportKind | None:
        """What the message is, by its one recipient; ``None`` for ordinary mail."""
        found = self.look(envelope.recipients[0].address) if len(envelope.recipients) == 1 else None
        return found if isinstance(found, ReportKind) else None

    async def refusal(self, kind: ReportKind, envelope: Envelope, content: bytes) -> Reply | None:
        """Why the message is not taken: it is too large, or not what the address is for."""
        if len(content) > self.options.max_size:
            return Reply.of(552, "5.3.4", f"Larger than the {self.options.max_size} octets that this address takes")
        is_null = envelope.reverse_path.is_null
        if len(content) > _IN_THREAD or kind in _PACKED:
            why = await asyncio.to_thread(self._recognise, kind, is_null, content)
        else:
            why = self._recognise(kind, is_null, content)
        if not why:
            return None
        self._metrics.count("returned_mail", {"kind": kind.value, "result": "refused"})
        return Reply.of(550, "5.7.1", f"This address takes {_TAKES[kind]} only: {why}"[:_MAX_TEXT])

    def keep(
        self,
        kind: ReportKind,
        message_id: str,
        session: ClientSession,
        envelope: Envelope,
        *,
        size: int,
        verdict: PhiVerdict,
        header_id: str,
        now: float,
    ) -> tuple[Message, QueueEntry, AuditEvent]:
        """The message, its entry, and what the audit trail shows of it."""
        message = Message(
            id=message_id,
            origin=Origin.RETURNED,
            received_at=now,
            session=session,
            envelope=envelope,
            size=size,
            verdict=verdict,
            message_id=header_id,
        )
        entry = QueueEntry(
            id=f"{message_id}.1",
            message_id=message_id,
            destination=f"{REPORTS}{kind.value}",
            treatment=Treatment(rule=f"report-{kind.value}", otherwise=Otherwise.DEFER),
            method=MethodName.TLS,
            recipients=(RecipientState(number=0, recipient=envelope.recipients[0]),),
            state=EntryState.READY,
            created_at=now,
            due_at=now,
            expires_at=now + self.options.keep_for,
            reason="accepted",
        )
        facts = {
            "report": kind.value,
            "client": session.client,
            "listener": session.listener,
            "network": session.network,
            "size": size,
            "sender": str(envelope.reverse_path),
            "recipients": [str(envelope.recipients[0].address)],
            "phi": verdict.phi.word,
        }
        return message, entry, AuditEvent(kind="accepted", at=now, message_id=message_id, facts=facts)


_TAKES: Final = {
    ReportKind.RETURN: "bounces",
    ReportKind.BOUNCE: "bounces",
    ReportKind.COMPLAINT: "feedback reports (RFC 5965)",
    ReportKind.DMARC: "DMARC aggregate reports",
    ReportKind.TLS: "SMTP TLS reports (RFC 8460)",
}
