"""What a policy decided for one recipient's copy."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from relay.core.address import Address
from relay.core.level import Level


class MethodName(StrEnum):
    """The ways a copy can be protected."""

    TLS = "tls"
    SMIME = "smime"
    PGP = "pgp"
    PORTAL = "portal"


class Action(StrEnum):
    """What becomes of a copy. There is no drop."""

    DELIVER = "deliver"
    HOLD = "hold"
    REJECT = "reject"


class Otherwise(StrEnum):
    """What happens when no method is left that meets the floor."""

    DEFER = "defer"
    HOLD = "hold"
    BOUNCE = "bounce"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdit:
    """One ``add_header`` (value set) or ``remove_header`` (value ``None``)."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalTerms:
    """What a rule says of a copy that comes to the portal.

    Attributes:
        reply, forward: what its reader may do.
        secret: what it asks of its reader beside the mailed code, in the words of ``relay.core.portal.Secret``; empty:
            nothing, save that a specially protected kind asks for a shared secret.
        receipts: the sender is told although they did not ask (NOTIFY=SUCCESS).
        expire_after: seconds from deposit; ``None``: the configured default.
    """

    reply: bool = True
    forward: bool = False
    secret: Literal["", "none", "enrolled", "shared"] = ""
    receipts: bool = False
    expire_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How a copy is treated. Recipients with equal treatment and next hop share one queue entry.

    Attributes:
        action: deliver, hold or reject.
        methods: methods to try, in order.
        tls: the transport level the rule asks of the method ``tls``.
        floor: the higher of ``tls`` and of all floors that hold for this copy: never sent below it.
        rule: the id of the rule that decided.
        floors: ids of the floors that held.
        overridden: ids of floors that an override set aside (audited with every use).
        override_reason: the reason the policy states for it.
        policy_version: SHA-256 of the policy that decided, hex.
        within: seconds from acceptance or release until the next method is taken; ``None``: no limit.
        otherwise: what happens when no method is left.
        expire_after: seconds after which the copy bounces as expired; ``None``: the configured default.
        warn_after: seconds after which a delay DSN goes out; ``None``: the configured default.
        priority: -1 bulk, 0 ordinary, 1 urgent.
        reason: for hold: shown to operators. For reject: the public text.
        headers: edits made when the copy is rendered.
        strip_subject_tags: tags removed from the subject when the copy is rendered.
        mask_subject: the subject of the copy that travels is replaced, as it tells of a patient.
        route: name of the next hop or source pool to use; empty: as configured for the domain.
        sign_as: DKIM identity (domain) to sign with; empty: the author's domain.
        notify: addresses (as text) told of the decision.
        passes_over: what the recipient's domain publishes of its TLS (MTA-STS, DANE) is passed over; the floor stays.
        portal: what holds for the copy in the portal.
    """

    action: Action = Action.DELIVER
    methods: tuple[MethodName, ...] = (MethodName.TLS,)
    tls: Level = Level.CLEAR
    floor: Level = Level.CLEAR
    rule: str = ""
    floors: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
    override_reason: str = ""
    policy_version: str = ""
    within: float | None = None
    otherwise: Otherwise = Otherwise.BOUNCE
    expire_after: float | None = None
    warn_after: float | None = None
    priority: int = 0
    reason: str = ""
    headers: tuple[HeaderEdit, ...] = ()
    strip_subject_tags: tuple[str, ...] = ()
    mask_subject: bool = False
    route: str = ""
    sign_as: str = ""
    notify: tuple[str, ...] = ()
    passes_over: bool = False
    portal: PortalTerms = PortalTerms()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDecision:
    """The treatment of one recipient's copy, and warnings that evaluation left (an error holds the message, law 3)."""

    recipient: Address
    treatment: Treatment
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionTrace:
    """One condition's value, for ``postern policy explain``."""

    path: str
    value: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a recipient's copy was treated as it was: every rule and floor looked at, with its conditions' values."""

    decision: PolicyDecision
    steps: tuple[tuple[str, bool, tuple[ConditionTrace, ...]], ...] = field(default=())
