"""The fates a recipient's copy can end in (law 5): exactly one each, and none of them is silence."""

from dataclasses import dataclass
from enum import StrEnum

from relay.core.level import Proof
from relay.core.reply import Reply


class FateKind(StrEnum):
    """The table of fates. A copy without one is still in the queue: ready, deferred or held."""

    DELIVERED = "delivered"
    """A next hop took responsibility with 2yz."""
    NOTIFIED = "notified"
    """The portal's notice was taken; the portal owns what follows."""
    READ = "read"
    PORTAL_EXPIRED = "portal-expired"
    RECALLED = "recalled"
    BOUNCED = "bounced"
    """A permanent failure; the sender was told by DSN (or postmaster, for a double bounce)."""
    EXPIRED = "expired"
    """Retries ended at the expiry time; the sender was told by DSN."""
    REJECTED = "rejected"
    """Policy refused this copy; the sender was told at SMTP time or by DSN."""
    PROCESSED = "processed"
    """It came to a report address of ours, was read, and what it told of was acted on."""
    REMOVED = "removed"
    """Taken out by a named operator with a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One recipient's end.

    Attributes:
        kind: which.
        at: unix seconds, UTC.
        reply: the server's answer that decided it, scrubbed; ``None`` when no server answered.
        why: one clause for operators: the class of trouble, or who removed it and why.
        proof: how the copy was protected on its last leg; ``None`` when it never left.
        bounce_class, bounce_family: what a refusal was understood to mean; empty where nothing was refused.
    """

    kind: FateKind
    at: float
    reply: Reply | None = None
    why: str = ""
    proof: Proof | None = None
    bounce_class: str = ""
    bounce_family: str = ""
