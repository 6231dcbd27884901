"""What came back, counted and told: the part that every kind of report shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from relay.core.address import Address
from relay.core.change import AuditEvent, Change, Note
from relay.core.envelope import Message
from relay.core.ports import Metrics
from relay.core.returning import Handled
from relay.mail.dsn import Report

log = structlog.get_logger("returns")


class Teller(Protocol):
    """Builds notices, as changes that keep them; none when nobody can or wants to be told. Never raises."""

    def failed(self, message: Message, reports: Sequence[Report], *, now: float) -> tuple[Change, ...]:
        """Recipients will not get the message."""

    def delayed(self, message: Message, reports: Sequence[Report], *, now: float) -> tuple[Change, ...]:
        """A server further on is still trying."""

    def delivered(self, message: Message, reports: Sequence[Report], *, now: float) -> tuple[Change, ...]:
        """Recipients have the message."""

    def replied(self, message: Message, recipients: Sequence[Address], *, now: float) -> tuple[Change, ...]:
        """An automatic reply came."""

    def unclear(self, message: Message, recipients: Sequence[Address], *, now: float) -> tuple[Change, ...]:
        """Something came that nobody understands."""

    def unmatched(self, report: Message, facts: Sequence[str], *, now: float) -> tuple[Change, ...]:
        """Something came that belongs to no message."""


@dataclass(slots=True)
class Outcome:
    """What reading one report comes to, gathered step by step.

    Attributes:
        report: the report as a message.
        now: unix seconds.
        why: one clause, for the report's fate.
        result: the same as one word, for metrics.
    """

    report: Message
    kind: str
    now: float
    result: str = ""
    why: str = ""
    changes: list[Change] = field(default_factory=list)
    events: list[AuditEvent] = field(default_factory=list)
    counts: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def came_to(self, result: str, why: str) -> None:
        """Say what it was."""
        self.result, self.why = result, why

    def tell(self, kind: str, message_id: str, **facts: Any) -> None:
        """Add an audit event: no text of a stranger's that is not scrubbed, no mailbox but under ``recipients``."""
        told = {"report": self.report.id, **facts}
        self.events.append(AuditEvent(kind=kind, at=self.now, message_id=message_id, facts=told))

    def count(self, name: str, labels: Mapping[str, str], amount: float = 1) -> None:
        """Count once it is on disk."""
        self.counts.append((name, labels, amount))

    def handled(self, metrics: Metrics) -> Handled:
        """The whole."""
        self.count("returned_mail", {"kind": self.kind, "result": self.result})
        note = (Note(events=tuple(self.events)),) if self.events else ()

        def then() -> None:
            for name, labels, amount in self.counts:
                metrics.count(name, labels, amount)
            log.info("report read", message_id=self.report.id, report=self.kind, result=self.result, **self.facts)

        return Handled(why=self.why, changes=(*self.changes, *note), then=then)
