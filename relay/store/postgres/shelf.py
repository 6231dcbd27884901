"""A PostgreSQL queue at rest, for checks and copies."""

from collections.abc import Sequence
from typing import Any, Final, Self

import psycopg

from relay.core.errors import StoreError
from relay.core.ports import Known
from relay.store.postgres.faults import translate
from relay.store.postgres.housekeeping import learn
from relay.store.postgres.line import Connection, connect, place
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.schema import SchemaState, migrate
from relay.store.postgres.tables import Batch, write_sums
from relay.store.units import EntryRow, KeepRows, MemoRow, PreparedUnit

_MESSAGES: Final = """
    SELECT m.id, m.received_at, m.size, m.facts, b.sealed FROM messages m LEFT JOIN bodies b ON b.message_id = m.id
    WHERE m.id > %b::text ORDER BY m.id LIMIT %b::int8"""
_ENTRIES: Final = """
    SELECT e.id, e.message_id, e.destination, e.priority, e.held, e.due_at, e.wake_at, e.tokens, d.sealed
    FROM entries e JOIN details d ON d.entry_id = e.id WHERE e.message_id = ANY(%b::text[])
      AND e.id > %b::text AND e.id < %b::text ORDER BY e.id"""
_OUTBOX: Final = "SELECT place, sealed FROM outbox WHERE place > %b::int8 ORDER BY place LIMIT %b::int8"
_KNOWN: Final = """
    SELECT kind, name, value, until FROM known WHERE (kind, name) > (%b::text, %b::text)
    ORDER BY kind, name LIMIT %b::int8"""
_MEMOS: Final = "SELECT seq, name, until, sealed FROM memos WHERE seq > %b::int8 ORDER BY seq LIMIT %b::int8"
_STRAYS: Final = {
    "entries without their message": "entries e WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = e.message_id)",
    "entries without their details": "entries e WHERE NOT EXISTS (SELECT 1 FROM details d WHERE d.entry_id = e.id)",
    "details without their entry": "details d WHERE NOT EXISTS (SELECT 1 FROM entries e WHERE e.id = d.entry_id)",
    "bodies without their message": "bodies b WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = b.message_id)",
}
_OFF: Final = """
    SELECT (SELECT coalesce(sum(bytes), 0) FROM tally) <> (SELECT coalesce(sum(size), 0) FROM messages)
        OR (SELECT coalesce(sum(entries), 0) FROM tally) <> (SELECT count(*) FROM entries)"""


class PostgresShelf:
    """Implements :class:`relay.store.transfer.Shelf` over one database."""

    def __init__(self, connection: Connection, options: PostgresOptions, state: SchemaState) -> None:
        self._connection = connection
        self._node = options.node
        self.state = state
        self._is_reading = False

    @classmethod
    async def open(cls, options: PostgresOptions) -> Self:
        """Connect, and bring the schema up to date.

        Raises:
            ProblemsError: the database cannot be used.
            StoreError: it cannot be reached now.
        """
        try:
            connection = await connect(options, "shelf")
            state = await migrate(connection, options.schema, place(options.dsn))
        except (psycopg.Error, OSError) as error:
            raise translate(error) from error
        return cls(connection, options, state)

    async def require_rest(self) -> None:
        """Make sure that no node works on it.

        Raises:
            StoreError: one does.
        """
        found = await self._rows("SELECT DISTINCT node FROM incarnations WHERE ends_at >= clock_timestamp() ORDER BY 1")
        if found:
            names = ", ".join(name for (name,) in found)
            raise StoreError(f"nodes work on the database: {names}; stop them first, and wait until their leases ended")

    async def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            if not self._is_reading:
                await self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                self._is_reading = True
            cursor = self._connection.cursor(binary=True)
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall()
        except (psycopg.Error, OSError) as error:
            raise translate(error) from error

    async def _end_reading(self) -> None:
        if self._is_reading:
            await self._connection.execute("COMMIT")
            self._is_reading = False

    async def messages(self, after: str, limit: int) -> list[KeepRows]:
        """The next messages in id order, each with its entries."""
        found = await self._rows(_MESSAGES, after, limit)
        if not found:
            return []
        ids = [row[0] for row in found]
        entries: dict[str, list[EntryRow]] = {name: [] for name in ids}
        for row in await self._rows(_ENTRIES, ids, f"{ids[0]}.", f"{ids[-1]}/"):
            entries[row[1]].append(EntryRow(*row))
        return [
            KeepRows(name, received, size, None, facts, body, tuple(entries[name]), frozenset())
            for name, received, size, facts, body in found
        ]

    async def outbox(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The next outbox rows of all nodes, in order."""
        return [(row[0], row[1]) for row in await self._rows(_OUTBOX, after, limit)]

    async def known(self, after: tuple[str, str], limit: int) -> list[Known]:
        """The next things known of other domains."""
        rows = await self._rows(_KNOWN, *after, limit)
        return [Known(kind=kind, name=name, value=value, until=until) for kind, name, value, until in rows]

    async def memos(self, after: int, limit: int) -> list[tuple[int, MemoRow]]:
        """The next memos in order, each with its number."""
        return [(seq, MemoRow(*row)) for seq, *row in await self._rows(_MEMOS, after, limit)]

    async def strays(self) -> dict[str, int]:
        """Rows that belong to nothing."""
        found = {}
        for what, where in _STRAYS.items():
            found[what] = int((await self._rows(f"SELECT count(*) FROM {where}"))[0][0])  # noqa: S608 - our own
        found["sums that do not agree with the rows"] = int((await self._rows(_OFF))[0][0])
        return found

    async def put(self, units: Sequence[PreparedUnit], known: Sequence[Known]) -> None:
        """Write in one transaction.

        Raises:
            StoreError: nothing of it was written.
        """
        await self._end_reading()
        try:
            async with self._connection.transaction():
                batch = Batch(self._connection, 0, self._node)
                await batch.send(units)
                await batch.check()
                for one in known:
                    await learn(self._connection, one)
                await write_sums(self._connection, batch.tally, batch.bytes)
        except (psycopg.Error, OSError) as error:
            raise translate(error) from error

    async def close(self) -> None:
        """Let go of it."""
        await self._connection.close()
