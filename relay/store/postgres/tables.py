"""What units of work do to the tables, and every claim: statements that one transaction of the writer sends.

A batch is written with a fixed handful of statements over arrays, sent in one round trip. No row is written by every
transaction: sums are appended as differences and folded later, so that commits of many nodes never wait in a row.
"""

# ruff: noqa: S608 - statements are put together from constants of our own, and every value is bound

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from relay.core.errors import StoreError, StoreFullError
from relay.store.postgres.line import Connection
from relay.store.units import EntryRow, KeepRows, MemoRow, PreparedUnit, SettleRows, memo_rows, outbox_rows

SET_ASIDE: Final = 0
"""The lease of nobody: an entry that does not authenticate, out of every claim until the next start."""
PLACE_SHIFT: Final = 20
"""An outbox row's place is its transaction's number, and its number in that: up to 2**20 rows a transaction."""

PRIORITIES: Final = """
    WITH RECURSIVE p(v) AS (
        (SELECT priority FROM entries WHERE lease IS NULL ORDER BY priority DESC LIMIT 1)
        UNION ALL
        SELECT (SELECT priority FROM entries WHERE lease IS NULL AND priority < v ORDER BY priority DESC LIMIT 1)
        FROM p WHERE v IS NOT NULL
    ) SELECT v FROM p WHERE v IS NOT NULL"""
"""Each priority in use, highest first: one index seek each."""

_MESSAGES: Final = """
    INSERT INTO messages(id, received_at, size, facts)
    SELECT * FROM unnest(%b::text[], %b::float8[], %b::int8[], %b::bytea[])"""
_BODIES: Final = "INSERT INTO bodies(message_id, sealed) SELECT * FROM unnest(%b::text[], %b::bytea[])"
_ENTRIES: Final = """
    INSERT INTO entries(id, message_id, destination, priority, held, due_at, wake_at, tokens, lease)
    SELECT id, message_id, destination, priority, held, due_at, wake_at, tokens, CASE WHEN leased THEN %b::int8 END
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::int4[], %b::int4[], %b::float8[], %b::float8[], %b::bytea[],
                %b::bool[])
         AS u(id, message_id, destination, priority, held, due_at, wake_at, tokens, leased)"""
_DETAILS: Final = "INSERT INTO details(entry_id, sealed) SELECT * FROM unnest(%b::text[], %b::bytea[])"
_OLD: Final = """
    SELECT id, lease, destination, held, message_id FROM entries WHERE id = ANY(%b::text[]) ORDER BY id FOR UPDATE"""
_REPLACE: Final = """
    UPDATE entries e SET destination = u.destination, priority = u.priority, held = u.held, due_at = u.due_at,
        wake_at = u.wake_at, tokens = u.tokens, lease = CASE WHEN u.keep THEN e.lease END
    FROM unnest(%b::text[], %b::text[], %b::int4[], %b::int4[], %b::float8[], %b::float8[], %b::bytea[], %b::bool[])
         AS u(id, destination, priority, held, due_at, wake_at, tokens, keep)
    WHERE e.id = u.id"""
_REPLACE_DETAILS: Final = """
    UPDATE details d SET sealed = u.sealed FROM unnest(%b::text[], %b::bytea[]) AS u(id, sealed)
    WHERE d.entry_id = u.id"""
_DELETE: Final = """
    WITH gone AS (DELETE FROM entries WHERE id = ANY(%b::text[]))
    DELETE FROM details WHERE entry_id = ANY(%b::text[])"""
_LOCK_MESSAGES: Final = "SELECT 1 FROM messages WHERE id = ANY(%b::text[]) ORDER BY id FOR UPDATE"
"""Whoever deletes entries of a message waits here for the others who do, so that one of them knows it is the last."""
_FINISH: Final = """
    WITH gone AS (
        DELETE FROM messages m WHERE m.id = ANY(%b::text[]) AND NOT EXISTS (
            SELECT 1 FROM entries e WHERE e.id > m.id || '.' AND e.id < m.id || '/')
        RETURNING m.id, m.size
    ), body AS (DELETE FROM bodies b USING gone g WHERE b.message_id = g.id)
    SELECT size FROM gone"""
