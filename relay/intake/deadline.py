"""A deadline that is moved at every command and seldom reached: one timer, moved only to fire earlier."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.smtp.server import ServerSession

if TYPE_CHECKING:
    from relay.intake.listener import ListenerOptions


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


class SessionDeadline(Deadline):
    """Gives a peer time for its next step: a command, a piece of a message, the whole message."""

    __slots__ = ("_data_since", "_progress")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        super().__init__(loop, expired)
        self._data_since: float | None = None
        self._progress = -1

    def follow(self, session: ServerSession, options: "ListenerOptions") -> None:
        """Move with what the session has come to; call it when octets came, and nothing of ours is waited for."""
        if session.in_data:
            now = self._loop.time()
            if self._data_since is None or session.progress != self._progress:
                # Another message: its commands may come in one piece with the end of the last one (RFC 2920).
                self._data_since, self._progress = now, session.progress
            self.within(min(options.data_idle_timeout, self._data_since + options.data_timeout - now))
        elif session.progress != self._progress or self._data_since is not None:
            self._data_since, self._progress = None, session.progress
            self.within(options.idle_timeout)
        elif session.held:
            # A line was begun and not ended: dripping octets does not win more time.
            self.at_most(options.command_timeout)
