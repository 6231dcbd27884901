"""One timer for many deadlines that follow one another: moving it on costs setting a number."""

import asyncio
from collections.abc import Callable
from typing import Final

_NEVER: Final = float("inf")


class Timer:
    """Calls ``late`` once the last deadline that was set has passed.

    Args:
        loop: whose time it is.
        late: called in a turn of the loop; another deadline may be set then.
    """

    __slots__ = ("_at", "_handle", "_late", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[], None]) -> None:
        self._loop = loop
        self._late = late
        self._at = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Let the deadline be at this time of the loop, in the place of the one before."""
        self._at = at
        if self._handle is not None:
            if self._handle.when() <= at:
                return
            self._handle.cancel()
        self._handle = self._loop.call_at(at, self._rang)

    def rest(self) -> None:
        """There is none for now; another will follow, for which what waits in the loop is kept."""
        self._at = _NEVER

    def stop(self) -> None:
        """There is no deadline any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _rang(self) -> None:
        self._handle = None
        if self._at == _NEVER:
            return
        if self._loop.time() < self._at:
            self._handle = self._loop.call_at(self._at, self._rang)
        else:
            self._late()
