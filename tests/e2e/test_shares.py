"""Limits by destination are divided over the nodes that serve, anew as they come, are drained and go."""

from dataclasses import replace

import pytest

from relay.app import queue
from relay.store import StoreOptions
from relay.store.postgres.store import PostgresStore
from tests.support.composed import composed, until
from tests.support.postgres import shared
from tests.support.queue import ManualClock
from tests.support.system import domain
from tests.support.tables import Tables
from tests.support.vault import FakeVault

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]
LIMITS = {"node": "alpha", "delivery": {"concurrency_per_destination": 6, "rate_per_destination": 120}}


def share(it):
    """Connections to a destination, and messages a second, that the worker allows itself."""
    worker = it.worker
    return worker._dispatcher._options.lane("mail.example").concurrency, worker._pacer._default.per_second


async def test_a_worker_takes_its_share_of_limits_as_nodes_come_and_go(tmp_path, monkeypatch):
    usual = queue.postgres_options
    monkeypatch.setattr(queue, "postgres_options", lambda settings: replace(usual(settings), beat=0.1))
    url = shared().database()
    async with composed(tmp_path, domain("mail.example"), store=url, settings=LIMITS) as it:
        assert share(it) == (6, 2.0)
        options = queue.postgres_options(it.worker._life.settings)
        others = []
        for name, expected in (("beta", (3, 1.0)), ("gamma", (2, 2 / 3))):
            other = PostgresStore(replace(options, node=name), FakeVault(), StoreOptions(), ManualClock())
            await other.open(f"{name}-1")
            others.append(other)
            await until(lambda expected=expected: share(it) == expected)
        with Tables(tmp_path, url) as tables:
            tables.run("UPDATE nodes SET draining = true WHERE name = 'gamma'")
        await until(lambda: share(it) == (3, 1.0))
        for other in others:
            await other.close()
        await until(lambda: share(it) == (6, 2.0))
        assert it.log().count("limits shared anew") == 4
    shared().drop(url)
