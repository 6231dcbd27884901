"""Damaged entries that were met in a claim: set aside now, or, while the store takes nothing, with a later claim."""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from relay.core.errors import StoreError

_log = structlog.get_logger("store")


class Damaged:
    """What is still to be set aside. It stays leased meanwhile, and what is sound does not wait for it."""

    def __init__(self) -> None:
        self._waiting: list[str] = []

    async def put(self, entry_ids: Sequence[str], set_aside: Callable[[str], Awaitable[None]]) -> None:
        """Set these aside, and those that could not be before; what cannot be now is kept for the next time."""
        waiting, self._waiting = [*self._waiting, *entry_ids], []
        for entry_id in waiting:
            try:
                await set_aside(entry_id)
            except StoreError as error:
                _log.warning("entry_not_set_aside", entry=entry_id, detail=str(error))
                self._waiting.append(entry_id)
