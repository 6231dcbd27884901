"""What an operator's change makes of an entry, and how the audit trail tells it: values in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from relay.admin.wire import ControlError, Selection
from relay.core.address import Address
from relay.core.change import AuditEvent, Change, Settle
from relay.core.decision import Action, Treatment
from relay.core.entry import Claimed, EntryState, QueueEntry
from relay.core.errors import AddressError
from relay.core.fate import Fate
from relay.core.ports import QueueFilter
from relay.delivery.schedule import RetryOptions, expires_at, warn_at


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be committed for one entry, and how it is told."""

    changes: tuple[Change, ...]
    outcome: str
    decided: Mapping[int, Treatment] = field(default_factory=dict)
    """What was decided anew, by recipient number: an end that follows from it names its rule, not the old one."""


def filters(where: Selection) -> list[QueueFilter]:
    """The store's filters for what an operator selected.

    Raises:
        ControlError: the recipient is no mailbox.
    """
    try:
        recipient = Address.parse(where.recipient) if where.recipient else None
    except AddressError as error:
        raise ControlError(f"recipient: {error}") from error
    states = {"": None, "held": EntryState.HELD}  # for the store, what is deferred is ready as well
    base = QueueFilter(
        state=states.get(where.state or "", EntryState.READY),
        destination=where.destination,
        message_id=where.message,
        recipient=recipient,
    )
    messages = dict.fromkeys(identity.partition(".")[0] for identity in where.ids)
    if not messages:
        return [base]
    return [replace(base, message_id=message) for message in messages if where.message in ("", message)]


def fate_events(claimed: Claimed, made: Outcome) -> list[AuditEvent]:
    """The end of recipients that an operator brought about, as the audit trail tells every end (law 5)."""
    ends: dict[tuple[Fate, str, str], list[int]] = {}
    for change in made.changes:
        if isinstance(change, Settle):
            for number, fate in change.fates.items():
                treatment = made.decided.get(number, claimed.entry.treatment)
                ends.setdefault((fate, treatment.rule, treatment.policy_version), []).append(number)
    return [
        AuditEvent(
            kind="fate",
            at=fate.at,
            message_id=claimed.message.id,
            facts={
                "entry": claimed.entry.id,
                "rule": rule,
                "policy_version": version,
                "numbers": numbers,
                "fate": fate.kind.value,
                "why": fate.why,
            },
        )
        for (fate, rule, version), numbers in ends.items()
    ]


def stored(entry: QueueEntry, outcome: str) -> Outcome:
    """The entry as it is stored from now on."""
    return Outcome((Settle(entry=entry),), outcome)


def released(entry: QueueEntry, now: float, reason: str) -> QueueEntry:
    """Ready now; the floor stays (law 2), and ``within`` counts from here.

    Raises:
        ControlError: it is not held.
    """
    if entry.state is not EntryState.HELD:
        raise ControlError("it is not held")
    return replace(entry, state=EntryState.READY, created_at=now, due_at=now, tls_failures=0, reason=reason)


def decided_anew(entry: QueueEntry, treatment: Treatment, retry: RetryOptions, now: float, told: str) -> QueueEntry:
    """The entry under a new treatment, due at once or held; all its times count from now, as if it had just come."""
    held = treatment.action is Action.HOLD
    return replace(
        entry,
        treatment=treatment,
        state=EntryState.HELD if held else EntryState.READY,
        created_at=now,
        due_at=now,
        expires_at=expires_at(treatment, retry, accepted_at=now),
        warn_at=warn_at(treatment, retry, accepted_at=now),
        tls_failures=0,
        reason=treatment.reason if held and treatment.reason else f"redecided{told}",
    )
