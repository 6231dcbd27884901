"""Addresses that a stranger's DNS may not send us to (RFC 6890 and the IANA special-purpose registries).

An MX, and later an MTA-STS policy, a key directory or a revocation list, must not lead into the hospital's own network.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is routed on the Internet (RFC 4291 section 2.4 and IANA's registry of addresses). What lies outside
is local, or reserved: site-local addresses, and the NAT64 of one's own network (64:ff9b:1::/48, RFC 8215) above all."""
_BESIDES: Final = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # RFC 6890; Python knows two pieces of it
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays, RFC 7526
    ipaddress.IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
"""Special-purpose networks that Python 3.11 takes for public ones."""


class AddressGuard:
    """Says which addresses may be connected to. ``allowed`` networks are exceptions that an operator configured."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Take networks such as ``10.0.0.0/8``.

        Raises:
            ValueError: not a network.
        """
        self._allowed: tuple[IPNetwork, ...] = tuple(ipaddress.ip_network(text) for text in allowed)

    def permits(self, text: str) -> bool:
        """Whether the address is on the public Internet, or configured; whatever it embeds must be so, too."""
        address = ipaddress.ip_address(text)
        if any(address.version == network.version and address in network for network in self._allowed):
            return True
        return all(_is_public(one) for one in _with_embedded(address))


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    special = any(address in network for network in _BESIDES if network.version == address.version)
    return address.is_global and not address.is_multicast and not special


def _with_embedded(address: IPAddress) -> list[IPAddress]:
    """The address that is routed on, and those inside a transition form (RFC 6052, RFC 3056, RFC 4380)."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return [last]
    inside: list[IPAddress] = [address]
    if address.sixtofour is not None:
        inside.append(address.sixtofour)
    if address.teredo is not None:
        inside.extend(address.teredo)
    return inside
