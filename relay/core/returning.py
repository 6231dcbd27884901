"""Mail that comes back: the kinds of addresses of ours that take it, and what is remembered of what it is about."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from relay.core.address import ReversePath
from relay.core.change import Change
from relay.core.entry import Claimed, RecipientState

REPORTS: Final = "report:"
"""Destination keys of messages to our report addresses begin so: they are read here and go nowhere."""


class ReportKind(StrEnum):
    """What an address of ours takes."""

    RETURN = "return"
    """A signed return address: bounces and automatic replies to one copy that we sent."""
    BOUNCE = "bounce"
    """An unsigned address for bounces: anyone can write there, so nothing follows but counting and telling."""
    COMPLAINT = "complaint"
    """Feedback reports (ARF, RFC 5965)."""
    DMARC = "dmarc"
    """DMARC aggregate reports (RFC 7489, RFC 9990)."""
    TLS = "tls"
    """SMTP TLS reports (RFC 8460)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """What is remembered of recipients that one transaction delivered, so that what comes back can be understood.

    Attributes:
        message_id: the message's queue id.
        entry_id: the entry it left in.
        sender: the reverse-path that the client gave.
        recipients: whom the next hop took it for.
        received_at, sent_at: unix seconds.
        client, tenant, stream: whose mail it was.
        header_id: its Message-ID.
        envelope_id: ENVID as given (RFC 3461), or empty.
        smtputf8: SMTPUTF8 was given.
        host: the server that took it.
    """

    message_id: str
    entry_id: str
    sender: ReversePath
    recipients: tuple[RecipientState, ...]
    received_at: float
    sent_at: float
    client: str = ""
    tenant: str = ""
    stream: str = "transactional"
    header_id: str = ""
    envelope_id: str = ""
    smtputf8: bool = False
    host: str = ""


def _nothing() -> None:
    """Nothing follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What reading a message to a report address came to.

    Attributes:
        why: one clause, for its fate.
        changes: to be committed with its end.
        then: called once that is on disk: counts and logs.
    """

    why: str
    changes: tuple[Change, ...] = ()
    then: Callable[[], None] = field(default=_nothing, compare=False)


ReadReport: TypeAlias = Callable[[Claimed], Awaitable[Handled]]
"""Reads a message to a report address. Doing it again does no harm: all that must be done once is in the changes."""