"""Entry ids are MESSAGE.N, and "/" follows "." in ASCII: the range is all entries of the message."""
_OUTBOX: Final = f"""
    INSERT INTO outbox(place, node, sealed)
    SELECT ((pg_current_xact_id()::text::int8 + (SELECT base FROM places)) << {PLACE_SHIFT}) + %b::int8 + n,
           %b::text, sealed
    FROM unnest(%b::bytea[]) WITH ORDINALITY AS u(sealed, n)"""
_MEMOS: Final = """
    INSERT INTO memos(name, until, sealed) SELECT * FROM unnest(%b::text[], %b::float8[], %b::bytea[])
    ON CONFLICT(name) DO UPDATE SET until = excluded.until, sealed = excluded.sealed"""
_TALLY: Final = """
    INSERT INTO tally(destination, held, entries, bytes)
    SELECT * FROM unnest(%b::text[], %b::int4[], %b::int8[], %b::int8[])"""

_TAKE: Final = """, taken AS (
        UPDATE entries e SET lease = %(lease)b::int8 FROM due WHERE e.id = due.id
        RETURNING e.id, e.message_id, e.priority, e.wake_at)
    SELECT t.id, coalesce(d.sealed, ''), t.message_id, coalesce(m.facts, '')
    FROM taken t LEFT JOIN details d ON d.entry_id = t.id LEFT JOIN messages m ON m.id = t.message_id
    ORDER BY t.priority DESC, t.wake_at, t.id"""
"""Empty where a damaged key hides the row: that opens for nobody, and its entry is set aside like any damaged one."""
_DUE: Final = f"""
    WITH due AS (
        SELECT id FROM entries WHERE lease IS NULL AND priority = %(priority)b::int4 AND wake_at <= %(now)b::float8
        ORDER BY wake_at, id LIMIT %(limit)b::int8 FOR UPDATE SKIP LOCKED){_TAKE}"""
_DUE_AHEAD: Final = f"""
    WITH ahead AS (
        SELECT id, destination, wake_at FROM entries
        WHERE lease IS NULL AND priority = %(priority)b::int4 AND wake_at <= %(now)b::float8
        ORDER BY wake_at, id LIMIT %(ahead)b::int8
    ), due AS (
        SELECT e.id FROM entries e JOIN ahead a ON a.id = e.id
        WHERE e.lease IS NULL AND a.destination <> ALL(%(skip)b::text[])
        ORDER BY a.wake_at, a.id LIMIT %(limit)b::int8 FOR UPDATE OF e SKIP LOCKED){_TAKE}"""
_BEYOND: Final = """
    SELECT 1 FROM entries WHERE lease IS NULL AND priority = %(priority)b::int4 AND wake_at <= %(now)b::float8
    ORDER BY wake_at, id OFFSET %(ahead)b::int8 - 1 LIMIT 1"""
_DUE_ELSEWHERE: Final = f"""
    WITH RECURSIVE d(v) AS (
        (SELECT destination FROM entries WHERE lease IS NULL AND priority = %(priority)b::int4
         ORDER BY destination LIMIT 1)
        UNION ALL
        SELECT (SELECT destination FROM entries WHERE lease IS NULL AND priority = %(priority)b::int4
                AND destination > v ORDER BY destination LIMIT 1)
        FROM d WHERE v IS NOT NULL
    ), found AS (
        SELECT f.id, f.wake_at FROM d CROSS JOIN LATERAL (
            SELECT id, wake_at FROM entries
            WHERE lease IS NULL AND priority = %(priority)b::int4 AND destination = d.v AND wake_at <= %(now)b::float8
            ORDER BY wake_at, id LIMIT %(limit)b::int8) f
        WHERE d.v IS NOT NULL AND d.v <> ALL(%(skip)b::text[])
    ), due AS (
        SELECT e.id FROM entries e JOIN found f ON f.id = e.id WHERE e.lease IS NULL
        ORDER BY f.wake_at, f.id LIMIT %(limit)b::int8 FOR UPDATE OF e SKIP LOCKED){_TAKE}"""
