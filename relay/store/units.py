"""A unit of work as rows: checked, encoded and sealed before any lock is taken. Every implementation uses it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from relay.core.change import AuditEvent, Keep, Note, Remember, Settle, UnitOfWork
from relay.core.entry import EntryState, QueueEntry
from relay.core.errors import StoreError
from relay.store.codec import Codec, dump

_ROW: Final = 48 * 1024
"""Octets of events that go into one outbox row with those of other units: with them it is one frame when sealed."""

SealBody = Callable[[str, bytes], tuple[bytes | None, str | None]]
"""Message id and content to (sealed body for the row, or ``None``; name of the file that holds it, or ``None``)."""


class EntryRow(NamedTuple):
    """An entry as stored: open columns to select by, and the entry itself, sealed.

    ``wake_at`` is the earliest moment at which somebody must look at the entry: when it is due (if ready), when it
    expires, when its delay warning goes out. So one index serves every kind of claim.
    """

    id: str
    message_id: str
    destination: str
    priority: int
    held: int
    due_at: float
    wake_at: float
    tokens: bytes
    sealed: bytes


class KeepRows(NamedTuple):
    """A message to insert; ``body`` is sealed, or ``None`` when the file named by ``file`` holds it."""

    message_id: str
    received_at: float
    size: int
    file: str | None
    facts: bytes
    body: bytes | None
    entries: tuple[EntryRow, ...]
    leased: frozenset[str]


class SettleRows(NamedTuple):
    """An entry to replace by ``row``, or to delete when that is ``None``, and the entries split off from it."""

    entry_id: str
    message_id: str
    row: EntryRow | None
    split: tuple[EntryRow, ...]
    keep_lease: bool
    fence: bool


class MemoRow(NamedTuple):
    """Something to be remembered."""

    name: str
    until: float
    sealed: bytes


Step: TypeAlias = KeepRows | SettleRows


class Telling(NamedTuple):
    """A unit's audit events, encoded as a JSON array; ``seal`` makes an outbox row of such an array."""

    encoded: bytes
    seal: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedUnit:
    """What one transaction writes.

    Attributes:
        steps: in order.
        outbox: the unit's audit events, or a row of them that was sealed before; ``None`` when there are none. What
            units of one commit tell is sealed together: see :func:`outbox_rows`.
        wakes_at: the earliest moment at which an entry it leaves unleased must be looked at; infinite when none is.
        size: octets of message bodies it adds.
        is_new_mail: it brings mail and ends none, so it is what limits refuse; a bounce that ends an entry is not.
        memos: what is to be remembered.
    """

    steps: tuple[Step, ...]
    outbox: Telling | bytes | None
    wakes_at: float
    size: int
    is_new_mail: bool
    memos: tuple[MemoRow, ...] = ()


def wake_time(entry: QueueEntry) -> float:
    """The earliest moment at which the entry must be looked at."""
    wake = entry.expires_at if entry.warn_at is None else min(entry.expires_at, entry.warn_at)
    return min(wake, entry.due_at) if entry.state is EntryState.READY else wake


def content_size(unit: UnitOfWork) -> int:
    """Octets of message content in a unit, the largest message's."""
    return max([len(change.content) for change in unit if isinstance(change, Keep)], default=0)


def is_new_mail(unit: UnitOfWork) -> bool:
    """Whether a unit brings mail and ends none."""
    kinds = {type(change) for change in unit}
    return Keep in kinds and Settle not in kinds


def prepare(unit: UnitOfWork, codec: Codec, seal_body: SealBody | None = None) -> PreparedUnit:
    """Check, encode and seal a unit.

    Args:
        unit: what to write.
        codec: seals it.
        seal_body: where bodies go; by default into the row.

    Raises:
        StoreError: the unit is impossible; nothing has been written.
    """
    steps: list[Step] = []
    events: tuple[AuditEvent, ...] = ()
    memos: list[MemoRow] = []
    wakes_at, size = math.inf, 0
    for change in unit:
        match change:
            case Note():
                events += change.events
            case Remember():
                memos.append(_memo(change, codec))
            case Keep():
                step = _keep(change, codec, seal_body or (lambda key, content: (codec.seal_body(key, content), None)))
                free = [row.wake_at for row in step.entries if row.id not in step.leased]
                wakes_at, size = min([wakes_at, *free]), size + step.size
                steps.append(step)
            case Settle():
                settled = _settle(change, codec)
                free = [row.wake_at for row in settled.split]
                if settled.row is not None and not settled.keep_lease:
                    free.append(settled.row.wake_at)
                wakes_at = min([wakes_at, *free])
                steps.append(settled)
    touched = [entry_id for step in steps for entry_id in _touched(step)]
    if len(touched) > 1 and len(set(touched)) < len(touched):
        raise StoreError("a unit of work changes an entry twice")
    outbox = Telling(dump(events), codec.seal_encoded_events) if events else None
    return PreparedUnit(
        steps=tuple(steps), outbox=outbox, wakes_at=wakes_at, size=size, is_new_mail=is_new_mail(unit),
        memos=tuple(memos),
    )  # fmt: skip


