"""The queue in SQLite: one file for all processes of a machine."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from relay.core.change import AuditEvent, Remember, UnitOfWork
from relay.core.entry import Claimed, QueueEntry
from relay.core.envelope import Message
from relay.core.errors import CorruptError, StoreError
from relay.core.ports import Clock, Known, OutboxRow, QueueFilter, QueueStats, Seen, Vault
from relay.store.codec import Codec
from relay.store.damaged import Damaged
from relay.store.options import StoreOptions
from relay.store.sqlite.bodies import BodyFiles
from relay.store.sqlite.faults import Fatal, exit_at_once
from relay.store.sqlite.files import OpenedQueue, QueueFiles
from relay.store.sqlite.listing import EntryPage
from relay.store.sqlite.lives import Lives
from relay.store.sqlite.reader import Reader
from relay.store.sqlite.space import Space
from relay.store.sqlite.tables import ClaimedRow, Tables
from relay.store.sqlite.writer import GroupCommit
from relay.store.units import KeepRows, PreparedUnit, content_size, is_new_mail, prepare

_log = structlog.get_logger("store")


class SqliteStore:
    """Implements the ports ``QueueStore`` and ``Knowledge`` in one directory, for all processes of one machine.

    Reads run in a thread of their own, writes in another that group-commits; the event loop waits for neither.
    """

    def __init__(
        self,
        directory: Path,
        run_dir: Path,
        vault: Vault,
        options: StoreOptions,
        clock: Clock,
        *,
        fatal: Fatal = exit_at_once,
        observe_batch: Callable[[int], None] = lambda _size: None,
        vfs: str | None = None,
    ) -> None:
        """Say where the queue is; :meth:`open` touches it first.

        Args:
            directory: holds ``queue.db``, its WAL, ``queue.lock`` and ``bodies/``.
            run_dir: holds ``incarnations/``, one locked file a living process; may be wiped at boot.
            vault: seals all that is written.
            options: limits.
            clock: unix seconds.
            fatal: called when a write or fsync failed and what is on disk is unknown; must not return.
            observe_batch: called in the writer's thread with the number of units in each commit.
            vfs: SQLite VFS to use; the platform's by default.
        """
        self._codec = Codec(vault)
        self._options = options
        self._clock = clock
        self._fatal = fatal
        self._observe = observe_batch
        self._files = QueueFiles(directory, run_dir, fatal, vfs)
        self._lives = Lives(self._files.life_path)
        self._space = Space(directory, options.reserve_bytes, clock)
        self._wakes: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._damaged = Damaged()
        self._opened: OpenedQueue
        self._reader: Reader
        self._writer: GroupCommit
        self._bodies: BodyFiles

    # --- life ---

    async def open(self, incarnation: str) -> None:
        """Open the queue under a name unique to this process's life; free what dead processes left.

        Raises:
            ProblemsError: the file is damaged, too new, or the directory cannot be used.
        """
        self._opened = opened = await asyncio.to_thread(self._files.open, incarnation)
        to_write, to_read = opened.synced
        self._reader = Reader(opened.reading, to_read)
        self._bodies = BodyFiles(self._files.bodies, opened.number, self._fatal)
        self._writer = GroupCommit(
            connection=opened.writing,
            tables=Tables(opened.writing, opened.number, self._options.max_bytes),
            lock=opened.lock,
            log=to_write,
            fatal=self._fatal,
            freed=self._bodies.remove,
            max_batch=self._options.max_batch,
            observe=self._observe,
        )
        self._writer.start()
        await self.reap()
        await self._writer.submit(Tables.retry_damaged)
        await self._reader.run(self._sweep)

    def _sweep(self) -> None:
        alive = {number for (number,) in self._reader.rows("SELECT number FROM incarnations")}
        removed = self._bodies.sweep(
            lambda number: number in alive or number > self._opened.number, self._reader.is_file_named
        )
        if removed:
            _log.info("body_files_swept", files=removed)

    async def close(self) -> None:
        """Give back every lease and close."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._writer.submit(lambda tables: tables.free(self._opened.number))
        await self._writer.stop()
        await asyncio.to_thread(self._reader.close)
        self._opened.close()

    async def reap(self) -> int:
        """Free the leases of processes that are dead; how many."""
        await asyncio.to_thread(self._renew_life)
        others = await self._reader.run(
            lambda: self._reader.rows("SELECT number, name FROM incarnations WHERE number <> ?", self._opened.number)
        )
        freed = 0
        for number, lock in self._lives.dead(others):
            try:
                freed += await self._free(number)
            finally:
                if lock is not None:
                    lock.close()
        if freed:
            _log.info("leases_freed", entries=freed)
            self._wake()
        return freed

    def _renew_life(self) -> None:
        if self._opened.life.renew():
            _log.warning("lock_file_made_anew", file=str(self._opened.life.path), hint="exempt it from cleaning")

    async def _free(self, number: int) -> int:
        return await self._writer.submit(lambda tables: tables.free(number))

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when this process stored or gave back an entry that is due; others are found by polling."""
        self._wakes.append(wake)

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()

    # --- writing ---

    async def commit(self, unit: UnitOfWork) -> None:
        """Apply the changes in one transaction; when this returns they are fsynced.

        Raises:
            StoreFullError: less than the reserve would be left, or the queue's byte limit is reached.
            StoreUnavailableError: the file is locked for too long; nothing was applied.
            StoreError: a lease was lost, an id is taken, or the unit is impossible; nothing of it was applied.
        """
        largest = content_size(unit)
        if is_new_mail(unit):
            self._space.require(largest)
        if largest >= self._options.large_body:
            await self._write_large(await asyncio.to_thread(prepare, unit, self._codec, self._seal_body))
        else:
            self._wake_for(await self._writer.submit_unit(functools.partial(prepare, unit, self._codec)))

    async def _write_large(self, prepared: PreparedUnit) -> None:
        """Write a unit whose bodies lie in files, or take those away again."""
        try:
            await self._writer.submit_unit(lambda: prepared)
        except StoreError:
            self._bodies.remove(_files(prepared))
            raise
        self._wake_for(prepared)

    def _wake_for(self, prepared: PreparedUnit) -> None:
        """Wake who claims, when the unit left something that is due to whoever takes it."""
        if prepared.wakes_at <= self._clock():
            self._wake()

    def _seal_body(self, message_id: str, content: bytes) -> tuple[bytes | None, str | None]:
        sealed = self._codec.seal_body(message_id, content)
        return (None, self._bodies.write(sealed)) if len(content) >= self._options.large_body else (sealed, None)

    async def claim(self, *, now: float, limit: int, skip: frozenset[str] = frozenset()) -> Sequence[Claimed]:
        """Lease what is due, expired or to be warned of: urgent first, then what has waited longest; not ``skip``'s."""
        return await self._lease(lambda tables: tables.claim(now, limit, skip))

    async def acquire(self, entry_id: str) -> Claimed | None:
        """Lease one entry whatever its state; ``None`` when it is gone or leased, by this process too.

        Raises:
            CorruptError: it does not authenticate; it is not leased.
        """
        found = False

        def take(tables: Tables) -> list[ClaimedRow]:
            nonlocal found
            row = tables.acquire(entry_id)
            found = row is not None
            return [row] if row else []

        claimed = await self._lease(take)
        if found and not claimed:
            raise CorruptError(f"{entry_id}: the entry or its message does not authenticate")
        return claimed[0] if claimed else None

    async def _lease(self, take: Callable[[Tables], list[ClaimedRow]]) -> list[Claimed]:
        """Take leases; should the caller be cancelled meanwhile, give them back, for nobody else will."""
        taking = asyncio.ensure_future(self._take(take))
        self._tasks.add(taking)
        taking.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back)
            raise

    def _give_back(self, taking: "asyncio.Task[list[Claimed]]") -> None:
        if not taking.cancelled() and taking.exception() is None and taking.result():
            task = asyncio.ensure_future(self.release([claimed.entry.id for claimed in taking.result()]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, take: Callable[[Tables], list[ClaimedRow]]) -> list[Claimed]:
        rows = await self._writer.submit(take)
        if not rows:
            return []
        claimed, damaged = await self._reader.run(lambda: self._decode(rows))
        await self._damaged.put(damaged, self._set_aside)
        return claimed

    def _decode(self, rows: list[ClaimedRow]) -> tuple[list[Claimed], list[str]]:
        claimed: list[Claimed] = []
        damaged: list[str] = []
        for row in rows:
            try:
                entry = self._codec.open_entry(row.entry_id, row.entry)
                message = self._codec.open_message(row.message_id, row.facts)
            except CorruptError as error:
                _log.error("entry_damaged", entry=row.entry_id, detail=str(error))
                damaged.append(row.entry_id)
            else:
                claimed.append(Claimed(entry=entry, message=message))
        return claimed, damaged

    async def _set_aside(self, entry_id: str) -> None:
        event = AuditEvent(kind="alert", at=self._clock(), facts={"alert": "entry-damaged", "entry": entry_id})
        alert = self._codec.seal_events((event,))
        await self._writer.submit(lambda tables: tables.set_aside(entry_id, alert))

    def holds(self, entry_id: str) -> bool:
        """Always: a lease is freed only once this process's life lock can be taken."""
        del entry_id
        return True

    async def release(self, entry_ids: Sequence[str]) -> None:
        """Give leases of this process back unchanged."""
        await self._writer.submit(lambda tables: tables.release(entry_ids))
        self._wake()

    async def forget_outbox(self, upto_seq: int) -> None:
        """Delete rows that are in a synced segment. The one process that does this keeps the WAL short, too."""
        self._writer.checkpoint_early()
        await self._writer.submit(lambda tables: tables.forget_outbox(upto_seq))

    async def count(self, counter: str, *, window: float, now: float, add: int = 1) -> int:
        """Add to a fixed-window counter; the sum in the window that ``now`` lies in, this addition included."""
        name = self._codec.counter(counter)
        return await self._writer.submit(lambda tables: tables.count(name, window, now, add))

    async def learn(self, known: Known, *, over: Seen = "anything", events: tuple[AuditEvent, ...] = ()) -> bool:
        """Keep what was learnt of another domain, in the place of what was known before, or of this alone."""
        now = self._clock()
        told = self._codec.seal_events(events) if events else None
        return await self._writer.submit(lambda tables: tables.learn(known, over, now, told))

    async def forget(self, kind: str, name: str) -> None:
        """Know it no more."""
        await self._writer.submit(lambda tables: tables.forget(kind, name))

    async def checkpoint(self) -> None:
        """Drop old counters, give free pages back, and move the WAL into the database."""
        now = self._clock()
        await asyncio.to_thread(self._renew_life)
        await self._writer.submit(lambda tables: tables.tidy(now, self._options.max_known, self._options.max_memos))
        await asyncio.to_thread(self._files.checkpoint)

    # --- reading ---

    async def next_due(self, *, after: float) -> float | None:
        """The earliest moment after ``after`` at which a free entry is due, expires or must be warned of."""
        return await self._reader.run(lambda: self._reader.next_wake(after))

    async def message(self, message_id: str) -> Message | None:
        """A message still in the queue.

        Raises:
            CorruptError: it does not authenticate.
        """
        row = await self._reader.run(lambda: self._reader.row("SELECT facts FROM messages WHERE id = ?", message_id))
        return None if row is None else self._codec.open_message(message_id, row[0])

    async def content(self, message_id: str) -> bytes:
        """A message's body, opened.

        Raises:
            CorruptError: it does not authenticate, or its file is gone.
            StoreError: no such message.
        """
        return await self._reader.run(lambda: self._content(message_id))

    def _content(self, message_id: str) -> bytes:
        found = self._reader.content_row(message_id)
        if found is None:
            raise StoreError(f"{message_id}: no such message")
        file, sealed = found
        if file is not None:
            try:
                sealed = self._bodies.read(file)
            except CorruptError:
                if self._reader.content_row(message_id) is None:
                    raise StoreError(f"{message_id}: no such message") from None
                raise
        if sealed is None:
            raise CorruptError(f"{message_id}: the body is missing")
        return self._codec.open_body(message_id, sealed)

    async def entry(self, entry_id: str) -> QueueEntry | None:
        """An entry still in the queue.

        Raises:
            CorruptError: it does not authenticate.
        """
        row = await self._reader.run(
            lambda: self._reader.row("SELECT sealed FROM details WHERE entry_id = ?", entry_id)
        )
        return None if row is None else self._codec.open_entry(entry_id, row[0])

    async def entries(self, where: QueueFilter, *, page: int = 200) -> AsyncIterator[QueueEntry]:
        """Entries in id order; those that do not authenticate are logged and left out."""
        after = ""
        while True:
            rows, opened = await self._reader.run(functools.partial(self._page, where, after, page))
            for entry in opened:
                yield entry
            if len(rows) < page:
                return
            after = rows[-1].entry_id

    def _page(self, where: QueueFilter, after: str, limit: int) -> tuple[list[EntryPage], list[QueueEntry]]:
        rows = self._reader.page(where, self._codec, after, limit)
        opened: list[QueueEntry] = []
        for row in rows:
            try:
                opened.append(self._codec.open_entry(row.entry_id, row.sealed))
            except CorruptError as error:
                _log.error("entry_damaged", entry=row.entry_id, detail=str(error))
        return rows, opened

    async def known(self, kind: str, name: str) -> Known | None:
        """What is known and not past its time."""
        now = self._clock()
        return await self._reader.run(lambda: self._reader.known(kind, name, now))

    async def all_known(self, kind: str, *, after: str = "", limit: int = 200) -> Sequence[Known]:
        """A page of what is known of a kind and not past its time, in the order of the names."""
        now = self._clock()
        return await self._reader.run(lambda: self._reader.all_known(kind, now, after, limit))

    async def recall(self, prefix: str, *, limit: int = 1000) -> Sequence[Remember]:
        """What is remembered under names that begin so and is not past its time, in the order of the names."""
        now = self._clock()
        rows = await self._reader.run(lambda: self._reader.memos(prefix, now, limit))
        return self._codec.open_memos(rows)

    async def stats(self) -> QueueStats:
        """Figures now."""
        now = self._clock()
        return await self._reader.run(lambda: self._reader.stats(now, self._options.top_destinations))

    async def outbox(self, *, limit: int) -> Sequence[OutboxRow]:
        """The oldest outbox rows, on the disk. A damaged one comes as an alert that carries it."""
        rows = await self._reader.run(lambda: self._reader.outbox(limit))
        return [self._codec.open_row(seq, sealed) for seq, sealed in rows]


def _files(unit: PreparedUnit) -> list[str]:
    return [step.file for step in unit.steps if isinstance(step, KeepRows) and step.file is not None]
