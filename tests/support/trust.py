"""A domain that publishes what its mail servers' TLS is like, and a connector that heeds it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from relay.core.change import AuditEvent
from relay.core.level import Level, Proof
from relay.core.outcome import Trouble
from relay.core.ports import ConnectError, Known, Seen
from relay.demo.authority import Authority, Certificate
from relay.demo.dns import DnsServer
from relay.demo.peer import Peer, PeerBehaviour
from relay.net.capability import Capabilities
from relay.net.connect import SmtpConnector
from relay.net.dane import TlsaFinder
from relay.net.fetch import FetchOptions, HttpsFetcher
from relay.net.mta_sts import PolicyCache, PolicyCacheOptions
from relay.net.mx import HostFinder
from relay.net.options import ConnectorOptions
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.rules import NO_RULES, Rules
from relay.net.tls import TlsContexts
from relay.net.vouch import Vouchers
from relay.store import MemoryData, MemoryStore
from relay.trust.sessions import SessionResult
from tests.support.net import LOOPBACK, PATIENT, transaction
from tests.support.policyhost import PolicyHost, policy_host
from tests.support.queue import ManualClock
from tests.support.vault import FakeVault

GOOD, MX, STS = "good.example", "mx.good.example", "mta-sts.good.example"
CERTIFICATES: Mapping[str, Callable[[Authority], Certificate]] = {
    "good": lambda authority: authority.issue(MX),
    "expired": lambda authority: authority.issue(MX, expired=True),
    "self-signed": lambda authority: authority.issue(MX, self_signed=True),
    "wrong-name": lambda authority: authority.issue("mx.other.example"),
    "private-authority": lambda authority: authority.untrusted.issue(MX),
}
"""What a mail server may show, good and bad."""


class Tallied:
    """Metrics that remember each count with its labels."""

    def __init__(self) -> None:
        self.counts: dict[tuple, float] = {}

    def count(self, name: str, labels: Mapping[str, str] | None = None, amount: float = 1) -> None:
        key = (name, *sorted((labels or {}).values()))
        self.counts[key] = self.counts.get(key, 0) + amount

    def observe(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        pass

    def set(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        pass


class BrokenStore:
    """Knowledge that can be switched off."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.events: list[AuditEvent] = []
        self.error: Exception | None = None

    async def known(self, kind: str, name: str) -> Known | None:
        if self.error:
            raise self.error
        return await self.store.known(kind, name)

    async def learn(self, known: Known, *, over: Seen = "anything", events: tuple[AuditEvent, ...] = ()) -> bool:
        if self.error:
            raise self.error
        kept = await self.store.learn(known, over=over, events=events)
        self.events += events if kept else ()
        return kept

    async def all_known(self, kind: str, *, after: str = "", limit: int = 200):
        return await self.store.all_known(kind, after=after, limit=limit)

    async def forget(self, kind: str, name: str) -> None:
        await self.store.forget(kind, name)


@dataclass
class World:
    """``good.example`` with one mail server, its DNS, its policy host, and what of ours meets them."""

    peer: Peer
    dns: DnsServer
    host: PolicyHost
    resolver: Resolver
    policies: PolicyCache
    connector: SmtpConnector
    store: BrokenStore
    clock: ManualClock
    metrics: Tallied
    authority: Authority
    fetcher: HttpsFetcher
    capabilities: Capabilities
    sessions: list[SessionResult]

    def use_port(self, port: int) -> None:
        """Let the mail server be at another port than the peer's."""
        self.connector._options = replace(self.connector._options, port=port)

    def announce(self, identity: str = "1") -> None:
        """Publish a policy id, and let the resolver see it at once."""
        self.dns.set(f"_mta-sts.{GOOD}", {"TXT": [f'"v=STSv1; id={identity};"']})
        self.resolver.forget()

    def again(self) -> PolicyCache:
        """What another process, or this one after a restart, knows: the store alone."""
        options = PolicyCacheOptions()
        return PolicyCache(self.resolver, self.fetcher, self.store, self.clock, options, metrics=self.metrics)

    def impatient_of_dns(self):
        """For a name whose server is to stay silent: all look-ups from now on are short of time."""
        self.resolver._stub.timeout = self.resolver._stub.lifetime = 0.3

    async def failure(self, **more):
        with pytest.raises(ConnectError) as caught:
            await self.connector.connect(GOOD, **more)
        return caught.value.failures[-1]

    async def proof(self, **more):
        session = await self.connector.connect(GOOD, **more)
        await session.close()
        return session.proof


async def attempt(it: World, floor: Level, tls_failures: int = 0) -> Proof | Trouble:
    """The proof of a delivery, or the trouble that kept it."""
    try:
        session = await it.connector.connect(GOOD, floor=floor, tls_failures=tls_failures)
    except ConnectError as error:
        return error.failures[-1].trouble
    result = await session.transact(transaction(f"pat@{GOOD}", floor=floor))
    await session.close()
    assert result.results[0].delivered
    return result.proof


@contextlib.asynccontextmanager
async def world(
    authority: Authority,
    tls: TlsContexts,
    behaviour: PeerBehaviour,
    *,
    validating: bool = False,
    secure: tuple[str, ...] = (),
    rules: Rules = NO_RULES,
    monotonic=None,
) -> AsyncIterator[World]:
    zone = {GOOD: {"MX": [f"10 {MX}."]}, MX: {"A": ["127.0.0.1"]}, STS: {"A": ["127.0.0.1"]}}
    clock, metrics, sessions = ManualClock(), Tallied(), list[SessionResult]()
    store = BrokenStore(MemoryStore(FakeVault(), clock, data=MemoryData()))
    async with Peer(behaviour) as peer, DnsServer(zone, secure=secure) as dns, policy_host(authority) as host:
        resolver = Resolver(
            ResolverOptions(
                nameservers=("127.0.0.1",), port=dns.port, timeout=20, lifetime=40, validating=validating, failure_ttl=1
            )
        )
        finder = HostFinder(resolver, LOOPBACK)
        fetcher = HttpsFetcher(finder, tls.verifying, FetchOptions(port=host.port, timeout=60))
        more = {"monotonic": monotonic} if monotonic else {}
        policies = PolicyCache(resolver, fetcher, store, clock, PolicyCacheOptions(), metrics=metrics, **more)
        capabilities = Capabilities(store, metrics=metrics)
        connector = SmtpConnector(
            ConnectorOptions(helo="relay.clinic.example", deadlines=PATIENT, port=peer.port),
            finder,
            tls,
            vouching=Vouchers(dane=TlsaFinder(resolver) if validating else None, mta_sts=policies),
            rules=rules,
            metrics=metrics,
            clock=clock,
            seen=capabilities.saw,
            session=sessions.append,
        )
        try:
            yield World(
                peer,
                dns,
                host,
                resolver,
                policies,
                connector,
                store,
                clock,
                metrics,
                authority,
                fetcher,
                capabilities,
                sessions,
            )
        finally:
            await capabilities.settle()
            await policies.close()
            await resolver.close()
