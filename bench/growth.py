"""How the queue's questions grow with the queue: `bench/growth.py`, which writes results/growth.txt and growth.svg.

Asks the SQLite store what a worker, an operator and a scrape ask, with 1,000 to 1,000,000 entries waiting, and shows
SQLite's plan of every statement; then starts a whole Postern on the largest queue.
"""

import argparse
import asyncio
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import apsw
from rich.console import Console

HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from stuffed import empty, fill, stuff  # noqa: E402  after the path is set

from relay.core.address import Address  # noqa: E402
from relay.core.change import Settle  # noqa: E402
from relay.core.entry import EntryState  # noqa: E402
from relay.core.fate import Fate, FateKind  # noqa: E402
from relay.core.ports import QueueFilter  # noqa: E402
from relay.demo.site import Site  # noqa: E402
from relay.protect.keyring import KeyRing  # noqa: E402
from relay.protect.sealing import RingVault  # noqa: E402
from relay.store import SqliteStore, StoreOptions  # noqa: E402
from relay.store.codec import Codec  # noqa: E402
from relay.store.sqlite.reader import Reader  # noqa: E402
from relay.store.sqlite.schema import connect  # noqa: E402
from tests.support.queue import keeping  # noqa: E402

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS: Final = 15
DUE: Final = 100
_LATER: Final = 3600.0
_PRINT: Final = Console().print
Ask = Callable[[], Awaitable[object]]


class Bench:
    """A store with ``DUE`` entries that are due and very many that are not, and what is asked of it."""

    def __init__(self, home: Path) -> None:
        self.now = time.time()
        self.database = home / "data" / "queue.db"
        self._home = home
        self._vault = RingVault(KeyRing.create(now=self.now, random=os.urandom), os.urandom)
        self._codec = Codec(self._vault)
        self._number = 0

    async def open(self) -> None:
        options = StoreOptions(reserve_bytes=0)
        self.store = SqliteStore(self._home / "data", self._home / "run", self._vault, options, lambda: self.now)
        await self.store.open(f"bench-{time.time_ns()}")
        self.connection = connect(self.database, read_only=True)
        self.reader = Reader(self.connection)

    async def close(self) -> None:
        self.reader.close()
        self.connection.close()
        await self.store.close()

    async def keep(self, count: int) -> None:
        for _ in range(count):
            self._number += 1
            unit, _ = keeping(f"m{self._number:019}", destination=f"d{self._number % 500}.example", **self._times())
            await self.store.commit(unit)

    def _times(self) -> dict[str, float]:
        return {"created_at": self.now, "due_at": self.now - 1, "expires_at": self.now + 5 * 86_400}

    # --- the questions -----------------------------------------------------

    async def claim(self) -> None:
        claimed = await self.store.claim(now=self.now, limit=DUE)
        if len(claimed) != DUE:
            raise RuntimeError(f"{len(claimed)} entries were due")
        await self.store.release([one.entry.id for one in claimed])

    async def claim_elsewhere(self) -> None:
        claimed = await self.store.claim(now=self.now, limit=DUE // 2, skip=frozenset({"d1.example", "d2.example"}))
        await self.store.release([one.entry.id for one in claimed])

    async def claim_nothing(self) -> None:
        await self.store.claim(now=0.0, limit=DUE)

    async def retry(self) -> None:
        (claimed,) = await self.store.claim(now=self.now, limit=1)
        await self.store.commit((Settle(entry=replace(claimed.entry, attempts=1, due_at=self.now + _LATER)),))
        again = await self.store.acquire(claimed.entry.id)
        await self.store.commit((Settle(entry=replace(again.entry, due_at=self.now - 1)),))

    async def deliver(self) -> None:
        self._number += 1
        unit, entry = keeping(f"m{self._number:019}", leased=True, **self._times())
        await self.store.commit(unit)
        fate = Fate(kind=FateKind.DELIVERED, at=self.now)
        await self.store.commit((Settle(entry=entry, fates={0: fate}),))

    async def next_due(self) -> None:
        await self.store.next_due(after=self.now)

    async def stats(self) -> None:
        await self.store.stats()

    def listing(self, where: QueueFilter, after: str = "") -> Ask:
        async def ask() -> None:
            await self.reader.run(lambda: self.reader.page(where, self._codec, after, 200))

        return ask

    def questions(self) -> dict[str, Ask]:
        """By name."""
        return {
            f"claim {DUE} that are due": self.claim,
            "claim, two destinations passed over": self.claim_elsewhere,
            "claim when nothing is due": self.claim_nothing,
            "put off twice (a retry)": self.retry,
            "keep and settle (a delivery)": self.deliver,
            "the next moment something is due": self.next_due,
            "figures for a scrape": self.stats,
            "list: first page": self.listing(QueueFilter()),
            "list: a page in the middle": self.listing(QueueFilter(), after="w0000000000000000500"),
            "list: of a destination": self.listing(QueueFilter(destination="d7.example")),
            "list: of a message": self.listing(QueueFilter(message_id="w0000000000000000500")),
            "list: held": self.listing(QueueFilter(state=EntryState.HELD)),
            "list: due before now": self.listing(QueueFilter(due_before=self.now)),
            "list: of a recipient": self.listing(QueueFilter(recipient=Address.parse("nobody@d7.example"))),
        }


async def timed(ask: Ask) -> float:
    """Milliseconds, the median."""
    await ask()
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took)


