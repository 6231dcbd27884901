"""Which processes of this machine are dead, as their lock files tell."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from relay.store.sqlite.lock import LifeLock

GRACE: Final = 15.0
"""Seconds without a lock file after which its owner counts as dead: three times the pause between two looks."""


class Lives:
    """Tells the dead from the living.

    The lock of a dead process can be taken. A file that is gone says nothing for a while: a cleaner of run directories
    may have removed it under a living process, which makes it anew at its own next look (:meth:`LifeLock.renew`).

    Args:
        path_of: the lock file of a name.
        ticks: monotonic seconds.
    """

    def __init__(self, path_of: Callable[[str], Path], ticks: Callable[[], float] = time.monotonic) -> None:
        self._path_of = path_of
        self._ticks = ticks
        self._gone_since: dict[int, float] = {}

    def dead(self, others: Iterable[tuple[int, str]]) -> list[tuple[int, LifeLock | None]]:
        """Of these, by number and name, the dead: with their locks, which the caller closes, where they had any."""
        now, found, gone = self._ticks(), list[tuple[int, LifeLock | None]](), dict[int, float]()
        for number, name in others:
            path = self._path_of(name)
            if not path.exists():
                gone[number] = self._gone_since.get(number, now)
                if now - gone[number] >= GRACE:
                    found.append((number, None))
            elif (lock := LifeLock.of_the_dead(path)) is not None:
                found.append((number, lock))
        self._gone_since = gone
        return found
