"""Connects to the best host of a destination that reaches a floor (RFC 5321 section 5, RFC 3207, RFC 7435)."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from relay.core.level import Level, Proof, Voucher
from relay.core.outcome import Failure, Stage, Trouble
from relay.core.ports import Clock, ConnectError, Metrics
from relay.net.assurance import NOTHING, Assurance
from relay.net.handshake import HostError
from relay.net.mx import Host, HostFinder
from relay.net.options import ROUTE_PREFIX, ConnectorOptions, Route, RouteHost
from relay.net.reach import Reached, Reacher, Target
from relay.net.rules import NO_RULES, Rules
from relay.net.session import SmtpSession
from relay.net.tls import TlsContexts
from relay.net.vouch import Nobody, Vouching
from relay.trust.capability import Observation
from relay.trust.sessions import AppliedPolicy, Fault, SessionResult
from relay.trust.tlsrpt import PolicyType, ResultType

__all__ = ["ConnectorOptions", "Route", "RouteHost", "SmtpConnector"]


class SmtpConnector:
    """Implements ``Connector``.

    Args:
        options: how peers are connected to.
        finder: finds hosts.
        contexts: TLS where no rule says otherwise.
        vouching: who vouches for hosts.
        rules: own rules for some destinations.
        metrics: counts.
        clock: unix seconds.
        seen: told of each meeting that says something of a server's TLS.
        session: told of what became of each TLS session of a delivery, for reports (RFC 8460).
    """

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
        session: Callable[[SessionResult], None] | None = None,
    ) -> None:
        self._options = options
        self._finder = finder
        self._contexts = contexts
        self._vouching: Vouching = vouching or Nobody()
        self._rules = rules
        self._clock = clock
        self._seen = seen
        self._session = session
        self._reacher = Reacher(options, metrics=metrics, clock=clock)

    async def connect(self, destination: str, *, floor: Level, tls_failures: int = 0, heed: bool = True) -> SmtpSession:
        """Connect to the first host that can be used and reaches the floor.

        Args:
            destination: a domain, or ``route:NAME``.
            floor: the least that is good enough.
            tls_failures: attempts of this copy that failed for TLS before.
            heed: ``False``: what the domain publishes of its TLS is passed over (RFC 8689 section 4.2.1, RFC 8460
                section 3). Nothing else may then go over the session.

        Raises:
            ConnectError: one failure a host tried; the last is the one to report: of all, the one that says most (a
                level not reached, then a server's refusal, then a breach of protocol, then the network).
        """
        failures: list[Failure] = []
        try:
            async with asyncio.timeout(self._options.deadlines.attempt):
                session = await self._first(destination, floor, tls_failures, failures, heed=heed)
        except TimeoutError:
            failures.append(
                Failure(trouble=Trouble.NETWORK, stage=Stage.CONNECT, detail="connecting took too long in all")
            )
            session = None
        if session is None:
            raise ConnectError(tuple(sorted(failures, key=lambda one: _WEIGHT.get(one.trouble, 0))))
        return session

    async def _first(
        self, destination: str, floor: Level, tls_failures: int, failures: list[Failure], *, heed: bool
    ) -> SmtpSession | None:
        route = self._route(destination)
        floor = max(floor, route.floor) if route is not None else floor
        left = self._options.max_connections
        for host, port in await self._candidates(destination, route, failures):
            try:
                assurance = await self._assure(destination, host, port, route, heed=heed)
            except HostError as error:
                self._count_refused(destination, host, error)
                failures.append(error.failure)
                continue
            for address in host.addresses:
                if left == 0:
                    return None
                left -= 1
                target = Target(
                    host=host, address=address, port=port, floor=max(floor, assurance.floor),
                    tls_failures=tls_failures, assurance=assurance, contexts=self._contexts_for(destination),
                    route=route,
                )  # fmt: skip
                try:
                    return await self._meet(destination, target, heeds=heed)
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
        candidates = await self._candidates(destination, route, failures)
        if not candidates and failures:
            raise ConnectError(tuple(failures))
        for host, port in candidates:
            with contextlib.suppress(HostError):
                assurance = await self._assure(destination, host, port, route)
                target = Target(
                    host=host, address=host.addresses[0], port=port, floor=assurance.floor, tls_failures=0,
                    assurance=assurance, contexts=self._contexts_for(destination), route=route,
                )  # fmt: skip
                session = await self._meet(destination, target, how="probe")
                await session.close()

    # --- what was met, told --------------------------------------------------

    async def _meet(
        self, destination: str, target: Target, *, how: str = "delivery", heeds: bool = True
    ) -> SmtpSession:
        """Reach a host, and tell of what it could do; of nothing where what its domain publishes was passed over."""
        if not heeds:
            return (await self._reacher.reach(target)).session
        counted = how == "delivery"
        try:
            reached = await self._reacher.reach(target, anew=how == "probe")
        except HostError as error:
            if error.failure.trouble is Trouble.BELOW_FLOOR:
                self._tell(destination, target.assurance, error.proof or _missed(target, error), how)
            if counted and error.fault is not None:
                self._count(destination, target, error.fault, error.source)
            raise
        if not reached.recalled:  # it says nothing of what the server can do now
            self._tell(destination, target.assurance, reached.session.proof, how)
        if counted:
            self._count(destination, target, _fault(target.assurance, reached), reached.source)
        return reached.session

    def _tell(self, destination: str, assurance: Assurance, proof: Proof, how: str) -> None:
        if self._seen is not None:
            mta_sts, dane = assurance.mta_sts, assurance.dane
            self._seen(
                Observation(domain=destination, proof=proof, how=how, at=self._clock(), mta_sts=mta_sts, dane=dane)
            )

    def _count(self, destination: str, target: Target, fault: Fault | None, source: str) -> None:
        policy = target.assurance.policy
        if self._session is not None and policy is not None:
            self._session(
                SessionResult(
                    domain=destination, policy=policy, at=self._clock(), fault=target.assurance.breach or fault,
                    host=target.host.name, address=target.address, source=source,
                )
            )  # fmt: skip

    def _count_refused(self, destination: str, host: Host, error: HostError) -> None:
        """A host that the domain's own policy kept us from counts as a session that failed."""
        if self._session is not None and error.policy is not None and error.fault is not None:
            self._session(
                SessionResult(
                    domain=destination, policy=error.policy, at=self._clock(), fault=error.fault, host=host.name
                )
            )

    # --- what is known beforehand --------------------------------------------

    async def _assure(
        self, destination: str, host: Host, port: int, route: Route | None, *, heed: bool = True
    ) -> Assurance:
        """Pins of our own decide alone; a route vouches for its hosts; for the rest, what the domain publishes."""
        rule = self._rules.of(destination)
        if rule is not None and rule.pins:
            why = "the certificates pinned for it ask for it"
            return Assurance(voucher=Voucher.PIN, floor=Level.AUTHENTICATED, why=why, pins=rule.pins)
        if route is not None:
            return Assurance(voucher=Voucher.ROUTE)
        return await self._vouching.vouch(destination, host, port) if heed else NOTHING

    def _contexts_for(self, destination: str) -> TlsContexts:
        rule = self._rules.of(destination)
        return rule.contexts if rule is not None else self._contexts

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


_WEIGHT: Final = {Trouble.NETWORK: 1, Trouble.PROTOCOL: 2, Trouble.REPLY: 3, Trouble.LOCAL: 4, Trouble.BELOW_FLOOR: 5}
"""Which failure of several hosts is reported: a level that was missed spends ``within`` and must not be hidden."""

_ASKED: Final = {
    PolicyType.TLSA: Level.AUTHENTICATED,
    PolicyType.STS: Level.VERIFIED,
    PolicyType.NONE: Level.ENCRYPTED,
}
"""What a policy asks of a session. Unusable TLSA records bring a breach of their own."""


def _fault(assurance: Assurance, reached: Reached) -> Fault | None:
    """How a session that stands fails the policy, where it does: one in mode ``testing`` delivers all the same."""
    policy: AppliedPolicy | None = assurance.policy
    proof = reached.session.proof
    if policy is None or proof.level >= _ASKED[policy.kind]:
        return None
    return reached.fault or Fault(result=ResultType.VALIDATION_FAILURE, detail=proof.failure)


def _missed(target: Target, error: HostError) -> Proof:
    """The most that a host could have reached which failed: TLS stood when its certificate was looked at."""
    level = Level.ENCRYPTED if error.certificate else Level.CLEAR
    return Proof(level=level, host=target.host.name, address=target.address, failure=error.failure.detail)


def _explained(failure: Failure, assurance: Assurance) -> Failure:
    """A missed level, with who asked for it when it was not the copy alone."""
    if failure.trouble is not Trouble.BELOW_FLOOR or not assurance.why:
        return failure
    return replace(failure, detail=f"{failure.detail}; {assurance.why}")
