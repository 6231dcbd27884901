"""Sends the daily reports about TLS (RFC 8460 section 5) to the domains that ask for them.

What was sent is remembered, so that a crash or a second node repeats nothing that can be known to have gone; a report
that goes twice all the same has the same id both times.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import orjson
import structlog

from relay.core.address import Address
from relay.core.errors import PosternError
from relay.core.ports import Clock, Knowledge, Known, Metrics
from relay.net.fetch import FetchError
from relay.net.resolver import Found, Resolver
from relay.net.tally import KEEP, KIND
from relay.trust.sessions import DAY, Tally, begin_of, decode_policies, write_report
from relay.trust.tlsrpt import PolicyReport, ReportError, TlsReport
from relay.trust.tlsrpt_mail import Endpoint, Letter, Mailbox, hash_of, pack, receivers, write_mail

log = structlog.get_logger("tlsrpt")

SENT: Final = "tls-reported"
MEDIA_TYPE: Final = "application/tlsrpt+gzip"
_HOUR: Final = 3600.0

Enqueue = Callable[[bytes, Address], Awaitable[None]]
"""Keeps a message of ours for a mailbox in the queue; raises ``PosternError`` when it cannot be."""
Claim = Callable[[str, float], Awaitable[bool]]
"""Whether a piece of work is this process's alone within a window of so many seconds."""


class Poster(Protocol):
    """Brings a document to a web server."""

    async def post(self, host: str, path: str, body: bytes, *, media_type: str, port: int = 0) -> None:
        """Bring it.

        Raises:
            FetchError: it was not taken.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportingOptions:
    """How we report.

    Attributes:
        sender: author of reports by mail; its domain is the submitter.
        organization, contact: who we are, and whom to ask.
        hostname: ours.
        spread: seconds after the day's end over which reports are spread (RFC 8460 section 4.1: up to four hours).
        settle: seconds after the day's end that workers have to write down their last counts.
        give_up: seconds after the day's end when a report that could not be sent is dropped.
        skip: domains that get none; ``*.x``: all below x.
    """

    sender: Address
    organization: str
    contact: str
    hostname: str
    spread: float = 4 * _HOUR
    settle: float = 900.0
    give_up: float = 24 * _HOUR
    skip: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What became of one report so far."""

    done: frozenset[str] = frozenset()
    next: float = 0.0
    over: bool = False

    def encode(self) -> bytes:
        return orjson.dumps({"done": sorted(self.done), "next": self.next, "over": self.over})

    @classmethod
    def decode(cls, known: Known | None) -> "_State":
        """What :meth:`encode` wrote; of what is damaged nothing is known, and the report may go twice."""
        try:
            plain = orjson.loads(known.value) if known is not None else {}
            return cls(
                done=frozenset(plain.get("done", ())), next=float(plain.get("next", 0)), over=bool(plain.get("over"))
            )
        except (ValueError, TypeError, AttributeError):
            return cls()


@dataclass(frozen=True, slots=True)
class _Day:
    """The counted sessions of one domain on one day."""

    day: str
    domain: str
    rows: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.day}/{self.domain}"

    @property
    def end(self) -> float:
        return begin_of(self.day) + DAY