"""A few seeks a destination, however many entries those that are passed over have."""
_LOOK_AHEAD: Final = 500
"""Due entries looked at in order before they are looked for destination by destination."""
_ACQUIRE: Final = f"""
    WITH due AS (
        SELECT id FROM entries WHERE id = %(id)b::text AND (lease IS NULL OR lease = {SET_ASIDE})
        FOR UPDATE SKIP LOCKED){_TAKE}"""

_ASIDE: Final = f"""
    WITH due AS (
        SELECT id FROM entries
        WHERE lease = {SET_ASIDE} AND id = ANY(%(ids)b::text[]) AND wake_at <= %(now)b::float8
          AND destination <> ALL(%(skip)b::text[])
        ORDER BY wake_at, id LIMIT %(limit)b::int8 FOR UPDATE SKIP LOCKED){_TAKE}"""


class ClaimedRow(NamedTuple):
    """A leased entry and its message, still sealed."""

    entry_id: str
    entry: bytes
    message_id: str
    facts: bytes


class Batch:
    """Units of work in one transaction, or in one savepoint of it: sent by :meth:`send`, judged by :meth:`check`."""

    def __init__(self, connection: Connection, lease: int, node: str, place: int = 0) -> None:
        """Begin.

        Args:
            connection: inside a transaction.
            lease: this incarnation's number.
            node: whose outbox it writes.
            place: outbox rows that this transaction has written before.
        """
        self._connection = connection
        self._lease = lease
        self._node = node
        self._settles: list[SettleRows] = []
        self._old: Any = None
        self._finished: Any = None
        self.place = place
        self.bytes = 0
        self.tally: Counter[tuple[str, int]] = Counter()

    async def send(self, units: Sequence[PreparedUnit]) -> None:
        """Send the statements; inside a pipeline nothing is waited for."""
        keeps = [step for unit in units for step in unit.steps if isinstance(step, KeepRows)]
        self._settles = [step for unit in units for step in unit.steps if isinstance(step, SettleRows)]
        settles = self._settles
        if settles:
            self._old = await self._run(_OLD, [step.entry_id for step in settles], rows=True)
        await self._keep(keeps)
        await self._insert([row for step in settles for row in step.split], frozenset())
        await self._replace([step for step in settles if step.row is not None])
        await self._delete([step for step in settles if step.row is None])
        if outbox := outbox_rows(units):
            await self._run(_OUTBOX, self.place, self._node, outbox)
            self.place += len(outbox)
        await self.remember(memo_rows(units))

    async def remember(self, rows: Sequence[MemoRow]) -> None:
        """Keep memos, in the place of older ones of the same names; in one order, so that no two wait in a circle."""
        if rows:
            await self._run(_MEMOS, *map(list, zip(*sorted(rows), strict=True)))

    async def _run(self, query: str, *values: Any, rows: bool = False) -> Any:
        cursor = self._connection.cursor(binary=True)
        await cursor.execute(query, values)
        return cursor if rows else None

    async def _keep(self, steps: list[KeepRows]) -> None:
        if not steps:
            return
        ids = [step.message_id for step in steps]
        sizes, facts = [step.size for step in steps], [step.facts for step in steps]
        await self._run(_MESSAGES, ids, [step.received_at for step in steps], sizes, facts)
        bodies = [step.body for step in steps]
        await self._run(_BODIES, ids, bodies)
        leased = frozenset().union(*[step.leased for step in steps])
        await self._insert([row for step in steps for row in step.entries], leased)
        self.bytes += sum(sizes)

    async def _insert(self, rows: list[EntryRow], leased: frozenset[str]) -> None:
        if not rows:
            return
        ids, messages, destinations, priorities, held, due, wake, tokens, sealed = map(list, zip(*rows, strict=True))
        mine = [row.id in leased for row in rows]
        values = (ids, messages, destinations, priorities, held, due, wake, tokens, mine)
        await self._run(_ENTRIES, self._lease, *values)
        await self._run(_DETAILS, ids, sealed)
        self.tally.update((row.destination, row.held) for row in rows)

    async def _replace(self, steps: list[SettleRows]) -> None:
        rows = [step.row for step in steps if step.row is not None]
        if not rows:
            return
        ids, _, destinations, priorities, held, due, wake, tokens, sealed = map(list, zip(*rows, strict=True))
        keep = [step.keep_lease for step in steps]
        await self._run(_REPLACE, ids, destinations, priorities, held, due, wake, tokens, keep)
        await self._run(_REPLACE_DETAILS, ids, sealed)
        self.tally.update((row.destination, row.held) for row in rows)

    async def _delete(self, steps: list[SettleRows]) -> None:
        if not steps:
            return
        ids = [step.entry_id for step in steps]
        messages = sorted({step.message_id for step in steps})
        await self._run(_DELETE, ids, ids)
        await self._run(_LOCK_MESSAGES, messages)
        self._finished = await self._run(_FINISH, messages, rows=True)

    async def check(self) -> None:
        """Judge the answers; call once the server has given them.

        Raises:
            StoreError: one of the units is impossible; the caller undoes what was written.
        """
        if self._settles:
            old = {row[0]: row[1:] for row in await self._old.fetchall()}
            for step in self._settles:
                # Taking it out makes a second change to the same entry in one batch fail, and be tried by itself.
                lease, destination, held, message_id = old.pop(step.entry_id, (None, "", 0, None))
                if message_id is None:
                    raise StoreError(f"{step.entry_id}: no such entry")
                if step.fence and lease != self._lease:
                    raise StoreError(f"{step.entry_id}: the lease was lost")
                if message_id != step.message_id:
                    raise StoreError(f"{step.entry_id}: not an entry of message {step.message_id}")
                self.tally[destination, held] -= 1
        if self._finished is not None:
            self.bytes -= sum(size for (size,) in await self._finished.fetchall())


