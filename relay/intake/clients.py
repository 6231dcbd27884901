"""Who may give us mail, and as whom."""

import functools
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from relay.core.address import Address, ReversePath

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOBODY: Final = hashlib.sha256(b"no client has this secret").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A system that may send: an EHR, a lab system.

    Attributes:
        name: its name, and its AUTH identity.
        tenant: the tenant it belongs to.
        secret_sha256: SHA-256 (hex) of its generated secret; empty: it cannot authenticate. A generated secret has 256
            random bits, so that a slow hash would only slow us.
        previous_secret_sha256: of the secret before the last rotation; empty: none.
        previous_until: unix seconds until which the previous secret is good.
        senders: mailboxes it may send as.
        sender_domains: domains it may send as; ``*.x`` means below x.
        null_sender: whether it may send with the null sender.
        networks: where it may connect from; empty: anywhere a listener lets it.
        messages_per_minute, messages_per_hour: rates; ``None``: no limit.
        max_size: octets of a message; ``None``: the listener's.
        max_recipients: of a message; ``None``: the listener's.
        stream: ``transactional`` or ``bulk``.
        check_from: whether the From field, too, must be a mailbox it may send as.
    """

    name: str
    tenant: str = ""
    secret_sha256: str = field(default="", repr=False)
    previous_secret_sha256: str = field(default="", repr=False)
    previous_until: float = 0.0
    senders: frozenset[Address] = frozenset()
    sender_domains: tuple[str, ...] = ()
    null_sender: bool = True
    networks: tuple[Network, ...] = ()
    messages_per_minute: int | None = None
    messages_per_hour: int | None = None
    max_size: int | None = None
    max_recipients: int | None = None
    stream: str = "transactional"
    check_from: bool = False

    def may_send(self, reverse_path: ReversePath) -> bool:
        """Whether it may send as this mailbox. A client without senders and domains may send as nobody."""
        if reverse_path.address is None:
            return self.null_sender
        return self.may_write_as(reverse_path.address)

    def may_write_as(self, address: Address) -> bool:
        """Whether a mailbox is one of its own. Mailboxes compare without case, as all large providers take them."""
        return _domain_matches(address.domain, self.sender_domains) or address.key in _keys(self.senders)

    def may_connect_from(self, address: str) -> bool:
        """Whether a peer at this IP address can be this client."""
        return not self.networks or contains(self.networks, address)


@functools.lru_cache(maxsize=1024)
def _keys(senders: frozenset[Address]) -> frozenset[str]:
    return frozenset(sender.key for sender in senders)


@functools.lru_cache(maxsize=4096)
def _domain_matches(domain: str, patterns: tuple[str, ...]) -> bool:
    return any(
        domain.endswith(pattern[1:]) and len(domain) > len(pattern) - 1
        if pattern.startswith("*.")
        else domain == pattern
        for pattern in patterns
    )


@functools.lru_cache(maxsize=4096)
def contains(networks: tuple[Network, ...], address: str) -> bool:
    """Whether an IP address as text lies in one of the networks; an IPv4-mapped IPv6 address counts as IPv4."""
    parsed = canonical(address)
    return any(parsed in network for network in networks)


@functools.lru_cache(maxsize=4096)  # some systems connect for every message
def canonical(address: str) -> IPAddress:
    """An IP address without scope, IPv4-mapped ones as IPv4.

    Raises:
        ValueError: not an IP address.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


class ClientDirectory:
    """All clients of the running configuration; replaced as a whole on reload."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self._clients: Mapping[str, Client] = {client.name: client for client in clients}

    def get(self, name: str) -> Client | None:
        """A client by name."""
        return self._clients.get(name)

    def authenticate(self, identity: str, password: str, *, address: str, now: float) -> Client | None:
        """The client whose secret this is, or ``None``.

        An unknown name, a wrong secret and a network that is not the client's take the same work and give the same
        answer, so that the answer tells nobody which names exist.

        Args:
            identity: as AUTH gave it.
            password: as AUTH gave it.
            address: the peer's IP address.
            now: unix seconds, UTC.
        """
        given = hashlib.sha256(password.encode("utf-8", "surrogatepass")).hexdigest()
        client = self._clients.get(identity)
        current = client.secret_sha256 if client is not None else ""
        previous = client.previous_secret_sha256 if client is not None and now < client.previous_until else ""
        good = hmac.compare_digest(given, current or _NOBODY) & bool(current)
        good |= hmac.compare_digest(given, previous or _NOBODY) & bool(previous)
        if client is None or not good or not client.may_connect_from(address):
            return None
        return client

    def by_network(self, trusted: Iterable[tuple[Network, str]], address: str) -> Client | None:
        """The client that a listener takes a peer for without AUTH: of the networks it trusts, the narrowest."""
        parsed = canonical(address)
        matching = [(network.prefixlen, name) for network, name in trusted if parsed in network]
        return self._clients.get(max(matching)[1]) if matching else None
