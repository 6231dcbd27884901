"""Who vouches that a host is the right one for a domain: the step from ``VERIFIED`` to ``AUTHENTICATED``."""

from typing import Protocol

from relay.core.level import Voucher
from relay.net.mx import Host


class Vouching(Protocol):
    """Asked once a host before it is connected to; static routes vouch for themselves and do not ask."""

    async def vouch(self, domain: str, host: Host) -> Voucher:
        """Who vouches for this host's name, ``NOBODY`` when none does."""


class Nobody:
    """Vouches for nothing: an MX answer alone proves no name."""

    async def vouch(self, domain: str, host: Host) -> Voucher:  # noqa: ARG002  the interface's arguments
        """Nobody does."""
        return Voucher.NOBODY
