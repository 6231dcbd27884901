"""One attempt at one queue entry: plan, render, connect, check, sign, send, record.

An attempt never raises for what a peer, a message or a policy does. It ends in exactly one unit of work, and the entry
stays under this worker's lease until that unit is on disk.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from relay.core.decision import MethodName
from relay.core.entry import Claimed, EntryState, QueueEntry
from relay.core.envelope import Message, Origin
from relay.core.errors import CorruptError, StoreError, StoreUnavailableError
from relay.core.fate import FateKind
from relay.core.level import Level, Proof
from relay.core.outcome import Failure, RecipientResult, Stage, Transaction, Trouble
from relay.core.ports import (
    Clock,
    ConnectError,
    Connector,
    DeliverySession,
    Ended,
    Method,
    Metrics,
    PolicyEngine,
    QueueStore,
    Rendering,
    Unavailable,
)
from relay.core.returning import ReadReport
from relay.delivery import plan as planning
from relay.delivery.plan import Move, Plan
from relay.delivery.routing import RouteTable
from relay.worker import asking
from relay.worker.facts import facts_of
from relay.worker.outcomes import OutcomeWriter
from relay.worker.outgoing import Outgoing
from relay.worker.portal import Endings, Portal, ours
from relay.worker.record import Recorder, Settlement
from relay.worker.results import last, one_each, was_stale
from relay.worker.returning import Returning, asked, without
from relay.worker.unreachable import Unreachable

log = structlog.get_logger("attempt")

_ABOUT_OTHERS = frozenset({Origin.DSN, Origin.NOTICE, Origin.RECEIPT, Origin.REPLY})
"""Messages of ours that tell of somebody else's, or answer them: their floor is fixed, whatever the policy says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of sending: a result a recipient, and the proof of the connection when there was one."""

    results: tuple[RecipientResult, ...]
    proof: Proof | None = None
    asked: frozenset[int] = frozenset()
    """Whose success the peer reports where that was asked for: it was given the parameters (RFC 3461 section 5.2.1)."""

    def besides(self, left_out: tuple[RecipientResult, ...]) -> "Sent":
        """With the results of recipients that nothing was sent to."""
        return replace(self, results=(*self.results, *left_out)) if left_out else self


