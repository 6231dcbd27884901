"""Reports that are only counted: DMARC aggregate reports, and SMTP TLS reports where somebody reads those.

Anyone can send one. What it says of domains that are not ours is not counted under their names, and what nobody signed
is counted apart from what the reporter's domain signed (RFC 7489 section 7.2.1.1).
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from relay.core.change import Remember
from relay.core.ports import QueueStore
from relay.core.returning import ReportKind
from relay.reputation.aggregate import AggregateReport, ReportError, find_report
from relay.reputation.outcome import Outcome
from relay.reputation.returned import Kind, read_returned
from relay.trust import tlsrpt

_REMEMBERED: Final = 14 * 86_400.0
"""Seconds for which a report is known again, so that one that is sent twice counts once."""
_SHOWN_SOURCES: Final = 20
_OTHER: Final = "other"


class DmarcCounter:
    """Counts DMARC aggregate reports.

    Args:
        store: remembers which reports came.
        domains: gives the domains that are ours, whose figures are shown under their names.
        is_signed: whether a message bears a good signature of its author's domain. Raises StoreError where that cannot
            be told now.
    """

    def __init__(
        self,
        store: QueueStore,
        domains: Callable[[], Collection[str]],
        is_signed: Callable[[bytes], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._domains = domains
        self._is_signed = is_signed

    async def __call__(self, outcome: Outcome, content: bytes) -> None:
        """Read one and say in the outcome what it came to. Implements ``CountReport``.

        Raises:
            StoreError: the store, or DNS for the signature's key, cannot be asked now.
        """
        try:
            report = await _found(content)
        except ReportError as error:
            outcome.came_to("unreadable", f"a DMARC report that cannot be read: {error}")
            return
        if report is None:
            outcome.came_to("unreadable", "no DMARC report is in it")
            return
        signed = await self._is_signed(content)
        # A forged one must not make the true one, which has the same names, look as if it had come before.
        names = (*([] if signed else ["unsigned"]), report.reporter, report.report_id, report.domain)
        name = hashlib.sha256("\0".join(names).encode()).hexdigest()
        memo = Remember(name=f"dmarc/{name}", until=outcome.now + _REMEMBERED)
        if await self._store.recall(memo.name):
            outcome.came_to("repeated", "this DMARC report came before")
            return
        outcome.changes.append(memo)
        self._count(outcome, report, signed=signed)

    def _count(self, outcome: Outcome, report: AggregateReport, *, signed: bool) -> None:
        domain = report.domain if report.domain in self._domains() else _OTHER
        for result, number in (("pass", report.passed), ("fail", report.messages - report.passed)):
            if number:
                labels = {"sending_domain": domain, "result": result, "signed": "yes" if signed else "no"}
                outcome.count("dmarc_messages", labels, number)
        failing: Counter[str] = Counter()
        for record in report.records:
            if not record.passed:
                failing[record.source] += record.count
        outcome.tell(
            "dmarc-report",
            outcome.report.id,
            domain=domain,
            signed=signed,
            begin=report.begin,
            end=report.end,
            messages=report.messages,
            passed=report.passed,
            failing=[[source, number] for source, number in failing.most_common(_SHOWN_SOURCES)],
        )
        outcome.facts |= {"domain": domain, "signed": signed, "messages": report.messages, "passed": report.passed}
        outcome.came_to("report", f"{report.passed} of {report.messages} messages passed DMARC")


class TlsCounter:
    """Gives SMTP TLS reports to whoever keeps them.

    Args:
        take: keeps a message's report, once, and says whether it was one about us. Raises StoreError.
    """

    def __init__(self, take: Callable[[bytes], Awaitable[object | None]]) -> None:
        self._take = take

    async def __call__(self, outcome: Outcome, content: bytes) -> None:
        """Give one on. Implements ``CountReport``.

        Raises:
            StoreError: it cannot be kept now.
        """
        if await self._take(content) is None:
            outcome.came_to("unreadable", "no report about TLS to domains of ours is in it")
        else:
            outcome.came_to("report", "a report about TLS")


async def _found(content: bytes) -> AggregateReport | None:
    return await asyncio.to_thread(find_report, content)  # packed: a small message unfolds to much


def recognise(kind: ReportKind, is_null_sender: bool, content: bytes) -> str:  # noqa: FBT001 - the signature of Recognise
    """Why a message is not what its address takes; empty when it is. Never raises.

    What has the null sender and comes to a return address is taken whatever it looks like: nobody else could be told of
    a refusal, and the sender of our message must hear that something came back.
    """
    if kind is ReportKind.DMARC:
        try:
            return "" if find_report(content) is not None else "no report is in it"
        except ReportError as error:
            return str(error)
    if kind is ReportKind.TLS:
        try:
            return "" if tlsrpt.find_report(content) is not None else "no report is in it"
        except tlsrpt.ReportError as error:
            return str(error)
    found = read_returned(content).kind
    if kind is ReportKind.COMPLAINT:
        return "" if found is Kind.FEEDBACK else "no feedback report is in it"
    if found is Kind.OTHER and not is_null_sender:
        return "write to whom the message names in From"
    return ""
