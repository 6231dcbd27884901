"""What one process does for all from time to time; several may try at once, and one of them does it."""

from typing import Any, Final

from relay.core.ports import Known
from relay.store.postgres.line import Connection
from relay.store.postgres.tables import SEQUENCE_SHIFT

_LOCK: Final = 0x706F7375
_FOLD: Final = """
    WITH gone AS (DELETE FROM tally RETURNING destination, held, entries, bytes)
    INSERT INTO tally(destination, held, entries, bytes)
    SELECT destination, held, sum(entries), sum(bytes) FROM gone GROUP BY 1, 2
    HAVING sum(entries) <> 0 OR sum(bytes) <> 0"""
_MARKS: Final = "DELETE FROM commits WHERE at < clock_timestamp() - interval '1 hour'"
"""A mark is needed as long as somebody may still ask about its commit."""
_COUNTERS: Final = "DELETE FROM counters WHERE ends <= %s"
_ADOPT: Final = f"""
    WITH gone AS (
        DELETE FROM outbox WHERE seq IN (
            SELECT o.seq FROM outbox o JOIN nodes n ON n.name = o.node
            WHERE n.seen_at < clock_timestamp() - interval '15 minutes' ORDER BY o.seq LIMIT 10000)
        RETURNING seq, sealed)
    INSERT INTO outbox(seq, node, sealed)
    SELECT ((pg_current_xact_id()::text::int8 + (SELECT base FROM sequence)) << {SEQUENCE_SHIFT})
           + row_number() OVER (ORDER BY seq), %s, sealed FROM gone"""  # noqa: S608 - a constant of our own
"""Audit events of a node that is gone go to the trail of one that is there, under new numbers."""


_LEARN: Final = """
    INSERT INTO known(kind, name, value, until) VALUES(%b::text, %b::text, %b::bytea, %b::float8)
    ON CONFLICT(kind, name) DO UPDATE SET value = excluded.value, until = excluded.until"""
_UNLEARN: Final = """
    DELETE FROM known WHERE (kind, name) IN (
        SELECT kind, name FROM known ORDER BY until LIMIT greatest(0, (SELECT count(*) FROM known) - %b::int8))"""


async def tidy(connection: Connection, now: float, node: str, max_known: int) -> None:
    """Fold the sums, drop what is over, and take over the outbox of nodes that are gone. Call inside a transaction."""
    cursor: Any = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return
    await connection.execute(_FOLD)
    await connection.execute(_MARKS)
    await connection.execute(_COUNTERS, (now,))
    await connection.execute(_ADOPT, (node,))
    await connection.execute("DELETE FROM known WHERE until <= %b::float8", (float(now),))
    await connection.execute(_UNLEARN, (max_known,))


async def learn(connection: Connection, known: Known) -> None:
    """Keep what was learnt of another domain."""
    await connection.execute(_LEARN, (known.kind, known.name, known.value, float(known.until)))


async def forget(connection: Connection, kind: str, name: str) -> None:
    """Know it no more."""
    await connection.execute("DELETE FROM known WHERE kind = %b::text AND name = %b::text", (kind, name))


async def forget_outbox(connection: Connection, node: str, upto: int) -> None:
    """Delete a node's outbox rows up to this one, and remember how far numbers have been given."""
    await connection.execute("DELETE FROM outbox WHERE node = %b::text AND seq <= %b::int8", (node, upto))
    await connection.execute("UPDATE sequence SET highest = %b::int8 WHERE highest < %b::int8", (upto, upto))
