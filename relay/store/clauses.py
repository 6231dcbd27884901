"""What a filter of the queue asks of the database: the same conditions in the words of either."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relay.core.entry import EntryState
from relay.core.ports import QueueFilter
from relay.store.codec import Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a database writes them.

    Attributes:
        value: the mark that a bound value of a PostgreSQL type stands at.
        within: whether the bound octets are in ``e.tokens``.
    """

    value: Callable[[str], str]
    within: str


def clauses(where: QueueFilter, codec: Codec, dialect: Dialect) -> tuple[list[str], list[Any]]:
    """The conditions on ``e``, an entry, and the values that they are bound to, in order."""
    text, value = dialect.value("text"), dialect.value
    found: list[str] = []
    values: list[Any] = []
    if where.state is not None:
        found.append(f"e.held = {value('int4')}")
        values.append(int(where.state is EntryState.HELD))
    if where.destination:
        found.append(f"e.destination = {text}")
        values.append(where.destination)
    if where.message_id:  # an entry's id is MESSAGE.N, and "/" follows "." in ASCII
        found.append(f"e.id > {text} AND e.id < {text}")
        values += [f"{where.message_id}.", f"{where.message_id}/"]
    if where.due_before is not None:
        found.append(f"e.due_at < {value('float8')}")
        values.append(float(where.due_before))
    if where.recipient is not None:
        tokens = codec.tokens(where.recipient)
        found.append(f"({' OR '.join(dialect.within for _ in tokens)})")
        values += tokens
    return found, values
