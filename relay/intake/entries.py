"""From decisions to queue entries: recipients with one treatment and one next hop share an entry. No effects."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from relay.core.address import Address
from relay.core.decision import Action, MethodName, PolicyDecision, Treatment
from relay.core.entry import EntryState, QueueEntry, RecipientState
from relay.core.envelope import Envelope, Message, Recipient
from relay.core.level import Level
from relay.core.reply import Reply
from relay.delivery.plan import first_method

RouteFor: TypeAlias = Callable[[Address, Treatment], str]
"""The destination key of a copy: the domain in A-labels, or ``route:NAME``."""

_MAX_TEXT: Final = 400
_UNASKED: Final = frozenset({"FAILURE", "DELAY"})  # what no NOTIFY stands for (RFC 3461 section 4.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTimes:
    """When copies expire and when their sender is warned, where no rule says otherwise.

    Attributes:
        expire_after: seconds from acceptance.
        warn_after: seconds from acceptance; ``None``: no warning.
    """

    expire_after: float = 5 * 86400.0
    warn_after: float | None = 4 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of a message: entries to keep, recipients that policy refused with the reply each gets."""

    entries: tuple[QueueEntry, ...]
    rejected: tuple[tuple[RecipientState, PolicyDecision, Reply], ...]


def distinct(envelope: Envelope) -> Envelope:
    """The envelope with each mailbox once, in the order given: one copy, one fate (RFC 5321 section 3.6.1)."""
    if len(envelope.recipients) < 2:
        return envelope
    if len({recipient.address for recipient in envelope.recipients}) == len(envelope.recipients):
        return envelope
    merged: dict[Address, Recipient] = {}
    for recipient in envelope.recipients:
        known = merged.get(recipient.address)
        merged[recipient.address] = recipient if known is None else _asking_for_both(known, recipient)
    return replace(envelope, recipients=tuple(merged.values()))


def _asking_for_both(one: Recipient, other: Recipient) -> Recipient:
    """One mailbox that was named twice: its sender is told of all that either asked for (RFC 3461 section 4.1)."""
    if one.notify == other.notify:
        return one
    wanted = (one.notify or _UNASKED) | (other.notify or _UNASKED)
    return replace(one, notify=wanted - {"NEVER"} or wanted)


def held(decision: PolicyDecision, reason: str) -> PolicyDecision:
    """The same copy, held for an operator at a floor no lower (law 3)."""
    treatment = replace(decision.treatment, action=Action.HOLD, reason=reason)
    return replace(decision, treatment=treatment)


def under_required_tls(decision: PolicyDecision) -> PolicyDecision:
    """The same copy under REQUIRETLS: verified TLS to a host that is vouched for (RFC 8689 section 4.2.1)."""
    return replace(decision, treatment=replace(decision.treatment, floor=Level.AUTHENTICATED))


def undecided(recipient: Address, reason: str) -> PolicyDecision:
    """What holds when policy could not be asked at all: hold, and nothing below the highest level."""
    treatment = Treatment(action=Action.HOLD, floor=Level.AUTHENTICATED, tls=Level.AUTHENTICATED, reason=reason)
    return PolicyDecision(recipient=recipient, treatment=treatment, error=reason)


def build_plan(
    message: Message,
    decisions: Sequence[PolicyDecision],
    *,
    route_for: RouteFor,
    times: QueueTimes,
    configured: Collection[MethodName],
) -> Plan:
    """Group the copies of a message. ``decisions`` are in the order of the envelope's recipients."""
    if len(decisions) == 1 and decisions[0].treatment.action is not Action.REJECT:
        # The usual message: nothing to group by, and a treatment's hash is dear.
        (recipient,), treatment = message.envelope.recipients, decisions[0].treatment
        states = (RecipientState(number=0, recipient=recipient),)
        destination = route_for(recipient.address, treatment)
        return Plan(entries=(_entry(message, 1, treatment, destination, states, times, configured),), rejected=())
    groups: dict[tuple[Treatment, str], list[RecipientState]] = {}
    rejected = []
    for number, (recipient, decision) in enumerate(zip(message.envelope.recipients, decisions, strict=True)):
        state = RecipientState(number=number, recipient=recipient)
        treatment = decision.treatment
        if treatment.action is Action.REJECT:
            rejected.append((state, decision, refusal(treatment)))
            continue
        destination = route_for(recipient.address, treatment)
        groups.setdefault((treatment, destination), []).append(state)
    entries = tuple(
        _entry(message, number, treatment, destination, tuple(states), times, configured)
        for number, ((treatment, destination), states) in enumerate(groups.items(), start=1)
    )
    return Plan(entries=entries, rejected=tuple(rejected))


def _entry(
    message: Message,
    number: int,
    treatment: Treatment,
    destination: str,
    recipients: tuple[RecipientState, ...],
    times: QueueTimes,
    configured: Collection[MethodName],
) -> QueueEntry:
    now = message.received_at
    expire_after = times.expire_after if treatment.expire_after is None else treatment.expire_after
    warn_after = times.warn_after if treatment.warn_after is None else treatment.warn_after
    on_hold = treatment.action is Action.HOLD
    return QueueEntry(
        id=f"{message.id}.{number}",
        message_id=message.id,
        destination=destination,
        treatment=treatment,
        method=first_method(treatment, configured) or next(iter(treatment.methods), MethodName.TLS),
        recipients=recipients,
        state=EntryState.HELD if on_hold else EntryState.READY,
        created_at=now,
        due_at=now,
        expires_at=now + expire_after,
        warn_at=now + warn_after if warn_after and warn_after < expire_after else None,
        reason=(treatment.reason or "held by policy") if on_hold else "accepted",
    )


def refusal(treatment: Treatment) -> Reply:
    """The reply to a copy that policy refuses, with the rule's public text made safe for one line."""
    text = "".join(letter if letter.isprintable() else " " for letter in treatment.reason)
    return Reply.of(550, "5.7.1", text[:_MAX_TEXT].strip() or "Refused by policy")
