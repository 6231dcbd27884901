"""Where a request comes from: behind proxies that are named, and as a network for limits."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from relay.portal.options import LimitOptions, ProxyOptions

_FOR: Final = re.compile(r'(?:^|;)\s*for=(?:"([^"]{1,64})"|([^;"]{1,64}))', re.IGNORECASE)
_MAX_HEADER: Final = 2048
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Origins:
    """Finds the client's address. Only proxies in the named networks are believed, from the nearest outwards."""

    def __init__(self, options: ProxyOptions) -> None:
        """Read the networks.

        Raises:
            ValueError: not a network, or a header that is not known.
        """
        if options.header not in {"", "x-forwarded-for", "forwarded"}:
            raise ValueError("the header is x-forwarded-for or forwarded")
        self._networks = tuple(ipaddress.ip_network(text, strict=False) for text in options.networks)
        self._header = options.header.encode("ascii")

    def is_proxy(self, address: str) -> bool:
        """Whether a proxy is there."""
        parsed = _parse(address)
        return parsed is not None and _within(parsed, self._networks)

    def client(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The address of who asks: the last one in the header that is no proxy of ours.

        What stands before it was written by that client, and counts for nothing.
        """
        if not self._header or not self.is_proxy(peer):
            return peer
        values = [value for name, value in headers if name == self._header]
        address = peer
        for hop in reversed(_hops(self._header, b",".join(values)[-_MAX_HEADER:].decode("latin-1"))):
            parsed = _parse(hop)
            if parsed is None:
                return address
            address = str(parsed)
            if not _within(parsed, self._networks):
                return address
        return address


def network_of(address: str, options: LimitOptions) -> str:
    """The network that limits count: a person has one IPv4 address of a few, and a whole IPv6 prefix."""
    parsed = _parse(address)
    if parsed is None:
        return "unknown"
    length = options.network_v4 if parsed.version == 4 else options.network_v6
    return str(ipaddress.ip_network((parsed, length), strict=False))


def _hops(header: bytes, text: str) -> list[str]:
    """The hops of the header, nearest last; one that names no address (RFC 7239 section 6) is an empty text."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    if header == b"forwarded":
        found = [_FOR.search(item) for item in items]
        items = [(match.group(1) or match.group(2) or "") if match else "" for match in found]
    return [_bare(item) for item in items]


def _bare(hop: str) -> str:
    """Without brackets and port: ``192.0.2.1:80``, ``[2001:db8::1]:80``."""
    hop = hop.strip()
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _parse(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _within(address: _Address, networks: tuple[_Network, ...]) -> bool:
    return any(address in network for network in networks)
