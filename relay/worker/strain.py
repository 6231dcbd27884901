"""How busy the thread of this process's event loop is: whether it would have run all the time, had it been let."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_SPAN: Final = 0.05
"""Seconds that are judged together."""
_BUSY: Final = 0.8
"""Share of the time in which the thread ran or waited for a processor, from which on it counts as busy."""
_WAITED: Final = Path("/proc/thread-self/schedstat")


def wanted() -> float:
    """Seconds that this thread has run or waited for a processor; of waiting nothing is known on some systems."""
    ran = time.thread_time()
    try:
        return ran + int(_WAITED.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return ran


class Strain:
    """Says whether the last stretch of time was a busy one. Asked from the thread of the event loop.

    Args:
        clock: seconds.
        wanted: seconds in which the thread has run or waited for a processor, up to now.
    """

    __slots__ = ("_at", "_busy", "_clock", "_had", "_wanted")

    def __init__(self, clock: Callable[[], float] = time.monotonic, wanted: Callable[[], float] = wanted) -> None:
        self._clock = clock
        self._wanted = wanted
        self._at = self._had = 0.0
        self._busy = False

    def felt(self) -> bool:
        """Whether the thread was busy in the last stretch of at least 50 ms between two questions."""
        now = self._clock()
        passed = now - self._at
        if passed >= _SPAN:
            had = self._wanted()
            # After a second nobody asked the stretch says nothing of now.
            self._busy = passed < 1.0 and had - self._had > _BUSY * passed
            self._at, self._had = now, had
        return self._busy