async def write_sums(connection: Connection, tally: Counter[tuple[str, int]], size: int) -> None:
    """Append what a transaction added to the sums."""
    rows = [(destination, held, by, 0) for (destination, held), by in tally.items() if by]
    if size:
        rows.append(("", 0, 0, size))
    if rows:
        await connection.cursor(binary=True).execute(_TALLY, [list(column) for column in zip(*rows, strict=True)])


class Space:
    """The queue's byte limit: what others hold is asked once a second, what this process adds is known."""

    _FRESH: Final = 1.0

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._bytes = 0
        self._read_at = float("-inf")

    async def refresh(self, connection: Connection, now: float) -> None:
        """Ask for the sum, if what is known is old."""
        if self.limit is not None and now - self._read_at >= self._FRESH:
            cursor = await connection.execute("SELECT coalesce(sum(bytes), 0)::int8 FROM tally")
            row = await cursor.fetchone()
            self._bytes, self._read_at = int(row[0]) if row else 0, now

    def add(self, size: int) -> None:
        """What this process has committed."""
        self._bytes += size

    def require(self, units: Sequence[PreparedUnit], pending: int) -> None:
        """Make sure that new mail fits.

        Raises:
            StoreFullError: it does not.
        """
        size = sum(unit.size for unit in units if unit.is_new_mail)
        if size and self.limit is not None and self._bytes + pending + size > self.limit:
            raise StoreFullError("the queue holds as many bytes as it may")


# --- leases ---


async def claim(
    connection: Connection, lease: int, now: float, limit: int, skip: frozenset[str] = frozenset()
) -> list[ClaimedRow]:
    """Lease what must be looked at by ``now``: urgent first, then what has waited longest; not ``skip``'s."""
    found: list[ClaimedRow] = []
    cursor = connection.cursor(binary=True)
    await cursor.execute(PRIORITIES)
    for (priority,) in await cursor.fetchall():
        found += await _due(connection, lease, priority, now, limit - len(found), skip)
        if len(found) >= limit:
            break
    return found