class Reporter:
    """Sends what is due. Any number of nodes may run one over a shared store."""

    def __init__(
        self,
        options: ReportingOptions,
        *,
        knowledge: Knowledge,
        resolver: Resolver,
        poster: Poster,
        enqueue: Enqueue,
        claim: Claim,
        clock: Clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._options = options
        self._knowledge = knowledge
        self._resolver = resolver
        self._poster = poster
        self._enqueue = enqueue
        self._claim = claim
        self._clock = clock
        self._metrics = metrics

    def due_at(self, day: str, domain: str) -> float:
        """When a report is sent: after the day, at a time of its own, which all nodes agree on."""
        options = self._options
        share = hash_of(f"{options.hostname}/{domain}/{day}") / 2**64
        return begin_of(day) + DAY + options.settle + share * options.spread

    async def run(self) -> None:
        """Send every report that is due now.

        Raises:
            StoreError: what was counted cannot be read.
        """
        now = self._clock()
        for one in await self._counted():
            if now >= self.due_at(one.day, one.domain):
                await self._report(one, now)

    async def _counted(self) -> list[_Day]:
        found: dict[str, _Day] = {}
        after = ""
        while page := await self._knowledge.all_known(KIND, after=after):
            after = page[-1].name
            for known in page:
                day, domain, _ = known.name.split("/", 2)
                one = _Day(day, domain)
                found.setdefault(one.name, one).rows.append(known.name)
        return list(found.values())

    async def _report(self, one: _Day, now: float) -> None:
        state = _State.decode(await self._knowledge.known(SENT, one.name))
        if not state.over:
            if now < state.next or not await self._claim(f"{SENT}/{one.name}", _HOUR):
                return
            state = await self._send(one, state, now)
            await self._knowledge.learn(
                Known(kind=SENT, name=one.name, value=state.encode(), until=begin_of(one.day) + KEEP)
            )
        if state.over:
            for row in one.rows:
                await self._knowledge.forget(KIND, row)

    async def _send(self, one: _Day, state: _State, now: float) -> _State:
        """Send it to all who have not got it; what came of that."""
        late = now >= one.end + self._options.give_up
        if self._is_skipped(one.domain):
            return _State(over=True)
        answer = await self._resolver.lookup(f"_smtp._tls.{one.domain}", "TXT")
        if answer.found is Found.FAILED:
            return _State(done=state.done, next=now + _HOUR, over=late)
        texts = [b"".join(record.strings).decode("ascii", "replace") for record in answer.records]
        asked = receivers(texts)
        policies = await self._policies(one)
        if not asked or not policies:
            return _State(over=True)
        report = self._compose(one, policies)
        packed = pack(write_report(report))
        done = set(state.done)
        for receiver in asked:
            if str(receiver) not in done and await self._deliver(report, packed, receiver, one.domain, now):
                done.add(str(receiver))
        over = late or done >= set(map(str, asked))
        return _State(done=frozenset(done), next=now + _HOUR, over=over)

    def _is_skipped(self, domain: str) -> bool:
        parents = {f"*.{domain.split('.', depth)[depth]}" for depth in range(1, domain.count(".") + 1)}
        return not self._options.skip.isdisjoint(parents | {domain})

    async def _policies(self, one: _Day) -> tuple[PolicyReport, ...]:
        found: list[PolicyReport] = []
        for row in one.rows:
            known = await self._knowledge.known(KIND, row)
            try:
                found += decode_policies(known.value) if known is not None else ()
            except ReportError as error:
                log.error("counted sessions are damaged and left out", domain=one.domain, error=str(error))
        return Tally(found).policies()

    def _compose(self, one: _Day, policies: tuple[PolicyReport, ...]) -> TlsReport:
        options = self._options
        mark = hashlib.sha256(f"{options.hostname}/{one.name}".encode()).hexdigest()[:16]
        return TlsReport(
            organization=options.organization,
            contact=options.contact,
            report_id=f"{one.day}.{mark}@{options.sender.domain}",
            begin=one.end - DAY,
            end=one.end - 1,
            policies=policies,
        )

    async def _deliver(
        self, report: TlsReport, packed: bytes, receiver: Mailbox | Endpoint, domain: str, now: float
    ) -> bool:
        """Whether it is on its way by mail, or has been taken over HTTPS."""
        how = "mail" if isinstance(receiver, Mailbox) else "https"
        try:
            if isinstance(receiver, Mailbox):
                letter = Letter(
                    sender=self._options.sender, to=receiver.address, domain=domain, at=now,
                    hostname=self._options.hostname,
                )  # fmt: skip
                await self._enqueue(write_mail(report, packed, letter), receiver.address)
            else:
                await self._poster.post(receiver.host, receiver.path, packed, media_type=MEDIA_TYPE, port=receiver.port)
        except (PosternError, FetchError) as error:
            log.warning("a report about TLS could not be sent", domain=domain, how=how, why=str(error))
            self._count(how, "failed")
            return False
        log.info("a report about TLS was sent", domain=domain, how=how, report=report.report_id)
        self._count(how, "ok")
        return True

    def _count(self, how: str, result: str) -> None:
        if self._metrics is not None:
            self._metrics.count("postern_tls_reports_sent_total", {"how": how, "result": result})
