"""Entries that some process could not open and took out of everybody's way, so that another one may try.

During an upgrade an old node meets entries whose sealed form only newer ones know, and may not guess what it does not
know (law 3). It sets them aside, and a newer node takes them up within seconds. So each process tries every such entry
once: what is damaged in truth stays aside.
"""

from typing import Final

from relay.store.damaged import Damaged
from relay.store.postgres import tables
from relay.store.postgres.line import Connection
from relay.store.postgres.reader import Reader
from relay.store.postgres.tables import SET_ASIDE, ClaimedRow

_MOST: Final = 10_000
"""Entries that this process remembers that it could not open; with more than that the key ring is wrong, and it waits
for a new start."""
_PAGE: Final = 500
_LOOK: Final = """
    SELECT id FROM entries WHERE lease = %b::int8 AND id <> ALL(%b::text[]) ORDER BY id LIMIT %b::int8"""


class Aside:
    """What was set aside by others and not yet tried by this process.

    Attributes:
        damaged: what this process could not open and is still to set aside.
    """

    def __init__(self) -> None:
        self.damaged = Damaged()
        self._failed: set[str] = set()
        self._untried: set[str] = set()

    def failed(self, entry_id: str) -> None:
        """This process cannot open it."""
        self._failed.add(entry_id)
        self._untried.discard(entry_id)

    async def look(self, reader: Reader) -> bool:
        """Whether there is something to try."""
        self._untried.clear()
        if len(self._failed) < _MOST:
            rows = await reader.rows(_LOOK, SET_ASIDE, sorted(self._failed), _PAGE)
            self._untried.update(name for (name,) in rows)
        return bool(self._untried)

    async def claim(
        self, connection: Connection, lease: int, now: float, limit: int, skip: frozenset[str]
    ) -> list[ClaimedRow]:
        """Lease what must be looked at by ``now``, and then what was set aside and is due."""
        found = await tables.claim(connection, lease, now, limit, skip)
        if self._untried and len(found) < limit:
            found += await tables.claim_aside(
                connection, lease, sorted(self._untried), now=now, limit=limit - len(found), skip=skip
            )
        return found
