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
from tests.support.queue import NOW, ManualClock, MemoryHarness, SqliteHarness, keeping

ALICE = Operator(name="alice", uid=1000, pid=1)


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

    parts = Parts(store=store, clock=clock, metrics=metrics, redecide=redecide, notify=notify)
    made = Desk(store, clock, Operations(parts), metrics, harness=harness)
    yield made
    await harness.end()


def treatment(floor=Level.CLEAR, **fields):
    return replace(Treatment(rule="redone", floor=floor), **fields)
