"""The whole way through SMTP with either store, on one machine, the database's server included.

PYTHONPATH=. python bench/stores.py [--messages N] [--rounds N] [--workers N]: starts a PostgreSQL of its own. Rounds
alternate, so that what else the machine does befalls both; figures are medians. CPU counts supervisor, workers, helper,
admin process and, with PostgreSQL, every process of the server; not the load, nor the peer.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relay.demo.site import Site
from tests.support.load import Load
from tests.support.postgres import Cluster
from tests.support.system import children, domain, system

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figures:
    """Messages a second, from the first accepted to the last delivered, and CPU seconds a message."""

    rate: float
    ours: float
    server: float


def cpu_of(pids: Iterable[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def ours_of(site: Site) -> list[int]:
    return [site.process.pid, *(pid for pids in children(site).values() for pid in pids)]


async def run(store: str, cluster: Cluster, messages: int, workers: int) -> Figures:
    """One round: a fresh site, a warm-up, then the load."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        async with system(Path(home), domain("mail.example"), store=store, workers=workers, dkim=("rsa",)) as (
            site,
            net,
        ):
            peer = net.peers["mail.example"]
            warm = Load(*site.relay, sessions=8)
            await warm.run(200)
            await peer.wait_messages(200, timeout=120)
            before = cpu_of(ours_of(site)), cpu_of(cluster.processes())
            began = time.perf_counter()
            load = Load(*site.relay, sessions=8)
            await load.run(messages)
            await peer.wait_messages(200 + messages, timeout=600)
            took = time.perf_counter() - began
            ours, server = cpu_of(ours_of(site)) - before[0], cpu_of(cluster.processes()) - before[1]
            return Figures(messages / took, ours / messages, 0.0 if store == "sqlite" else server / messages)


async def measure(options: argparse.Namespace, cluster: Cluster) -> None:
    found: dict[str, list[Figures]] = {"sqlite": [], "postgresql": []}
    for _ in range(options.rounds):
        for kind, figures in found.items():
            store = "sqlite" if kind == "sqlite" else cluster.database()
            figures.append(await run(store, cluster, options.messages, options.workers))
    rates, costs = {}, {}
    for kind, figures in found.items():
        rates[kind] = statistics.median(one.rate for one in figures)
        costs[kind] = statistics.median(one.ours + one.server for one in figures)
        server = statistics.median(one.server for one in figures)
        print(
            f"{kind:10}  {rates[kind]:6.0f} messages/s  CPU {costs[kind] * 1e3:.2f} ms a message"
            f" (server {server * 1e3:.2f} ms)  rounds: {', '.join(f'{one.rate:.0f}' for one in figures)}"
        )
    print(
        f"PostgreSQL carries {rates['postgresql'] / rates['sqlite']:.2f} of SQLite's messages a second, "
        f"for {costs['postgresql'] / costs['sqlite']:.2f} of its CPU"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    cluster = Cluster().make().start()
    try:
        asyncio.run(measure(options, cluster))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
