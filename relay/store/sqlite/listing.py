"""Listings for operators: pages in id order that cost what they show, however long the queue is.

Read in id order, a page of what is rare costs a walk through the whole queue. So what a filter selects is looked up in
an index first; only when that is very much, and thus not rare, the entries are read in order.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from relay.core.entry import EntryState
from relay.core.ports import QueueFilter
from relay.store.clauses import Dialect, clauses
from relay.store.codec import Codec
from relay.store.sqlite.tables import PRIORITIES

FEW: Final = 5_000
"""Entries that an index may name before they are read in order instead."""
_LISTED: Final = "SELECT e.id, d.sealed FROM entries e JOIN details d ON d.entry_id = e.id"
_NAMED: Final = (
    "SELECT e.id, d.sealed FROM json_each(?) CROSS JOIN entries e ON e.id = value JOIN details d ON d.entry_id = e.id"
)
"""CROSS keeps SQLite from walking through the queue after all to see who is named."""
_HELD: Final = "SELECT id FROM entries WHERE held = 1 AND id > ?1"
_LEASED: Final = "SELECT id FROM entries INDEXED BY entries_leased WHERE lease IS NOT NULL AND id > ?1"
_BY_DESTINATION: Final = (
    "SELECT id FROM entries INDEXED BY entries_by_destination "
    "WHERE lease IS NULL AND priority = ?2 AND destination = ?3 AND id > ?1"
)
_BY_TIME: Final = (
    "SELECT id FROM entries INDEXED BY entries_free WHERE lease IS NULL AND priority = ?2 AND wake_at <= ?3 AND id > ?1"
)
_DIALECT: Final = Dialect(value=lambda _: "?", within="instr(e.tokens, ?)")
Rows = Callable[..., list[tuple[Any, ...]]]
"""Runs a statement with bindings."""


class EntryPage(NamedTuple):
    """One row of a listing, still sealed."""

    entry_id: str
    sealed: bytes


def page(rows: Rows, where: QueueFilter, codec: Codec, after: str, limit: int) -> list[EntryPage]:
    """The next entries in id order that match."""
    asked, bindings = clauses(where, codec, _DIALECT)
    ids = _few(rows, where, after)
    if ids is None:
        conditions = " AND ".join(["e.id > ?", *asked])
        found = rows(f"{_LISTED} WHERE {conditions} ORDER BY e.id LIMIT ?", after, *bindings, limit)
    else:
        named = orjson.dumps(sorted(ids)).decode()
        found = rows(f"{_NAMED} WHERE {' AND '.join(asked)} ORDER BY e.id LIMIT ?", named, *bindings, limit)
    return [EntryPage(*row) for row in found]


def _few(rows: Rows, where: QueueFilter, after: str) -> set[str] | None:
    """Ids among which all that match are; ``None`` when no index helps, or they are not few."""
    if where.message_id:
        return None
    if where.state is EntryState.HELD:
        return _gather(rows, [(_HELD, (after,))])
    searches: list[tuple[str, tuple[Any, ...]]] = [(_LEASED, (after,))]
    priorities = [priority for (priority,) in rows(PRIORITIES)]
    if where.destination:
        searches += [(_BY_DESTINATION, (after, priority, where.destination)) for priority in priorities]
    elif where.due_before is not None:
        # Somebody looks at a ready entry when it is due or before; a held one wakes for other reasons.
        searches += [(_HELD, (after,))]
        searches += [(_BY_TIME, (after, priority, where.due_before)) for priority in priorities]
    else:
        return None
    return _gather(rows, searches)


def _gather(rows: Rows, searches: Sequence[tuple[str, tuple[Any, ...]]]) -> set[str] | None:
    found: set[str] = set()
    for sql, bindings in searches:
        found.update(row[0] for row in rows(f"{sql} LIMIT {FEW + 1}", *bindings))
        if len(found) > FEW:
            return None
    return found
