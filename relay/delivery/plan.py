"""Which method serves a copy now, which floor its transport must reach.

A switch of method is final. The methods of a treatment are tried in order; the next one is taken when the one in
force is not available for this copy, or when the level could not be reached and the treatment's ``within`` is over. A
``within`` is spent by failures to reach the level alone: greylisting, 4yz and unreachable hosts never cause a switch.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from relay.core.decision import MethodName, Otherwise, Treatment
from relay.core.entry import EntryState, QueueEntry
from relay.core.level import Level
from relay.delivery.schedule import deadline

LEVEL_NOT_REACHED: Final = "level-not-reached"
NOT_CONFIGURED: Final = "not-configured"
_PARTED: Final = 500_000
BY_RULE: Final = "rule"
"""The rule names the method first."""


class Move(StrEnum):
    """What to do with an entry that is due."""

    ATTEMPT = "attempt"
    SWITCH = "switch"
    """Write ``method`` into the entry first, in a commit of its own; then attempt."""
    DEFER = "defer"
    HOLD = "hold"
    BOUNCE = "bounce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The move, the method in force after it, and why: in one clause, and for metrics in one word."""

    move: Move
    method: MethodName
    why: str = ""
    cause: str = ""


def first_method(treatment: Treatment, configured: Collection[MethodName]) -> MethodName | None:
    """The method that a new entry begins with; ``None`` when none of its methods is configured."""
    return next((method for method in treatment.methods if method in configured), None)


def method_after(treatment: Treatment, method: MethodName, configured: Collection[MethodName]) -> MethodName | None:
    """The next configured method of the treatment; ``None`` when there is none, or when ``method`` is not one of it."""
    if method not in treatment.methods:
        return None
    rest = treatment.methods[treatment.methods.index(method) + 1 :]
    return next((name for name in rest if name in configured), None)


def plan(entry: QueueEntry, *, now: float, configured: Collection[MethodName]) -> Plan:
    """What to do with a due entry before anything is rendered."""
    if entry.method not in configured:
        return unavailable(
            entry, configured=configured, why=_lacking(entry.treatment, configured), cause=NOT_CONFIGURED
        )
    end = deadline(entry)
    if end is None or now < end or entry.tls_failures == 0 or entry.method is not MethodName.TLS:
        return Plan(move=Move.ATTEMPT, method=entry.method)
    why = "the level was not reached in the time the rule gives"
    following = method_after(entry.treatment, entry.method, configured)
    if following is not None:
        return Plan(move=Move.SWITCH, method=following, why=why, cause=LEVEL_NOT_REACHED)
    if entry.treatment.otherwise is Otherwise.DEFER:  # goes on trying until it expires
        return Plan(move=Move.ATTEMPT, method=entry.method, why=why)
    if missing := _lacking(entry.treatment, configured):
        why = f"{why}; {missing}"
    return Plan(move=_last_resort(entry.treatment), method=entry.method, why=why)


def unavailable(entry: QueueEntry, *, configured: Collection[MethodName], why: str, cause: str = "unavailable") -> Plan:
    """What to do when the method in force cannot serve this copy (no key, not configured)."""
    following = method_after(entry.treatment, entry.method, configured)
    if following is not None:
        return Plan(move=Move.SWITCH, method=following, why=why, cause=cause)
    return Plan(move=_last_resort(entry.treatment), method=entry.method, why=why)


def _lacking(treatment: Treatment, configured: Collection[MethodName]) -> str:
    """Which methods of the rule this installation lacks, in words; empty when it lacks none."""
    names = [method.value for method in treatment.methods if method not in configured]
    return f"not configured here: {', '.join(names)}" if names else ""


def _last_resort(treatment: Treatment) -> Move:
    return {Otherwise.DEFER: Move.DEFER, Otherwise.HOLD: Move.HOLD, Otherwise.BOUNCE: Move.BOUNCE}[treatment.otherwise]


def transport_floor(method: MethodName, *, decided: Level, running: Level, rendered: Level) -> Level:
    """The level that the live connection must reach (law 2).

    For plain TLS, the highest of what was decided at acceptance, what the running policy gives now, and what the
    rendering asks. S/MIME, OpenPGP and the portal protect the content at every floor; their envelopes and notices
    travel at the floor of the rendering.
    """
    return max(decided, running, rendered) if method is MethodName.TLS else rendered


def switch(entry: QueueEntry, method: MethodName, *, now: float, why: str, cause: str = "") -> QueueEntry:
    """The entry under its next method: due at once, its count of missed levels begun anew."""
    return replace(entry, method=method, due_at=now, tls_failures=0, state=EntryState.READY, reason=why, fallback=cause)


def fallback_cause(entry: QueueEntry) -> str:
    """Why the entry is under the method in force, in one word: what ``postern_portal_fallback_total`` counts."""
    if entry.fallback:
        return entry.fallback
    return BY_RULE if entry.treatment.methods[:1] == (entry.method,) else NOT_CONFIGURED


def is_shared_rendering(entry: QueueEntry) -> bool:
    """Whether the method in force makes one rendering for all recipients; the portal's has a link for each."""
    return entry.method is not MethodName.PORTAL


def parted(entry: QueueEntry) -> tuple[QueueEntry, ...]:
    """The entry as one of each recipient's own, the first under its old id.

    The others are numbered far above what intake and operators number, so that no id is given twice.
    """
    first, *others = entry.recipients
    split = (replace(entry, id=f"{entry.message_id}.{_PARTED + state.number}", recipients=(state,)) for state in others)
    return (replace(entry, recipients=(first,)), *split)
