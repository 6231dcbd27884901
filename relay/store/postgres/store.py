"""The queue in PostgreSQL: one database for all processes of several machines."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import structlog

from relay.core.change import AuditEvent, Keep, Note, Remember, Settle, UnitOfWork
from relay.core.entry import Claimed, QueueEntry
from relay.core.envelope import Message
from relay.core.errors import CorruptError, StoreError, StoreUnavailableError
from relay.core.ports import Clock, Known, OutboxRow, QueueFilter, QueueStats, Seen, Vault
from relay.store.codec import Codec
from relay.store.options import StoreOptions
from relay.store.postgres import housekeeping, tables
from relay.store.postgres.aside import Aside
from relay.store.postgres.line import Connection, Line, place
from relay.store.postgres.lives import Lives
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.pulse import Herald, Pulse
from relay.store.postgres.reader import Reader
from relay.store.postgres.schema import MIGRATIONS, Migration, migrate
from relay.store.postgres.tables import ClaimedRow
from relay.store.postgres.writer import GroupCommit
from relay.store.units import content_size, prepare

_log = structlog.get_logger("store")


class PostgresStore:
    """Implements the ports ``QueueStore`` and ``Knowledge`` in one PostgreSQL database, for processes of many machines.

    Three connections: one writes and group-commits, one reads, one beats and listens. While the database is away every
    call fails at once with ``StoreUnavailableError``, and the connections come back by themselves.
    """

    def __init__(
        self,
        postgres: PostgresOptions,
        vault: Vault,
        options: StoreOptions,
        clock: Clock,
        *,
        observe_batch: Callable[[int], None] = lambda _size: None,
        migrations: tuple[Migration, ...] = MIGRATIONS,
    ) -> None:
        """Say where the database is; :meth:`open` touches it first.

        Args:
            postgres: where the database is, and how long things may take.
            vault: seals all that is written.
            options: limits; ``reserve_bytes`` and ``large_body`` mean nothing here.
            clock: unix seconds.
            observe_batch: called with the number of units in each commit.
            migrations: the schema's steps that this code knows.
        """
        self._postgres = postgres
        self._codec = Codec(vault)
        self._options = options
        self._clock = clock
        self._migrations = migrations
        self._name = ""
        self._lives = Lives(postgres.run_dir)
        self._wakes: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._aside = Aside()
        self._writing = Line(postgres, "writer", self._migrate)
        self._reading = Line(postgres, "reader", housekeeping.relax)
        self._reader = Reader(self._reading)
        self._herald = Herald(self._reading, postgres.notify)
        self._pulse = Pulse(postgres, clock, wake=self._wake, is_own=self._herald.is_own)
        self._writer = GroupCommit(
            line=self._writing,
            node=postgres.node,
            lease=lambda: self._pulse.number if self._pulse.is_trusted else None,
            give_back=self._give_back,
            max_bytes=options.max_bytes,
            max_batch=options.max_batch,
            settle=postgres.settle,
            observe=observe_batch,
        )

    async def open(self, incarnation: str) -> None:
        """Register under a name unique to this process's life; free what dead processes left.

        A database that cannot be reached is no error: everything answers that it is away until it is there.

        Raises:
            ProblemsError: it is there and cannot be used: a schema too new, no rights, fsync off.
        """
        self._name = incarnation
        self._lives.begin(incarnation)
        try:
            await self._writing.open()
            await self._pulse.open(incarnation)
            await self._reading.open()
        except BaseException:
            await self._close_lines()
            raise
        self._writer.start()
        try:
            await self.reap()
            await self._writer.submit(lambda connection, _lease: tables.retry_damaged(connection))
        except StoreUnavailableError as error:
            _log.warning("opened_without_database", detail=str(error))

    async def _migrate(self, connection: Connection) -> None:
        await migrate(connection, self._postgres.schema, place(self._postgres.dsn), self._migrations)

    async def close(self) -> None:
        """Give back every lease and close; without a database the leases end by themselves."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._herald.close()
        try:
            await self._writer.submit(tables.free)
        except StoreUnavailableError as error:
            _log.warning("leases_left_to_expire", detail=str(error))
        await self._writer.stop()
        await self._reader.close()
        await self._close_lines()

    async def _close_lines(self) -> None:
        await self._pulse.close()
        self._lives.end()
        await self._writing.close()
        await self._reading.close()

    async def reap(self) -> int:
        """Free the leases of the dead (no sign of life in time; on this machine, no lock); how many."""
        here = await self._reader.rows(
            "SELECT name FROM incarnations WHERE node = %b::text AND name <> %b::text", self._postgres.node, self._name
        )
        locks = self._lives.of_the_dead(name for (name,) in here)
        done = False
        try:
            freed = await self._writer.submit(lambda connection, _lease: tables.reap(connection, list(locks)))
            done = True
        finally:
            for lock in locks.values():
                lock.close(remove=done)
        if freed:
            _log.info("leases_freed", entries=freed)
            self._announce()
        if await self._aside.look(self._reader):
            self._wake()
        return freed

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when an entry may have become due here or at another process that told of it."""
        self._wakes.append(wake)

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()

    def _announce(self) -> None:
        self._wake()
        self._herald.tell()

    @property
    def is_draining(self) -> bool:
        """Whether an operator told this node to take no more work."""
        return self._pulse.draining

    def on_draining(self, hear: Callable[[bool], None]) -> None:
        """Call ``hear`` when this node is told to drain, or to resume."""
        self._pulse.on_draining.append(hear)

    @property
    def position(self) -> tuple[int, int]:
        """This node's place among those that serve, from 0, and their number; the last that was heard."""
        serving, node = self._pulse.serving, self._postgres.node
        return (serving.index(node), len(serving)) if node in serving else (0, 1)

    def on_nodes(self, hear: Callable[[], None]) -> None:
        """Call ``hear`` when a node begins to serve, or serves no more."""
        self._pulse.on_serving.append(hear)

    # --- writing ---

    async def commit(self, unit: UnitOfWork) -> None:
        """Apply the changes in one transaction; when this returns PostgreSQL has them on disk.

        Raises:
            StoreFullError: the queue's byte limit is reached, or the database's disk is full.
            StoreUnavailableError: the database is away; nothing was applied, save that mail whose commit could not be
                cleared up in time may have been kept.
            StoreError: a lease was lost, an id is taken, or the unit is impossible; nothing of it was applied.
        """
        if content_size(unit) >= self._options.large_body:
            prepared = await asyncio.to_thread(prepare, unit, self._codec)
        else:
            prepared = prepare(unit, self._codec)
        number = self._pulse.number
        await self._writer.submit_unit(prepared)
        self._keep_count(unit, number)
        if prepared.wakes_at <= self._clock():
            self._announce()

    def _keep_count(self, unit: UnitOfWork, number: int | None) -> None:
        """Note which leases this process has after a commit."""
        for change in unit:
            if isinstance(change, Keep) and number == self._pulse.number:
                self._pulse.took(*change.leased)
            elif isinstance(change, Settle) and not change.keep_lease:
                self._pulse.gave(change.entry.id)

    def holds(self, entry_id: str) -> bool:
        """Whether it is certain that no other process can have this entry in hand."""
        return self._pulse.holds(entry_id)

    async def claim(self, *, now: float, limit: int, skip: frozenset[str] = frozenset()) -> Sequence[Claimed]:
        """Lease what is due, expired or to be warned of: urgent first, then what has waited longest; not ``skip``'s."""
        return await self._lease(lambda connection, lease: self._aside.claim(connection, lease, now, limit, skip))

    async def acquire(self, entry_id: str) -> Claimed | None:
        """Lease one entry whatever its state; ``None`` when it is gone or leased, by this process too.

        Raises:
            CorruptError: it does not authenticate; it is not leased.
        """
        found = False

        async def take(connection: Connection, lease: int) -> list[ClaimedRow]:
            nonlocal found
            row = await tables.acquire(connection, lease, entry_id)
            found = row is not None
            return [row] if row else []

        claimed = await self._lease(take)
        if found and not claimed:
            raise CorruptError(f"{entry_id}: the entry or its message does not authenticate")
        return claimed[0] if claimed else None

    async def _lease(self, take: Callable[[Connection, int], Any]) -> list[Claimed]:
        """Take leases; should the caller be cancelled meanwhile, give them back, for nobody else will."""
        taking = self._spawn(self._take(take))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._return_claims)
            raise

    def _spawn(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _return_claims(self, taking: "asyncio.Task[list[Claimed]]") -> None:
        if not taking.cancelled() and taking.exception() is None:
            self._give_back([claimed.entry.id for claimed in taking.result()])

    def _give_back(self, entry_ids: list[str]) -> None:
        if entry_ids:
            self._spawn(self._try_release(entry_ids))

    async def _try_release(self, entry_ids: list[str]) -> None:
        for pause in (0.1, 0.5, 2.0, 5.0, 10.0, 30.0):
            try:
                await self.release(entry_ids)
            except StoreUnavailableError:
                await asyncio.sleep(pause)
            else:
                return
        _log.error("leases_not_given_back", entries=len(entry_ids))

    async def _take(self, take: Callable[[Connection, int], Any]) -> list[Claimed]:
        number = self._pulse.number
        rows: list[ClaimedRow] = await self._writer.submit(take)
        claimed, damaged = list[Claimed](), list[str]()
        for row in rows:
            try:
                message = self._codec.open_message(row.message_id, row.facts)
                claimed.append(Claimed(entry=self._codec.open_entry(row.entry_id, row.entry), message=message))
            except CorruptError as error:
                _log.error("entry_damaged", entry=row.entry_id, detail=str(error))
                damaged.append(row.entry_id)
        if number == self._pulse.number:
            self._pulse.took(*(each.entry.id for each in claimed))
        await self._aside.damaged.put(damaged, self._set_aside)
        return claimed

    async def _set_aside(self, entry_id: str) -> None:
        self._aside.failed(entry_id)
        event = AuditEvent(kind="alert", at=self._clock(), facts={"alert": "entry-damaged", "entry": entry_id})
        await self._writer.submit_unit(prepare((Note(events=(event,)),), self._codec))
        await self._writer.submit(lambda connection, lease: tables.set_aside(connection, lease, entry_id))

    async def release(self, entry_ids: Sequence[str]) -> None:
        """Give leases of this process back unchanged."""
        self._pulse.gave(*entry_ids)
        await self._writer.submit(lambda connection, lease: tables.release(connection, lease, entry_ids))
        self._announce()

    async def forget_outbox(self, upto_seq: int) -> None:
        """Delete rows of this node that are in a synced segment."""
        node = self._postgres.node
        await self._writer.submit(lambda connection, _lease: housekeeping.forget_outbox(connection, node, upto_seq))

    async def count(self, counter: str, *, window: float, now: float, add: int = 1) -> int:
        """Add to a fixed-window counter; the sum in the window that ``now`` lies in, this addition included."""
        return await self._reader.count(self._codec.counter(counter), window, now + self._pulse.behind, add)

    async def learn(self, known: Known, *, over: Seen = "anything", events: tuple[AuditEvent, ...] = ()) -> bool:
        """Keep what was learnt of another domain, in the place of what was known before, or of this alone."""
        told = (self._postgres.node, self._codec.seal_events(events)) if events else None
        return await self._writer.submit(lambda line, _: housekeeping.learn(line, known, over, self._clock(), told))

    async def forget(self, kind: str, name: str) -> None:
        """Know it no more."""
        await self._writer.submit(lambda connection, _lease: housekeeping.forget(connection, kind, name))

    async def checkpoint(self) -> None:
        """Fold sums, and drop old counters and what is known no longer."""
        now, options = self._clock() + self._pulse.behind, self._options
        await self._writer.submit(lambda connection, _lease: housekeeping.tidy(connection, now, options))

    # --- reading ---

    async def next_due(self, *, after: float) -> float | None:
        """The earliest moment after ``after`` at which a free entry is due, expires or must be warned of."""
        return await self._reader.next_wake(after)

    async def known(self, kind: str, name: str) -> Known | None:
        """What is known and not past its time."""
        return await self._reader.known(kind, name, self._clock())

    async def all_known(self, kind: str, *, after: str = "", limit: int = 200) -> Sequence[Known]:
        """A page of what is known of a kind and not past its time, in the order of the names."""
        return await self._reader.all_known(kind, self._clock(), after, limit)

    async def recall(self, prefix: str, *, limit: int = 1000) -> Sequence[Remember]:
        """What is remembered under names that begin so and is not past its time, in the order of the names."""
        return self._codec.open_memos(await self._reader.memos(prefix, self._clock(), limit))

    async def message(self, message_id: str) -> Message | None:
        """A message still in the queue.

        Raises:
            CorruptError: it does not authenticate.
        """
        row = await self._reader.row("SELECT facts FROM messages WHERE id = %b::text", message_id)
        return None if row is None else self._codec.open_message(message_id, row[0])

    async def content(self, message_id: str) -> bytes:
        """A message's body, opened.

        Raises:
            CorruptError: it does not authenticate, or is gone.
            StoreError: no such message.
        """
        row = await self._reader.row(
            "SELECT b.sealed FROM messages m LEFT JOIN bodies b ON b.message_id = m.id WHERE m.id = %b::text",
            message_id,
        )
        if row is None:
            raise StoreError(f"{message_id}: no such message")
        sealed = row[0]
        if sealed is None:
            raise CorruptError(f"{message_id}: the body is missing")
        if len(sealed) >= self._options.large_body:
            return await asyncio.to_thread(self._codec.open_body, message_id, sealed)
        return self._codec.open_body(message_id, sealed)

    async def entry(self, entry_id: str) -> QueueEntry | None:
        """An entry still in the queue.

        Raises:
            CorruptError: it does not authenticate.
        """
        row = await self._reader.row("SELECT sealed FROM details WHERE entry_id = %b::text", entry_id)
        return None if row is None else self._codec.open_entry(entry_id, row[0])

    async def entries(self, where: QueueFilter, *, page: int = 200) -> AsyncIterator[QueueEntry]:
        """Entries in id order; those that do not authenticate are logged and left out."""
        after = ""
        while True:
            rows = await self._reader.page(where, self._codec, after, page)
            for entry_id, sealed in rows:
                try:
                    yield self._codec.open_entry(entry_id, sealed)
                except CorruptError as error:
                    _log.error("entry_damaged", entry=entry_id, detail=str(error))
            if len(rows) < page:
                return
            after = rows[-1][0]

    async def stats(self) -> QueueStats:
        """Figures now; ``outbox`` is this node's. A database that confirms no commit counts as away."""
        self._writer.require_way()
        return await self._reader.stats(self._clock(), self._options.top_destinations, self._postgres.node)

    async def outbox(self, *, limit: int) -> Sequence[OutboxRow]:
        """This node's oldest outbox rows, by transaction. A damaged one comes as an alert that carries it."""
        rows = await self._reader.outbox(self._postgres.node, limit)
        return [self._codec.open_row(seq, sealed) for seq, sealed in rows]
