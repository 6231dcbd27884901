"""What the audit trail proves of one message: who gave it, what was decided, how each copy went and where it ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_STEPS: Final = frozenset(
    {"attempt", "switched", "held", "deferred", "warned", "operator", "returned", "parted", "portal"}
)
"""Kinds of events that tell of a copy's way: from its decision to its end, and what came back after it."""
_TAKEN: Final = frozenset({"delivered", "notified", "read", "portal-expired"})
"""Fates of copies that a mail server took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened on the way of a copy."""

    at: float
    kind: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One recipient's copy.

    Attributes:
        number: the recipient's place in the envelope.
        recipient: the mailbox, or its domain alone.
        decision: facts of the decision that held for it: rule, policy version, floor, methods.
        steps: what happened between.
        ended_at: unix seconds; 0 while it is in the queue.
        fate: facts of its end; empty while it is in the queue.
    """

    number: int
    recipient: str
    decision: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    ended_at: float = 0.0
    fate: Mapping[str, Any] = field(default_factory=dict)

    @property
    def protection(self) -> Mapping[str, Any]:
        """How the connection was protected that took or refused it; empty when there was none."""
        return self.fate.get("proof") or {}

    @property
    def was_taken(self) -> bool:
        """Whether a mail server took it (or its notice), whatever came after."""
        return not _TAKEN.isdisjoint((self.fate.get("fate"), *(step.kind for step in self.steps)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All of one message.

    Attributes:
        message_id: its queue id.
        at: when it was taken or refused, unix seconds.
        accepted: facts of its acceptance.
        copies: one a recipient, in the envelope's order.
        others: what happened to the message as a whole, and alerts.
    """

    message_id: str
    at: float
    accepted: Mapping[str, Any]
    copies: tuple[Copy, ...]
    others: tuple[Step, ...] = ()


def tell(records: Iterable[Mapping[str, Any]], message_id: str) -> Story | None:
    """Put the records of a message together; ``None`` when there are none of its acceptance.

    Args:
        records: of the trail, oldest first, as :func:`relay.observe.trail.show` gives them.
        message_id: whose.
    """
    ours = [record for record in records if record["message_id"] == message_id]
    first = next((record for record in ours if record["kind"] in {"accepted", "refused"}), None)
    if first is None:
        return None
    recipients = list(first["facts"].get("recipients", ()))
    decisions: dict[int, Mapping[str, Any]] = {}
    steps: dict[int, list[Step]] = {number: [] for number in range(len(recipients))}
    fates: dict[int, tuple[float, Mapping[str, Any]]] = {}
    others: list[Step] = []
    entries: dict[str, list[int]] = {}
    for record in ours:
        facts, kind = record["facts"], record["kind"]
        numbers = _numbers(facts, entries)
        if kind == "decided":
            entries[str(facts.get("entry", ""))] = numbers
            decisions |= dict.fromkeys(numbers, facts)
        elif kind == "fate":
            for number in numbers:
                fates[number] = (record["at"], _after(fates.get(number), facts, steps.setdefault(number, [])))
        elif record is not first:
            step = Step(at=record["at"], kind=kind, facts=facts)
            for number in numbers if kind in _STEPS else ():
                steps.setdefault(number, []).append(step)
            if kind not in _STEPS or not numbers:
                others.append(step)
    copies = tuple(
        Copy(
            number=number,
            recipient=recipients[number] if number < len(recipients) else "",
            decision=decisions.get(number, {}),
            steps=tuple(steps.get(number, ())),
            ended_at=fates[number][0] if number in fates else 0.0,
            fate=fates[number][1] if number in fates else {},
        )
        for number in sorted({*range(len(recipients)), *fates})
    )
    return Story(message_id=message_id, at=first["at"], accepted=first["facts"], copies=copies, others=tuple(others))


def _after(
    before: tuple[float, Mapping[str, Any]] | None, facts: Mapping[str, Any], steps: list[Step]
) -> Mapping[str, Any]:
    """A fate that follows another, as read follows notified: the first becomes a step; what it travelled on stays."""
    if before is None:
        return facts
    steps.append(Step(at=before[0], kind=str(before[1].get("fate", "")), facts=before[1]))
    return {**facts, "proof": facts.get("proof") or before[1].get("proof")}


def _numbers(facts: Mapping[str, Any], entries: Mapping[str, list[int]]) -> list[int]:
    """Whose copies an event is about: those it names, those of what waits, or all of its entry."""
    if "numbers" in facts:
        return list(facts["numbers"])
    waits = facts.get("waits")
    if isinstance(waits, list):
        return [number for one in waits for number in one.get("numbers", ())]
    return list(entries.get(str(facts.get("entry", "")), ()))
