"""The portal's messages, each under a data key of its own (law 7), and what the portal hands out."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Self

import structlog

from relay.core.change import AuditEvent
from relay.core.errors import CorruptError, SealError, StoreError
from relay.core.portal import (
    FINAL_STATES,
    Deposit,
    DepositFilter,
    DepositState,
    OutboxItem,
    PortalFigures,
    Post,
    taken_over,
)
from relay.core.ports import Clock, Vault
from relay.protect.pieces import KEY_SIZE, PIECE_SIZE, DataKey, piece_count
from relay.store.codec import dump, load
from relay.store.portal import tables
from relay.store.portal.database import Cursor, Database
from relay.store.portal.listing import Listing, who_of
from relay.store.portal.outbox import open_item, seal_item

_log = structlog.get_logger("store")
_KEY: Final = "portal-key"
_FACTS: Final = "portal-facts"
_PIECES_AT_ONCE: Final = 4
_LARGE: Final = 256 * 1024

_Row = tuple[str, bytes, bytes | None, bytes | None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the original's headers said: sealed under the data key, and shredded with it."""

    origin_from: str = ""
    origin_to: tuple[str, ...] = ()
    origin_cc: tuple[str, ...] = ()
    subject: str = ""
    date: str = ""

    @classmethod
    def of(cls, deposit: Deposit) -> Self:
        return cls(
            origin_from=deposit.origin_from,
            origin_to=deposit.origin_to,
            origin_cc=deposit.origin_cc,
            subject=deposit.subject,
            date=deposit.date,
        )

    def added_to(self, deposit: Deposit) -> Deposit:
        return dataclasses.replace(
            deposit,
            origin_from=self.origin_from,
            origin_to=self.origin_to,
            origin_cc=self.origin_cc,
            subject=self.subject,
            date=self.date,
        )


