"""A store with messages in it, and operations over it."""

from dataclasses import dataclass, field, replace

import pytest

from relay.admin.operations import Operations, Operator, Parts, Redecision
from relay.core.change import AuditEvent, Note
from relay.core.decision import Treatment
from relay.core.entry import EntryState
from relay.core.level import Level
from relay.observe.metrics import NoMetrics
from relay.store import StoreOptions
from relay.trust.capability import Capability
from relay.trust.tlsrpt import FailureDetail, PolicyReport, TlsReport
from tests.support.queue import NOW, ManualClock, MemoryHarness, SqliteHarness, keeping

ALICE = Operator(name="alice", uid=1000, pid=1)


class FakeTls:
    """Servers of two domains; ``probed`` are those that were asked to be met."""

    def __init__(self):
        self.servers = {
            "good.example": Capability(
                domain="good.example", host="mx.good.example", best="authenticated", best_at=NOW, best_how="delivery",
                level="authenticated", seen_at=NOW, how="delivery", vouched_by="mta-sts", checked_by="PKIX",
                tls_version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", mta_sts="enforce",
            ),
            "bad.example": Capability(
                domain="bad.example", host="mx.bad.example", best="verified", best_at=NOW - 9, best_how="probe",
                level="clear", seen_at=NOW, how="probe", vouched_by="nobody", downgraded_at=NOW,
                failure="the peer does not offer <STARTTLS>",
            ),
        }  # fmt: skip
        self.probed = []

    async def known(self, destinations):
        for name, one in self.servers.items():
            if not destinations or name in destinations:
                yield one

    async def reports(self, domains):
        for number in range(3):
            policy = PolicyReport(
                kind="sts", domain="clinic.example", succeeded=1000, failed=number,
                details=(FailureDetail(result="certificate-expired", count=number, reason="<b>late</b>"),),
            )  # fmt: skip
            if not domains or "clinic.example" in domains:
                yield TlsReport(
                    organization=f"Reporter {number}", contact="", report_id=f"id-{number}", begin=NOW, end=NOW + 1,
                    policies=(policy,),
                )  # fmt: skip

    async def probe(self, destinations):
        self.probed += destinations
        return {name: "the domain does not exist" for name in destinations if name not in self.servers}


class CountingMetrics(NoMetrics):
    """Remembers what was counted."""

    def __init__(self):
        self.counted = []

    def count(self, name, labels=None, amount=1):
        self.counted.append((name, dict(labels or {}), amount))


@dataclass
class Desk:
    """An operator's desk."""

    store: object
    clock: ManualClock
    operations: Operations
    metrics: CountingMetrics
    decided: list[Treatment] = field(default_factory=list)
    notified: list[tuple] = field(default_factory=list)
    harness: MemoryHarness | None = None

    async def keep(self, name="m1", **fields):
        unit, entry = keeping(name, **fields)
        await self.store.commit(unit)
        return entry

    async def hold(self, name="m1", **fields):
        return await self.keep(name, **{"state": EntryState.HELD, "reason": "held by policy", **fields})

    async def audit(self):
        return [event for row in await self.store.outbox(limit=1000) for event in row.events]


@pytest.fixture(params=[MemoryHarness, SqliteHarness], ids=lambda harness: harness.kind)
async def desk(request, tmp_path):
    clock = ManualClock(NOW + 100)
    harness = request.param(tmp_path, clock, StoreOptions())
    store = await harness.open()
    metrics = CountingMetrics()

    async def redecide(entry, message, content):
        assert content.startswith(b"Subject")
        return [
            Redecision(state=state, treatment=treatment, destination=entry.destination)
            for state, treatment in zip(entry.recipients, made.decided, strict=False)
        ]

    def notify(message, content, entry, public, now):
        made.notified.append((message.id, content, [state.number for state in entry.recipients], public))
        return (Note(events=(AuditEvent(kind="notice", at=now, message_id=message.id),)),)

    parts = Parts(store=store, clock=clock, metrics=metrics, redecide=redecide, notify=notify, tls=FakeTls())
    made = Desk(store, clock, Operations(parts), metrics, harness=harness)
    yield made
    await harness.end()


def treatment(floor=Level.CLEAR, **fields):
    return replace(Treatment(rule="redone", floor=floor), **fields)
