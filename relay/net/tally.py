"""Counts the TLS sessions of this process for reports (RFC 8460), and writes the counts where all processes share them.

Each process has a row of its own a domain and day, so that nobody overwrites another's counts; whoever reports puts the
rows together. What was counted since the last writing is lost with the process: a report is an aggregate, not a proof.
"""

import asyncio
from typing import Final

import structlog

from relay.core.errors import StoreError
from relay.core.ports import Clock, Knowledge, Known, Metrics
from relay.trust.sessions import DAY, SessionResult, Tally, begin_of, day_of

log = structlog.get_logger("tlsrpt")

KIND: Final = "tls-sessions"
KEEP: Final = 3 * DAY
"""Seconds after its day's begin that a row is kept: a report that could not be sent within a day is given up."""
_AT_ONCE: Final = 100
"""Rows written side by side: they share the store's commits."""


def row_name(day: str, domain: str, writer: str) -> str:
    """The name of a row; those of one day and domain stand together."""
    return f"{day}/{domain}/{writer.replace('/', '-')}"


class SessionTally:
    """One process's counts.

    Args:
        knowledge: where they are written.
        writer: a name unique to this process's life.
        clock: unix seconds.
        metrics: counts sessions.
        most: domains that are counted in one day; sessions with others are left out, and that is counted.
    """

    def __init__(
        self, knowledge: Knowledge, writer: str, clock: Clock, *, metrics: Metrics | None = None, most: int = 5000
    ) -> None:
        self._knowledge = knowledge
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._most = most
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._unwritten: set[tuple[str, str]] = set()

    def saw(self, seen: SessionResult) -> None:
        """Count a session; never waits."""
        key = (seen.day, seen.domain)
        counted = key in self._tallies or len(self._tallies) < self._most
        if self._metrics is not None:
            result = seen.fault.result.value if seen.fault is not None else "success"
            name = "postern_tls_sessions_total" if counted else "postern_tls_sessions_unreported_total"
            self._metrics.count(name, {"policy": seen.policy.kind.value, "result": result} if counted else None)
        if counted:
            self._tallies.setdefault(key, Tally()).add(seen)
            self._unwritten.add(key)

    async def flush(self) -> None:
        """Write what was counted since the last time; what cannot be written now stays for the next."""
        keys = sorted(self._unwritten)
        for at in range(0, len(keys), _AT_ONCE):
            await asyncio.gather(*(self._write(key) for key in keys[at : at + _AT_ONCE]))
        today = day_of(self._clock())
        for key in [key for key in self._tallies if key[0] < today and key not in self._unwritten]:
            del self._tallies[key]

    async def _write(self, key: tuple[str, str]) -> None:
        day, domain = key
        self._unwritten.discard(key)  # first: what is seen while this is written is not yet
        value = self._tallies[key].encode()
        known = Known(kind=KIND, name=row_name(day, domain, self._writer), value=value, until=begin_of(day) + KEEP)
        try:
            await self._knowledge.learn(known)
        except StoreError as error:
            self._unwritten.add(key)
            log.warning("sessions of a domain are not written down yet", domain=domain, error=str(error))
