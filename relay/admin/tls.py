"""What operators see of other domains' mail servers: what each can do, and a look at them now."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final, Protocol

from relay.admin.wire import (
    MAX_LISTED,
    ControlError,
    Done,
    TlsProbeRequest,
    TlsReportRequest,
    TlsResult,
    TlsServerView,
)
from relay.core.address import normalise_domain
from relay.core.errors import AddressError
from relay.trust.capability import Capability

_ROUTE: Final = "route:"


class TlsDesk(Protocol):
    """What these operations work with."""

    def known(self, destinations: frozenset[str]) -> AsyncIterator[Capability]:
        """What is known of the servers of these destinations, or of all.

        Raises:
            StoreError: it cannot be read now.
        """

    async def probe(self, destinations: Sequence[str]) -> Mapping[str, str]:
        """Meet every server of these destinations without any mail; why those failed whose servers were not found."""


async def answer(desk: TlsDesk, request: TlsReportRequest | TlsProbeRequest) -> TlsResult:
    """Report, after probing when that is asked.

    Raises:
        ControlError: a name that is neither a domain nor a route.
        StoreError: what is known cannot be read now.
    """
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


def _destination(text: str) -> str:
    if text.startswith(_ROUTE):
        return text
    try:
        return normalise_domain(text)
    except AddressError:
        raise ControlError(f"{text[:80]!r} is not a domain") from None