class StoredDeposits:
    """Implements :class:`relay.core.portal.Deposits` over a database opened with ``tables.SCHEMA``."""

    def __init__(self, database: Database, vault: Vault, clock: Clock, random: Callable[[int], bytes]) -> None:
        """Take what it works with.

        Args:
            database: opened with :data:`relay.store.portal.tables.SCHEMA` at the least.
            vault: over the portal's own key ring.
            clock: for leases and for when a deposit ended.
            random: the source of data keys, such as ``os.urandom``.
        """
        self._database = database
        self._vault = vault
        self._clock = clock
        self._random = random
        self._scrubbed: tuple[Any, ...] | None = None  # how many had ended then, and when the last of them did

    # --- sealing ---

    def _token(self, deposit: Deposit) -> bytes:
        return self._vault.seal_address(deposit.mailbox.key)

    def _seal_facts(self, deposit: Deposit) -> bytes:
        return self._vault.seal(_FACTS, deposit.id, dump(_Said().added_to(deposit)))

    def _key(self, deposit_id: str, sealed: bytes) -> DataKey:
        return DataKey(self._vault.open(_KEY, deposit_id, sealed), deposit_id)

    def _open(self, row: _Row) -> Deposit:
        deposit_id, facts, headers, key = row
        try:
            deposit = load(Deposit, self._vault.open(_FACTS, deposit_id, facts), f"deposit {deposit_id}")
            if headers is None or key is None:
                return deposit
            said = load(_Said, self._key(deposit_id, key).open_headers(headers), f"deposit {deposit_id}")
        except SealError as error:
            raise CorruptError(f"the deposit {deposit_id} cannot be opened: {error}") from error
        return said.added_to(deposit)

    def _open_all(self, rows: Sequence[Any]) -> list[Deposit]:
        """Those that open; one damaged row hides itself alone, and is said aloud."""
        opened = []
        for row in rows:
            try:
                opened.append(self._open(row))
            except CorruptError as error:
                _log.error("deposit_damaged", deposit=row[0], detail=str(error))
        return opened

    # --- deposit ---

    async def deposit(self, deposit: Deposit, content: bytes, *, events: Sequence[AuditEvent] = ()) -> Deposit:
        """Keep it under a data key of its own, on disk when this returns; idempotent by ``(message_id, number)``.

        Raises:
            StoreFullError: the disk's reserve would be touched, or it is full.
        """
        deposit = dataclasses.replace(deposit, size=len(content))
        secret = self._random(KEY_SIZE)
        key = DataKey(secret, deposit.id)
        pieces = await asyncio.to_thread(key.seal, content) if len(content) > _LARGE else key.seal(content)
        headers = key.seal_headers(dump(_Said.of(deposit)))
        sealed_key = self._vault.seal(_KEY, deposit.id, secret)
        facts, token, who = self._seal_facts(deposit), self._token(deposit), who_of(self._vault, deposit)

        def work(cursor: Cursor) -> Deposit:
            times = (int(deposit.reminded_at is not None), deposit.deposited_at, deposit.expires_at)
            place = (deposit.id, deposit.message_id, deposit.number, token, deposit.tenant, deposit.state.value)
            if not cursor.run(tables.INSERT, *place, *times, facts, headers, *who):
                sql = f"SELECT {tables.ROW} {tables.FROM} WHERE d.message_id = ? AND d.number = ?"
                return self._open(_present(cursor.row(sql, deposit.message_id, deposit.number)))
            self._database.require(len(content))
            cursor.run("INSERT INTO data_keys(deposit_id, sealed) VALUES(?, ?)", deposit.id, sealed_key)
            for number, piece in enumerate(pieces):
                cursor.run("INSERT INTO pieces(deposit_id, number, sealed) VALUES(?, ?, ?)", deposit.id, number, piece)
            self._hand_out(cursor, (), events)
            return deposit

        return await self._database.transact(work, tell=bool(events))

    # --- reading ---

    async def find(self, deposit_id: str) -> Deposit | None:
        """One deposit, in any state."""
        sql = f"SELECT {tables.ROW} {tables.FROM} WHERE d.id = ?"
        row = await self._database.read(lambda cursor: cursor.row(sql, deposit_id))
        return None if row is None else self._open(_present(row))

    async def ended_at(self, deposit_id: str) -> float | None:
        """When it reached its final state; ``None``: it has not, or is not there."""
        sql = "SELECT ended_at FROM deposits WHERE id = ?"
        row = await self._database.read(lambda cursor: cursor.row(sql, deposit_id))
        return None if row is None else row[0]

    async def of_message(self, message_id: str) -> Sequence[Deposit]:
        """All deposits of a message, in the order of its recipients."""
        sql = f"SELECT {tables.ROW} {tables.FROM} WHERE d.message_id = ? ORDER BY d.number"
        return self._open_all(await self._database.read(lambda cursor: cursor.rows(sql, message_id)))

    async def page(
        self, where: DepositFilter, *, after: str = "", limit: int = 50, newest_first: bool = True
    ) -> tuple[Sequence[Deposit], str]:
        """A keyset page by time of deposit, and where the next begins; empty at the end."""
        listing = Listing(where, self._vault, self._open_all, newest_first=newest_first)
        return await self._database.read(lambda cursor: listing.page(cursor, after, limit))

    async def list_anew(self, *, limit: int) -> int:
        """Fill in what lists and searches read of rows that an older version wrote; how many were looked at."""

        def work(cursor: Cursor) -> int:
            rows = cursor.rows(tables.UNLISTED, limit)
            known = {deposit.id: deposit for deposit in self._open_all(rows)}
            for row in rows:
                there = known.get(row[0])
                values = (None, b"") if there is None else who_of(self._vault, there)  # what is damaged: only once
                cursor.run("UPDATE deposits SET sender = ?, who = ? WHERE id = ? AND who IS NULL", *values, row[0])
            return len(rows)

        return await self._database.transact(work)

    async def content(self, deposit_id: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The original's octets from ``start`` up to ``end``, in pieces of at most 64 KiB, each authenticated."""
        sql = f"SELECT {tables.ROW} {tables.FROM} WHERE d.id = ?"
        row = await self._database.read(lambda cursor: cursor.row(sql, deposit_id))
        if row is None or row[3] is None:
            raise StoreError("there is no such message in the portal, or it is deleted")
        size = self._open(row).size
        key = self._key(deposit_id, row[3])
        end = size if end is None else min(end, size)
        last = piece_count(size) - 1
        at = max(start, 0)
        while at < end:
            first = at // PIECE_SIZE
            until = min(first + _PIECES_AT_ONCE, last + 1)
            for number, piece in await self._database.read(_reading(key, deposit_id, first, until, last)):
                base = number * PIECE_SIZE
                yield piece[at - base : end - base]
                at = base + PIECE_SIZE
                if at >= end:
                    return

    # --- changing ---

    async def change(
        self,
        deposit: Deposit,
        *,
        expected: DepositState,
        posts: Sequence[Post] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """Store the deposit's new state and times if it stands in ``expected`` still; whether it did."""
        item = self._sealed(posts, events)
        now = self._clock()

        def work(cursor: Cursor) -> bool:
            row = cursor.row(f"SELECT {tables.ROW} {tables.FROM} WHERE d.id = ? FOR UPDATE OF d", deposit.id)
            there = None if row is None else self._open(row)
            if there is None or there.state is not expected:
                return False
            new = taken_over(there, deposit)
            if new is None:
                return False
            reminded = int(new.reminded_at is not None)
            cursor.run(tables.UPDATE, self._seal_facts(new), new.state.value, reminded, new.expires_at, new.id)
            if new.state in FINAL_STATES and expected not in FINAL_STATES:
                _shred(cursor, new.id, now)
            _insert(cursor, item)
            return True

        return await self._database.transact(work, tell=item is not None)

    async def prune(self, *, before: float, limit: int) -> int:
        """Delete what is left of deposits that reached a final state before then; how many."""
        sql = "DELETE FROM deposits WHERE id IN (SELECT id FROM deposits WHERE ended_at < ? ORDER BY ended_at LIMIT ?)"
        return await self._database.transact(lambda cursor: cursor.run(sql, before, limit))

    async def scrub(self) -> None:
        """Get rid of what deleted rows leave on the disk, unless nothing has ended since that was done."""
        sql = "SELECT count(*), max(ended_at) FROM deposits WHERE ended_at IS NOT NULL"
        ended = await self._database.read(lambda cursor: cursor.row(sql))
        if ended != self._scrubbed and await self._database.scrub():
            self._scrubbed = ended

    async def due(self, *, now: float, remind_before: float, limit: int) -> Sequence[Deposit]:
        """Deposits past their expiry, and those unopened whose reminder is due."""
        rows = await self._database.read(lambda cursor: cursor.rows(tables.DUE, now, now + remind_before, limit))
        return self._open_all(rows)

    async def figures(self) -> PortalFigures:
        """Counts now, for metrics."""

        def work(cursor: Cursor) -> PortalFigures:
            states = cursor.rows("SELECT state, count(*) FROM deposits GROUP BY state ORDER BY state")
            oldest = cursor.row("SELECT min(deposited_at) FROM deposits WHERE state = 'waiting'")
            outbox = cursor.row("SELECT count(*) FROM outbox")
            return PortalFigures(
                by_state=tuple((DepositState(state), count) for state, count in states),
                outbox=outbox[0] if outbox else 0,
                oldest_waiting_at=oldest[0] if oldest else None,
            )

        return await self._database.read(work)

    # --- outbox ---

    async def hand_out(self, *, posts: Sequence[Post] = (), events: Sequence[AuditEvent] = ()) -> None:
        """Write into the outbox what belongs to no change of a deposit."""
        item = self._sealed(posts, events)
        if item is not None:
            await self._database.transact(lambda cursor: _insert(cursor, item), tell=True)

    def outbox_rows(self, *, posts: Sequence[Post] = (), events: Sequence[AuditEvent] = ()) -> Callable[[Cursor], None]:
        """What writes an outbox item inside another table's transaction on the same database.

        Give that transaction ``tell=True``.
        """
        item = self._sealed(posts, events)
        return lambda cursor: _insert(cursor, item)

    def _hand_out(self, cursor: Cursor, posts: Sequence[Post], events: Sequence[AuditEvent]) -> None:
        _insert(cursor, self._sealed(posts, events))

    def _sealed(self, posts: Sequence[Post], events: Sequence[AuditEvent]) -> bytes | None:
        return seal_item(self._vault, posts, events) if posts or events else None

    async def take_outbox(self, *, owner: str, lease: float, limit: int) -> Sequence[OutboxItem]:
        """The oldest items that nobody else holds, leased to ``owner`` for ``lease`` seconds."""
        now = self._clock()
        some = await self._database.read(lambda cursor: cursor.row("SELECT seq FROM outbox LIMIT 1"))
        if some is None:
            return []

        def work(cursor: Cursor) -> list[tuple[Any, ...]]:
            rows = cursor.rows(tables.TAKE, owner, now, limit)
            seqs = [seq for seq, _ in rows]
            if seqs:
                cursor.run(tables.LEASE.format(tables.marks(seqs)), owner, now + lease, *seqs)
            return rows

        rows = await self._database.transact(work)
        return [open_item(self._vault, seq, sealed) for seq, sealed in sorted(rows)]

    async def forget_outbox(self, seqs: Sequence[int]) -> None:
        """Delete what was handed on."""
        if seqs:
            sql = tables.FORGET.format(tables.marks(seqs))
            await self._database.transact(lambda cursor: cursor.run(sql, *seqs))

    async def word(self, seconds: float) -> bool:
        """Wait until the outbox may hold something new, at the most so long; whether it may (a hint)."""
        return await self._database.word(seconds)


def _present(row: Any) -> _Row:
    if row is None:
        raise StoreError("a deposit went away while it was made")
    found: _Row = row
    return found


def _reading(
    key: DataKey, deposit_id: str, first: int, until: int, last: int
) -> Callable[[Cursor], list[tuple[int, bytes]]]:
    """What reads and opens some pieces, in a reader's thread."""

    def work(cursor: Cursor) -> list[tuple[int, bytes]]:
        sql = "SELECT number, sealed FROM pieces WHERE deposit_id = ? AND number >= ? AND number < ? ORDER BY number"
        rows = cursor.rows(sql, deposit_id, first, until)
        if [number for number, _ in rows] != list(range(first, until)):
            if cursor.row("SELECT 1 FROM data_keys WHERE deposit_id = ?", deposit_id) is None:
                raise StoreError("the message was deleted while it was read")
            raise CorruptError(f"the deposit {deposit_id} lacks pieces of its content")
        try:
            return [(number, key.open(number, sealed, last=number == last)) for number, sealed in rows]
        except SealError as error:
            raise CorruptError(f"the deposit {deposit_id} cannot be opened: {error}") from error

    return work


def _shred(cursor: Cursor, deposit_id: str, now: float) -> None:
    """Overwrite the data key and delete it, the content and the headers: no key ring opens them again."""
    cursor.run("UPDATE data_keys SET sealed = ? WHERE deposit_id = ?", bytes(64), deposit_id)
    cursor.run("DELETE FROM data_keys WHERE deposit_id = ?", deposit_id)
    cursor.run("DELETE FROM pieces WHERE deposit_id = ?", deposit_id)
    cursor.run("UPDATE deposits SET headers = NULL, who = NULL, ended_at = ? WHERE id = ?", now, deposit_id)


def _insert(cursor: Cursor, item: bytes | None) -> None:
    if item is not None:
        cursor.run("INSERT INTO outbox(sealed, owner, held_until) VALUES(?, NULL, 0)", item)
