"""The whole way of a copy in one process, acceptance to peer, save the scan: for properties over many runs."""

import contextlib
import itertools
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from relay.admin.operations import Operations, Operator, Parts, Redecision
from relay.admin.wire import ChangeRequest, Selection
from relay.core.address import Address, ReversePath
from relay.core.decision import MethodName
from relay.core.entry import EntryState
from relay.core.envelope import ClientSession, Envelope, Recipient
from relay.core.level import Level
from relay.core.phi import PhiVerdict
from relay.core.ports import QueueFilter, ScanReport
from relay.core.reply import EnhancedStatus
from relay.delivery.plan import first_method
from relay.delivery.routing import Route, RouteTable
from relay.delivery.schedule import RetryOptions
from relay.delivery.trouble import Course, Disposition
from relay.demo.behaviour import PeerBehaviour
from relay.demo.dns import DnsServer
from relay.demo.peer import Peer
from relay.demo.session import Session
from relay.intake.accept import AcceptOptions, Acceptor
from relay.intake.accept import Parts as AcceptParts
from relay.mail.dsn import DsnOptions, DsnWriter
from relay.methods.tls import TlsMethod
from relay.net.connect import ConnectorOptions, RouteHost, SmtpConnector
from relay.net.connect import Route as HostRoute
from relay.net.mx import HostFinder
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.tls import TlsContexts
from relay.policy.engine import CompiledPolicy
from relay.protect.dkim import SignerSet
from relay.store import StoreOptions
from relay.worker.attempt import Attempter
from relay.worker.facts import facts_of
from relay.worker.notices import Notices
from relay.worker.outgoing import Outgoing
from relay.worker.record import Recorder
from tests.support.net import LOOPBACK, PATIENT, Counted
from tests.support.queue import HARNESSES, NOW, ManualClock

CONFIGURED = frozenset({MethodName.TLS})
METHODS = {MethodName.TLS: TlsMethod()}
OPERATOR = Operator(name="root", uid=0, pid=1)
_RCPT = re.compile(rb"RCPT TO:<([^>]*)>", re.IGNORECASE)


@dataclass(frozen=True)
class Heard:
    """One piece that a peer received, decrypted, and over what."""

    connection: int
    tls_version: str
    octets: bytes


class HearingSession(Session):
    """A peer's connection that remembers every piece, under TLS too."""

    async def fill(self) -> None:
        before = len(self.buffer)
        await super().fill()
        self.peer.heard.append(Heard(self.number, self.tls_version, bytes(self.buffer[before:])))


class HearingPeer(Peer):
    """A peer that remembers all that it heard, by connection."""

    session_type = HearingSession

    def __init__(self, behaviour: PeerBehaviour) -> None:
        super().__init__(behaviour)
        self.heard: list[Heard] = []


class GivenScan:
    """A scanner that finds what the test says."""

    def __init__(self) -> None:
        self.verdict = PhiVerdict()

    async def scan(self, content: bytes, client: str = "") -> ScanReport:
        return ScanReport(verdict=self.verdict, subject="", headers=())


class GivenPolicy:
    """Stands for whichever policy is running."""

    def __init__(self, current: CompiledPolicy) -> None:
        self.current = current

    def __getattr__(self, name: str):
        return getattr(self.current, name)


class NoHand:
    """Intake without a worker at hand: everything is left in the store."""

    def reserve(self, destination: str) -> bool:
        return False

    def give_up(self, count: int) -> None:
        assert count == 0

    def hand_over(self, claimed) -> None:
        assert not list(claimed)


