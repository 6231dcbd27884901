"""Reading: one connection and one thread of its own, so that neither the event loop nor the writer waits for it.

What is read may be committed and not on the disk yet. Most of it is shown, or leads to another commit, which is never
on the disk without it. What leads to something outside the database waits for the disk first.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import apsw

from relay.core.errors import StoreError
from relay.core.ports import Known, QueueFilter, QueueStats
from relay.store.codec import Codec
from relay.store.sqlite.durable import Log
from relay.store.sqlite.faults import translate
from relay.store.sqlite.listing import EntryPage, page
from relay.store.sqlite.tables import PRIORITIES, SET_ASIDE

_T = TypeVar("_T")
_LEASED: Final = """
    SELECT coalesce(sum(lease <> ?), 0), coalesce(sum(held AND lease <> ?), 0),
           coalesce(sum(lease = ?), 0), coalesce(sum(held AND lease = ?), 0)
    FROM entries WHERE lease IS NOT NULL"""
_DUE: Final = """
    SELECT count(*) FROM entries INDEXED BY entries_free
    WHERE lease IS NULL AND priority = ? AND wake_at <= ? AND held = 0"""
"""From the index alone: left to itself SQLite may take the other one and read every row for ``held``."""


class Reader:
    """Short reads, each its own statement, so that no read holds the WAL back."""

    def __init__(self, connection: apsw.Connection, log: Log) -> None:
        self._connection = connection
        self._log = log
        self._executor = ThreadPoolExecutor(1, "store-reader")
        self._closed = False

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run ``work`` in the reader's thread.

        Raises:
            StoreError: in place of the database's errors, and when the store is closed.
        """
        if self._closed:
            raise StoreError("the store is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except (apsw.Error, UnicodeDecodeError) as error:  # the second: what is kept as text is none any more
            raise translate(error) from error

    def close(self) -> None:
        """End the thread; the connection is for whoever opened it to close."""
        self._closed = True
        self._executor.shutdown(wait=True)

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        return self._connection.execute(sql, bindings).fetchall()

    def row(self, sql: str, *bindings: Any) -> tuple[Any, ...] | None:
        """The first row, or ``None``."""
        found = self.rows(sql, *bindings)
        return found[0] if found else None

    # --- what the store asks ---

    def content_row(self, message_id: str) -> tuple[str | None, bytes | None] | None:
        """The body's file name, or its sealed bytes; ``None`` when there is no such message."""
        found = self.row(
            "SELECT m.file, b.sealed FROM messages m LEFT JOIN bodies b ON b.message_id = m.id WHERE m.id = ?",
            message_id,
        )
        return None if found is None else (found[0], found[1])

    def is_file_named(self, name: str) -> bool:
        """Whether a message's body is in this file; when none is, that is on the disk: the file may be removed."""
        if self.row("SELECT 1 FROM messages WHERE file = ?", name) is not None:
            return True
        self._log.sync()
        return False

    def outbox(self, limit: int) -> list[tuple[int, bytes]]:
        """The oldest rows of the outbox; on the disk, as the trail that they are written to must not know of more."""
        rows = [
            (seq, sealed) for seq, sealed in self.rows("SELECT seq, sealed FROM outbox ORDER BY seq LIMIT ?", limit)
        ]
        if rows:
            self._log.sync()
        return rows

    def next_wake(self, after: float) -> float | None:
        """The earliest moment after this one at which a free entry must be looked at: one seek a priority."""
        priorities = self.rows(PRIORITIES)
        wakes = [
            self.rows(
                "SELECT min(wake_at) FROM entries WHERE lease IS NULL AND priority = ? AND wake_at > ?",
                priority,
                after,
            )[0][0]
            for (priority,) in priorities
        ]
        return min((wake for wake in wakes if wake is not None), default=None)

    def known(self, kind: str, name: str, now: float) -> Known | None:
        """What is known of a name."""
        row = self.row("SELECT value, until FROM known WHERE kind = ? AND name = ? AND until > ?", kind, name, now)
        return None if row is None else Known(kind=kind, name=name, value=row[0], until=row[1])

    def all_known(self, kind: str, now: float, after: str, limit: int) -> list[Known]:
        """What is known of a kind, in the order of the names."""
        sql = "SELECT name, value, until FROM known WHERE kind = ? AND name > ? AND until > ? ORDER BY name LIMIT ?"
        return [
            Known(kind=kind, name=name, value=value, until=until)
            for name, value, until in self.rows(sql, kind, after, now, limit)
        ]

    def memos(self, prefix: str, now: float, limit: int) -> list[tuple[str, float, bytes]]:
        """What is remembered under names that begin so, still sealed."""
        sql = "SELECT name, until, sealed FROM memos WHERE name >= ? AND name < ? AND until > ? ORDER BY name LIMIT ?"
        return [
            (name, until, sealed) for name, until, sealed in self.rows(sql, prefix, f"{prefix}\U0010ffff", now, limit)
        ]

    def page(self, where: QueueFilter, codec: Codec, after: str, limit: int) -> list[EntryPage]:
        """The next entries in id order that match."""
        return page(self.rows, where, codec, after, limit)

    def stats(self, now: float, top: int) -> QueueStats:
        """Figures from the kept sums, and one count over the index of free entries."""
        tally = self.rows("SELECT destination, held, entries FROM tally WHERE entries > 0")
        leased, leased_held, damaged, damaged_held = self.rows(_LEASED, *[SET_ASIDE] * 4)[0]
        due = sum(self.rows(_DUE, priority, now)[0][0] for (priority,) in self.rows(PRIORITIES))
        held = sum(entries for _, is_held, entries in tally if is_held)
        total = sum(entries for _, _, entries in tally)
        oldest = self.row("SELECT received_at FROM messages ORDER BY id LIMIT 1")
        destinations: dict[str, int] = {}
        for destination, _, entries in tally:
            destinations[destination] = destinations.get(destination, 0) + entries
        ranked = sorted(destinations.items(), key=lambda item: (-item[1], item[0]))[:top]
        return QueueStats(
            ready=due,
            deferred=total - held - (leased - leased_held) - (damaged - damaged_held) - due,
            held=held - leased_held + damaged - damaged_held,
            leased=leased,
            oldest_created_at=oldest[0] if oldest else None,
            bytes=self.rows("SELECT bytes FROM totals")[0][0],
            outbox=self.rows("SELECT coalesce((SELECT max(seq) FROM outbox) - (SELECT min(seq) FROM outbox) + 1, 0)")[
                0
            ][0],
            destinations=tuple(ranked),
        )
