"""How peers are connected to: the options of a connector, and its static routes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from relay.core.level import Level
from relay.net.deadlines import Deadlines

ROUTE_PREFIX: Final = "route:"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteHost:
    """A host of a static route: a name or an IP address, and its port."""

    host: str
    port: int = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A static route or smarthost: the destination ``route:NAME``.

    Attributes:
        hosts: in the order they are tried, looked up without MX.
        floor: the least its connection must reach, whatever the copy's floor.
        implicit_tls: TLS from the first octet instead of STARTTLS (RFC 8314).
        internal: its hosts may lie in special-purpose networks.
        username, password: for AUTH; empty: none. A password is sent only over a connection that is ``VERIFIED``.
        source_addresses: local addresses to send from, instead of the connector's.
    """

    hosts: tuple[RouteHost, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    floor: Level = Level.VERIFIED
    implicit_tls: bool = False
    internal: bool = False
    source_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorOptions:
    """How peers are connected to.

    Attributes:
        helo: our host name for EHLO.
        port: of hosts found by MX.
        source_addresses: local addresses to send from: the first of the peer's family; none: the system chooses.
        routes: by name.
        max_connections: TCP connections tried for one destination in one attempt, reconnections not counted.
        deadlines: of every wait.
        unverified_ttl: seconds a host is remembered as having a certificate that does not verify.
        unverified_size: hosts remembered so.
    """

    helo: str
    port: int = 25
    source_addresses: tuple[str, ...] = ()
    routes: Mapping[str, Route] = field(default_factory=dict)
    max_connections: int = 8
    deadlines: Deadlines = field(default_factory=Deadlines)
    unverified_ttl: float = 3600.0
    unverified_size: int = 10_000

    def __post_init__(self) -> None:
        if self.max_connections < 1:
            raise ValueError("an attempt needs at least one connection")
