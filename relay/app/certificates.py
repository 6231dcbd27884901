"""Raises the alarm before a certificate of ours ends: one that did costs mail, and nobody looks at what works."""

import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from relay.config.proof_files import EXPIRES_SOON
from relay.core.change import AuditEvent
from relay.core.ports import Clock, Metrics

log = structlog.get_logger("certificates")

_AGAIN: Final = 86_400.0
"""Seconds after which an alarm that nobody heeded is raised again."""

Tell = Callable[[AuditEvent], Awaitable[None]]
"""Keeps an audit event; raises ``StoreError`` when it cannot."""


class ExpiryWatch:
    """Looks at when our certificates end.

    Args:
        tell: keeps an alarm in the audit trail.
        metrics: counts alarms, and shows each certificate's end.
        clock: unix seconds.
    """

    def __init__(self, tell: Tell, metrics: Metrics, clock: Clock) -> None:
        self._tell = tell
        self._metrics = metrics
        self._clock = clock
        self._told: dict[str, tuple[str, float]] = {}

    async def look(self, ends: Iterable[tuple[str, float]]) -> None:
        """Look at certificates: (name, unix seconds of its end; 0: it cannot be read).

        Raises:
            StoreError: an alarm cannot be written down now; it is raised anew at the next look.
        """
        now = self._clock()
        for name, end in ends:
            self._metrics.set("postern_certificate_expiry_timestamp_seconds", end, {"certificate": name})
            alert = _alert(end - now) if end else "certificate-unreadable"
            before, at = self._told.get(name, ("", 0.0))
            if not alert:
                self._told.pop(name, None)
            elif alert != before or now - at >= _AGAIN:
                await self._raise(alert, name, end, now)
                self._told[name] = (alert, now)

    async def _raise(self, alert: str, name: str, end: float, now: float) -> None:
        ends = dt.datetime.fromtimestamp(end, dt.UTC).strftime("%Y-%m-%d %H:%M UTC") if end else "unknown"
        log.error("alert", alert=alert, certificate=name, ends=ends)
        self._metrics.count("postern_alerts_total", {"kind": alert})
        await self._tell(AuditEvent(kind="alert", at=now, facts={"alert": alert, "certificate": name, "ends": ends}))


def _alert(left: float) -> str:
    """What is to be said of a certificate with so many seconds left; empty: nothing yet."""
    if left <= 0:
        return "certificate-expired"
    return "certificate-expiring" if left < EXPIRES_SOON.total_seconds() else ""
