"""The queue in memory, for tests: what the other implementations promise, save that it does not outlive the process."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from relay.core.change import AuditEvent, Remember, UnitOfWork
from relay.core.entry import Claimed, EntryState, QueueEntry
from relay.core.envelope import Message
from relay.core.errors import CorruptError, StoreError, StoreFullError
from relay.core.ports import Clock, Known, OutboxRow, QueueFilter, QueueStats, Seen, Vault
from relay.store.codec import Codec
from relay.store.options import StoreOptions
from relay.store.units import EntryRow, KeepRows, MemoRow, PreparedUnit, SettleRows, outbox_rows, prepare

_GONE = object()


@dataclass(slots=True, eq=False)
class _Stored:
    """An entry's row, who leases it, and whether it was set aside as damaged."""

    row: EntryRow
    lease: str | None
    damaged: bool = False


@dataclass(slots=True, eq=False)
class MemoryData:
    """What several :class:`MemoryStore` share, as processes share a directory; sealed like everywhere else.

    ``alive`` names the incarnations whose leases hold; a test takes a name out to let that one die.
    """

    messages: dict[str, KeepRows] = field(default_factory=dict)
    entries: dict[str, _Stored] = field(default_factory=dict)
    outbox: dict[int, bytes] = field(default_factory=dict)
    counters: dict[tuple[str, float, float], int] = field(default_factory=dict)
    known: dict[tuple[str, str], Known] = field(default_factory=dict)
    memos: dict[str, MemoRow] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    seq: int = 0


