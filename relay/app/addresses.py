"""Which IP addresses are ourselves: mail for a domain whose MX is one of them would come back to us (RFC 5321 5.1)."""

import ipaddress
from pathlib import Path
from typing import Final

from relay.config.settings import Settings

_IPV4: Final = Path("/proc/net/fib_trie")
_IPV6: Final = Path("/proc/net/if_inet6")


def own_addresses(settings: Settings) -> frozenset[str]:
    """Addresses on which a listener of ours answers where other servers deliver to, and those the settings name.

    A listener on another port takes no mail that DNS leads here, so its address is not counted.
    """
    found = {str(one) for one in settings.delivery.own_addresses}
    for listener in settings.listeners:
        if listener.port != settings.delivery.port:
            continue
        address = listener.address
        if not address.is_unspecified:
            found.add(str(address))
        else:
            found |= {one for one in local_addresses() if ipaddress.ip_address(one).version == address.version}
    return frozenset(found)


def local_addresses(ipv4: Path = _IPV4, ipv6: Path = _IPV6) -> frozenset[str]:
    """The addresses of this machine's interfaces, as the kernel tells them; empty where it tells none."""
    return frozenset({*_read_ipv4(ipv4), *_read_ipv6(ipv6)})


def _read_ipv4(path: Path) -> list[str]:
    """Leaves of the routing table that are ``/32 host LOCAL``; the address stands in the line above."""
    found, last = [], ""
    for line in _lines(path):
        words = line.split()
        if words[:1] == ["|--"] and len(words) > 1:
            last = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and last:
            found.append(last)
    return found


def _read_ipv6(path: Path) -> list[str]:
    """The first word of each line: 32 hexadecimal digits."""
    words = (line.split()[0] for line in _lines(path) if line.split())
    return [str(ipaddress.IPv6Address(bytes.fromhex(word))) for word in words if len(word) == 32]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []  # no such family, or not Linux: what is configured counts
