"""The portal's ledger over deposits in memory, with a clock that tests set."""

from relay.core.address import Address
from relay.mail.notice import NoticeOptions, NoticeWriter
from relay.methods.notice import load_texts
from relay.portal.ledger import Ledger
from relay.portal.sweep import Sweeper, SweepOptions
from tests.support.portal import MemoryDeposits, a_deposit

NOW = 1_772_442_000.0
DAY = 86_400.0
WRITER = NoticeWriter(
    NoticeOptions(
        origin="https://secure.clinic.example", mail_from=Address.parse("secure@clinic.example"), texts=load_texts()
    )
)


class Gauges:
    def __init__(self):
        self.counted = []

    def count(self, name, labels=None, amount=1):
        self.counted.append(dict(labels or {}).get("event"))


class Bench:
    def __init__(self):
        self.now = NOW
        self.metrics = Gauges()
        self.deposits = MemoryDeposits(now=self.clock)
        self._random = 0
        self.ledger = Ledger(
            self.deposits, WRITER, clock=self.clock, entropy=self._entropy, metrics=self.metrics
        )  # fmt: skip
        self.forgotten = 0

    def clock(self):
        return self.now

    def _entropy(self, count):
        self._random += 1
        return self._random.to_bytes(count, "big")

    def sweeper(self, **options):
        async def forget():
            self.forgotten += 1

        return Sweeper(
            self.deposits, self.ledger, forget=forget, options=SweepOptions(**options), clock=self.clock,
        )  # fmt: skip

    async def make(self, number=0, **changes):
        return await self.deposits.deposit(a_deposit(number, **({"receipts": True} | changes)), b"HbA1c 8.1 %")

    @property
    def posts(self):
        return [post for item in self.deposits.outbox for post in item.posts]

    @property
    def events(self):
        return [event for item in self.deposits.outbox for event in item.events]

    def fates(self, number=0):
        return [
            event.facts["fate"]
            for event in self.events
            if event.kind == "fate" and event.facts["numbers"] == [number]
        ]  # fmt: skip

    def happened(self):
        return [event.facts["event"] for event in self.events if event.kind == "portal"]