class Statements:
    """What is run on any connection that is opened from now on, while it is asked to listen."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}
        self._listening = False
        apsw.connection_hooks.append(self._hook)

    def _hook(self, connection: apsw.Connection) -> None:
        connection.exec_trace = self._trace

    def _trace(self, _cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
        if self._listening:  # a list of one place stands for those of many
            self.seen.setdefault(re.sub(r"\(\?(?:,\?)+\)", "(?)", sql.strip()))
        return True

    async def plans(self, bench: Bench) -> list[str]:
        """SQLite's plan of each that looks something up."""
        self._listening = True
        for ask in bench.questions().values():
            await ask()
        self._listening = False
        lines = []
        for sql in self.seen:
            if sql.upper().startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
                steps = bench.connection.execute(f"EXPLAIN QUERY PLAN {sql}", _nothing(sql)).fetchall()
                lines += [" ".join(sql.split())[:400], *(f"    {step[3]}" for step in steps), ""]
        return lines


def _nothing(sql: str) -> tuple[None, ...]:
    """Bindings for a plan: as many as the statement has places, numbered (``?2``) or not."""
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    return (None,) * (max(numbered) if numbered else sql.count("?"))


async def start_up(count: int) -> float:
    """Seconds until a whole Postern is ready on a queue of so many entries."""
    with tempfile.TemporaryDirectory(prefix="postern-growth-") as home:
        site = Site(Path(home) / "site")
        site.prepare()
        await stuff(site, count)
        begun = time.perf_counter()
        await site.start()
        took = time.perf_counter() - begun
        await site.stop()
    return took


# --- what comes of it -----------------------------------------------------------


def table(found: dict[str, dict[int, float]], sizes: list[int]) -> list[str]:
    lines = [f"{'milliseconds, median of ' + str(ROUNDS):40}" + "".join(f"{size:>12,}" for size in sizes)]
    return lines + [f"{name:40}" + "".join(f"{by[size]:12.2f}" for size in sizes) for name, by in found.items()]


def plot(found: dict[str, dict[int, float]], sizes: list[int]) -> str:
    """Both axes logarithmic: what is flat costs the same in a long queue."""
    width, height, left, right = 900, 480, 60, 280
    low, high = -2.0, max(1.0, math.ceil(math.log10(max(max(by.values()) for by in found.values()))))

    def place(size: int, value: float) -> str:
        x = left + (math.log10(size) - math.log10(sizes[0])) / (math.log10(sizes[-1] / sizes[0]) or 1) * (
            width - left - right
        )
        y = height - 40 - (max(low, math.log10(value)) - low) / (high - low) * (height - 80)
        return f"{x:.1f},{y:.1f}"

    shape = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {shape} font-family="sans-serif" font-size="12">',
        f'<rect {shape} fill="white"/>',
    ]
    for power in range(int(low), int(high) + 1):
        (x1, y), (x2, _) = (place(size, 10.0**power).split(",") for size in (sizes[0], sizes[-1]))
        parts.append(f'<path d="M{x1},{y}H{x2}" stroke="#ddd"/><text x="4" y="{y}">{10.0**power:g} ms</text>')
    for size in sizes:
        x, y = place(size, 10.0**low).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 20}" text-anchor="middle">{size:,}</text>')
    for number, (name, by) in enumerate(found.items()):
        colour = f"hsl({number * 360 // len(found)},70%,40%)"
        points = " ".join(place(size, by[size]) for size in sizes)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{width - right + 12}" y="{30 + 18 * number}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="entries in the longest queue")
    options = parser.parse_args()
    sizes = [size for size in SIZES if size <= options.most]
    found: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory(prefix="postern-growth-") as home:
        statements, bench = Statements(), Bench(Path(home))
        await empty(Path(home) / "data", Path(home) / "run")
        filled = 0
        for size in sizes:
            fill(bench.database, filled + 1, size, bench.now + 86_400)
            filled = size
            await bench.open()
            if size == sizes[0]:
                await bench.keep(DUE)
            for name, ask in bench.questions().items():
                found.setdefault(name, {})[size] = await timed(ask)
            if size == sizes[-1]:
                shown = await statements.plans(bench)
            await bench.close()
    begun = await start_up(sizes[-1])
    lines = [
        *table(found, sizes),
        "",
        f"start-up with {sizes[-1]:,} entries: {begun:.1f} s",
        "",
        "Query plans:",
        "",
        *shown,
    ]
    results = HERE / "results"
    (results / "growth.txt").write_text("\n".join(lines) + "\n")
    (results / "growth.svg").write_text(plot(found, sizes))
    _PRINT("\n".join(lines), markup=False, highlight=False)


if __name__ == "__main__":
    asyncio.run(main())
