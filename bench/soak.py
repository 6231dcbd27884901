"""Whether Postern stays as it is over a long time of load and trouble: `bench/soak.py`.

    .venv/bin/python bench/soak.py [--minutes 30] [--messages 300000] [--every 20] [--store sqlite|postgres]

A whole installation with the default policy takes messages at an even rate. Every so many seconds one of these happens
in turn: a reload, a new version of the sealing key, a spell in which DNS fails, a worker that is killed. What each
process holds in memory is written down all the while. It is always the last worker that is killed: the others live
through, and show whether memory grows. Writes results/soak-DATE.json; ends with 1 if a message was lost, or came twice
without a cause.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import itertools
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from measure import pss  # noqa: E402  after the path is set
from messages import Kind, message, recipients  # noqa: E402
from report import RESULTS  # noqa: E402

from relay.config.keyfiles import load_ring  # noqa: E402
from relay.demo.dns import Trouble  # noqa: E402
from relay.observe.trail import show  # noqa: E402
from relay.protect.sealing import RingVault  # noqa: E402
from tests.faults.harness import explained  # noqa: E402
from tests.support.load import Load, tokens_in  # noqa: E402
from tests.support.system import children, domain, drained, end, system, until  # noqa: E402

KIND: Final = Kind(size=2048, domains=4)
SESSIONS: Final = 8
SETTINGS: Final[dict[str, Any]] = {
    "delivery": {"retry": {"first": "1s", "max": "5s"}},
    "dns": {"min_ttl": "1s", "max_ttl": "2s", "failure_ttl": "1s"},
    "process": {"restart_pause": "0s"},
}
_ENOUGH: Final = 10
"""Samples of a process below which nothing is said of its growth."""
_AFTERWARDS: Final = 600.0
"""Seconds for the last message to arrive and the queue to empty."""


def content(token: int, _: str) -> bytes:
    """A message of the benchmark that can be told from all others where it arrives."""
    return message(token, KIND) + b"token-%d-end\r\n" % token


@dataclass
class Paced(Load):
    """A load that begins each message at its time; what is late is made up for.

    Attributes:
        rate: messages a second.
    """

    rate: float = 1.0

    def start(self) -> None:
        self._begun = time.monotonic()
        super().start()

    async def _send(self, token: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._begun + token / self.rate - time.monotonic())
        await super()._send(token, reader, writer)


@dataclass
class Arrivals:
    """When each message arrived; its text is not kept, nor what else the recipients' servers remember."""

    internet: Any
    times: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def collect(self) -> None:
        """Take over what came since the last time."""
        for peer in self.internet.peers.values():
            for taken in peer.messages:
                for token in tokens_in(taken.content):
                    self.times[token].append(taken.at)
            for kept in (peer.messages, peer.commands, peer.transcript):
                kept.clear()
        self.internet.dns.queries.clear()

    async def keep_collecting(self) -> None:
        """Once a second, until cancelled."""
        while True:
            self.collect()
            await asyncio.sleep(1)


@dataclass
class Memory:
    """What each process held, over time: (seconds since the start, name to (pid, MB))."""

    site: Any
    every: float
    samples: list[tuple[float, dict[str, tuple[int, float]]]] = field(default_factory=list)

    async def keep_looking(self) -> None:
        """Until cancelled."""
        begun = time.monotonic()
        while True:
            self.samples.append((time.monotonic() - begun, self._look()))
            await asyncio.sleep(self.every)

    def _look(self) -> dict[str, tuple[int, float]]:
        titled = {title: numbers for title, numbers in children(self.site).items() if title.startswith("postern: ")}
        pids = {title: numbers[0] for title, numbers in titled.items() if len(numbers) == 1}
        pids["supervisor"] = self.site.process.pid
        found = {}
        for title, pid in pids.items():
            with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
                found[title.removeprefix("postern: ")] = (pid, round(pss(pid), 2))
        return found

    def of_processes(self, warm: float) -> list[dict[str, Any]]:
        """Each process with enough samples after ``warm`` seconds: its memory and how fast that grows."""
        series: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
        for at, found in self.samples:
            if at >= warm:
                for name, (pid, megabytes) in found.items():
                    series[name, pid].append((at, megabytes))
        return [
            {
                "process": name, "pid": pid, "from_s": round(points[0][0]), "until_s": round(points[-1][0]),
                "first_mb": points[0][1], "last_mb": points[-1][1], "peak_mb": max(mb for _, mb in points),
                "slope_mb_per_hour": slope(points),
            }
            for (name, pid), points in sorted(series.items()) if len(points) >= _ENOUGH
        ]  # fmt: skip

    def of_survivors(self, warm: float) -> list[tuple[float, float]]:
        """The sum of the processes that lived through, after ``warm`` seconds."""
        samples = [
            (at, {(name, pid): mb for name, (pid, mb) in found.items()}) for at, found in self.samples if at >= warm
        ]
        lived = set.intersection(*[set(found) for _, found in samples]) if samples else set()
        return [(at, sum(found[one] for one in lived)) for at, found in samples]


