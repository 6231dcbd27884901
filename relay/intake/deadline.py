"""A deadline that is moved at every command and seldom reached: one timer, moved only to fire earlier."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls ``expired`` once the time is over that :meth:`within` or :meth:`at_most` gave last.

    Moving it later costs a comparison: the timer fires at the old time, sees that it is too early, and is set again.
    """

    __slots__ = ("_armed_for", "_at", "_expired", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        self._at = self._armed_for = float("inf")

    def within(self, seconds: float) -> None:
        """Let it be this many seconds from now."""
        self._at = self._loop.time() + seconds
        self._arm()

    def at_most(self, seconds: float) -> None:
        """Let it be no later than this many seconds from now."""
        self._at = min(self._at, self._loop.time() + seconds)
        self._arm()

    def cancel(self) -> None:
        """Let it never come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            if self._armed_for <= self._at:
                return
            self._timer.cancel()
        self._armed_for = self._at
        self._timer = self._loop.call_at(self._at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._loop.time() < self._at:
            self._arm()
        else:
            self._expired()
