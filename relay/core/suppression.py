"""Mailboxes that get no mail for now: because it bounced for good, because they complained, or an operator said so."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.core.address import Address

FOREVER: Final = 253_402_300_799.0
"""The end of the year 9999, unix seconds: until an operator lifts it."""


class Cause(StrEnum):
    """Why."""

    HARD_BOUNCE = "hard-bounce"
    COMPLAINT = "complaint"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One mailbox, in one tenant and stream or in all.

    Attributes:
        address: the mailbox; it is looked up without regard to case.
        tenant: for mail of this tenant alone; empty: of all.
        stream: for this stream alone; empty: for all.
        cause: why.
        evidence: what was answered, by which rule, to which message: scrubbed, for people.
        since: unix seconds.
        until: unix seconds; after it the suppression is over.
        by: ``postern``, or the operator's name.
    """

    address: Address
    tenant: str = ""
    stream: str = ""
    cause: Cause
    evidence: str
    since: float
    until: float = FOREVER
    by: str = "postern"
