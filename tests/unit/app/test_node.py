"""A worker follows what operators say of its node, and a turn that failed is tried again."""

import asyncio

import pytest

from relay.app.node import NodeSwitch
from relay.core.errors import Problem, ProblemsError
from relay.store import SqliteStore, StoreOptions
from tests.support.queue import ManualClock
from tests.support.vault import FakeVault


class Switched:
    def __init__(self, monkeypatch, directory):
        self.draining = False
        self.faults = 0
        self.turns = asyncio.Queue()
        monkeypatch.setattr("relay.app.node.node_is_draining", lambda _store: self.draining)
        store = SqliteStore(directory, directory, FakeVault(), StoreOptions(), ManualClock())  # never opened
        self.switch = NodeSwitch(store, self.serve, self.cease, again=0.0)

    async def serve(self):
        if self.faults:
            self.faults -= 1
            self.turns.put_nowait("failed")
            raise ProblemsError(Problem(where="listener", what="cannot listen"))
        self.turns.put_nowait("serves")

    async def cease(self):
        self.turns.put_nowait("ceased")

    def told(self, *, draining):
        self.draining = draining
        self.switch._heard(draining)


@pytest.fixture
def it(monkeypatch, tmp_path):
    return Switched(monkeypatch, tmp_path)


async def test_it_serves_and_ceases_as_told(it):
    await it.switch.start()
    assert await it.turns.get() == "serves"
    it.told(draining=True)
    assert await it.turns.get() == "ceased"
    it.told(draining=False)
    assert await it.turns.get() == "serves"
    await it.switch.stop()
    assert await it.turns.get() == "ceased"
    assert not it.switch.is_on


async def test_a_resume_that_fails_is_tried_until_it_works(it):
    it.draining = True
    await it.switch.start()
    it.faults = 2
    it.told(draining=False)
    assert [await it.turns.get() for _ in range(3)] == ["failed", "failed", "serves"]
    await it.switch.stop()
    assert await it.turns.get() == "ceased"


async def test_a_start_that_fails_is_told_to_who_started_it(it):
    it.faults = 1
    with pytest.raises(ProblemsError):
        await it.switch.start()
    assert not it.switch.is_on
    await it.switch.stop()