async def _due(
    connection: Connection, lease: int, priority: int, now: float, limit: int, skip: frozenset[str]
) -> list[ClaimedRow]:
    values: dict[str, Any] = {"lease": lease, "priority": priority, "now": float(now), "limit": limit}
    if not skip:
        return await _leased(connection, _DUE, values)
    values |= {"skip": sorted(skip), "ahead": max(limit, _LOOK_AHEAD)}
    found = await _leased(connection, _DUE_AHEAD, values)
    if len(found) < limit and await _is_more(connection, values):
        found += await _leased(connection, _DUE_ELSEWHERE, values | {"limit": limit - len(found)})
    return found


async def _is_more(connection: Connection, values: dict[str, Any]) -> bool:
    """Whether due entries lie beyond those that were looked at in order."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(_BEYOND, values)
    return await cursor.fetchone() is not None


async def _leased(connection: Connection, query: str, values: dict[str, Any]) -> list[ClaimedRow]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(query, values)
    return [ClaimedRow(*row) for row in await cursor.fetchall()]


async def acquire(connection: Connection, lease: int, entry_id: str) -> ClaimedRow | None:
    """Lease one entry that nobody holds."""
    rows = await _leased(connection, _ACQUIRE, {"lease": lease, "id": entry_id})
    return rows[0] if rows else None


async def claim_aside(
    connection: Connection, lease: int, ids: Sequence[str], *, now: float, limit: int, skip: frozenset[str]
) -> list[ClaimedRow]:
    """Lease those of ``ids`` that were set aside and must be looked at by ``now``; not ``skip``'s."""
    values = {"lease": lease, "ids": list(ids), "now": float(now), "limit": limit, "skip": sorted(skip)}
    return await _leased(connection, _ASIDE, values)


async def release(connection: Connection, lease: int, entry_ids: Sequence[str]) -> None:
    """Give leases of this process back."""
    await connection.execute(
        "UPDATE entries SET lease = NULL WHERE id = ANY(%b::text[]) AND lease = %b::int8", (list(entry_ids), lease)
    )


async def free(connection: Connection, lease: int) -> None:
    """Free all leases of this process and forget it."""
    await connection.execute("DELETE FROM incarnations WHERE number = %b::int8", (lease,))
    await connection.execute("UPDATE entries SET lease = NULL WHERE lease = %b::int8", (lease,))


async def reap(connection: Connection, dead: Sequence[str] = ()) -> int:
    """Free the leases of processes that are ``dead``, or whose time is up by the database's clock; how many.

    A lease of a process that is not registered is free too: one that came to life again after it was given up may have
    taken it under its old number.
    """
    await connection.execute(
        "DELETE FROM incarnations WHERE ends_at < clock_timestamp() OR name = ANY(%b::text[])", (list(dead),)
    )
    cursor = await connection.execute(
        "UPDATE entries e SET lease = NULL WHERE id IN (SELECT id FROM entries WHERE lease > 0 AND NOT EXISTS "
        "(SELECT 1 FROM incarnations i WHERE i.number = entries.lease) FOR UPDATE SKIP LOCKED)"
    )
    return cursor.rowcount


async def set_aside(connection: Connection, lease: int, entry_id: str) -> None:
    """Take a damaged entry that this process leases out of every claim until the next start."""
    query = "UPDATE entries SET lease = %b::int8 WHERE id = %b::text AND lease = %b::int8"
    await connection.execute(query, (SET_ASIDE, entry_id, lease))


async def retry_damaged(connection: Connection) -> None:
    """Let entries that were set aside be claimed again: the keys may have been mended."""
    await connection.execute("UPDATE entries SET lease = NULL WHERE lease = %b::int8", (SET_ASIDE,))
