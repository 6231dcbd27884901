"""Reading and counting: single statements over a connection of their own."""

# ruff: noqa: S608 - statements are put together from constants of our own, and every value is bound

import asyncio
from typing import Any, Final

from relay.core.ports import Known, QueueFilter, QueueStats
from relay.store.clauses import Dialect, clauses
from relay.store.codec import Codec
from relay.store.postgres.line import Line
from relay.store.postgres.tables import PLACE_SHIFT, PRIORITIES, SET_ASIDE

Row = tuple[Any, ...]

_LEASED: Final = f"""
    SELECT count(*) FILTER (WHERE lease <> {SET_ASIDE}), count(*) FILTER (WHERE held = 1 AND lease <> {SET_ASIDE}),
           count(*) FILTER (WHERE lease = {SET_ASIDE}), count(*) FILTER (WHERE held = 1 AND lease = {SET_ASIDE})
    FROM entries WHERE lease IS NOT NULL"""
_DUE: Final = """
    SELECT count(*) FROM entries WHERE lease IS NULL AND priority = %b::int4 AND wake_at <= %b::float8 AND held = 0"""
_NEXT: Final = f"""
    WITH p AS ({PRIORITIES})
    SELECT min(w.wake_at) FROM p CROSS JOIN LATERAL (
        SELECT wake_at FROM entries WHERE lease IS NULL AND priority = p.v AND wake_at > %b::float8
        ORDER BY wake_at LIMIT 1) w"""
_TALLY: Final = "SELECT destination, held, sum(entries)::int8, sum(bytes)::int8 FROM tally GROUP BY 1, 2"
_OUTBOX: Final = f"""
    SELECT coalesce((SELECT forgotten FROM outbox_heads WHERE node = %(node)b::text), 0)
           + row_number() OVER (ORDER BY place), sealed
    FROM (
        SELECT place, sealed FROM outbox WHERE node = %(node)b::text AND place < (
            (pg_snapshot_xmin(pg_current_snapshot())::text::int8 + (SELECT base FROM places)) << {PLACE_SHIFT})
        ORDER BY place LIMIT %(limit)b::int8
    ) oldest ORDER BY place"""
"""Only rows of transactions before which none is still under way: none can come to lie between those that were read.
So a row's number is the count of those before it, without gaps, and the same at each reading."""
_COUNT: Final = """
    INSERT INTO counters(name, start, ends, total) VALUES(%b::text, %b::float8, %b::float8, %b::int8)
    ON CONFLICT(name, start, ends) DO UPDATE SET total = counters.total + excluded.total RETURNING total"""
_READ_COUNT: Final = "SELECT total FROM counters WHERE name = %b::text AND start = %b::float8 AND ends = %b::float8"
_MEMOS: Final = """
    SELECT name, until, sealed FROM memos WHERE name >= %b::text AND name < %b::text AND until > %b::float8
    ORDER BY name LIMIT %b::int8"""
_KNOWN: Final = "SELECT value, until FROM known WHERE kind = %b::text AND name = %b::text AND until > %b::float8"
_ALL_KNOWN: Final = """
    SELECT name, value, until FROM known WHERE kind = %b::text AND name > %b::text AND until > %b::float8
    ORDER BY name LIMIT %b::int8"""

_DIALECT: Final = Dialect(value=lambda kind: f"%b::{kind}", within="position(%b::bytea IN e.tokens) > 0")


