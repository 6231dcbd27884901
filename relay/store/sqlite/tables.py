"""What a unit of work does to the tables, and every claim: run by the writer thread inside its transaction."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw
import orjson

from relay.core.errors import StoreError, StoreFullError
from relay.core.ports import Known, Seen
from relay.store.units import EntryRow, KeepRows, MemoRow, PreparedUnit, SettleRows, memo_rows, outbox_rows

PRIORITIES: Final = """
    WITH RECURSIVE p(v) AS (
        SELECT max(priority) FROM entries WHERE lease IS NULL
        UNION ALL
        SELECT (SELECT max(priority) FROM entries WHERE lease IS NULL AND priority < v)
        FROM p WHERE v IS NOT NULL
    ) SELECT v FROM p WHERE v IS NOT NULL"""
"""Each priority in use, highest first: one index seek each."""

_CLAIMED: Final = """
    SELECT e.id, coalesce(d.sealed, x''), e.message_id, coalesce(m.facts, x'')
    FROM entries e LEFT JOIN details d ON d.entry_id = e.id LEFT JOIN messages m ON m.id = e.message_id"""
"""Empty where a damaged key hides the row: that opens for nobody, and its entry is set aside like any damaged one."""
_DUE: Final = """
    SELECT id, destination FROM entries WHERE lease IS NULL AND priority = ? AND wake_at <= ?
    ORDER BY wake_at, id LIMIT ?"""
_DUE_ELSEWHERE: Final = """
    WITH RECURSIVE d(v) AS (
        SELECT min(destination) FROM entries WHERE lease IS NULL AND priority = ?1
        UNION ALL
        SELECT (SELECT min(destination) FROM entries WHERE lease IS NULL AND priority = ?1 AND destination > v)
        FROM d WHERE v IS NOT NULL
    )
    SELECT e.id, e.destination FROM d JOIN entries e ON e.id IN (
        SELECT id FROM entries WHERE lease IS NULL AND priority = ?1 AND destination = d.v AND wake_at <= ?2
        ORDER BY wake_at, id LIMIT ?3
    )
    WHERE d.v NOT IN (SELECT value FROM json_each(?4)) ORDER BY e.wake_at, e.id LIMIT ?3"""
"""A few seeks a destination, however many entries those that are passed over have."""
_LOOK_AHEAD: Final = 500
"""Due entries looked at in order before they are looked for destination by destination."""
_OLD: Final = """
    SELECT json_group_array(json_array(id, lease, destination, held, message_id)) FROM entries WHERE id IN ("""
_NO_ENTRY: Final = (None, "", 0, None)
_FINISHED: Final = "SELECT json_group_array(json_array(id, size, file)) FROM messages WHERE id IN ("
_NO_ENTRIES: Final = (
    "NOT EXISTS (SELECT 1 FROM entries WHERE entries.id > messages.id || '.' AND entries.id < messages.id || '/')"
)
"""Entry ids are MESSAGE.N, and "/" follows "." in ASCII: the range is all entries of the message."""
_LEARN: Final = """
    INSERT INTO known(kind, name, value, until) VALUES(:kind, :name, :value, :until)
    ON CONFLICT(kind, name) DO UPDATE SET value = excluded.value, until = excluded.until
    WHERE :over IS NULL OR known.until <= :over RETURNING 1"""
_RELEARN: Final = """
    UPDATE known SET value = :value, until = :until WHERE kind = :kind AND name = :name AND value = :seen RETURNING 1"""
_CHUNKS: Final = (64, 16, 4, 1)
_MEMOS_AT_ONCE: Final = 20_000
"""Memos that one housekeeping deletes, so that it never holds the lock for long."""

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
        self._execute = connection.cursor().execute
        self._incarnation = incarnation
        self._max_bytes = max_bytes
        self._bytes = 0
        self._added = 0
        self._tally: Counter[tuple[str, int]] = Counter()
        self._leases: dict[str, int | None] = {}
        self.freed_files: list[str] = []

    # --- the batch ---

    def begin(self) -> None:
        """Start to gather sums; call after BEGIN."""
        totals: list[Any] = self._execute("SELECT bytes FROM totals").fetchall()
        self._bytes = totals[0][0]
        self._added = 0
        self._tally.clear()
        self._leases.clear()
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
            self._bulk(
                "INSERT INTO tally VALUES ",
                "(?,?,?)",
                changed,
                " ON CONFLICT(destination, held) DO UPDATE SET entries = entries + excluded.entries",
            )

    # --- units ---

    def apply(self, units: Sequence[PreparedUnit]) -> None:
        """Write units of work, all of one kind of change in one statement.

        Each call into SQLite gives up the interpreter lock and queues for it again behind a busy event loop, which
        costs more than the row: so the number of calls goes with the number of tables, not of messages.

        Raises:
            StoreError: one of them is impossible; the caller undoes what was written and may try them one by one.
            StoreFullError: the queue's byte limit is reached.
        """
        size = sum(unit.size for unit in units if unit.is_new_mail)
        if size and self._max_bytes is not None and self._bytes + self._added + size > self._max_bytes:
            raise StoreFullError("the queue holds as many bytes as it may")
        keeps = [step for unit in units for step in unit.steps if isinstance(step, KeepRows)]
        settles = [step for unit in units for step in unit.steps if isinstance(step, SettleRows)]
        self._check_settles(settles)
        self._keep(keeps)
        self._insert([row for step in settles for row in step.split], frozenset())
        self._replace([step for step in settles if step.row is not None])
        self._delete([step for step in settles if step.row is None])
        self._bulk("INSERT INTO outbox(sealed) VALUES ", "(?)", [(row,) for row in outbox_rows(units)])
        self.remember(memo_rows(units))

    def remember(self, rows: Sequence[MemoRow]) -> None:
        """Keep memos, in the place of older ones of the same names."""
        self._bulk(
            "INSERT INTO memos(name, until, sealed) VALUES ",
            "(?,?,?)",
            rows,
            " ON CONFLICT(name) DO UPDATE SET until = excluded.until, sealed = excluded.sealed",
        )

    def _bulk(self, head: str, group: str, rows: Sequence[Sequence[Any]], tail: str = "") -> list[tuple[Any, ...]]:
        """Run one statement over many rows, in a few fixed sizes so that each is prepared once."""
        answers: list[tuple[Any, ...]] = []
        start = 0
        while start < len(rows):
            size = next(size for size in _CHUNKS if size <= len(rows) - start)
            bindings = [value for row in rows[start : start + size] for value in row]
            answers += self._execute(f"{head}{','.join([group] * size)}{tail}", bindings).fetchall()
            start += size
        return answers

    def _check_settles(self, steps: list[SettleRows]) -> None:
        answers = self._bulk(_OLD, "?", [(step.entry_id,) for step in steps], ")")
        old = {row[0]: row[1:] for (answer,) in answers for row in orjson.loads(answer)}
        for step in steps:
            # Taking it out makes a second change to the same entry in one batch fail, and be tried by itself.
            lease, destination, held, message_id = old.pop(step.entry_id, _NO_ENTRY)
            if message_id is None:
                raise StoreError(f"{step.entry_id}: no such entry")
            if step.fence and lease != self._incarnation:
                raise StoreError(f"{step.entry_id}: the lease was lost")
            if message_id != step.message_id:
                raise StoreError(f"{step.entry_id}: not an entry of message {step.message_id}")
            self._tally[destination, held] -= 1
            self._leases[step.entry_id] = lease

    def _keep(self, steps: list[KeepRows]) -> None:
        self._bulk("INSERT INTO messages VALUES ", "(?,?,?,?,?)", [step[:5] for step in steps])
        bodies = [(step.message_id, step.body) for step in steps if step.body is not None]
        self._bulk("INSERT INTO bodies VALUES ", "(?,?)", bodies)
        self._insert(
            [row for step in steps for row in step.entries], frozenset().union(*[step.leased for step in steps])
        )
        self._added += sum(step.size for step in steps)

    def _insert(self, rows: list[EntryRow], leased: frozenset[str]) -> None:
        mine = self._incarnation
        entries = [(*row[:7], mine if row.id in leased else None, row.tokens) for row in rows]
        self._bulk("INSERT INTO entries VALUES ", "(?,?,?,?,?,?,?,?,?)", entries)
        self._bulk("INSERT INTO details VALUES ", "(?,?)", [(row.id, row.sealed) for row in rows])
        self._tally.update((row.destination, row.held) for row in rows)

    def _replace(self, steps: list[SettleRows]) -> None:
        rows = [step.row for step in steps if step.row is not None]
        leases = [self._leases[step.entry_id] if step.keep_lease else None for step in steps]
        entries = [(*row[:7], lease, row.tokens) for row, lease in zip(rows, leases, strict=True)]
        self._bulk("REPLACE INTO entries VALUES ", "(?,?,?,?,?,?,?,?,?)", entries)
        self._bulk("REPLACE INTO details VALUES ", "(?,?)", [(row.id, row.sealed) for row in rows])
        self._tally.update((row.destination, row.held) for row in rows)

    def _delete(self, steps: list[SettleRows]) -> None:
        ids = [(step.entry_id,) for step in steps]
        self._bulk("DELETE FROM entries WHERE id IN (", "?", ids, ")")
        self._bulk("DELETE FROM details WHERE entry_id IN (", "?", ids, ")")
        messages = [(message_id,) for message_id in {step.message_id for step in steps}]
        answers = self._bulk(_FINISHED, "?", messages, f") AND {_NO_ENTRIES}")
        finished = [row for (answer,) in answers for row in orjson.loads(answer)]
        gone = [(message_id,) for message_id, _, _ in finished]
        self._bulk("DELETE FROM messages WHERE id IN (", "?", gone, ")")
        self._bulk("DELETE FROM bodies WHERE message_id IN (", "?", gone, ")")
        self._added -= sum(size for _, size, _ in finished)
        self.freed_files += [file for _, _, file in finished if file is not None]

    # --- leases ---

    def claim(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[ClaimedRow]:
        """Lease what must be looked at by ``now``: urgent first, then what has waited longest; not ``skip``'s."""
        ids: list[str] = []
        for (priority,) in self._execute(PRIORITIES).fetchall():
            ids += self._due(priority, now, limit - len(ids), skip)
            if len(ids) >= limit:
                break
        keys = [(entry_id,) for entry_id in ids]
        taken = f"UPDATE entries SET lease = {self._incarnation:d} WHERE id IN ("  # noqa: S608 - a number of our own
        self._bulk(taken, "?", keys, ")")
        rows = {row[0]: ClaimedRow(*row) for row in self._bulk(f"{_CLAIMED} WHERE e.id IN (", "?", keys, ")")}
        return [rows[entry_id] for entry_id in ids]

    def _due(self, priority: Any, now: float, limit: int, skip: frozenset[str]) -> list[str]:
        ahead = max(limit, _LOOK_AHEAD) if skip else limit
        rows: list[Any] = self._execute(_DUE, (priority, now, ahead)).fetchall()
        ids = [entry_id for entry_id, destination in rows if destination not in skip]
        if len(ids) < limit and len(rows) == ahead:
            passed = orjson.dumps(sorted(skip)).decode()
            ids = [row[0] for row in self._execute(_DUE_ELSEWHERE, (priority, now, limit, passed)).fetchall()]
        return ids[:limit]

    def acquire(self, entry_id: str) -> ClaimedRow | None:
        """Lease one entry that nobody holds."""
        free = f"{_CLAIMED} WHERE e.id = ? AND (e.lease IS NULL OR e.lease = ?)"
        rows: list[Any] = self._execute(free, (entry_id, SET_ASIDE)).fetchall()
        if not rows:
            return None
        self._execute("UPDATE entries SET lease = ? WHERE id = ?", (self._incarnation, entry_id))
        return ClaimedRow(*rows[0])

    def release(self, entry_ids: Sequence[str]) -> None:
        """Give leases of this process back."""
        ids = [(entry_id,) for entry_id in entry_ids]
        self._bulk("UPDATE entries SET lease = NULL WHERE id IN (", "?", ids, f") AND lease = {self._incarnation:d}")

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
        # Read to its end, as every statement: one that is not would keep the transaction from committing.
        rows: list[Any] = self._execute(
            "INSERT INTO counters VALUES(?, ?, ?, ?) "
            "ON CONFLICT(name, start, ends) DO UPDATE SET total = total + excluded.total RETURNING total",
            (name, start, start + window, add),
        ).fetchall()
        return int(rows[0][0])

    def learn(self, known: Known, over: Seen = "anything", now: float = 0.0, told: bytes | None = None) -> bool:
        """Keep what was learnt of another domain, if ``over`` is what is known of it; whether it was kept.

        Then ``told``, sealed audit events, goes to the outbox.
        """
        values: dict[str, Any] = {"kind": known.kind, "name": known.name, "value": known.value, "until": known.until}
        if isinstance(over, Known):
            sql, values["seen"] = _RELEARN, over.value
        else:
            sql, values["over"] = _LEARN, None if over == "anything" else now
        is_kept = bool(self._execute(sql, values).fetchall())  # read to its end, as in ``count``
        if is_kept and told is not None:
            self._execute("INSERT INTO outbox(sealed) VALUES(?)", (told,))
        return is_kept

    def forget(self, kind: str, name: str) -> None:
        """Know it no more."""
        self._execute("DELETE FROM known WHERE kind = ? AND name = ?", (kind, name))

    def tidy(self, now: float, max_known: int, max_memos: int, pages: int = 1024) -> None:
        """Drop what is over (counters, empty sums, what was known) and give free pages back to the disk."""
        self._execute(
            "DELETE FROM memos WHERE seq IN (SELECT seq FROM memos WHERE until <= ? ORDER BY until LIMIT ?)",
            (now, _MEMOS_AT_ONCE),
        )
        self._execute(
            "DELETE FROM memos WHERE seq IN (SELECT seq FROM memos "
            "WHERE seq <= (SELECT max(seq) FROM memos) - ? ORDER BY seq LIMIT ?)",
            (max_memos, _MEMOS_AT_ONCE),
        )
        self._execute("DELETE FROM known WHERE until <= ?", (now,))
        self._execute(
            "DELETE FROM known WHERE (SELECT count(*) FROM known) > :most AND (kind, name) IN (SELECT kind, name FROM "
            "(SELECT kind, name, row_number() OVER (PARTITION BY kind ORDER BY until DESC) AS place FROM known) "
            "WHERE place > :most)",
            {"most": max_known},
        )
        self._execute("DELETE FROM counters WHERE ends <= ?", (now,))
        self._execute("DELETE FROM tally WHERE entries = 0")
        self._execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()