def slope(points: list[tuple[float, float]]) -> float:
    """MB an hour, by least squares; 0 for fewer than two moments."""
    seconds, megabytes = zip(*points, strict=True) if points else ((), ())
    if len(set(seconds)) < 2:
        return 0.0
    return round(statistics.linear_regression(seconds, megabytes).slope * 3600, 2)


# --- what happens meanwhile ---------------------------------------------------


class Troubles:
    """One after the other, evenly, until cancelled; remembers when each began and ended."""

    def __init__(self, site: Any, internet: Any, every: float) -> None:
        self._site, self._internet, self._every = site, internet, every
        self._dns = itertools.cycle((Trouble.SERVFAIL, Trouble.TIMEOUT, Trouble.REFUSED))
        self.struck: list[tuple[str, float, float]] = []

    async def strike(self) -> None:
        kinds = (self.reload, self.rotate, self.break_dns, self.kill_worker)
        for kind in itertools.cycle(kinds):
            await asyncio.sleep(self._every)
            began = time.time()
            try:
                await kind()
            finally:
                self.struck.append((kind.__name__, began, time.time()))

    async def reload(self) -> None:
        self._site.process.send_signal(signal.SIGHUP)

    async def rotate(self) -> None:
        await asyncio.to_thread(self._site.postern, "keys", "rotate")
        await self.reload()

    async def break_dns(self) -> None:
        """No domain is found for a while; sessions that are open to the recipients' servers break."""
        names = [one.name for one in self._internet.domains]
        for name in names:
            self._internet.dns.set(name, next(self._dns))
            for task in tuple(self._internet.peers[name]._tasks):  # noqa: SLF001  as a network that breaks does
                task.cancel()
        try:
            await asyncio.sleep(min(5.0, self._every / 3))
        finally:  # it may be the end of all that breaks this off
            for name in names:
                self._internet.dns.set(name, {"MX": [f"10 {self._internet.peers[name].behaviour.hostname}."]})

    async def kill_worker(self) -> None:
        victim = max((title, pids[0]) for title, pids in children(self._site).items() if "worker" in title)
        os.kill(victim[1], signal.SIGKILL)
        await until(lambda: children(self._site).get(victim[0], [victim[1]]) != [victim[1]])

    def that_repeat(self) -> list[tuple[str, float, float]]:
        """Those that may keep a 250 of a recipient's server from being written down."""
        return [one for one in self.struck if one[0] in {"break_dns", "kill_worker"}]


