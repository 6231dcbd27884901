"""The unit of delivery: recipients of one message with one treatment and one next hop."""

from dataclasses import dataclass, field
from enum import StrEnum

from relay.core.decision import MethodName, Treatment
from relay.core.envelope import Message, Recipient
from relay.core.fate import Fate


class EntryState(StrEnum):
    """Where an entry stands. An entry whose recipients all have a fate is deleted in the commit that gave the last."""

    READY = "ready"
    """Due now or later (``due_at``); free, or under a worker's lease."""
    HELD = "held"
    """Waits for an operator, never for a clock, save its expiry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientState:
    """A recipient of an entry; ``number`` is its place in the envelope, and its name in logs and audit."""

    number: int
    recipient: Recipient
    fate: Fate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """One queue entry as the store holds it.

    Attributes:
        id: ``MESSAGE.N``.
        message_id: the message's queue id.
        destination: the next hop's key: the recipients' domain in A-labels, or ``route:NAME``.
        treatment: the decision all its recipients share.
        method: the method in force; a switch is final and made in one commit.
        recipients: those without a fate yet.
        state: ready or held.
        created_at: acceptance, or release from hold: the ``within`` deadline counts from here.
        due_at: when it may next be tried.
        expires_at: when it ends as expired, in every state.
        warn_at: when the delay warning goes out; ``None`` once sent or not wanted.
        attempts: attempts made.
        tls_failures: attempts that ended for want of the level: what spends ``within``.
        reason: why it is in this state: every (re)queueing carries its reason.
        fallback: why the method before the one in force was given up, in one word; empty: it is the first.
    """

    id: str
    message_id: str
    destination: str
    treatment: Treatment
    method: MethodName
    recipients: tuple[RecipientState, ...]
    state: EntryState
    created_at: float
    due_at: float
    expires_at: float
    warn_at: float | None = None
    attempts: int = 0
    tls_failures: int = 0
    reason: str = ""
    fallback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """An entry under this worker's lease together with its message; the body is read when it is needed.

    Attributes:
        content: the body when it is still in hand (fresh mail); ``None``: read it from the store.
    """

    entry: QueueEntry
    message: Message
    content: bytes | None = field(default=None, repr=False)