class Observed(Counted):
    """Metrics that only remember, histograms by their count."""

    def observe(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        self.count(name, labels)


class Delivering:
    """Acceptance, queue, operators and attempts over one peer that serves every destination."""

    def __init__(
        self, peer: HearingPeer, connector: SmtpConnector, routes: RouteTable, policy: CompiledPolicy, store, clock
    ) -> None:
        self.peer = peer
        self.clock = clock
        self.metrics = Observed()
        self.policy = GivenPolicy(policy)
        self.scan = GivenScan()
        self.store = store
        self._numbers = itertools.count(1)
        self._sessions: dict[str, object] = {}
        writer = DsnWriter(
            DsnOptions(reporting_mta="relay.clinic.example", postmaster=Address.parse("postmaster@clinic.example"))
        )
        retry = RetryOptions(first=1.0, longest=2.0)
        self._routes = routes
        notices = Notices(writer, routes, retry, self._new_id)
        self.acceptor = Acceptor(
            AcceptOptions(hostname="relay.clinic.example"),
            AcceptParts(
                scanner=self.scan,
                policy=self.policy,
                store=self.store,
                hand=NoHand(),
                metrics=self.metrics,
                route_for=lambda address, treatment: routes.destination(address, treatment.route),
                bounce=notices.refused,
                clock=self.clock,
                entropy=lambda count: next(self._numbers).to_bytes(count, "big"),
            ),
        )
        self.attempter = Attempter(
            store=self.store,
            policy=self.policy,
            methods=METHODS,
            connector=connector,
            routes=routes,
            outgoing=Outgoing(SignerSet(()), self.clock, self.metrics),
            recorder=Recorder(notices, retry, lambda: 0.5, self.metrics),
            settled=lambda: None,
            clock=self.clock,
            metrics=self.metrics,
        )
        self._notices = notices
        self.operations = Operations(
            Parts(
                store=self.store,
                clock=self.clock,
                metrics=self.metrics,
                redecide=self._redecide,
                notify=self._notify,
            )
        )

    def _new_id(self, now: float) -> str:
        return f"own{next(self._numbers)}"

    async def _redecide(self, entry, message, content):
        facts = facts_of(message, content)
        return [
            Redecision(
                state=state,
                treatment=(treatment := self.policy.decide(facts, state.recipient.address).treatment),
                destination=self._routes.destination(state.recipient.address, treatment.route),
                method=first_method(treatment, CONFIGURED),
            )
            for state in entry.recipients
        ]

    def _notify(self, message, content, entry, reason, now):
        course = Disposition(course=Course.FAIL, status=EnhancedStatus(5, 7, 1), why=reason)
        return self._notices.failure(message, content, [(state, course) for state in entry.recipients], now=now).changes

    # --- what happens to a copy ---

    async def accept(self, sender: str, recipient: str, content: bytes, verdict: PhiVerdict):
        self.scan.verdict = verdict
        envelope = Envelope(
            reverse_path=ReversePath(Address.parse(sender)), recipients=(Recipient(address=Address.parse(recipient)),)
        )
        return await self.acceptor.accept(ClientSession(client="ehr", listener="ehr"), envelope, content)

    async def entries(self):
        return [entry async for entry in self.store.entries(QueueFilter())]

    async def entry_to(self, recipient: str):
        """The copy's entry while it is in the queue, whichever id it has now."""
        found = [entry for entry in await self.entries() if str(entry.recipients[0].recipient.address) == recipient]
        return found[0] if found else None

    async def operate(self, operation: str, entry_id: str):
        where = Selection(ids=(entry_id,))
        return await self.operations.run(ChangeRequest(op=operation, where=where, reason="a test"), OPERATOR)

    async def attempt(self, entry) -> list[Heard]:
        """One attempt over the destination's kept connection, as a lane makes it; what the peer heard of it."""
        before = len(self.peer.heard)
        claimed = await self.store.acquire(entry.id)
        assert claimed is not None
        session = self._sessions.pop(entry.destination, None)
        session = await self.attempter(claimed, session)
        await self.attempter.finish()
        if session is not None:
            self._sessions[entry.destination] = session
        return self.peer.heard[before:]

    async def due(self) -> None:
        """Let time pass until everything that waits may be tried."""
        self.clock.now += 5.0

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


@contextlib.asynccontextmanager
async def delivering(
    behaviour: PeerBehaviour,
    tls: TlsContexts,
    policy: CompiledPolicy,
    *,
    hostname: str,
    notices_inside: Level | None,
    kind: str = "memory",
) -> AsyncIterator[Delivering]:
    """Everything up to one peer: it serves ``open.example`` by MX, ``partner.example`` by a route.

    Args:
        behaviour: of the peer.
        tls: the relay's trust.
        policy: in force at first.
        hostname: of the peer.
        notices_inside: the floor of an internal route to the sender's domain; ``None``: it is reached by MX.
        kind: of the store.
    """
    clock = ManualClock(NOW)
    async with HearingPeer(behaviour) as peer:
        names = ("open.example", "clinic.example")
        zone = {name: {"MX": [f"10 {hostname}."]} for name in names} | {hostname: {"A": ["127.0.0.1"]}}
        async with DnsServer(zone) as dns:
            routes = [Route(name="partner", domains=("partner.example",), floor=Level.CLEAR)]
            if notices_inside is not None:
                routes.append(Route(name="inside", domains=("clinic.example",), internal=True, floor=notices_inside))
            hosts = {
                route.name: HostRoute(
                    hosts=(RouteHost(host=hostname, port=peer.port),), floor=route.floor, internal=True
                )
                for route in routes
            }
            options = ConnectorOptions(
                helo="relay.clinic.example", port=peer.port, routes=hosts, deadlines=replace(PATIENT, handshake=2)
            )
            resolver = Resolver(ResolverOptions(nameservers=("127.0.0.1",), port=dns.port, timeout=20, lifetime=40))
            metrics = Observed()
            connector = SmtpConnector(options, HostFinder(resolver, LOOPBACK), tls, metrics=metrics)
            with tempfile.TemporaryDirectory() as directory:
                harness = HARNESSES[kind](Path(directory), clock, StoreOptions(reserve_bytes=0))
                it = Delivering(peer, connector, RouteTable(tuple(routes)), policy, await harness.open(), clock)
                it.clear_counts = metrics.counts
                try:
                    yield it
                finally:
                    await it.close()
                    await harness.end()
                    await resolver.close()


def named_recipients(heard: list[Heard]) -> set[str]:
    """Recipients that the pieces name."""
    return {name.decode() for piece in heard for name in _RCPT.findall(piece.octets)}


def is_held(entry) -> bool:
    return entry.state is EntryState.HELD
