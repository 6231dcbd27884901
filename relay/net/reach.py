"""Reaches one host at one address: the levels, from verifying down to the floor and never below it (law 2)."""

import ipaddress
import ssl
import time
from dataclasses import dataclass, replace
from typing import Final

from relay.core.level import Level, Proof
from relay.core.outcome import Failure, PeerFeatures, Stage, Trouble
from relay.core.ports import Clock, Metrics
from relay.net.assurance import Assurance
from relay.net.handshake import Handshake, HostError
from relay.net.memory import UnverifiedHosts
from relay.net.mx import Host
from relay.net.options import ConnectorOptions, Route
from relay.net.session import SessionContext, SmtpSession
from relay.net.tls import TlsContexts, judge
from relay.trust.sessions import Fault
from relay.trust.tlsrpt import ResultType

_NO_STARTTLS: Final = "the peer does not offer STARTTLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One host at one address, and what is wanted of it.

    Attributes:
        floor: the least its connection must reach.
        tls_failures: attempts of this copy that failed for TLS before.
        assurance: what is known of it.
        contexts: what the connection is made with.
        route: the static route it belongs to.
    """

    host: Host
    address: str
    port: int
    floor: Level
    tls_failures: int
    assurance: Assurance
    contexts: TlsContexts
    route: Route | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A connection that stands.

    Attributes:
        fault: why it has less TLS than could be had; ``None`` when it has all that was tried for.
        source: the address it comes from.
        recalled: whether the fault is what an earlier connection met: this one did not try.
    """

    session: SmtpSession
    fault: Fault | None
    source: str
    recalled: bool = False


class Reacher:
    """Opens connections, and remembers for a while which hosts have certificates that do not verify."""

    def __init__(self, options: ConnectorOptions, *, metrics: Metrics | None = None, clock: Clock = time.time) -> None:
        self._options = options
        self._metrics = metrics
        self._clock = clock
        self._open_now = 0
        self._unverified = UnverifiedHosts(size=options.unverified_size, ttl=options.unverified_ttl)

    async def reach(self, target: Target, *, anew: bool = False) -> Reached:
        """Try the levels from the top down to the floor, over new connections.

        Args:
            target: where to.
            anew: ask the host itself, whatever is remembered of it.

        Raises:
            HostError: the host cannot be used, or not at the floor.
        """
        fault = self._unverified.fault(target.host.name) if target.floor <= Level.ENCRYPTED and not anew else None
        recalled = fault is not None
        if fault is None:
            try:
                reached = await self._dial(target, Level.VERIFIED)
            except HostError as error:
                if error.handshake and _may_go_clear(target):
                    return await self._dial(target, Level.CLEAR, fault=error.fault)
                if not error.certificate or error.fault is None or target.floor > Level.ENCRYPTED:
                    raise
                fault = error.fault
                self._unverified.remember(target.host.name, fault)
            else:
                self._unverified.forget(target.host.name)
                return reached
        try:
            reached = await self._dial(target, Level.ENCRYPTED, fault=fault)
            return replace(reached, recalled=recalled)
        except HostError as error:
            if not error.handshake or not _may_go_clear(target):
                raise
            return await self._dial(target, Level.CLEAR, fault=error.fault)

    async def _dial(self, target: Target, level: Level, *, fault: Fault | None = None) -> Reached:
        """One connection, begun so that it can reach ``level``; what it reached is judged when it stands."""
        options = self._options
        own = (target.route and target.route.source_addresses) or options.source_addresses
        shake = Handshake(host=target.host.name, helo=options.helo, deadlines=options.deadlines)
        source = await shake.connect(target.address, target.port, source=_source(target.address, own))
        try:
            return await self._open(shake, target, level, fault, source)
        except HostError as error:
            error.source = source
            shake.abort()
            raise
        except BaseException:
            shake.abort()
            raise

    async def _open(self, shake: Handshake, target: Target, level: Level, fault: Fault | None, source: str) -> Reached:
        fell = fault is not None
        if target.route is not None and target.route.implicit_tls:
            await shake.greet_in_tls(_context(level, target), _tls_name(target))
            features = await shake.ehlo()
        else:
            await shake.greet()
            features = await shake.ehlo()
            if level > Level.CLEAR:
                features, fault = await _secure(shake, features, target, level, fault)
        proof = judge(
            shake.tls_object, host=_tls_name(target), address=target.address, assurance=target.assurance,
            failure=fault.detail if fault is not None else "", now=self._clock(),
        )  # fmt: skip
        if fell and proof.level is Level.CLEAR:
            proof = replace(proof, downgraded=True)
        _check(proof, target, fault)
        if target.route is not None and target.route.username:
            await _login(shake, target.route, proof, features)
        session = SmtpSession(self._context(proof, features))
        session.attach(shake.release(session))
        self._count_open(1)
        return Reached(session=session, fault=fault, source=source)

    def _context(self, proof: Proof, features: PeerFeatures) -> SessionContext:
        return SessionContext(
            proof=proof,
            features=features,
            deadlines=self._options.deadlines,
            metrics=self._metrics,
            ended=lambda: self._count_open(-1),
        )

    def _count_open(self, change: int) -> None:
        self._open_now += change
        if self._metrics is not None:
            self._metrics.set("postern_delivery_connections_open", self._open_now)