class Attempter:
    """Makes attempts. One object a worker; calls may run side by side.

    Args:
        store: where outcomes are recorded.
        policy: the running policy, for floors at each attempt (law 2).
        methods: the configured methods.
        connector: finds and connects to hosts.
        routes: the fixed next hops, each with a floor of its own.
        outgoing: adapts and signs what a method rendered.
        recorder: turns results into units of work.
        settled: told when an entry has left this worker's hand.
        set_aside: takes an entry that can neither be tried nor ended now, to give its lease back later; without it the
            lease lasts as long as this process.
        clock: unix seconds.
        metrics: counts.
        pause: waits for seconds, between tries to record.
        returning: the senders that copies leave under, and what is remembered of them.
        reports: reads messages to report addresses; without it they wait.
        portal: told how notices ended; ``None`` where there is no portal.
        strict_require_tls: a sender's REQUIRETLS (RFC 8689) is passed on, and a peer without it bounces the copy;
            else a peer that reached the level is enough.
    """

    def __init__(
        self,
        *,
        store: QueueStore,
        policy: PolicyEngine,
        methods: Mapping[MethodName, Method],
        connector: Connector,
        routes: RouteTable,
        outgoing: Outgoing,
        recorder: Recorder,
        settled: Callable[[], None],
        clock: Clock,
        metrics: Metrics,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        strict_require_tls: bool = True,
        returning: Returning | None = None,
        reports: ReadReport | None = None,
        portal: Portal | None = None,
        set_aside: Callable[[Claimed], None] | None = None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._methods = methods
        self._connector = connector
        self._routes = routes
        self._outgoing = outgoing
        self._recorder = recorder
        self._clock = clock
        self._metrics = metrics
        self._strict = strict_require_tls
        self._returning = returning or Returning()
        self._reports = reports
        self._unreachable = Unreachable()
        aside = set_aside or (lambda _: settled())
        self._outcomes = OutcomeWriter(store, recorder, Endings(portal, pause), settled, aside, metrics, pause)

    async def __call__(self, claimed: Claimed, session: DeliverySession | None) -> DeliverySession | None:
        """Try the entry; returns the session to go on with. See ``lanes.Attempt``."""
        started = self._clock()
        if not self._store.holds(claimed.entry.id):
            self._outcomes.give_back(claimed)
            return session
        try:
            settlement, session = await self._attempt(claimed, session, started)
        except CorruptError as error:
            settlement = self._recorder.hold(claimed, why=f"set aside: {error}", now=started, alert="corrupt")
        except StoreError as error:
            log.warning("the store failed in an attempt", message_id=claimed.message.id, error=str(error))
            if started >= claimed.entry.expires_at:  # deferred, it would be due again at once
                self._outcomes.set_aside(claimed)
                return session
            settlement = self._recorder.defer(claimed, self._local("the store failed"), now=started)
        except Exception:
            if started >= claimed.entry.expires_at:  # it would be due again at once: who called keeps it aside
                raise
            log.exception("an attempt failed inside", message_id=claimed.message.id, entry=claimed.entry.id)
            self._metrics.count("postern_alerts_total", {"kind": "attempt-failed"})
            settlement = self._recorder.defer(claimed, self._local("an error of our own"), now=started)
        self._metrics.observe("postern_attempt_seconds", self._clock() - started)
        self._outcomes.record(claimed, settlement)
        return session

    async def finish(self) -> None:
        """Wait until every outcome so far is on disk, or given up."""
        await self._outcomes.written()

    def give_up(self) -> None:
        """Leave what no store takes now to the process that claims it next; see :meth:`OutcomeWriter.give_up`."""
        self._outcomes.give_up()

    # --- the way of one attempt ------------------------------------------

    async def _attempt(
        self, claimed: Claimed, session: DeliverySession | None, now: float
    ) -> tuple[Settlement, DeliverySession | None]:
        entry = claimed.entry
        if now >= entry.expires_at:
            return self._recorder.expire(await self._readable(claimed), now=now), session
        if claimed.content is None:
            claimed = replace(claimed, content=await self._store.content(entry.message_id))
        content = claimed.content or b""
        if entry.state is EntryState.HELD:
            return self._recorder.keep_held(claimed, now=now), session
        if claimed.message.origin is Origin.RETURNED:
            return await self._read(claimed, now), session
        plan = planning.plan(entry, now=now, configured=self._methods.keys())
        if plan.move is not Move.ATTEMPT:
            return self._recorder.move(claimed, plan, now=now), session
        left_out = self._returning.left_out(claimed)
        if len(left_out) == len(entry.recipients):
            return self._conclude(claimed, plan, entry.treatment.floor, Sent(results=left_out)), session
        pause = self._recorder.meanings.brakes.until(entry.destination, now, urgent=entry.treatment.priority > 0)
        if pause is not None:
            return self._recorder.postpone(claimed, *pause, now=now), session
        known = self._unreachable.failure(entry.destination, now=now) if session is None else None
        if known is not None:
            return self._recorder.defer(claimed, known, now=now), None
        if len(entry.recipients) > 1 and not planning.is_shared_rendering(entry):
            return self._recorder.part(claimed, now=now), session
        rendering = await self._methods[plan.method].render(entry, claimed.message, content)
        if isinstance(rendering, Ended):
            return self._recorder.ended(claimed, rendering, now=now), session
        if isinstance(rendering, Unavailable):
            why, cause = rendering.reason, rendering.cause
            plan = planning.unavailable(entry, configured=self._methods.keys(), why=why, cause=cause)
            return self._recorder.move(claimed, plan, now=now), session
        floor = planning.transport_floor(
            plan.method,
            decided=entry.treatment.floor,
            running=self._running_floor(claimed, content),
            rendered=max(
                rendering.floor,
                self._routes.floor(entry.destination),
                self._required(claimed),
            ),
        )
        sent, session = await self._send(without(claimed, left_out), rendering, floor, session)
        sent = sent.besides(left_out)
        return self._conclude(claimed, plan, floor, sent, rendering.fate_on_delivery), session

    async def _read(self, claimed: Claimed, now: float) -> Settlement:
        """A message to a report address: read, not sent."""
        if self._reports is None:
            return self._recorder.defer(claimed, self._local("nobody here reads reports"), now=now)
        return self._recorder.processed(claimed, await self._reports(claimed), now=self._clock())

    async def _readable(self, claimed: Claimed) -> Claimed:
        """With its content if that can still be read: an expired entry ends also when its body is damaged or gone.

        Raises:
            StoreUnavailableError: nothing can be read now, nor recorded.
        """
        if claimed.content is not None:
            return claimed
        try:
            return replace(claimed, content=await self._store.content(claimed.entry.message_id))
        except StoreUnavailableError:
            raise
        except StoreError as error:
            log.warning("ends without its content", message_id=claimed.message.id, error=str(error))
            return claimed

    def _running_floor(self, claimed: Claimed, content: bytes) -> Level:
        """What the running policy asks of this copy now; nothing more than decided when it is the same policy.

        Our own notices ask what they always do: a verified connection, or an internal route.
        """
        entry, origin = claimed.entry, claimed.message.origin
        if origin in _ABOUT_OTHERS:  # the route that was internal when it was written may be so no more
            return Level.CLEAR if self._goes_inside(entry) else Level.VERIFIED
        if origin is not Origin.CLIENT or entry.treatment.policy_version == self._policy.version:
            return Level.CLEAR
        facts = facts_of(claimed.message, content)
        return max(self._policy.floor(facts, state.recipient.address) for state in entry.recipients)

    def _required(self, claimed: Claimed) -> Level:
        """What REQUIRETLS asks for (RFC 8689 section 4.2.1); of our own notices only where they leave the house."""
        if not claimed.message.envelope.require_tls:
            return Level.CLEAR
        own = claimed.message.origin in _ABOUT_OTHERS
        return Level.CLEAR if own and self._goes_inside(claimed.entry) else Level.AUTHENTICATED

    def _goes_inside(self, entry: QueueEntry) -> bool:
        route = self._routes.route_of(entry.destination)
        return route is not None and route.internal

    async def _send(
        self, claimed: Claimed, rendering: Rendering, floor: Level, session: DeliverySession | None
    ) -> tuple[Sent, DeliverySession | None]:
        """Send over the lane's session if it is good enough, else over a new one; again if a kept one was stale."""
        kept = session is not None and _serves(session, floor)
        passes_over = claimed.entry.treatment.passes_over and not claimed.message.envelope.require_tls
        if session is not None and not kept:
            await session.close()
            session = None
        if session is None:
            try:
                session = await self._connect(claimed, floor, heed=not passes_over)
            except ConnectError as error:
                return Sent(results=self._all(claimed, last(error))), None
        try:
            sent = await self._transact(claimed, rendering, floor, session)
        except BaseException:
            await session.close()  # it may stand anywhere in a transaction: nothing else may go over it
            raise
        if kept and not session.alive and was_stale(sent.results):
            await session.close()
            return await self._send(claimed, rendering, floor, None)
        if not session.alive or (passes_over and not kept):
            await session.close()  # where nothing published was heeded, no other copy may follow
            return sent, None
        return sent, session

    async def _connect(self, claimed: Claimed, floor: Level, *, heed: bool) -> DeliverySession:
        destination, started = claimed.entry.destination, self._clock()
        try:
            session = await self._connector.connect(
                destination, floor=floor, tls_failures=claimed.entry.tls_failures, heed=heed
            )
        except ConnectError as error:
            self._unreachable.learn(destination, last(error), started=started, now=self._clock())
            self._metrics.count("postern_delivery_connections_total", {"result": "failed"})
            raise
        self._metrics.count("postern_delivery_connections_total", {"result": "ok"})
        return session

    async def _transact(self, claimed: Claimed, rendering: Rendering, floor: Level, session: DeliverySession) -> Sent:
        message, entry = claimed.message, claimed.entry
        if rendering.own:
            claimed = ours(claimed)
            entry = claimed.entry
        await asyncio.sleep(0)  # stage by stage (docs/architecture.md)
        prepared = await self._outgoing.prepare(message, entry, rendering.content, session.features)
        await asyncio.sleep(0)
        if isinstance(prepared, Failure):
            return Sent(results=self._all(claimed, prepared), proof=session.proof)
        results: list[RecipientResult] = []
        used: set[int] = set()
        for sender, states in self._returning.senders(claimed, self._clock()):
            if results and not session.alive:
                break  # who was not reached is tried again
            signed = session.features.dsn and sender != str(message.envelope.reverse_path)
            transaction = Transaction(
                reverse_path_text=sender,
                recipients=tuple(
                    (state.number, asked(state.recipient) if signed else state.recipient) for state in states
                ),
                content=prepared.content,
                floor=floor,
                body_8bit=prepared.body_8bit,
                smtputf8=prepared.smtputf8,
                require_tls=message.envelope.require_tls and (self._insists(message) or session.features.require_tls),
                envelope_id=message.envelope.envelope_id,
                ret="HDRS" if signed else message.envelope.ret,
                fence=lambda: self._store.holds(entry.id),
            )
            found, with_dsn = await asking.transact(session, transaction)
            results += found
            used |= with_dsn
        return Sent(results=tuple(results), proof=session.proof, asked=frozenset(used))

    def _insists(self, message: Message) -> bool:
        """Whether a peer that does not know REQUIRETLS fails the copy.

        Not where the operator is content with the level, nor of what has no sender to hear of it (RFC 8689 section 5).
        """
        return self._strict and not message.envelope.reverse_path.is_null

    def _conclude(
        self, claimed: Claimed, plan: Plan, floor: Level, sent: Sent, delivered_as: FateKind = FateKind.DELIVERED
    ) -> Settlement:
        now = self._clock()
        results = one_each(claimed, sent.results)
        settlement = self._recorder.conclude(
            claimed, method=plan.method, floor=floor, results=results, proof=sent.proof, now=now, taken_as=delivered_as
        )
        asked_of = sent.asked if delivered_as is not FateKind.NOTIFIED else frozenset()
        settlement = self._recorder.relayed(claimed, settlement, asked_of, now=now)
        delivered = [result.number for result in results if result.delivered]
        memo = self._returning.memo(claimed, delivered, sent.proof.host if sent.proof else "", now)
        return settlement if memo is None else replace(settlement, unit=(*settlement.unit, memo))

    @staticmethod
    def _all(claimed: Claimed, failure: Failure) -> tuple[RecipientResult, ...]:
        return tuple(RecipientResult(number=state.number, failure=failure) for state in claimed.entry.recipients)

    @staticmethod
    def _local(detail: str) -> Failure:
        return Failure(trouble=Trouble.LOCAL, stage=Stage.PLAN, detail=detail)


def _serves(session: DeliverySession, floor: Level) -> bool:
    """Whether a lane's session is good enough for another copy.

    One that went clear because its handshake failed is not: each copy is deferred once before it may do so. One whose
    peer never offered TLS is: a new connection would come to the same.
    """
    return session.alive and session.proof.level >= floor and not session.proof.downgraded
