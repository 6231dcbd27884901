"""What operators see of entries, messages and figures."""

from relay.admin.wire import EntryView, MessageView, RecipientView, StatsResult
from relay.core.entry import EntryState, QueueEntry
from relay.core.envelope import Message
from relay.core.ports import QueueStats


def state(one: QueueEntry, now: float) -> str:
    """Where it stands, in the words of the queue's figures: ``ready`` to go now, ``deferred`` or ``held``."""
    return "deferred" if one.state is EntryState.READY and one.due_at > now else one.state.value


def entry(one: QueueEntry, now: float) -> EntryView:
    """A line of a listing."""
    return EntryView(
        id=one.id,
        message=one.message_id,
        state=state(one, now),
        destination=one.destination,
        recipients=len(one.recipients),
        method=one.method.value,
        floor=one.treatment.floor.word,
        rule=one.treatment.rule,
        created_at=one.created_at,
        due_at=one.due_at,
        expires_at=one.expires_at,
        attempts=one.attempts,
        reason=one.reason,
    )


def recipients(one: QueueEntry) -> tuple[RecipientView, ...]:
    """Those of an entry that have no fate yet."""
    return tuple(
        RecipientView(
            entry=one.id,
            number=each.number,
            address=str(each.recipient.address),
            notify=tuple(sorted(each.recipient.notify)),
        )
        for each in one.recipients
    )


def message(one: Message) -> MessageView:
    """A message without its content and its subject."""
    return MessageView(
        id=one.id,
        origin=one.origin.value,
        client=one.session.client,
        tenant=one.session.tenant,
        received_at=one.received_at,
        size=one.size,
        sender=str(one.envelope.reverse_path),
        phi=one.verdict.phi.word,
        findings=one.verdict.counts(),
        unreadable=one.verdict.is_unreadable,
    )


def stats(figures: QueueStats, now: float) -> StatsResult:
    """Figures with the age of the oldest entry."""
    oldest = figures.oldest_created_at
    return StatsResult(
        ready=figures.ready,
        deferred=figures.deferred,
        held=figures.held,
        leased=figures.leased,
        oldest_age=None if oldest is None else max(0.0, now - oldest),
        bytes=figures.bytes,
        outbox=figures.outbox,
        destinations=figures.destinations,
    )
