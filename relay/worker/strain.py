"""How busy this process's event loop is: one turn of it is long when everything in it waits for the processor."""

import asyncio
from collections.abc import Callable
from typing import Final

_LONG: Final = 0.005
"""Seconds of a turn from which on the loop counts as busy: some messages are scanned or signed in each."""
_WEIGHT: Final = 0.3
"""Of the newest turn in the mean."""


class Strain:
    """Times turns of the loop, each time it is asked; between two questions it costs nothing.

    Args:
        clock: seconds; by default the loop's.
    """

    __slots__ = ("_clock", "_mean", "_timing")

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._mean = 0.0
        self._timing = False

    def felt(self) -> bool:
        """Whether the last turns that were timed were long; times another one."""
        if not self._timing:
            loop = asyncio.get_running_loop()
            clock = self._clock or loop.time
            self._timing = True
            loop.call_soon(self._timed, clock, clock())
        return self._mean > _LONG

    def _timed(self, clock: Callable[[], float], begun: float) -> None:
        self._timing = False
        self._mean += _WEIGHT * (clock() - begun - self._mean)