@contextlib.asynccontextmanager
async def meanwhile(*what: Callable[[], Any]) -> AsyncIterator[None]:
    """Run these beside the block; the first that fails ends it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for one in what]
        yield
        for task in tasks:
            task.cancel()


# --- the account ----------------------------------------------------------------


def fates(site: Any) -> Counter:
    """Fates to the number of messages that ended so; read record by record, for there are very many."""
    ends: dict[str, list[str]] = {}
    vault = RingVault(load_ring(site.directory / "keys"), os.urandom)
    for record in show(site.directory / "data" / "audit", vault=vault):
        if record["kind"] == "accepted":
            ends.setdefault(record["message_id"], [])
        elif record["kind"] == "fate":
            ends.setdefault(record["message_id"], []).append(record["facts"]["fate"])
    return Counter(",".join(one) or "none" for one in ends.values())


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """What ``store`` says in the configuration."""
    if kind == "sqlite":
        yield kind
        return
    from tests.support.postgres import Cluster  # noqa: PLC0415  where it is asked for

    cluster = Cluster().make().start()
    try:
        yield cluster.dsn
    finally:
        cluster.remove()


async def soak(options: argparse.Namespace, directory: Path, store: str) -> dict[str, Any]:
    """The whole of it; what came of it."""
    domains = [domain(f"mail{number}.example") for number in range(KIND.domains)]
    site_options = {"policy": None, "workers": options.workers, "store": store, "settings": SETTINGS, "dkim": ("rsa",)}
    async with system(directory, *domains, **site_options) as (site, internet):
        arrivals, memory = Arrivals(internet), Memory(site, max(1.0, options.minutes * 60 / 360))
        troubles = Troubles(site, internet, options.every)
        rate = options.messages / options.minutes / 60
        load = Paced(
            *site.relay,
            recipient=lambda token: recipients(token, KIND)[0],
            sessions=SESSIONS,
            message=content,
            rate=rate,
        )
        began = time.monotonic()
        async with meanwhile(arrivals.keep_collecting, memory.keep_looking, troubles.strike):
            load.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(options.minutes * 60 * options.patience):
                    await load.wait_promised(options.messages)
            took = time.monotonic() - began
            await load.stop()
        with contextlib.suppress(TimeoutError):
            await until(lambda: arrivals.collect() or load.promised.keys() <= arrivals.times.keys(), _AFTERWARDS, 0.5)
        await drained(site, _AFTERWARDS)
        arrivals.collect()
        await end(site)
        return account(load, arrivals.times, troubles, memory, took) | {"fates": dict(fates(site))}


def account(
    load: Load, times: dict[int, list[float]], troubles: Troubles, memory: Memory, took: float
) -> dict[str, Any]:
    """What is written to the results."""
    repeated = {token: sorted(at) for token, at in times.items() if len(at) > 1}
    spans = troubles.that_repeat()
    warm = took / 4
    return {
        "minutes": round(took / 60, 2),
        "promised": len(load.promised),
        "messages_per_second": round(len(load.promised) / took, 1),
        "unanswered": len(load.unanswered),
        "refused": {str(code): count for code, count in load.refused.items()},
        "lost": sorted(load.promised.keys() - times.keys()),
        "repeated": len(repeated),
        "unexplained": sorted(token for token, at in repeated.items() if not explained(at, spans)),
        "troubles": dict(Counter(name for name, _, _ in troubles.struck)),
        "warm_up_s": round(warm),
        "slope_mb_per_hour": slope(memory.of_survivors(warm)),
        "processes": memory.of_processes(warm),
        "memory_mb": [
            {"s": round(at), **{name: megabytes for name, (_, megabytes) in found.items()}}
            for at, found in memory.samples
        ],
    }


def tell(result: dict[str, Any]) -> str:
    """A line for the terminal, and one for each process that lived through."""
    whole = (
        f"{result['promised']} messages in {result['minutes']} minutes; {result['troubles']}; "
        f"lost {len(result['lost'])}; twice {result['repeated']}, unexplained {len(result['unexplained'])}; "
        f"ends {result['fates']}; the processes that lived through: {result['slope_mb_per_hour']:+} MB an hour "
        f"after {result['warm_up_s']} s"
    )
    lines = [
        f"  {one['process']}: {one['first_mb']} MB, then {one['last_mb']} MB; {one['slope_mb_per_hour']:+} MB an hour "
        f"from {one['from_s']} to {one['until_s']} s"
        for one in result["processes"]
    ]
    return "\n".join([whole, *lines])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--every", type=float, default=20, help="seconds between two troubles")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--patience", type=float, default=2, help="times the minutes, until the load is given up")
    parser.add_argument("--no-results", action="store_true", help="write no file")
    return parser.parse_args()


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="postern-soak-") as directory, database(options.store) as store:
        os.chmod(directory, 0o755)  # noqa: PTH101  the helper, which is another user, reads the configuration
        result = asyncio.run(soak(options, Path(directory), store))
    machine = f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    asked = {name: getattr(options, name) for name in ("minutes", "messages", "every", "workers", "store")}
    print(tell(result))
    if not options.no_results:
        path = RESULTS / f"soak-{dt.datetime.now(dt.UTC).date()}.json"
        path.write_text(json.dumps({"machine": machine, "asked": asked, **result}, indent=1) + "\n")
        print(f"written: {path}")
    whole = result["promised"] >= options.messages and set(result["fates"]) == {"delivered"}
    if result["lost"] or result["unexplained"] or not whole:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
