"""Connects to the best host of a destination that reaches a floor (RFC 5321 section 5, RFC 3207, RFC 7435)."""

import asyncio
import contextlib
import ipaddress
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from relay.core.level import Level, Proof, Voucher
from relay.core.outcome import Failure, PeerFeatures, Stage, Trouble
from relay.core.ports import Clock, ConnectError, Metrics
from relay.net.assurance import Assurance
from relay.net.deadlines import Deadlines
from relay.net.handshake import Handshake, HostError, dial
from relay.net.memory import UnverifiedHosts
from relay.net.mx import Host, HostFinder
from relay.net.rules import NO_RULES, Rules
from relay.net.session import SessionContext, SmtpSession
from relay.net.tls import TlsContexts, judge
from relay.net.vouch import Nobody, Vouching
from relay.trust.capability import Observation

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """One host at one address, and what is wanted of it."""

    host: Host
    address: str
    port: int
    floor: Level
    tls_failures: int
    assurance: Assurance
    contexts: TlsContexts
    route: Route | None


class SmtpConnector:
    """Implements ``Connector``."""

    def __init__(
        self,
        options: ConnectorOptions,
        finder: HostFinder,
        contexts: TlsContexts,
        *,
        vouching: Vouching | None = None,
        rules: Rules = NO_RULES,
        metrics: Metrics | None = None,
        clock: Clock = time.time,
        seen: Callable[[Observation], None] | None = None,
    ) -> None:
        self._options = options
        self._finder = finder
        self._contexts = contexts
        self._vouching: Vouching = vouching or Nobody()
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._seen = seen
        self._open_now = 0
        self._unverified = UnverifiedHosts(size=options.unverified_size, ttl=options.unverified_ttl)

    async def connect(self, destination: str, *, floor: Level, tls_failures: int = 0) -> SmtpSession:
        """Connect to the first host that can be used and reaches the floor.

        Raises:
            ConnectError: one failure a host tried; the last is the one to report: of all, the one that says most (a
                level not reached, then a server's refusal, then a breach of protocol, then the network).
        """
        failures: list[Failure] = []
        try:
            async with asyncio.timeout(self._options.deadlines.attempt):
                session = await self._first(destination, floor, tls_failures, failures)
        except TimeoutError:
            failures.append(
                Failure(trouble=Trouble.NETWORK, stage=Stage.CONNECT, detail="connecting took too long in all")
            )
            session = None
        if session is None:
            raise ConnectError(tuple(sorted(failures, key=lambda one: _WEIGHT.get(one.trouble, 0))))
        return session

    async def _first(
        self, destination: str, floor: Level, tls_failures: int, failures: list[Failure]
    ) -> SmtpSession | None:
        route = self._route(destination)
        floor = max(floor, route.floor) if route is not None else floor
        left = self._options.max_connections
        rule = self._rules.of(destination)
        for host, port in await self._candidates(destination, route, failures):
            try:
                assurance = await self._assure(destination, host, port, route)
            except HostError as error:
                failures.append(error.failure)
                continue
            for address in host.addresses:
                if left == 0:
                    return None
                left -= 1
                target = _Target(
                    host=host, address=address, port=port, floor=max(floor, assurance.floor),
                    tls_failures=tls_failures, assurance=assurance,
                    contexts=rule.contexts if rule is not None else self._contexts, route=route,
                )  # fmt: skip
                try:
                    return await self._meet(destination, target)
                except HostError as error:
                    failures.append(_explained(error.failure, assurance))
                    if error.failure.trouble is not Trouble.NETWORK:
                        break  # the host answered: another address of it would answer the same
        return None

    async def probe(self, destination: str) -> None:
        """Meet every host of a destination once, without any mail; what was seen goes the way of all observations.

        Raises:
            ConnectError: its hosts cannot be found.
        """
        route, failures = self._route(destination), list[Failure]()
        rule = self._rules.of(destination)
        candidates = await self._candidates(destination, route, failures)
        if not candidates and failures:
            raise ConnectError(tuple(failures))
        for host, port in candidates:
            with contextlib.suppress(HostError):
                assurance = await self._assure(destination, host, port, route)
                target = _Target(
                    host=host, address=host.addresses[0], port=port, floor=assurance.floor, tls_failures=0,
                    assurance=assurance, contexts=rule.contexts if rule is not None else self._contexts, route=route,
                )  # fmt: skip
                session = await self._meet(destination, target, how="probe")
                await session.close()

    async def _meet(self, destination: str, target: _Target, *, how: str = "delivery") -> SmtpSession:
        """Reach a host, and tell of what it could do."""
        try:
            session = await self._reach(target)
        except HostError as error:
            if error.failure.trouble is Trouble.BELOW_FLOOR:
                self._tell(destination, target.assurance, error.proof or _missed(target, error), how)
            raise
        self._tell(destination, target.assurance, session.proof, how)
        return session

    def _tell(self, destination: str, assurance: Assurance, proof: Proof, how: str) -> None:
        if self._seen is not None:
            mta_sts, dane = assurance.mta_sts, assurance.dane
            self._seen(
                Observation(domain=destination, proof=proof, how=how, at=self._clock(), mta_sts=mta_sts, dane=dane)
            )

    async def _assure(self, destination: str, host: Host, port: int, route: Route | None) -> Assurance:
        """Pins of our own decide alone; a route vouches for its hosts; for the rest, what the domain publishes."""
        rule = self._rules.of(destination)
        if rule is not None and rule.pins:
            why = "the certificates pinned for it ask for it"
            return Assurance(voucher=Voucher.PIN, floor=Level.AUTHENTICATED, why=why, pins=rule.pins)
        if route is not None:
            return Assurance(voucher=Voucher.ROUTE)
        return await self._vouching.vouch(destination, host, port)

    def _route(self, destination: str) -> Route | None:
        if not destination.startswith(ROUTE_PREFIX):
            return None
        route = self._options.routes.get(destination.removeprefix(ROUTE_PREFIX))
        if route is None:
            detail = "the route is not configured"
            raise ConnectError((Failure(trouble=Trouble.LOCAL, stage=Stage.PLAN, detail=detail, host=destination),))
        return route

    async def _candidates(
        self, destination: str, route: Route | None, failures: list[Failure]
    ) -> list[tuple[Host, int]]:
        if route is None:
            return [(host, self._options.port) for host in await self._finder.hosts(destination)]
        found = []
        for one in route.hosts:
            try:
                found.append((await self._finder.named(one.host, internal=route.internal), one.port))
            except ConnectError as error:
                failures.extend(error.failures)
        return found

    # --- levels: down from verifying, never below the floor ---

    async def _reach(self, target: _Target) -> SmtpSession:
        """Try the levels from the top down to the floor, over new connections."""
        fault = self._unverified.fault(target.host.name) if target.floor <= Level.ENCRYPTED else ""
        if not fault:
            try:
                return await self._dial(target, Level.VERIFIED)
            except HostError as error:
                if error.handshake and self._may_go_clear(target):
                    return await self._dial(target, Level.CLEAR, failure=error.failure.detail)
                if not error.certificate or target.floor > Level.ENCRYPTED:
                    raise
                fault = error.certificate
                self._unverified.remember(target.host.name, fault)
        try:
            return await self._dial(target, Level.ENCRYPTED, failure=fault)
        except HostError as error:
            if not error.handshake or not self._may_go_clear(target):
                raise
            return await self._dial(target, Level.CLEAR, failure=error.failure.detail)

    @staticmethod
    def _may_go_clear(target: _Target) -> bool:
        """TLS was offered and failed: in the clear only at floor ``CLEAR``, and only if an attempt failed so before."""
        implicit = target.route is not None and target.route.implicit_tls
        return target.floor is Level.CLEAR and target.tls_failures >= 1 and not implicit

    async def _dial(self, target: _Target, level: Level, *, failure: str = "") -> SmtpSession:
        """One connection, begun so that it can reach ``level``; what it reached is judged when it stands."""
        options = self._options
        source = _source(target.address, (target.route and target.route.source_addresses) or options.source_addresses)
        sock = await dial(
            target.address, target.port, host=target.host.name, source=source, deadline=options.deadlines.connect
        )
        shake = Handshake(sock, host=target.host.name, helo=options.helo, deadlines=options.deadlines)
        try:
            return await self._open(shake, target, level, failure)
        except BaseException:
            shake.abort()
            raise

    async def _open(self, shake: Handshake, target: _Target, level: Level, failure: str) -> SmtpSession:
        fell = bool(failure)
        if target.route is not None and target.route.implicit_tls:
            await shake.greet_in_tls(_context(level, target), _tls_name(target))
            features = await shake.ehlo()
        else:
            await shake.greet()
            features = await shake.ehlo()
            if level > Level.CLEAR:
                features, failure = await self._secure(shake, features, target, level, failure)
        proof = judge(
            shake.tls_object, host=_tls_name(target), address=target.address, assurance=target.assurance,
            failure=failure, now=self._clock(),
        )  # fmt: skip
        if fell and proof.level is Level.CLEAR:
            proof = replace(proof, downgraded=True)
        if proof.cipher and target.contexts.suites and proof.cipher not in target.contexts.suites:
            detail = f"the cipher suite {proof.cipher} is not one of those this destination's rule allows"
            raise HostError(_below(target, detail))
        if proof.level < target.floor:
            raise HostError(_below(target, proof.failure or "the level was not reached"), proof=proof)
        if target.route is not None and target.route.username:
            await self._login(shake, target.route, proof)
        context = SessionContext(
            proof=proof,
            features=features,
            deadlines=self._options.deadlines,
            metrics=self._metrics,
            ended=lambda: self._count_open(-1),
        )
        session = SmtpSession(context)
        session.attach(shake.release(session))
        self._count_open(1)
        return session

    def _count_open(self, change: int) -> None:
        self._open_now += change
        if self._metrics is not None:
            self._metrics.set("postern_delivery_connections_open", self._open_now)

    async def _secure(
        self, shake: Handshake, features: PeerFeatures, target: _Target, level: Level, failure: str
    ) -> tuple[PeerFeatures, str]:
        """STARTTLS and a new EHLO, where it is offered; what the peer offers then, and why not more was reached."""
        if not features.starttls:
            detail = "the peer does not offer STARTTLS"
            if level is Level.ENCRYPTED and not self._may_go_clear(target):
                # A moment ago, or the last time, it offered it: that smells of someone in between.
                raise HostError(_below(target, f"{detail} any more"), handshake=True)
            if target.floor > Level.CLEAR:
                raise HostError(_below(target, detail))
            return features, detail
        await shake.starttls(_context(level, target), _tls_name(target))
        return await shake.ehlo(), failure

    @staticmethod
    async def _login(shake: Handshake, route: Route, proof: Proof) -> None:
        if proof.level < Level.VERIFIED:
            detail = "a password is sent only over a verified connection"
            raise HostError(
                Failure(trouble=Trouble.BELOW_FLOOR, stage=Stage.AUTH, detail=detail, host=proof.host),
            )
        await shake.login(route.username, route.password)