def outbox_rows(units: Iterable[PreparedUnit]) -> list[bytes]:
    """The outbox rows of units that are committed together, in order: one, unless it would grow long.

    A row is sealed, opened, chained and deleted as one, so a busy commit pays for one row and not for one a unit. What
    was sealed before stays a row of its own.
    """
    rows: list[bytes] = []
    gathered: list[Telling] = []
    size = 0
    for unit in units:
        told = unit.outbox
        if told is None:
            continue
        if gathered and (isinstance(told, bytes) or size + len(told.encoded) > _ROW):
            rows.append(_sealed_together(gathered))
            gathered, size = [], 0
        if isinstance(told, bytes):
            rows.append(told)
        else:
            gathered.append(told)
            size += len(told.encoded)
    return [*rows, _sealed_together(gathered)] if gathered else rows


def _sealed_together(tellings: list[Telling]) -> bytes:
    """One row: the arrays' elements in one array."""
    inner = b",".join([told.encoded[1:-1] for told in tellings])
    return tellings[0].seal(b"[%b]" % inner)


def memo_rows(units: Iterable[PreparedUnit]) -> list[MemoRow]:
    """What units want remembered, each name once: the last one counts."""
    return list({row.name: row for unit in units for row in unit.memos}.values())


def _memo(memo: Remember, codec: Codec) -> MemoRow:
    if not math.isfinite(memo.until):
        raise StoreError("what is to be remembered has no end")
    return MemoRow(memo.name, memo.until, codec.seal_memo(memo))


def _touched(step: Step) -> list[str]:
    if isinstance(step, KeepRows):
        return [row.id for row in step.entries]
    return [step.entry_id, *(row.id for row in step.split)]


def _keep(change: Keep, codec: Codec, seal_body: SealBody) -> KeepRows:
    message = change.message
    if not change.entries:
        raise StoreError(f"{message.id}: a message needs at least one entry")
    rows = tuple(entry_row(entry, message.id, codec) for entry in change.entries)
    if not change.leased <= {row.id for row in rows}:
        raise StoreError(f"{message.id}: an entry is to be leased that is not there")
    facts = codec.seal_message(message)
    body, file = seal_body(message.id, change.content)
    return KeepRows(
        message.id, message.received_at, len(change.content), file, facts, body, rows, frozenset(change.leased)
    )


def _settle(change: Settle, codec: Codec) -> SettleRows:
    entry = change.entry
    left = tuple(state for state in entry.recipients if state.number not in change.fates and state.fate is None)
    row = None
    if left:
        if len(left) < len(entry.recipients):
            entry = replace(entry, recipients=left)
        row = entry_row(entry, entry.message_id, codec)
    split = tuple(entry_row(new, entry.message_id, codec) for new in change.split)
    return SettleRows(entry.id, entry.message_id, row, split, change.keep_lease, change.fence)


def entry_row(entry: QueueEntry, message_id: str, codec: Codec) -> EntryRow:
    """An entry as its row.

    Raises:
        StoreError: it is not an entry of this message, or is impossible.
    """
    if entry.message_id != message_id or not entry.id.startswith(f"{message_id}."):
        raise StoreError(f"{entry.id}: not an entry of message {message_id}")
    if not entry.recipients or any(state.fate for state in entry.recipients):
        raise StoreError(f"{entry.id}: an entry holds recipients without a fate, at least one")
    wake = wake_time(entry)
    if not math.isfinite(entry.created_at + entry.due_at + entry.expires_at + wake):
        raise StoreError(f"{entry.id}: a time is not a finite number")
    return EntryRow(
        entry.id,
        message_id,
        entry.destination,
        entry.treatment.priority,
        int(entry.state is EntryState.HELD),
        entry.due_at,
        wake,
        b"".join(codec.token(state.recipient.address) for state in entry.recipients),
        codec.seal_entry(entry),
    )
