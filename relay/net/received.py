"""Keeps the reports about TLS that others send about us (RFC 8460), for metrics and ``postern tls reports``."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay.core.ports import Clock, Knowledge, Known, Metrics
from relay.net.reporting import Claim
from relay.trust.sessions import DAY, write_report
from relay.trust.tlsrpt import ReportError, TlsReport, find_report, read_report

log = structlog.get_logger("tlsrpt")

KIND: Final = "tls-report"
KEEP: Final = 90 * DAY
"""Seconds a report is kept."""
MOST: Final = 500
"""Reports kept a day: anyone can send us some."""
_MAX_KEPT: Final = 64 * 1024
"""Octets of a report as it is kept; of a larger one only the sums are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedOptions:
    """Whose reports are kept.

    Attributes:
        domains: domains of ours: a report about none of them is passed over; empty: all are kept.
        most: reports kept a day.
    """

    domains: frozenset[str] = frozenset()
    most: int = MOST


class ReceivedReports:
    """The reports about us.

    Args:
        knowledge: where they are kept.
        room: whether there is room for one more of a name within a window of so many seconds.
        clock: unix seconds.
        metrics: counts.
        is_signed: whether a message bears a good signature of its author's domain; reports without are passed over
            (RFC 8460 section 3). ``None``: nobody looks.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        room: Claim,
        clock: Clock,
        options: ReceivedOptions | None = None,
        *,
        metrics: Metrics | None = None,
        is_signed: Callable[[bytes], Awaitable[bool]] | None = None,
    ) -> None:
        self._knowledge = knowledge
        self._room = room
        self._clock = clock
        self._options = options or ReceivedOptions()
        self._metrics = metrics
        self._is_signed = is_signed

    async def take(self, content: bytes) -> TlsReport | None:
        """Take a received message, or a file; ``None`` when it brings no report about us.

        A report that was taken before is known by its organization and id, and counts once.

        Raises:
            StoreError: it cannot be kept now, or its signature not be checked.
        """
        try:
            # Beside the event loop: a small one may unfold to much.
            report = await asyncio.to_thread(find_report, content)
        except ReportError as error:
            log.warning("a report about TLS cannot be read", why=str(error))
            self._count("unreadable")
            return None
        if report is None:
            return None
        if self._options.domains and self._options.domains.isdisjoint(report.domains):
            self._count("not-ours")
            return None
        name = _name(report)
        if await self._knowledge.known(KIND, name) is not None:
            self._count("repeated")
            return report
        if self._is_signed is not None and not await self._is_signed(content):
            log.warning("a report about TLS bears no good signature of its author", organization=report.organization)
            self._count("unsigned")
            return None
        if not await self._room(KIND, DAY):
            log.warning("more reports about TLS came today than are kept", organization=report.organization)
            self._count("too-many")
            return None
        await self._knowledge.learn(Known(kind=KIND, name=name, value=_encode(report), until=self._clock() + KEEP))
        self._count("kept")
        self._count_sessions(report)
        return report

    async def known(self, domains: frozenset[str] = frozenset()) -> AsyncIterator[TlsReport]:
        """The reports about these domains, or all, the oldest day first, read in pages.

        Raises:
            StoreError: they cannot be read now.
        """
        after = ""
        while page := await self._knowledge.all_known(KIND, after=after):
            after = page[-1].name
            for one in page:
                report = _decoded(one)
                if report is not None and (not domains or not domains.isdisjoint(report.domains)):
                    yield report

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.count("postern_tls_reports_received_total", {"result": result})

    def _count_sessions(self, report: TlsReport) -> None:
        if self._metrics is None:
            return
        for policy in report.policies:
            labels = {"policy": policy.kind, "result": "success"}
            self._metrics.count("postern_tls_reported_sessions_total", labels, policy.succeeded)
            told = 0
            for way in policy.details:
                told += way.count
                labels = {"policy": policy.kind, "result": way.result}
                self._metrics.count("postern_tls_reported_sessions_total", labels, way.count)
            if policy.failed > told:  # failures that the reporter gives no details of
                labels = {"policy": policy.kind, "result": "validation-failure"}
                self._metrics.count("postern_tls_reported_sessions_total", labels, policy.failed - told)


def _name(report: TlsReport) -> str:
    """By day, so that a listing is in the order of time, and by what makes a report one and the same."""
    mark = hashlib.sha256(f"{report.organization}\0{report.report_id}\0{report.begin}".encode()).hexdigest()[:32]
    return f"{int(report.end):012d}/{mark}"


def _encode(report: TlsReport) -> bytes:
    whole = write_report(report)
    if len(whole) <= _MAX_KEPT:
        return whole
    bare = [
        type(one)(kind=one.kind, domain=one.domain, succeeded=one.succeeded, failed=one.failed)
        for one in report.policies[:100]
    ]
    return write_report(
        TlsReport(
            organization=report.organization, contact=report.contact, report_id=report.report_id,
            begin=report.begin, end=report.end, policies=tuple(bare),
        )
    )  # fmt: skip


def _decoded(known: Known) -> TlsReport | None:
    try:
        return read_report(known.value)
    except ReportError as error:
        log.error("a kept report about TLS is damaged", name=known.name, error=str(error))
        return None
