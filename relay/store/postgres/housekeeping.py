"""What one process does for all from time to time; several may try at once, and one of them does it."""

from typing import Any, Final

from relay.core.ports import Known, Seen
from relay.store.options import StoreOptions
from relay.store.postgres.line import Connection
from relay.store.postgres.tables import PLACE_SHIFT

_LOCK: Final = 0x706F7375
_FOLD: Final = """
    WITH gone AS (DELETE FROM tally RETURNING destination, held, entries, bytes)
    INSERT INTO tally(destination, held, entries, bytes)
    SELECT destination, held, sum(entries), sum(bytes) FROM gone GROUP BY 1, 2
    HAVING sum(entries) <> 0 OR sum(bytes) <> 0"""
_MARKS: Final = "DELETE FROM commits WHERE at < clock_timestamp() - interval '1 hour'"
"""A mark is needed as long as somebody may still ask about its commit."""
_COUNTERS: Final = "DELETE FROM counters WHERE ends <= %s"
_FORGET: Final = """
    WITH head AS (
        INSERT INTO outbox_heads(node, forgotten) VALUES(%(node)b::text, 0)
        ON CONFLICT(node) DO UPDATE SET forgotten = outbox_heads.forgotten RETURNING forgotten
    ), gone AS (
        DELETE FROM outbox WHERE place IN (
            SELECT place FROM outbox WHERE node = %(node)b::text ORDER BY place
            LIMIT greatest(0, %(upto)b::int8 - (SELECT forgotten FROM head)))
        RETURNING place
    ) SELECT count(*) FROM gone"""
_FORGOTTEN: Final = """
    UPDATE outbox_heads SET forgotten = %(upto)b::int8 WHERE node = %(node)b::text AND forgotten < %(upto)b::int8"""
_ADOPT: Final = f"""
    WITH gone AS (DELETE FROM outbox WHERE node = %(name)b::text RETURNING place, sealed)
    INSERT INTO outbox(place, node, sealed)
    SELECT ((pg_current_xact_id()::text::int8 + (SELECT base FROM places)) << {PLACE_SHIFT})
           + row_number() OVER (ORDER BY place), %(heir)b::text, sealed FROM gone"""  # noqa: S608 - a constant of our own
"""Audit events of a node that is gone go to the trail of one that is there."""
_LEARN: Final = """
    INSERT INTO known(kind, name, value, until)
    VALUES(%(kind)b::text, %(name)b::text, %(value)b::bytea, %(until)b::float8)
    ON CONFLICT(kind, name) DO UPDATE SET value = excluded.value, until = excluded.until
    WHERE %(over)b::float8 IS NULL OR known.until <= %(over)b::float8"""
_RELEARN: Final = """
    UPDATE known SET value = %(value)b::bytea, until = %(until)b::float8
    WHERE kind = %(kind)b::text AND name = %(name)b::text AND value = %(seen)b::bytea"""
_HALF: Final = 1 << (PLACE_SHIFT - 1)
_TOLD: Final = f"""
    WITH own AS (
        SELECT ((pg_current_xact_id()::text::int8 + (SELECT base FROM places)) << {PLACE_SHIFT}) + {_HALF} AS half)
    INSERT INTO outbox(place, node, sealed)
    SELECT coalesce((SELECT min(place) FROM outbox WHERE place >= half AND place < half + {_HALF}), half + {_HALF}) - 1,
           %b::text, %b::bytea
    FROM own"""  # noqa: S608 - constants of our own
"""The places of a transaction that its units leave free, from the last on downwards."""
_UNLEARN: Final = """
    DELETE FROM known WHERE (SELECT count(*) FROM known) > %b::int8 AND (kind, name) IN (
        SELECT kind, name FROM (SELECT kind, name, row_number() OVER (PARTITION BY kind ORDER BY until DESC) AS place
            FROM known) AS ranked WHERE place > %b::int8)"""


_MEMOS_AT_ONCE: Final = 20_000
"""Memos that one housekeeping deletes, so that it never takes long."""
_MEMOS_OVER: Final = """
    DELETE FROM memos WHERE seq IN (SELECT seq FROM memos WHERE until <= %b::float8 ORDER BY until LIMIT %b::int8)"""
_MEMOS_TOO_MANY: Final = """
    DELETE FROM memos WHERE seq IN (SELECT seq FROM memos
        WHERE seq <= (SELECT max(seq) FROM memos) - %b::int8 ORDER BY seq LIMIT %b::int8)"""


async def tidy(connection: Connection, now: float, options: StoreOptions) -> None:
    """Fold the sums and drop what is over. Call inside a transaction."""
    cursor: Any = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return
    await connection.execute(_FOLD)
    await connection.execute(_MARKS)
    await connection.execute(_COUNTERS, (now,))
    await connection.execute("DELETE FROM known WHERE until <= %b::float8", (float(now),))
    await connection.execute(_UNLEARN, (options.max_known, options.max_known))
    await connection.execute(_MEMOS_OVER, (float(now), _MEMOS_AT_ONCE))
    await connection.execute(_MEMOS_TOO_MANY, (options.max_memos, _MEMOS_AT_ONCE))


async def relax(connection: Connection) -> None:
    """Let commits on this connection return before they are on disk: for counters, whose last moments may be lost."""
    await connection.execute("SET synchronous_commit TO off")


async def learn(
    connection: Connection,
    known: Known,
    over: Seen = "anything",
    now: float = 0.0,
    told: tuple[str, bytes] | None = None,
) -> bool:
    """Keep what was learnt of another domain, if ``over`` is what is known of it; whether it was kept.

    Then ``told``, a node and sealed audit events, goes to that node's outbox.
    """
    values: dict[str, Any] = {"kind": known.kind, "name": known.name, "value": known.value, "until": float(known.until)}
    if isinstance(over, Known):
        sql, values["seen"] = _RELEARN, over.value
    else:
        sql, values["over"] = _LEARN, None if over == "anything" else float(now)
    cursor = await connection.execute(sql, values)
    if not cursor.rowcount:
        return False
    if told is not None:
        await connection.execute(_TOLD, told)
    return True


async def forget(connection: Connection, kind: str, name: str) -> None:
    """Know it no more."""
    await connection.execute("DELETE FROM known WHERE kind = %b::text AND name = %b::text", (kind, name))


async def forget_outbox(connection: Connection, node: str, upto: int) -> None:
    """Delete a node's outbox rows up to the one of this number; numbers go on from there."""
    values = {"node": node, "upto": upto}
    await connection.execute(_FORGET, values)
    await connection.execute(_FORGOTTEN, values)


async def adopt_outbox(connection: Connection, name: str, heir: str) -> int:
    """Give the outbox of a node that is gone to another; how many rows."""
    cursor = await connection.execute(_ADOPT, {"name": name, "heir": heir})
    await connection.execute("DELETE FROM outbox_heads WHERE node = %b::text", (name,))
    return cursor.rowcount