_WEIGHT: Final = {Trouble.NETWORK: 1, Trouble.PROTOCOL: 2, Trouble.REPLY: 3, Trouble.LOCAL: 4, Trouble.BELOW_FLOOR: 5}
"""Which failure of several hosts is reported: a level that was missed spends ``within`` and must not be hidden."""


def _tls_name(target: _Target) -> str:
    """The name for SNI and certificate: the host's; of a literal, its address (RFC 6125 section 1.7.2, RFC 9525)."""
    return target.assurance.sni or (target.address if target.host.literal else target.host.name)


def _context(level: Level, target: _Target) -> ssl.SSLContext:
    """Where records or pins decide, the handshake takes any certificate: it is judged before anything is said."""
    verifies = level >= Level.VERIFIED and not target.assurance.binds
    return target.contexts.verifying if verifies else target.contexts.encrypting


def _source(address: str, sources: tuple[str, ...]) -> str | None:
    version = ipaddress.ip_address(address).version
    return next((source for source in sources if ipaddress.ip_address(source).version == version), None)


def _missed(target: _Target, error: HostError) -> Proof:
    """The most that a host could have reached which failed: TLS stood when its certificate was looked at."""
    level = Level.ENCRYPTED if error.certificate else Level.CLEAR
    return Proof(level=level, host=target.host.name, address=target.address, failure=error.failure.detail)


def _explained(failure: Failure, assurance: Assurance) -> Failure:
    """A missed level, with who asked for it when it was not the copy alone."""
    if failure.trouble is not Trouble.BELOW_FLOOR or not assurance.why:
        return failure
    return replace(failure, detail=f"{failure.detail}; {assurance.why}")


def _below(target: _Target, detail: str) -> Failure:
    return Failure(trouble=Trouble.BELOW_FLOOR, stage=Stage.TLS, detail=detail, host=target.host.name)
