"""What a worker's intake holds at a time: connections and octets (law 6)."""

import functools
import ipaddress
from dataclasses import dataclass
from typing import Final

from relay.core.reply import Reply
from relay.intake.clients import canonical

TOO_MANY: Final = Reply.of(421, "4.3.2", "Too many connections; try again later")
TOO_MANY_OF_YOURS: Final = Reply.of(421, "4.7.0", "Too many connections from your address")
NO_ROOM: Final = Reply.of(452, "4.3.1", "Too much mail in flight; try again later")

_IPV6_SITE: Final = 64  # bits: one site owns a whole /64, so it counts as one address


@functools.lru_cache(maxsize=4096)  # asked for each connection
def address_key(address: str) -> str:
    """The address under which a peer is counted: IPv4 as it is, IPv6 by its /64."""
    parsed = canonical(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(parsed) >> _IPV6_SITE << _IPV6_SITE, _IPV6_SITE)).network_address)
    return str(parsed)


class ByteBudget:
    """Octets of messages that are in memory and not yet kept, over all listeners of a worker.

    New messages are refused beyond ``high`` (four fifths), so that those under way have room to end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    @property
    def is_high(self) -> bool:
        """Whether no new message should be begun."""
        return self.used > self._limit * 4 // 5

    def take(self, count: int) -> bool:
        """Reserve octets; ``False``, and nothing reserved, when they do not fit."""
        if self.used + count > self._limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Return octets."""
        self.used -= count


class Share:
    """What one connection holds of a :class:`ByteBudget`."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held = 0

    def hold(self, octets: int) -> bool:
        """Hold this many in all; ``False``, and the share as it was, when that many more do not fit."""
        grown = octets - self._held
        if grown > 0 and not self._budget.take(grown):
            return False
        if grown < 0:
            self._budget.give(-grown)
        self._held = octets
        return True

    def force(self, octets: int) -> None:
        """Hold what is in memory already, whether it fits or not."""
        self._budget.give(self._held - octets)
        self._held = octets

    def release(self) -> None:
        """Hold nothing."""
        self.force(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections there may be at a time, of one listener or of all together.

    Attributes:
        total: from all addresses.
        per_address: from one IPv4 address or IPv6 /64; ``None``: no limit of its own.
    """

    total: int = 1000
    per_address: int | None = 50


class ConnectionCount:
    """Open connections against their limits; see :class:`Place`."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._by_address: dict[str, int] = {}
        self.total = 0

    def open(self, key: str) -> Reply | None:
        """Count a connection under :func:`address_key`; or the reply that refuses it, and nothing is counted."""
        if self.total >= self._limits.total:
            return TOO_MANY
        mine = self._by_address.get(key, 0)
        if self._limits.per_address is not None and mine >= self._limits.per_address:
            return TOO_MANY_OF_YOURS
        self.total += 1
        self._by_address[key] = mine + 1
        return None

    def close(self, key: str) -> None:
        """A counted connection ended."""
        self.total -= 1
        left = self._by_address[key] - 1
        if left:
            self._by_address[key] = left
        else:
            del self._by_address[key]


class Place:
    """One peer's place in one or more counts, from before its TLS handshake until it has gone."""

    __slots__ = ("_counts", "_key")

    def __init__(self, *counts: ConnectionCount) -> None:
        self._counts = counts
        self._key = ""

    def take(self, address: str) -> Reply | None:
        """Count the peer everywhere; or the reply that refuses it, and it is counted nowhere."""
        key = address_key(address)
        for number, count in enumerate(self._counts):
            refusal = count.open(key)
            if refusal is not None:
                for taken in self._counts[:number]:
                    taken.close(key)
                return refusal
        self._key = key
        return None

    def leave(self) -> None:
        """Count it no more; leaving again changes nothing."""
        if self._key:
            for count in self._counts:
                count.close(self._key)
            self._key = ""
