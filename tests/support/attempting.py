"""Attempts over a memory store and made-up peers: the whole of the worker's own code, and nothing of the network."""

import itertools
from collections import deque
from dataclasses import dataclass, field

from relay.core.address import Address
from relay.core.change import Keep
from relay.core.decision import MethodName
from relay.core.entry import Claimed
from relay.core.envelope import Origin
from relay.core.level import Level, Proof
from relay.core.outcome import Failure, PeerFeatures, RecipientResult, Stage, TransactionResult, Trouble
from relay.core.ports import ConnectError, QueueFilter
from relay.core.reply import Reply
from relay.delivery.routing import RouteTable
from relay.delivery.schedule import RetryOptions
from relay.mail.dsn import DsnOptions, DsnWriter
from relay.methods.tls import TlsMethod
from relay.protect.dkim import SignerSet
from relay.store import MemoryData, MemoryStore
from relay.worker.attempt import Attempter
from relay.worker.notices import Notices
from relay.worker.outgoing import Outgoing
from relay.worker.record import Recorder
from tests.support.delivering import Observed
from tests.support.queue import BODY, ManualClock, a_message, an_entry
from tests.support.vault import FakeVault

TAKEN = Reply.of(250, "2.0.0", "Ok")
POSTMASTER = "postmaster@clinic.example"


def refusal(code, enhanced, text, *, stage=Stage.RCPT):
    return Failure(trouble=Trouble.REPLY, stage=stage, reply=Reply.of(code, enhanced, text), host="mx.example.org")


def trouble(kind, stage=Stage.CONNECT, detail=""):
    return Failure(trouble=kind, stage=stage, detail=detail, host="mx.example.org")


class FakeSession:
    """A connection that answers as it is told: ``answers`` is a result for all, or one a recipient number."""

    def __init__(self, answers=None, *, level=Level.VERIFIED, dies=False, failure="", downgraded=False, features=None):
        self.answers = answers
        self.proof = Proof(level=level, host="mx.example.org", failure=failure, downgraded=downgraded)
        self.features = features or PeerFeatures(eight_bit_mime=True)
        self.alive = True
        self.dies = dies
        self.closed = 0
        self.transactions = []

    async def transact(self, transaction):
        self.transactions.append(transaction)
        if self.dies:
            self.alive = False
        if isinstance(self.answers, Exception):
            raise self.answers
        if callable(self.answers):
            results = self.answers(transaction)
        else:
            results = tuple(self._result(number) for number, _ in transaction.recipients)
        return TransactionResult(results=results, proof=self.proof, reusable=self.alive)

    def _result(self, number):
        answer = self.answers.get(number, TAKEN) if isinstance(self.answers, dict) else self.answers or TAKEN
        if isinstance(answer, Failure):
            return RecipientResult(number=number, failure=answer)
        return RecipientResult(number=number, reply=answer)

    async def close(self):
        self.closed += 1
        self.alive = False


class FakeConnector:
    """Gives the sessions it was given, in order; a failure is raised."""

    def __init__(self):
        self.next = deque()
        self.asked = []
        self.heeded = []

    async def connect(self, destination, *, floor, tls_failures=0, heed=True):
        self.asked.append((destination, floor, tls_failures))
        self.heeded.append(heed)
        given = self.next.popleft() if self.next else FakeSession()
        if isinstance(given, Failure):
            raise ConnectError((given,))
        if isinstance(given, Exception):
            raise given
        return given


@dataclass
class FakePolicy:
    """A running policy that gives every copy one floor."""

    version: str = ""
    level: Level = Level.CLEAR
    facts: list = field(default_factory=list)

    def floor(self, facts, _recipient):
        self.facts.append(facts)
        return self.level


