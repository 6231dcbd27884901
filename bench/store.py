"""How fast each store keeps and settles, and what a claim costs behind a million waiting entries.

PYTHONPATH=. python bench/store.py [--messages N] [--waiting N]: starts a PostgreSQL of its own beside SQLite.
"""

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from relay.core.change import Note, Settle
from relay.core.fate import Fate, FateKind
from relay.core.ports import QueueStore
from relay.protect.keyring import KeyRing
from relay.protect.sealing import RingVault
from relay.store import SqliteStore, StoreOptions
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.store import PostgresStore
from tests.support.postgres import Cluster
from tests.support.queue import NOW, an_event, keeping

DELIVERED = Fate(kind=FateKind.DELIVERED, at=NOW)
VAULT = RingVault(KeyRing.create(now=time.time(), random=os.urandom), os.urandom)
OPTIONS = StoreOptions(reserve_bytes=0)
WAITING = """
    INSERT INTO messages(id, received_at, size, facts)
    SELECT 'w' || lpad(n::text, 9, '0'), 1, 5000, '\\x00' FROM generate_series(1, {n}) n;
    INSERT INTO entries(id, message_id, destination, priority, held, due_at, wake_at, tokens)
    SELECT 'w' || lpad(n::text, 9, '0') || '.0', 'w' || lpad(n::text, 9, '0'), 'd' || n % 500 || '.example', 0, 0,
           2e6 + n, 2e6 + n, '\\x00' FROM generate_series(1, {n}) n;
    INSERT INTO details(entry_id, sealed)
    SELECT 'w' || lpad(n::text, 9, '0') || '.0', '\\x00' FROM generate_series(1, {n}) n;
    INSERT INTO tally(destination, held, entries, bytes)
    SELECT destination, held, count(*), 0 FROM entries WHERE id LIKE 'w%' GROUP BY 1, 2;
    ANALYZE"""


@contextlib.asynccontextmanager
async def opened(kind: str, cluster: Cluster, name: str = "bench") -> AsyncIterator[QueueStore]:
    if kind == "sqlite":
        home = Path(tempfile.mkdtemp(prefix="bench-"))
        store: QueueStore = SqliteStore(home / "data", home / "run", VAULT, OPTIONS, lambda: NOW)
    else:
        store = PostgresStore(PostgresOptions(dsn=cluster.dsn, node=name), VAULT, OPTIONS, lambda: NOW)
    await store.open(name)
    yield store
    await store.close()


def server_seconds(cluster: Cluster) -> float:
    """CPU that the server's processes have used."""
    total = 0.0
    for pid in cluster.processes():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


async def work(stores: list[QueueStore], count: int, lanes: int, body: bytes) -> float:
    """Keep and settle ``count`` messages from ``lanes`` tasks, spread over the stores; the seconds it took."""
    numbers = iter(range(count))

    async def lane(store: QueueStore) -> None:
        for number in numbers:
            unit, entry = keeping(f"{time.time_ns()}{number:08}", content=body, leased=True, note=True)
            await store.commit(unit)
            await store.commit((Settle(entry=entry, fates={0: DELIVERED}), Note(events=(an_event("fate"),))))

    began = time.perf_counter()
    await asyncio.gather(*(lane(stores[number % len(stores)]) for number in range(lanes)))
    return time.perf_counter() - began


async def throughput(kind: str, cluster: Cluster, lanes: int, count: int) -> None:
    async with opened(kind, cluster) as store:
        body = os.urandom(5_000)
        await work([store], 200, lanes, body)
        lsn = cluster.sql("SELECT pg_current_wal_lsn()")[0][0]
        cpu, theirs = time.process_time(), server_seconds(cluster)
        took = await work([store], count, lanes, body)
        cpu, theirs = time.process_time() - cpu, server_seconds(cluster) - theirs
        wal = cluster.sql("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", (lsn,))[0][0]
    line = f"{kind:8}  {lanes:3} lanes  {count / took:6.0f} messages/s  ours {cpu / count * 1e3:.2f} ms"
    if kind == "postgres":
        line += f"  server {theirs / count * 1e3:.2f} ms  log {int(wal) / count / 1000:.1f} kB a message"
    print(line)


async def claims(cluster: Cluster, waiting: int) -> None:
    async with opened("postgres", cluster) as store:
        for number in range(2_000):
            await store.commit(keeping(f"c{number:05}", destination=f"d{number % 500}.example")[0])
        for label in ("empty", f"{waiting} waiting"):
            if label != "empty":
                await asyncio.to_thread(cluster.sql, WAITING.format(n=waiting))
            for skip in (frozenset(), frozenset({"d1.example", "d2.example"})):
                took = []
                for _ in range(20):
                    began = time.perf_counter()
                    claimed = await store.claim(now=NOW, limit=100, skip=skip)
                    took.append(time.perf_counter() - began)
                    await store.release([each.entry.id for each in claimed])
                took.sort()
                print(
                    f"claim of {len(claimed)}, {label}, {len(skip)} passed over: "
                    f"median {took[10] * 1e3:.1f} ms, worst {took[-1] * 1e3:.1f} ms"
                )
        began = time.perf_counter()
        stats = await store.stats()
        print(
            f"figures over {stats.ready + stats.deferred + stats.leased} entries: {time.perf_counter() - began:.3f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    options = parser.parse_args()
    cluster = Cluster().make().start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for lanes, share in ((1, 10), (20, 2), (100, 1)):
                for kind in ("sqlite", "postgres"):
                    runner.run(throughput(kind, cluster, lanes, options.messages // share))
            runner.run(claims(cluster, options.waiting))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
