"""Random histories of two processes on one queue, checked step by step against a model of a few lines."""

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from relay.core.change import Keep, Settle
from relay.core.entry import EntryState
from relay.core.errors import StoreError
from relay.core.fate import Fate, FateKind
from relay.core.ports import QueueFilter
from relay.store import StoreOptions
from tests.support.queue import BODY, HARNESSES, KINDS, NOW, ManualClock, a_message, an_entry

WHO = st.integers(0, 1)
TIMES = st.sampled_from([NOW - 5, NOW, NOW + 5, NOW + 50])
STATES = st.sampled_from(EntryState)
PEOPLE = ("a@example.org", "b@example.org", "c@example.net")


class QueueMachine(RuleBasedStateMachine):
    """``self.model`` maps an entry's id to (entry, number of the process that leases it or ``None``)."""

    kind = "memory"
    base: Path

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(dir=self.base))
        options = StoreOptions(reserve_bytes=0)
        self.harness = HARNESSES[self.kind](self.directory, ManualClock(), options)
        self.stores = [self.run(self.harness.open()) for _ in range(2)]
        self.model = {}
        self.made = 0

    def run(self, coroutine):
        return self.runner.run(coroutine)

    def teardown(self):
        self.run(self.harness.end())
        self.runner.close()
        shutil.rmtree(self.directory)

    def pick(self, choice):
        return sorted(self.model)[choice % len(self.model)]

    @rule(who=WHO, due=TIMES, state=STATES, priority=st.integers(-1, 1), warn=st.none() | TIMES, leased=st.booleans())
    def keep(self, who, due, state, priority, warn, leased):
        self.made += 1
        message = a_message(f"m{self.made:03}", recipients=PEOPLE)
        entries = tuple(
            an_entry(message, n, numbers=numbers, due_at=due, state=state, priority=priority, warn_at=warn)
            for n, numbers in enumerate([[0, 1], [2]])
        )
        mine = frozenset(entry.id for entry in entries if leased)
        self.run(self.stores[who].commit((Keep(message=message, content=BODY, entries=entries, leased=mine),)))
        self.model |= {entry.id: (entry, who if leased else None) for entry in entries}

    @rule(who=WHO, now=TIMES, limit=st.integers(1, 4))
    def claim(self, who, now, limit):
        def wake(entry):
            ready = [entry.due_at] if entry.state is EntryState.READY else []
            return min([*ready, entry.expires_at, *([] if entry.warn_at is None else [entry.warn_at])])

        free = [entry for entry, holder in self.model.values() if holder is None and wake(entry) <= now]
        free.sort(key=lambda entry: (-entry.treatment.priority, wake(entry), entry.id))
        claimed = [each.entry for each in self.run(self.stores[who].claim(now=now, limit=limit))]
        assert claimed == free[:limit]
        self.model |= {entry.id: (entry, who) for entry in claimed}

    @precondition(lambda self: self.model)
    @rule(who=WHO, choice=st.integers(0, 99), due=TIMES, state=STATES, keep_lease=st.booleans(), fence=st.booleans())
    def requeue(self, who, choice, due, state, keep_lease, fence):
        entry, holder = self.model[self.pick(choice)]
        new = replace(entry, due_at=due, state=state, attempts=entry.attempts + 1, reason="again")
        if self.settle(who, holder, Settle(entry=new, keep_lease=keep_lease, fence=fence)):
            self.model[entry.id] = (new, holder if keep_lease else None)

    @precondition(lambda self: self.model)
    @rule(who=WHO, choice=st.integers(0, 99), split=st.booleans())
    def finish_one(self, who, choice, split):
        entry, holder = self.model[self.pick(choice)]
        first, rest = entry.recipients[0], entry.recipients[1:]
        self.made += 1
        moved = (replace(entry, id=f"{entry.message_id}.{self.made}", recipients=(first,)),) if split else ()
        fates = {} if split else {first.number: Fate(kind=FateKind.DELIVERED, at=NOW)}
        new = replace(entry, recipients=rest)
        if self.settle(who, holder, Settle(entry=new, fates=fates, split=moved)):
            del self.model[entry.id]
            self.model |= {each.id: (each, None) for each in moved}
            if rest:
                self.model[entry.id] = (new, None)

    def settle(self, who, holder, change):
        try:
            self.run(self.stores[who].commit((change,)))
        except StoreError:
            assert change.fence
            assert holder != who
            return False
        assert not change.fence or holder == who
        return True

    @precondition(lambda self: self.model)
    @rule(who=WHO, choice=st.integers(0, 99))
    def acquire(self, who, choice):
        entry, holder = self.model[self.pick(choice)]
        claimed = self.run(self.stores[who].acquire(entry.id))
        assert (claimed is None) == (holder is not None)
        if claimed is not None:
            self.model[entry.id] = (entry, who)

    @precondition(lambda self: self.model)
    @rule(who=WHO, choice=st.integers(0, 99))
    def release(self, who, choice):
        entry, holder = self.model[self.pick(choice)]
        self.run(self.stores[who].release([entry.id]))
        self.model[entry.id] = (entry, None if holder == who else holder)

    @rule(who=WHO, killed=st.booleans())
    def restart(self, who, killed):
        self.run(self.harness.die(self.stores[who]) if killed else self.harness.close(self.stores[who]))
        self.stores[who] = self.run(self.harness.open())
        for key, (entry, holder) in self.model.items():
            self.model[key] = (entry, None if holder == who else holder)

    @invariant()
    def the_store_holds_what_the_model_holds(self):
        async def look(store):
            return [entry async for entry in store.entries(QueueFilter(), page=3)], await store.stats()

        for store in self.stores:
            entries, stats = self.run(look(store))
            assert entries == [self.model[key][0] for key in sorted(self.model)]
            assert stats.ready + stats.deferred + stats.held + stats.leased == len(self.model)
            assert stats.leased == sum(1 for _, holder in self.model.values() if holder is not None)
            assert stats.bytes == len(BODY) * len({entry.message_id for entry in entries})
            assert sum(count for _, count in stats.destinations) == len(self.model)


@pytest.mark.parametrize("kind", KINDS)
def test_random_histories_agree_with_the_model(kind, tmp_path):
    machine = type("Machine", (QueueMachine,), {"kind": kind, "base": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8 if kind == "postgres" else 25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