class Reader:
    """Short statements, each its own transaction, so that none holds back what VACUUM may sweep."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._running: set[asyncio.Task[Any]] = set()

    async def rows(self, query: str, *values: Any) -> list[Row]:
        """All rows of a statement.

        Raises:
            StoreError: in place of the database's errors.
        """
        # A task of its own: when the caller is cancelled, the connection is not left in the middle of an answer.
        bound = values[0] if values and isinstance(values[0], dict) else values
        task = asyncio.get_running_loop().create_task(self._rows(query, bound))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _rows(self, query: str, values: Any) -> list[Row]:
        async with self._line.use() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(query, values)
            return await cursor.fetchall() if cursor.description else []

    async def row(self, query: str, *values: Any) -> Row | None:
        """The first row, or ``None``."""
        found = await self.rows(query, *values)
        return found[0] if found else None

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._running:
            await asyncio.wait(set(self._running))

    # --- what the store asks ---

    async def next_wake(self, after: float) -> float | None:
        """The earliest moment after this one at which a free entry must be looked at: one seek a priority."""
        found = await self.row(_NEXT, float(after))
        return found[0] if found else None

    async def page(self, where: QueueFilter, codec: Codec, after: str, limit: int) -> list[Row]:
        """Ids and sealed details of the next entries in id order that match."""
        asked, values = clauses(where, codec, _DIALECT)
        conditions = " AND ".join(["e.id > %b::text", *asked])
        query = f"""
            SELECT e.id, d.sealed FROM entries e JOIN details d ON d.entry_id = e.id
            WHERE {conditions} ORDER BY e.id LIMIT %b::int8"""
        return await self.rows(query, after, *values, limit)

    async def outbox(self, node: str, limit: int) -> list[Row]:
        """The oldest outbox rows of a node."""
        return await self.rows(_OUTBOX, {"node": node, "limit": limit})

    async def count(self, name: str, window: float, now: float, add: int) -> int:
        """Add to a fixed-window counter; the sum."""
        start = now // window * window
        if add == 0:
            found = await self.row(_READ_COUNT, name, float(start), float(start + window))
            return int(found[0]) if found else 0
        rows = await self.rows(_COUNT, name, float(start), float(start + window), add)
        return int(rows[0][0])

    async def known(self, kind: str, name: str, now: float) -> Known | None:
        """What is known of a name."""
        row = await self.row(_KNOWN, kind, name, float(now))
        return None if row is None else Known(kind=kind, name=name, value=row[0], until=row[1])

    async def all_known(self, kind: str, now: float, after: str, limit: int) -> list[Known]:
        """What is known of a kind, in the order of the names."""
        rows = await self.rows(_ALL_KNOWN, kind, after, float(now), limit)
        return [Known(kind=kind, name=name, value=value, until=until) for name, value, until in rows]

    async def memos(self, prefix: str, now: float, limit: int) -> list[tuple[str, float, bytes]]:
        """What is remembered under names that begin so, still sealed."""
        rows = await self.rows(_MEMOS, prefix, f"{prefix}\U0010ffff", float(now), limit)
        return [(name, until, sealed) for name, until, sealed in rows]

    async def stats(self, now: float, top: int, node: str) -> QueueStats:
        """Figures from the kept sums, and counts over the partial indexes."""
        tally = await self.rows(_TALLY)
        leased, leased_held, damaged, damaged_held = (await self.rows(_LEASED))[0]
        due = 0
        for (priority,) in await self.rows(PRIORITIES):
            due += (await self.rows(_DUE, priority, float(now)))[0][0]
        held = sum(entries for _, is_held, entries, _ in tally if is_held)
        total = sum(entries for _, _, entries, _ in tally)
        oldest = await self.row("SELECT received_at FROM messages ORDER BY id LIMIT 1")
        outbox = await self.rows("SELECT count(*) FROM outbox WHERE node = %b::text", node)
        destinations: dict[str, int] = {}
        for destination, _, entries, _ in tally:
            destinations[destination] = destinations.get(destination, 0) + entries
        ranked = sorted(((name, n) for name, n in destinations.items() if n > 0), key=lambda item: (-item[1], item[0]))
        return QueueStats(
            ready=due,
            deferred=total - held - (leased - leased_held) - (damaged - damaged_held) - due,
            held=held - leased_held + damaged - damaged_held,
            leased=leased,
            oldest_created_at=oldest[0] if oldest else None,
            bytes=sum(size for *_, size in tally),
            outbox=outbox[0][0],
            destinations=tuple(ranked[:top]),
        )
