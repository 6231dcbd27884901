"""A SQLite queue at rest, for checks and copies."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from relay.core.errors import CorruptError, StoreFullError
from relay.core.ports import Known
from relay.store.sqlite.bodies import BodyFiles
from relay.store.sqlite.faults import exit_at_once, translate
from relay.store.sqlite.files import QueueFiles
from relay.store.sqlite.tables import Tables
from relay.store.units import EntryRow, KeepRows, MemoRow, PreparedUnit

_MESSAGES = """
    SELECT m.id, m.received_at, m.size, m.file, m.facts, b.sealed FROM messages m
    LEFT JOIN bodies b ON b.message_id = m.id WHERE m.id > ? ORDER BY m.id LIMIT ?"""
_ENTRIES = """
    SELECT e.id, e.message_id, e.destination, e.priority, e.held, e.due_at, e.wake_at, e.tokens, d.sealed
    FROM entries e JOIN details d ON d.entry_id = e.id WHERE e.id > ? AND e.id < ? ORDER BY e.id"""
_KNOWN = "SELECT kind, name, value, until FROM known WHERE (kind, name) > (?, ?) ORDER BY kind, name LIMIT ?"
_MEMOS = "SELECT seq, name, until, sealed FROM memos WHERE seq > ? ORDER BY seq LIMIT ?"
_STRAYS = {
    "entries without their message": "SELECT count(*) FROM entries WHERE message_id NOT IN (SELECT id FROM messages)",
    "entries without their details": "SELECT count(*) FROM entries WHERE id NOT IN (SELECT entry_id FROM details)",
    "details without their entry": "SELECT count(*) FROM details WHERE entry_id NOT IN (SELECT id FROM entries)",
    "bodies without their message": "SELECT count(*) FROM bodies WHERE message_id NOT IN (SELECT id FROM messages)",
}


class SqliteShelf:
    """Implements :class:`relay.store.transfer.Shelf` over the queue in a directory."""

    def __init__(self, directory: Path, run_dir: Path, large_body: int) -> None:
        """Open it, or make it.

        Args:
            directory: holds ``queue.db``.
            run_dir: holds the locks of living processes.
            large_body: octets of content from which a body becomes a file.

        Raises:
            ProblemsError: it cannot be used.
        """
        files = QueueFiles(directory, run_dir, exit_at_once, None)
        self._opened = files.open(f"shelf-{os.getpid()}-{os.urandom(4).hex()}")
        self._bodies = BodyFiles(files.bodies, self._opened.number, exit_at_once)
        self._tables = Tables(self._opened.writing, self._opened.number, None)
        self._large = large_body
        self._is_reading = False

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        if not self._is_reading:
            self._opened.reading.execute("BEGIN")
            self._is_reading = True
        return self._opened.reading.execute(query, values).fetchall()

    def _end_reading(self) -> None:
        if self._is_reading:
            self._opened.reading.execute("COMMIT")
            self._is_reading = False

    async def messages(self, after: str, limit: int) -> list[KeepRows]:
        """The next messages in id order, each with its entries."""
        while rows := self._rows(_MESSAGES, after, limit):
            found = [kept for row in rows if (kept := self._message(*row)) is not None]
            if found:
                return found
            after = rows[-1][0]
        return []

    def _message(
        self, name: str, received: float, size: int, file: str | None, facts: bytes, body: bytes | None
    ) -> KeepRows | None:
        """A message; ``None`` when it has left the queue since reading began, and its body file with it."""
        if file is not None:
            try:
                body = self._bodies.read(file)
            except CorruptError:
                still = self._opened.writing.execute("SELECT 1 FROM messages WHERE id = ?", (name,)).fetchall()
                if not still:
                    return None
                body = None
        rows = tuple(EntryRow(*row) for row in self._rows(_ENTRIES, f"{name}.", f"{name}/"))
        return KeepRows(name, received, size, None, facts, body, rows, frozenset())

    async def outbox(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The next outbox rows in order."""
        rows = self._rows("SELECT seq, sealed FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
        return [(seq, sealed) for seq, sealed in rows]

    async def known(self, after: tuple[str, str], limit: int) -> list[Known]:
        """The next things known of other domains."""
        rows = self._rows(_KNOWN, *after, limit)
        return [Known(kind=kind, name=name, value=value, until=until) for kind, name, value, until in rows]

    async def memos(self, after: int, limit: int) -> list[tuple[int, MemoRow]]:
        """The next memos in order, each with its number."""
        return [(seq, MemoRow(*row)) for seq, *row in self._rows(_MEMOS, after, limit)]

    async def strays(self) -> dict[str, int]:
        """Rows that belong to nothing."""
        found = {what: int(self._rows(query)[0][0]) for what, query in _STRAYS.items()}
        found["pages of the file that are damaged"] = int(self._rows("PRAGMA quick_check")[0][0] != "ok")
        return found

    async def put(self, units: Sequence[PreparedUnit], known: Sequence[Known]) -> None:
        """Write in one transaction.

        Raises:
            StoreError: nothing of it was written.
        """
        self._end_reading()
        written = [self._with_files(unit) for unit in units]
        try:
            with self._opened.lock.held(), self._opened.writing:
                self._tables.begin()
                self._tables.apply(written)
                for one in known:
                    self._tables.learn(one)
                self._tables.flush()
        except apsw.Error as error:
            raise translate(error) from error

    def _with_files(self, unit: PreparedUnit) -> PreparedUnit:
        steps = tuple(self._with_file(step) if isinstance(step, KeepRows) else step for step in unit.steps)
        return replace(unit, steps=steps)

    def _with_file(self, kept: KeepRows) -> KeepRows:
        if kept.body is None or kept.size < self._large:
            return kept
        try:
            return kept._replace(file=self._bodies.write(kept.body), body=None)
        except StoreFullError as error:
            raise StoreFullError(f"{kept.message_id}: {error}") from error

    async def close(self) -> None:
        """Let go of it."""
        self._end_reading()
        with self._opened.lock.held():
            self._opened.writing.execute("DELETE FROM incarnations WHERE number = ?", (self._opened.number,))
        self._opened.close()
