"""What operators see of other domains' mail servers: what each can do, and a look at them now."""

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final, Protocol

from relay.admin.wire_base import MAX_LISTED, ControlError, Done
from relay.admin.wire_tls import (
    TlsProbeRequest,
    TlsReportRequest,
    TlsReportsRequest,
    TlsReportsResult,
    TlsReportView,
    TlsResult,
    TlsServerView,
)
from relay.core.address import normalise_domain
from relay.core.errors import AddressError
from relay.trust.capability import Capability
from relay.trust.tlsrpt import TlsReport

_ROUTE: Final = "route:"


class TlsDesk(Protocol):
    """What these operations work with."""

    def known(self, destinations: frozenset[str]) -> AsyncIterator[Capability]:
        """What is known of the servers of these destinations, or of all.

        Raises:
            StoreError: it cannot be read now.
        """

    def reports(self, domains: frozenset[str]) -> AsyncIterator[TlsReport]:
        """Reports that others sent about these domains of ours, or all, the oldest first.

        Raises:
            StoreError: they cannot be read now.
        """

    async def probe(self, destinations: Sequence[str]) -> Mapping[str, str]:
        """Meet every server of these destinations without any mail; why those failed whose servers were not found."""


async def answer(
    desk: TlsDesk, request: TlsReportRequest | TlsProbeRequest | TlsReportsRequest
) -> TlsResult | TlsReportsResult:
    """Report, after probing when that is asked; or show what others reported about us.

    Raises:
        ControlError: a name that is neither a domain nor a route.
        StoreError: what is known cannot be read now.
    """
    if isinstance(request, TlsReportsRequest):
        return await _reported(desk, request)
    destinations = [_destination(text) for text in request.destinations]
    failed: Mapping[str, str] = {}
    if isinstance(request, TlsProbeRequest):
        failed = await desk.probe(destinations)
    servers: list[TlsServerView] = []
    async for one in desk.known(frozenset(destinations)):
        if not request.fallen or one.downgraded_at:
            servers.append(TlsServerView(**asdict(one)))
        if len(servers) > MAX_LISTED:
            break
    return TlsResult(
        servers=tuple(servers[:MAX_LISTED]),
        more=len(servers) > MAX_LISTED,
        failed=tuple(Done(id=name, outcome=why) for name, why in failed.items()),
    )


async def _reported(desk: TlsDesk, request: TlsReportsRequest) -> TlsReportsResult:
    """The newest reports about us."""
    newest: deque[TlsReport] = deque(maxlen=request.limit + 1)
    async for one in desk.reports(frozenset(_destination(text) for text in request.domains)):
        newest.append(one)
    shown = list(newest)[-request.limit :]
    return TlsReportsResult(reports=tuple(TlsReportView(**asdict(one)) for one in shown), more=len(newest) > len(shown))


def _destination(text: str) -> str:
    if text.startswith(_ROUTE):
        return text
    try:
        return normalise_domain(text)
    except AddressError:
        raise ControlError(f"{text[:80]!r} is not a domain") from None