def _may_go_clear(target: Target) -> bool:
    """TLS was offered and failed: in the clear only at floor ``CLEAR``, and only if an attempt failed so before."""
    implicit = target.route is not None and target.route.implicit_tls
    return target.floor is Level.CLEAR and target.tls_failures >= 1 and not implicit


async def _secure(
    shake: Handshake, features: PeerFeatures, target: Target, level: Level, fault: Fault | None
) -> tuple[PeerFeatures, Fault | None]:
    """STARTTLS and a new EHLO, where it is offered; what the peer offers then, and why not more was reached."""
    if not features.starttls:
        absent = Fault(result=ResultType.STARTTLS_NOT_SUPPORTED, detail=_NO_STARTTLS)
        if level is Level.ENCRYPTED and not _may_go_clear(target):
            # A moment ago, or the last time, it offered it: that smells of someone in between.
            raise HostError(_below(target, f"{_NO_STARTTLS} any more"), fault=absent, handshake=True)
        if target.floor > Level.CLEAR:
            raise HostError(_below(target, _NO_STARTTLS), fault=absent)
        return features, absent
    await shake.starttls(_context(level, target), _tls_name(target))
    return await shake.ehlo(begins_tls=True), fault


def _check(proof: Proof, target: Target, fault: Fault | None) -> None:
    """Refuse what is below the floor or not of the rule's cipher suites, before anything is said over it."""
    if proof.cipher and target.contexts.suites and proof.cipher not in target.contexts.suites:
        detail = f"the cipher suite {proof.cipher} is not one of those this destination's rule allows"
        raise HostError(_below(target, detail))
    if proof.level < target.floor:
        detail = proof.failure or "the level was not reached"
        fault = fault or Fault(result=ResultType.VALIDATION_FAILURE, detail=detail)
        raise HostError(_below(target, detail), fault=fault, proof=proof)


async def _login(shake: Handshake, route: Route, proof: Proof, features: PeerFeatures) -> None:
    if proof.level < Level.VERIFIED:
        detail = "a password is sent only over a verified connection"
        raise HostError(Failure(trouble=Trouble.BELOW_FLOOR, stage=Stage.AUTH, detail=detail, host=proof.host))
    await shake.login(route.username, route.password, features)


def _tls_name(target: Target) -> str:
    """The name for SNI and certificate: the host's; of a literal, its address (RFC 6125 section 1.7.2, RFC 9525)."""
    return target.assurance.sni or (target.address if target.host.literal else target.host.name)


def _context(level: Level, target: Target) -> ssl.SSLContext:
    """Where records or pins decide, the handshake takes any certificate: it is judged before anything is said."""
    verifies = level >= Level.VERIFIED and not target.assurance.binds
    return target.contexts.verifying if verifies else target.contexts.encrypting


def _source(address: str, sources: tuple[str, ...]) -> str | None:
    version = ipaddress.ip_address(address).version
    return next((source for source in sources if ipaddress.ip_address(source).version == version), None)


def _below(target: Target, detail: str) -> Failure:
    return Failure(trouble=Trouble.BELOW_FLOOR, stage=Stage.TLS, detail=detail, host=target.host.name)