class ToldStore(MemoryStore):
    """A memory store that fails as it is told."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.commit_errors = deque()
        self.content_error = None
        self.units = []

    async def commit(self, unit):
        if self.commit_errors:
            raise self.commit_errors.popleft()
        await super().commit(unit)
        self.units.append(unit)

    async def content(self, message_id):
        if self.content_error is not None:
            raise self.content_error
        return await super().content(message_id)


class Attempting:
    """One worker's attempts, one at a time."""

    def __init__(self, *, methods=None, routes=(), signers=None, level=Level.CLEAR, portal=None):
        self.clock = ManualClock()
        self.data = MemoryData()
        self.store = ToldStore(FakeVault(), self.clock, None, self.data)
        self.connector = FakeConnector()
        self.metrics = Observed()
        self.policy = FakePolicy(level=level)
        self.retry = RetryOptions(first=60.0, longest=600.0, jitter=0.2)
        self.settled = 0
        self.aside = []
        self.pauses = []
        numbers = itertools.count(1)
        self.routes = RouteTable(tuple(routes))
        self.writer = DsnWriter(DsnOptions(reporting_mta="relay.clinic.example", postmaster=Address.parse(POSTMASTER)))
        self.notices = Notices(self.writer, self.routes, self.retry, lambda _: f"own{next(numbers)}")
        self.outgoing = Outgoing(signers or SignerSet(()), self.clock, self.metrics)
        self.recorder = Recorder(self.notices, self.retry, lambda: 0.5, self.metrics)
        self.attempter = Attempter(
            store=self.store,
            policy=self.policy,
            methods={MethodName.TLS: TlsMethod()} if methods is None else methods,
            connector=self.connector,
            routes=self.routes,
            outgoing=self.outgoing,
            recorder=self.recorder,
            settled=self._settled,
            clock=self.clock,
            metrics=self.metrics,
            pause=self._pause,
            portal=portal,
            set_aside=self._set_aside,
        )

    def _settled(self):
        self.settled += 1

    def _set_aside(self, claimed):
        self.aside.append(claimed.entry.id)
        self.settled += 1

    async def _pause(self, seconds):
        self.pauses.append(seconds)

    async def keep(self, *recipients, body=BODY, message=None, **entry):
        message = message or a_message("m1", recipients=recipients or ("planted-bob@example.org",), size=len(body))
        made = an_entry(message, **entry)
        await self.store.commit((Keep(message=message, content=body, entries=(made,)),))
        return made

    async def attempt(self, entry_id="m1.0", session=None, *, fresh=None):
        """One attempt; the session that goes on."""
        claimed = await self.store.acquire(entry_id)
        assert claimed is not None
        if fresh is not None:
            claimed = Claimed(entry=claimed.entry, message=claimed.message, content=fresh)
        before = self.settled
        session = await self.attempter(claimed, session)
        await self.attempter.finish()
        assert self.settled == before + 1
        return session

    async def over(self, *answers, entry_id="m1.0"):
        """One attempt over new connections that answer so."""
        self.connector.next.extend(
            one if isinstance(one, FakeSession | Exception) else FakeSession(one) for one in answers
        )
        session = await self.attempt(entry_id)
        if session is not None:
            await session.close()

    async def left(self):
        return {entry.id: entry async for entry in self.store.entries(QueueFilter())}

    async def events(self, kind=None):
        rows = await self.store.outbox(limit=1000)
        found = [event for row in rows for event in row.events]
        return [event for event in found if kind in (None, event.kind)]

    async def fates(self):
        """Fates by recipient number, from the audit trail; never two for one."""
        found = {}
        for event in await self.events("fate"):
            for number in event.facts["numbers"]:
                assert number not in found
                found[number] = event.facts["fate"]
        return found

    async def notices_kept(self):
        """Notices in the queue: (origin, entry, body)."""
        found = []
        for entry in (await self.left()).values():
            message = await self.store.message(entry.message_id)
            if message.origin is not Origin.CLIENT:
                found.append((message.origin, entry, await self.store.content(message.id)))
        return found

    def alerts(self):
        return self.metrics.counts.get("postern_alerts_total", 0)

    async def __aenter__(self):
        await self.store.open("worker")
        return self

    async def __aexit__(self, *_):
        await self.store.close()
