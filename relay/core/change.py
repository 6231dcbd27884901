"""What can be written to the store, as values: a unit of work is a tuple of changes in one transaction."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from relay.core.entry import QueueEntry
from relay.core.envelope import Message
from relay.core.fate import Fate


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One row of the outbox: something the audit trail must show, written with the change it tells of.

    Attributes:
        kind: ``accepted``, ``decided``, ``attempt``, ``fate``, ``operator``, ``alert``, ``config`` and so on.
        at: unix seconds, UTC.
        message_id: the message's queue id; empty for events about none.
        facts: JSON-serialisable facts without matched text, subject, body or display name. Mailboxes only under the
            keys ``sender`` and ``recipients``, as text; the store seals the whole row.
    """

    kind: str
    at: float
    message_id: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Keep a new message: body, entries and all. ``leased``: ids of the entries this worker keeps in hand."""

    message: Message
    content: bytes = field(repr=False)
    entries: tuple[QueueEntry, ...]
    leased: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Record what an attempt or an operator did to an entry.

    Recipients named in ``fates`` (by number) leave the entry. When none is left the entry is deleted, and with the last
    entry its message and body. Otherwise ``entry`` replaces the stored one, free of any lease unless ``keep_lease``.

    Attributes:
        entry: the entry as it is to be stored (its recipients without those in ``fates``); when it is empty of
            recipients it only names the entry to delete.
        fates: recipient number to its fate.
        split: new entries that took over recipients (a fallback), stored in the same commit.
        fence: the change applies only while this worker still holds the entry's lease, else the unit fails.
    """

    entry: QueueEntry
    fates: dict[int, Fate] = field(default_factory=dict)
    split: tuple[QueueEntry, ...] = ()
    keep_lease: bool = False
    fence: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Append audit events to the outbox."""

    events: tuple[AuditEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """Keep a few octets under a name after what they are about has left the queue, in the place of older ones.

    Attributes:
        name: what it is looked up by, without a mailbox; names that are looked up together begin alike.
        value: sealed by the store.
        until: unix seconds; after it the store forgets.
    """

    name: str
    value: bytes = field(default=b"", repr=False)
    until: float


Change: TypeAlias = Keep | Settle | Note | Remember
UnitOfWork: TypeAlias = tuple[Change, ...]
