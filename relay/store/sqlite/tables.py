"""What a unit of work does to the tables, and every claim: run by the writer thread inside its transaction."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import apsw

from relay.core.errors import StoreError, StoreFullError
from relay.store.units import EntryRow, KeepRows, PreparedUnit, SettleRows

PRIORITIES: Final = """
    WITH RECURSIVE p(v) AS (
        SELECT max(priority) FROM entries WHERE lease IS NULL
        UNION ALL
        SELECT (SELECT max(priority) FROM entries WHERE lease IS NULL AND priority < v)
        FROM p WHERE v IS NOT NULL
    ) SELECT v FROM p WHERE v IS NOT NULL"""
"""Each priority in use, highest first: one index seek each."""

_CLAIMED: Final = """
    SELECT e.id, d.sealed, e.message_id, m.facts
    FROM entries e JOIN details d ON d.entry_id = e.id JOIN messages m ON m.id = e.message_id"""
_DUE: Final = (
    _CLAIMED
    + """
    WHERE e.lease IS NULL AND e.priority = ? AND e.wake_at <= ?
    ORDER BY e.wake_at, e.id LIMIT ?"""
)


SET_ASIDE: Final = 0
"""The lease of nobody: an entry that does not authenticate, out of every claim until the next start."""


class ClaimedRow(NamedTuple):
    """A leased entry and its message, still sealed."""

    entry_id: str
    entry: bytes
    message_id: str
    facts: bytes


class Tables:
    """The queue's tables as one process writes them.

    Sums (entries by destination, bytes) are gathered while a batch runs and written once at its end, so that figures
    over a million rows cost nothing to read.
    """

    def __init__(self, connection: apsw.Connection, incarnation: int, max_bytes: int | None) -> None:
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        self._incarnation = incarnation
        self._max_bytes = max_bytes
        self._bytes = 0
        self._added = 0
        self._tally: Counter[tuple[str, int]] = Counter()
        self.freed_files: list[str] = []

    # --- the batch ---

    def begin(self) -> None:
        """Start to gather sums; call after BEGIN."""
        self._bytes = self._execute("SELECT bytes FROM totals").fetchone()[0]  # type: ignore[index]
        self._added = 0
        self._tally.clear()
        self.freed_files = []

    def mark(self) -> tuple[int, Counter[tuple[str, int]], int]:
        """Where the sums stand, for :meth:`rewind`."""
        return self._added, self._tally.copy(), len(self.freed_files)

    def rewind(self, mark: tuple[int, Counter[tuple[str, int]], int]) -> None:
        """Forget what one failed unit added."""
        self._added, self._tally, files = mark
        del self.freed_files[files:]

    def flush(self) -> None:
        """Write the sums; call before COMMIT."""
        if self._added:
            self._execute("UPDATE totals SET bytes = bytes + ?", (self._added,))
        changed = [(destination, held, by) for (destination, held), by in self._tally.items() if by]
        if changed:
            self._cursor.executemany(
                "INSERT INTO tally VALUES(?, ?, ?) "
                "ON CONFLICT(destination, held) DO UPDATE SET entries = entries + excluded.entries",
                changed,
            )

    # --- units ---

    def apply(self, unit: PreparedUnit) -> None:
        """Write one unit.

        Raises:
            StoreError: it is impossible; the caller undoes what it wrote.
            StoreFullError: the queue's byte limit is reached.
        """
        if unit.size and self._max_bytes is not None and self._bytes + self._added + unit.size > self._max_bytes:
            raise StoreFullError("the queue holds as many bytes as it may")
        for step in unit.steps:
            if isinstance(step, KeepRows):
                self._keep(step)
            else:
                self._settle(step)
        if unit.outbox is not None:
            self._execute("INSERT INTO outbox(sealed) VALUES(?)", (unit.outbox,))

    def _keep(self, step: KeepRows) -> None:
        self._execute("INSERT INTO messages VALUES(?, ?, ?, ?, ?)", step[:5])
        if step.body is not None:
            self._execute("INSERT INTO bodies VALUES(?, ?)", (step.message_id, step.body))
        self._added += step.size
        for row in step.entries:
            self._insert(row, self._incarnation if row.id in step.leased else None)

    def _insert(self, row: EntryRow, lease: int | None) -> None:
        self._execute("INSERT INTO entries VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row[:7], lease, row.tokens))
        self._execute("INSERT INTO details VALUES(?, ?)", (row.id, row.sealed))
        self._tally[row.destination, row.held] += 1

    def _settle(self, step: SettleRows) -> None:
        old = self._execute(
            "SELECT lease, destination, held, message_id FROM entries WHERE id = ?", (step.entry_id,)
        ).fetchone()
        if old is None:
            raise StoreError(f"{step.entry_id}: no such entry")
        lease, destination, held, message_id = old
        if step.fence and lease != self._incarnation:
            raise StoreError(f"{step.entry_id}: the lease was lost")
        if message_id != step.message_id:
            raise StoreError(f"{step.entry_id}: not an entry of message {step.message_id}")
        self._tally[destination, held] -= 1
        for row in step.split:
            self._insert(row, None)
        if step.row is not None:
            self._replace(step.row, lease if step.keep_lease else None)
        else:
            self._delete(step.entry_id, message_id)

    def _replace(self, row: EntryRow, lease: int | None) -> None:
        self._execute(
            "UPDATE entries SET destination = ?, priority = ?, held = ?, due_at = ?, wake_at = ?, lease = ?, "
            "tokens = ? WHERE id = ?",
            (*row[2:7], lease, row.tokens, row.id),
        )
        self._execute("UPDATE details SET sealed = ? WHERE entry_id = ?", (row.sealed, row.id))
        self._tally[row.destination, row.held] += 1

    def _delete(self, entry_id: str, message_id: str) -> None:
        self._execute("DELETE FROM entries WHERE id = ?", (entry_id,))
        self._execute("DELETE FROM details WHERE entry_id = ?", (entry_id,))
        # Entry ids are MESSAGE.N and "/" follows "." in ASCII: this range is all entries of the message.
        last = self._execute(
            "SELECT 1 FROM entries WHERE id > ? AND id < ? LIMIT 1", (f"{message_id}.", f"{message_id}/")
        ).fetchone()
        if last is not None:
            return
        for size, file in self._execute("DELETE FROM messages WHERE id = ? RETURNING size, file", (message_id,)):
            self._added -= size
            if file is not None:
                self.freed_files.append(file)
        self._execute("DELETE FROM bodies WHERE message_id = ?", (message_id,))

    # --- leases ---

    def claim(self, now: float, limit: int) -> list[ClaimedRow]:
        """Lease what must be looked at by ``now``: urgent first, then what has waited longest."""
        rows: list[ClaimedRow] = []
        for (priority,) in self._execute(PRIORITIES).fetchall():
            found = self._execute(_DUE, (priority, now, limit - len(rows)))
            rows.extend(ClaimedRow(*row) for row in found)
            if len(rows) >= limit:
                break
        self._cursor.executemany(
            "UPDATE entries SET lease = ? WHERE id = ?", [(self._incarnation, row.entry_id) for row in rows]
        )
        return rows

    def acquire(self, entry_id: str) -> ClaimedRow | None:
        """Lease one entry that nobody holds."""
        row = self._execute(
            f"{_CLAIMED} WHERE e.id = ? AND (e.lease IS NULL OR e.lease = ?)", (entry_id, SET_ASIDE)
        ).fetchone()
        if row is None:
            return None
        self._execute("UPDATE entries SET lease = ? WHERE id = ?", (self._incarnation, entry_id))
        return ClaimedRow(*row)

    def release(self, entry_ids: Sequence[str]) -> None:
        """Give leases of this process back."""
        self._cursor.executemany(
            "UPDATE entries SET lease = NULL WHERE id = ? AND lease = ?",
            [(entry_id, self._incarnation) for entry_id in entry_ids],
        )

    def free(self, incarnation: int) -> int:
        """Free all leases of a dead process and forget it; how many."""
        freed = len(
            self._execute("UPDATE entries SET lease = NULL WHERE lease = ? RETURNING 1", (incarnation,)).fetchall()
        )
        self._execute("DELETE FROM incarnations WHERE number = ?", (incarnation,))
        return freed

    def set_aside(self, entry_id: str, alert: bytes) -> None:
        """Take a damaged entry out of every claim until the next start, and tell the audit trail."""
        self._execute("UPDATE entries SET lease = ? WHERE id = ?", (SET_ASIDE, entry_id))
        self._execute("INSERT INTO outbox(sealed) VALUES(?)", (alert,))

    def retry_damaged(self) -> None:
        """Let entries that were set aside be claimed again: the keys may have been mended."""
        self._execute("UPDATE entries SET lease = NULL WHERE lease = ?", (SET_ASIDE,))

    # --- the rest ---

    def forget_outbox(self, upto: int) -> None:
        """Delete outbox rows up to this one."""
        self._execute("DELETE FROM outbox WHERE seq <= ?", (upto,))

    def count(self, name: str, window: float, now: float, add: int) -> int:
        """Add to a fixed-window counter; the sum."""
        start = now // window * window
        (total,) = self._execute(
            "INSERT INTO counters VALUES(?, ?, ?, ?) "
            "ON CONFLICT(name, start, ends) DO UPDATE SET total = total + excluded.total RETURNING total",
            (name, start, start + window, add),
        ).fetchone()  # type: ignore[misc]
        return int(total)

    def tidy(self, now: float, pages: int = 1024) -> None:
        """Drop counters whose window is over and empty sums, and give free pages back to the disk."""
        self._execute("DELETE FROM counters WHERE ends <= ?", (now,))
        self._execute("DELETE FROM tally WHERE entries = 0")
        self._execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()
