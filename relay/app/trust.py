"""Settings to the parts that connect to other servers and judge them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from relay.app import options
from relay.app.base import CLOCK
from relay.config.settings import Settings
from relay.config.tls import CipherPreset, TlsRuleSettings
from relay.core.address import Address
from relay.core.ports import ConnectError, Knowledge, Metrics
from relay.delivery.routing import ROUTE_PREFIX, RouteTable
from relay.net.capability import Capabilities
from relay.net.connect import SmtpConnector
from relay.net.dane import TlsaFinder
from relay.net.fetch import FetchOptions, HttpsFetcher
from relay.net.mta_sts import PolicyCache, PolicyCacheOptions
from relay.net.mx import HostFinder
from relay.net.received import ReceivedReports
from relay.net.resolver import Resolver
from relay.net.rules import Rule, Rules
from relay.net.tally import SessionTally
from relay.net.tls import SP800_52R2, TlsContexts, TlsOptions, make_contexts
from relay.net.vouch import Vouchers
from relay.trust.capability import Capability
from relay.trust.tlsrpt import TlsReport

_AT_ONCE: Final = 5
"""Destinations probed side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outward:
    """What reaches other servers.

    Attributes:
        policies: ``None`` where MTA-STS is switched off.
        sessions: ``None`` where no reports about TLS are sent, or this process delivers nothing.
    """

    connector: SmtpConnector
    policies: PolicyCache | None
    capabilities: Capabilities
    fetcher: HttpsFetcher
    sessions: SessionTally | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        resolver: Resolver,
        knowledge: Knowledge,
        metrics: Metrics | None,
        *,
        writer: str = "",
    ) -> Self:
        """Compose it; ``writer`` is a name unique to this process's life, under which sessions are counted.

        Raises:
            ProblemsError: a trust file or a route's password cannot be read.
        """
        finder = HostFinder(resolver, options.mx_options(settings))
        general = options.tls_options(settings)
        contexts = make_contexts(general)
        sts = settings.tls.mta_sts
        policies = None
        fetcher = HttpsFetcher(finder, contexts.verifying, FetchOptions(port=sts.port, timeout=sts.timeout))
        if sts.enabled:
            how = PolicyCacheOptions(refresh=sts.refresh)
            policies = PolicyCache(resolver, fetcher, knowledge, CLOCK, how, metrics=metrics)
        capabilities = Capabilities(knowledge, metrics=metrics)
        sessions = None
        if writer and settings.tls.reports.sender is not None:
            sessions = SessionTally(knowledge, writer, CLOCK, metrics=metrics)
        dane = TlsaFinder(resolver) if settings.tls.dane and settings.dns.validating else None
        connector = SmtpConnector(
            options.connector_options(settings),
            finder,
            contexts,
            rules=Rules(_rules(settings.tls.rules, general)),
            vouching=Vouchers(dane=dane, mta_sts=policies, mx=dane is not None),
            metrics=metrics,
            clock=CLOCK,
            seen=capabilities.saw,
            session=sessions.saw if sessions is not None else None,
        )
        return cls(
            connector=connector, policies=policies, capabilities=capabilities, fetcher=fetcher, sessions=sessions
        )

    async def close(self) -> None:
        """Give up what is on the way; write down what was seen."""
        await self.capabilities.settle()
        if self.sessions is not None:
            await self.sessions.flush()
        if self.policies is not None:
            await self.policies.close()


class Probes:
    """Looks at other domains' mail servers without any mail; implements ``relay.admin.tls.TlsDesk``."""

    def __init__(
        self, outward: Callable[[], Outward], routes: Callable[[], RouteTable], received: ReceivedReports
    ) -> None:
        self._outward = outward
        self._routes = routes
        self._received = received

    def reports(self, domains: frozenset[str]) -> AsyncIterator[TlsReport]:
        """Reports that others sent about these domains of ours, or all, the oldest first.

        Raises:
            StoreError: they cannot be read now.
        """
        return self._received.known(domains)

    def known(self, destinations: frozenset[str]) -> AsyncIterator[Capability]:
        """What is known of the servers of these destinations, or of all.

        Raises:
            StoreError: it cannot be read now.
        """
        return self._outward().capabilities.known(frozenset(self._taken(one) for one in destinations))

    async def probe(self, destinations: Sequence[str]) -> Mapping[str, str]:
        """Meet every server of these destinations; why those failed whose servers were not found."""
        room, outward = asyncio.Semaphore(_AT_ONCE), self._outward()

        async def meet(name: str) -> str:
            async with room:
                try:
                    await outward.connector.probe(self._taken(name))
                except ConnectError as error:
                    return error.failures[-1].detail
            return ""

        found = await asyncio.gather(*(meet(name) for name in destinations))
        await outward.capabilities.settle()
        return {name: why for name, why in zip(destinations, found, strict=True) if why}

    async def meet_known(self, *, older_than: float, pause: float, mine: Callable[[str], Awaitable[bool]]) -> None:
        """Probe destinations whose servers were all last met before a time, one by one.

        Args:
            older_than: that time, unix seconds.
            pause: seconds between two of them.
            mine: whether a destination is this process's to probe now. It must say so once in a while for all nodes
                together: a server that nobody can reach is never met, and would be knocked at for ever.

        Raises:
            StoreError: what is known cannot be read now.
        """
        last: dict[str, float] = {}
        async for one in self._outward().capabilities.known():
            last[one.domain] = max(one.seen_at, last.get(one.domain, 0.0))
        for domain, seen_at in last.items():
            if seen_at < older_than and await mine(domain):
                await self.probe([domain])
                await asyncio.sleep(pause)

    def _taken(self, name: str) -> str:
        """The destination that mail for a domain takes: a route's, where one serves it."""
        return name if name.startswith(ROUTE_PREFIX) else self._routes().destination(Address("postmaster", name))


def _rules(rules: Iterable[TlsRuleSettings], general: TlsOptions) -> Iterator[Rule]:
    """The rules; those that want the same share contexts, since making one reads every trusted root."""
    made: dict[TlsOptions, TlsContexts] = {}
    for rule in rules:
        how = _wanted(rule, general)
        if how not in made:
            made[how] = make_contexts(how)
        yield Rule(destinations=rule.destinations, contexts=made[how], pins=frozenset(rule.pins))


def _wanted(rule: TlsRuleSettings, general: TlsOptions) -> TlsOptions:
    key = rule.client_key.path() if rule.client_key is not None else None
    if rule.client_key is not None and key is None:
        rule.client_key.read()  # says what is wrong with a credential outside its unit
    how = replace(
        general,
        minimum=max(general.minimum, options.TLS_VERSIONS[rule.minimum]),
        suites=SP800_52R2 if rule.ciphers is CipherPreset.SP800_52R2 else (),
        client=(str(rule.client_certificate), str(key)) if key is not None else None,
    )
    if rule.roots is not None:
        how = replace(how, system_trust=False, trust_files=(str(rule.roots),))
    return how
