"""The nodes that share the database, as operators see and steer them; works whether or not a node runs."""

from dataclasses import dataclass
from typing import Final

from relay.core.errors import StoreError
from relay.store.postgres.housekeeping import adopt_outbox
from relay.store.postgres.line import Connection
from relay.store.postgres.tables import PLACE_SHIFT

_LIST: Final = """
    SELECT n.name, extract(epoch FROM clock_timestamp() - n.seen_at)::float8, n.draining, n.told_by, n.version,
           (SELECT count(*) FROM incarnations i WHERE i.node = n.name AND i.ends_at >= clock_timestamp()),
           (SELECT count(*) FROM entries e JOIN incarnations i ON i.number = e.lease WHERE i.node = n.name),
           (SELECT count(*) FROM outbox o WHERE o.node = n.name)
    FROM nodes n ORDER BY n.name"""
_TELL: Final = "UPDATE nodes SET draining = %s, told_by = %s WHERE name = %s"
_NOTE: Final = f"""
    INSERT INTO outbox(place, node, sealed)
    SELECT ((pg_current_xact_id()::text::int8 + (SELECT base FROM places)) << {PLACE_SHIFT}), %s, %s
"""  # noqa: S608 - a constant of our own


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node.

    Attributes:
        name: its name.
        silent: seconds since its last sign of life, by the database's clock.
        draining: whether it was told to take no more work.
        told_by: who told it, last.
        version: of its Postern.
        processes: how many of its processes live.
        leased: entries that they have in hand.
        outbox: audit events of its own that are not yet in its trail.
    """

    name: str
    silent: float
    draining: bool
    told_by: str
    version: str
    processes: int
    leased: int
    outbox: int


async def list_nodes(connection: Connection) -> list[NodeView]:
    """All nodes that have ever joined and were not removed, by name."""
    cursor = await connection.execute(_LIST)
    return [
        NodeView(
            name=name,
            silent=max(0.0, silent),
            draining=draining,
            told_by=told_by,
            version=version,
            processes=processes,
            leased=leased,
            outbox=outbox,
        )
        for name, silent, draining, told_by, version, processes, leased, outbox in await cursor.fetchall()
    ]


async def tell(connection: Connection, name: str, *, draining: bool, by: str, here: str, note: bytes) -> None:
    """Tell a node to drain or to resume; its processes hear it with their next sign of life.

    Args:
        connection: to the database.
        name: of the node.
        draining: whether it is to take no more work.
        by: who says so.
        here: the node in whose audit trail it is told.
        note: the sealed audit event.

    Raises:
        StoreError: there is no such node.
    """
    async with connection.transaction():
        cursor = await connection.execute(_TELL, (draining, by, name))
        if not cursor.rowcount:
            raise StoreError(f"there is no node {name}: see `postern node list`")
        await connection.execute(_NOTE, (here, note))


async def remove(connection: Connection, name: str, *, here: str, note: bytes) -> int:
    """Forget a node that is gone for good; its audit events go to the trail of ``here``; how many.

    Raises:
        StoreError: there is no such node, it is this one, or it lives.
    """
    async with connection.transaction():
        cursor = await connection.execute("SELECT 1 FROM nodes WHERE name = %s FOR UPDATE", (name,))
        if await cursor.fetchone() is None:
            raise StoreError(f"there is no node {name}: see `postern node list`")
        cursor = await connection.execute(
            "SELECT 1 FROM incarnations WHERE node = %s AND ends_at >= clock_timestamp() LIMIT 1", (name,)
        )
        if name == here or await cursor.fetchone() is not None:
            raise StoreError(f"the node {name} lives, or is this one: only a node that is gone can be removed")
        moved = await adopt_outbox(connection, name, here)
        await connection.execute("DELETE FROM nodes WHERE name = %s", (name,))
        await connection.execute(_NOTE, (here, note))
    return moved
