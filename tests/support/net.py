"""A connector on loopback: peers, their names in DNS, and everything of ours between."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay.core.address import Address
from relay.core.envelope import Recipient
from relay.core.level import Level
from relay.core.outcome import Transaction
from relay.demo.authority import Authority
from relay.demo.dns import DnsServer
from relay.demo.peer import Peer, PeerBehaviour
from relay.net.connect import SmtpConnector
from relay.net.deadlines import Deadlines
from relay.net.mx import HostFinder, MxOptions
from relay.net.options import ConnectorOptions
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.tls import TlsContexts, TlsOptions, make_contexts

LOOPBACK = MxOptions(allowed_networks=("127.0.0.0/8",), ipv6=False)
PATIENT = Deadlines(
    connect=30, greeting=30, ehlo=30, handshake=30, auth=30, mail=30, rcpt=30, data=30, block=30, final=30, quit=1
)
"""What no peer that answers exceeds, however busy the machine is. A test in which one stalls shortens that one."""

PATIENT_DNS = {"timeout": "20s", "lifetime": "40s"}
"""The same of a whole Postern, as settings: the name server it asks runs in the test's own process."""


@dataclass
class Counted:
    """Metrics that only remember."""

    counts: dict[str, float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)

    def count(self, name: str, labels: Mapping[str, str] | None = None, amount: float = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount

    def observe(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        raise AssertionError("nothing here observes")

    def set(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        self.gauges[name] = value


def contexts(authority: Authority) -> TlsContexts:
    return make_contexts(TlsOptions(system_trust=False, trust_files=(str(authority.root),)))


def transaction(
    *recipients: str, content: bytes = b"Subject: x\r\n\r\n.hello\r\n", floor: Level = Level.CLEAR, **more
) -> Transaction:
    return Transaction(
        reverse_path_text="ehr@clinic.example",
        recipients=tuple(
            (number, Recipient(address=Address.parse(text)))
            for number, text in enumerate(recipients or ("pat@good.example",))
        ),
        content=content,
        floor=floor,
        **more,
    )


@dataclass
class Net:
    """One peer behind ``good.example``, and a connector to it."""

    peer: Peer
    dns: DnsServer
    connector: SmtpConnector
    metrics: Counted
    resolver: Resolver


@contextlib.asynccontextmanager
async def net(
    authority: Authority,
    behaviour: PeerBehaviour,
    *,
    tls: TlsContexts | None = None,
    options: ConnectorOptions | None = None,
    mx: MxOptions = LOOPBACK,
) -> AsyncIterator[Net]:
    metrics = Counted()
    zone = {"good.example": {"MX": ["10 mx.good.example."]}, "mx.good.example": {"A": ["127.0.0.1"]}}
    async with Peer(behaviour) as peer, DnsServer(zone) as dns:
        resolver = Resolver(ResolverOptions(nameservers=("127.0.0.1",), port=dns.port, timeout=20, lifetime=40))
        settings = replace(options or ConnectorOptions(helo="relay.clinic.example", deadlines=PATIENT), port=peer.port)
        connector = SmtpConnector(settings, HostFinder(resolver, mx), tls or contexts(authority), metrics=metrics)
        try:
            yield Net(peer, dns, connector, metrics, resolver)
        finally:
            await resolver.close()


def make_authority(directory: Path) -> Authority:
    return Authority(directory)