class MemoryStore:
    """Implements the ports ``QueueStore`` and ``Knowledge`` over a :class:`MemoryData`."""

    def __init__(
        self, vault: Vault, clock: Clock, options: StoreOptions | None = None, data: MemoryData | None = None
    ) -> None:
        self._codec = Codec(vault)
        self._clock = clock
        self._options = options or StoreOptions()
        self._data = MemoryData() if data is None else data
        self._name = ""
        self._wakes: list[Callable[[], None]] = []
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []

    # --- life ---

    async def open(self, incarnation: str) -> None:
        """Register, free the leases of dead ones, and try again what was set aside."""
        self._name = incarnation
        self._data.alive.add(incarnation)
        await self.reap()
        for stored in self._data.entries.values():
            stored.damaged = False

    async def close(self) -> None:
        """Give back every lease."""
        self._data.alive.discard(self._name)
        self._free({self._name})

    async def reap(self) -> int:
        """Free the leases of incarnations that are no longer alive; how many."""
        dead = {stored.lease for stored in self._data.entries.values() if stored.lease} - self._data.alive
        freed = self._free(dead)
        if freed:
            self._wake()
        return freed

    def _free(self, names: set[str]) -> int:
        freed = [stored for stored in self._data.entries.values() if stored.lease in names]
        for stored in freed:
            stored.lease = None
        return len(freed)

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when this store kept or gave back an entry that is due."""
        self._wakes.append(wake)

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()

    # --- writing ---

    async def commit(self, unit: UnitOfWork) -> None:
        """Apply the changes, all or none.

        Raises:
            StoreFullError: the queue's byte limit is reached.
            StoreError: a lease was lost, an id is taken, or the unit is impossible; nothing of it was applied.
        """
        prepared = prepare(unit, self._codec)
        await asyncio.sleep(0)  # others run here, as they do while a disk works
        self._undo = []
        try:
            self._apply(prepared)
        except StoreError:
            for table, key, old in reversed(self._undo):
                if old is _GONE:
                    del table[key]
                else:
                    table[key] = old
            raise
        if prepared.wakes_at <= self._clock():
            self._wake()

    def _put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((table, key, table.get(key, _GONE)))
        table[key] = value

    def _drop(self, table: dict[Any, Any], key: Any) -> None:
        self._undo.append((table, key, table.pop(key)))

    def _apply(self, unit: PreparedUnit) -> None:
        limit = self._options.max_bytes
        if unit.is_new_mail and limit is not None and self._bytes() + unit.size > limit:
            raise StoreFullError("the queue holds as many bytes as it may")
        for step in unit.steps:
            if isinstance(step, KeepRows):
                self._keep(step)
            else:
                self._settle(step)
        for memo in unit.memos:
            self._put(self._data.memos, memo.name, memo)
        for row in outbox_rows([unit]):
            self._data.seq += 1
            self._data.outbox[self._data.seq] = row

    def _keep(self, step: KeepRows) -> None:
        if step.message_id in self._data.messages:
            raise StoreError("an id is already in the queue")
        self._put(self._data.messages, step.message_id, step)
        for row in step.entries:
            self._insert(row, self._name if row.id in step.leased else None)

    def _insert(self, row: EntryRow, lease: str | None) -> None:
        if row.id in self._data.entries:
            raise StoreError("an id is already in the queue")
        self._put(self._data.entries, row.id, _Stored(row, lease))

    def _settle(self, step: SettleRows) -> None:
        stored = self._data.entries.get(step.entry_id)
        if stored is None:
            raise StoreError(f"{step.entry_id}: no such entry")
        if step.fence and stored.lease != self._name:
            raise StoreError(f"{step.entry_id}: the lease was lost")
        if stored.row.message_id != step.message_id:
            raise StoreError(f"{step.entry_id}: not an entry of message {step.message_id}")
        for row in step.split:
            self._insert(row, None)
        if step.row is not None:
            self._put(self._data.entries, step.entry_id, _Stored(step.row, stored.lease if step.keep_lease else None))
            return
        self._drop(self._data.entries, step.entry_id)
        if not any(other.row.message_id == step.message_id for other in self._data.entries.values()):
            self._drop(self._data.messages, step.message_id)

    async def claim(self, *, now: float, limit: int, skip: frozenset[str] = frozenset()) -> Sequence[Claimed]:
        """Lease what is due, expired or to be warned of: urgent first, then what has waited longest; not ``skip``'s."""
        free = (s for s in self._data.entries.values() if s.lease is None and not s.damaged)
        due = [s for s in free if s.row.wake_at <= now and s.row.destination not in skip]
        due.sort(key=lambda stored: (-stored.row.priority, stored.row.wake_at, stored.row.id))
        claimed = []
        for stored in due[:limit]:
            try:
                claimed.append(self._open(stored))
            except CorruptError:
                self._set_aside(stored)
            else:
                stored.lease, stored.damaged = self._name, False
        return claimed

    def _open(self, stored: _Stored) -> Claimed:
        entry = self._codec.open_entry(stored.row.id, stored.row.sealed)
        kept = self._data.messages[stored.row.message_id]
        return Claimed(entry=entry, message=self._codec.open_message(kept.message_id, kept.facts))

    def _set_aside(self, stored: _Stored) -> None:
        stored.damaged = True
        event = AuditEvent(kind="alert", at=self._clock(), facts={"alert": "entry-damaged", "entry": stored.row.id})
        self._data.seq += 1
        self._data.outbox[self._data.seq] = self._codec.seal_events((event,))

    async def acquire(self, entry_id: str) -> Claimed | None:
        """Lease one entry whatever its state; ``None`` when it is gone or leased, by this process too.

        Raises:
            CorruptError: it does not authenticate; it is not leased.
        """
        stored = self._data.entries.get(entry_id)
        if stored is None or stored.lease is not None:
            return None
        try:
            claimed = self._open(stored)
        except CorruptError:
            self._set_aside(stored)
            raise
        stored.lease, stored.damaged = self._name, False
        return claimed

    def holds(self, entry_id: str) -> bool:
        """Always: nobody takes a lease from one that lives."""
        del entry_id
        return True

    async def release(self, entry_ids: Sequence[str]) -> None:
        """Give leases of this process back unchanged."""
        for entry_id in entry_ids:
            stored = self._data.entries.get(entry_id)
            if stored is not None and stored.lease == self._name:
                stored.lease = None
        self._wake()

    async def forget_outbox(self, upto_seq: int) -> None:
        """Delete rows up to this one."""
        for seq in [seq for seq in self._data.outbox if seq <= upto_seq]:
            del self._data.outbox[seq]

    async def count(self, counter: str, *, window: float, now: float, add: int = 1) -> int:
        """Add to a fixed-window counter; the sum in the window that ``now`` lies in, this addition included."""
        start = now // window * window
        key = (self._codec.counter(counter), start, start + window)
        self._data.counters[key] = self._data.counters.get(key, 0) + add
        return self._data.counters[key]

    async def checkpoint(self) -> None:
        """Drop counters whose window is over, and what was known."""
        now = self._clock()
        for key in [key for key in self._data.counters if key[2] <= now]:
            del self._data.counters[key]
        kinds: dict[str, list[tuple[float, tuple[str, str]]]] = {}
        for fact, one in self._data.known.items():
            if one.until > now:
                kinds.setdefault(one.kind, []).append((one.until, fact))
        kept = {fact for left in kinds.values() for _, fact in sorted(left, reverse=True)[: self._options.max_known]}
        for name in self._data.known.keys() - kept:
            del self._data.known[name]
        for memo in [memo for memo in self._data.memos.values() if memo.until <= now]:
            del self._data.memos[memo.name]
        for memo_name in list(self._data.memos)[: max(0, len(self._data.memos) - self._options.max_memos)]:
            del self._data.memos[memo_name]

    # --- reading ---

    async def next_due(self, *, after: float) -> float | None:
        """The earliest moment after ``after`` at which a free entry is due, expires or must be warned of."""
        wakes = (s.row.wake_at for s in self._data.entries.values() if s.lease is None and not s.damaged)
        return min((wake for wake in wakes if wake > after), default=None)

    async def message(self, message_id: str) -> Message | None:
        """A message still in the queue."""
        kept = self._data.messages.get(message_id)
        return None if kept is None else self._codec.open_message(message_id, kept.facts)

    async def content(self, message_id: str) -> bytes:
        """A message's body, opened.

        Raises:
            CorruptError: it does not authenticate.
            StoreError: no such message.
        """
        kept = self._data.messages.get(message_id)
        if kept is None:
            raise StoreError(f"{message_id}: no such message")
        if kept.body is None:
            raise CorruptError(f"{message_id}: the body is missing")
        return self._codec.open_body(message_id, kept.body)

    async def entry(self, entry_id: str) -> QueueEntry | None:
        """An entry still in the queue."""
        stored = self._data.entries.get(entry_id)
        return None if stored is None else self._codec.open_entry(entry_id, stored.row.sealed)

    async def entries(self, where: QueueFilter, *, page: int = 200) -> AsyncIterator[QueueEntry]:
        """Entries in id order; those that do not authenticate are left out."""
        after = ""
        while True:
            keys = sorted(
                key for key, stored in self._data.entries.items() if key > after and self._fits(stored, where)
            )
            for key in keys[:page]:
                stored = self._data.entries.get(key)
                if stored is not None and not stored.damaged:
                    yield self._codec.open_entry(key, stored.row.sealed)
            if len(keys) <= page:
                return
            after = keys[page - 1]

    def _fits(self, stored: _Stored, where: QueueFilter) -> bool:
        row = stored.row
        return (
            (where.state is None or (where.state is EntryState.HELD) == bool(row.held))
            and where.destination in ("", row.destination)
            and where.message_id in ("", row.message_id)
            and (where.due_before is None or row.due_at < where.due_before)
            and (where.recipient is None or any(token in row.tokens for token in self._codec.tokens(where.recipient)))
        )

    def _bytes(self) -> int:
        return sum(map(attrgetter("size"), self._data.messages.values()))

    async def known(self, kind: str, name: str) -> Known | None:
        """What is known and not past its time."""
        known = self._data.known.get((kind, name))
        return known if known is not None and known.until > self._clock() else None

    async def learn(self, known: Known, *, over: Seen = "anything", events: tuple[AuditEvent, ...] = ()) -> bool:
        """Keep what was learnt of another domain, in the place of what was known before, or of this alone."""
        there = self._data.known.get((known.kind, known.name))
        if isinstance(over, Known):
            is_so = there is not None and there.value == over.value
        else:
            is_so = over == "anything" or there is None or there.until <= self._clock()
        if not is_so:
            return False
        self._data.known[(known.kind, known.name)] = known
        if events:
            self._data.seq += 1
            self._data.outbox[self._data.seq] = self._codec.seal_events(events)
        return True

    async def all_known(self, kind: str, *, after: str = "", limit: int = 200) -> Sequence[Known]:
        """A page of what is known of a kind and not past its time, in the order of the names."""
        now, rows = self._clock(), sorted(self._data.known.items())
        return [one for (k, name), one in rows if k == kind and name > after and one.until > now][:limit]

    async def forget(self, kind: str, name: str) -> None:
        """Know it no more."""
        self._data.known.pop((kind, name), None)

    async def recall(self, prefix: str, *, limit: int = 1000) -> Sequence[Remember]:
        """What is remembered under names that begin so and is not past its time, in the order of the names."""
        now = self._clock()
        rows = sorted(row for name, row in self._data.memos.items() if name.startswith(prefix) and row.until > now)
        return self._codec.open_memos(rows[:limit])

    async def stats(self) -> QueueStats:
        """Figures now."""
        now = self._clock()
        stored = self._data.entries.values()
        free = [s for s in stored if s.lease is None and not s.damaged]
        damaged = sum(1 for s in stored if s.damaged)
        ready = sum(1 for s in free if not s.row.held and s.row.wake_at <= now)
        held = sum(1 for s in free if s.row.held)
        oldest = min(self._data.messages, default=None)
        destinations = Counter(s.row.destination for s in stored)
        ranked = sorted(destinations.items(), key=lambda item: (-item[1], item[0]))
        return QueueStats(
            ready=ready,
            deferred=len(free) - held - ready,
            held=held + damaged,
            leased=len(stored) - len(free) - damaged,
            oldest_created_at=None if oldest is None else self._data.messages[oldest].received_at,
            bytes=self._bytes(),
            outbox=len(self._data.outbox),
            destinations=tuple(ranked[: self._options.top_destinations]),
        )

    async def outbox(self, *, limit: int) -> Sequence[OutboxRow]:
        """The oldest outbox rows. A damaged one comes as an alert that carries it."""
        rows = sorted(self._data.outbox.items())[:limit]
        return [self._codec.open_row(seq, sealed) for seq, sealed in rows]
