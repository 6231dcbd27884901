"""Postern and the relays that operators would use instead, side by side on this machine: `make bench`, bench/README.md.

bench/run.py [--case NAME ...] [--messages N] [--runs N] [--peers] [--workers N] [--no-results]
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import mmap
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from contenders import CASES, SESSIONS, Case, Contender, Postern, Setting, SinkTls  # noqa: E402  after the path is set
from measure import Group, busy_seconds  # noqa: E402
from peers import PEERS  # noqa: E402

from relay.demo.authority import Authority  # noqa: E402
from relay.demo.site import free_port  # noqa: E402

WARM: Final = 200
"""Messages before the timed part: processes started, first connections made, caches filled."""
PATIENCE: Final = 120.0
_FIRST: Final = 8
_CONSOLE: Final = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run.

    Attributes:
        messages_per_second: from the first octet of the first message until the sink has the last copy of the last.
        cpu_ms_per_message: user and system time of all the contender's processes.
        peak_memory_mb: largest sum of proportional set sizes, sampled once a second.
        p99_to_250_ms: from a message's MAIL (its connection, where each has one) until its 250.
        p99_end_to_end_ms: from there until the sink has its last copy.
        foreign_percent: share of the machine that others used meanwhile; rates and times mean little when it is high.
        yardstick_ms: CPU time that a fixed piece of work took meanwhile, median: how fast the machine was. Compare the
            CPU of different days only after dividing by it.
    """

    messages_per_second: float
    cpu_ms_per_message: float
    peak_memory_mb: float
    p99_to_250_ms: float
    p99_end_to_end_ms: float
    foreign_percent: float
    yardstick_ms: float


class Watch:
    """Looks at a group once a second: its largest memory, and what the yardstick costs beside it."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.peak = 0.0
        self.yardsticks = [yardstick()]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.peak = max(self.peak, await asyncio.to_thread(self._group.memory))
            self.yardsticks.append(await asyncio.to_thread(yardstick))
            await asyncio.sleep(1.0)


def yardstick() -> float:
    """Milliseconds of CPU for a fixed piece of interpreter work."""
    begun = time.thread_time()
    table = {str(number): number for number in range(20_000)}
    sum(table[key] for key in sorted(table))
    return (time.thread_time() - begun) * 1e3


class Sink:
    """The sink process and its table of arrivals; see sink.c."""

    def __init__(self, directory: Path, count: int, setting: tuple[Path, Path] | None, program: Path) -> None:
        self.port = free_port()
        self.group = Group("sink")
        table = directory / "arrivals"
        with table.open("wb") as file:
            file.truncate(8 * (_FIRST + count))
        with table.open("r+b") as file:
            self.table = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        files = [str(path) for path in setting or ()]
        self.process = self.group.start([str(program), str(self.port), str(count), str(table), *files])

    @property
    def recipients(self) -> int:
        return self.table[0]

    def arrivals(self, first: int, count: int) -> list[int]:
        return list(self.table[_FIRST + first : _FIRST + first + count])

    def check(self, case: Case) -> None:
        """Whether all that came was signed, and protected as the case wants.

        Raises:
            RuntimeError: the figures would be of other work.
        """
        transactions, secured, signed = self.table[1], self.table[4], self.table[5]
        if signed < transactions:
            raise RuntimeError(f"{transactions - signed} of {transactions} came unsigned")
        if secured != (0 if case.tls is SinkTls.NONE else transactions):
            raise RuntimeError(f"{secured} of {transactions} came over TLS")

    async def has(self, recipients: int) -> None:
        """Wait until it has served so many recipients.

        Raises:
            RuntimeError: they did not come in time.
        """
        end = time.monotonic() + PATIENCE
        while self.recipients < recipients:
            if time.monotonic() > end:
                raise RuntimeError(
                    f"the sink has {self.recipients} of {recipients} recipients; the rest is late or lost"
                )
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def ended(group: Group) -> Iterator[Group]:
    try:
        yield group
    finally:
        group.end()


async def load(group: Group, port: int, case: Case, first: int, count: int) -> "Loaded":
    """Start a load generator and let it make its messages."""
    options = {
        "host": "127.0.0.1", "port": port, "first": first, "count": count, "sessions": SESSIONS, "reuse": case.reuse,
        "kind": asdict(case.kind),
    }  # fmt: skip
    process = group.start([sys.executable, str(HERE / "load.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(json.dumps(options).encode() + b"\n")
    process.stdin.flush()
    await asyncio.to_thread(process.stdout.readline)
    return Loaded(process)


class Loaded:
    """A load generator that is ready."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    async def fire(self) -> dict[str, Any]:
        """Send all; what it noted.

        Raises:
            RuntimeError: it failed, or a message was refused.
        """
        try:
            out, _ = await asyncio.to_thread(self._process.communicate, b"go\n", PATIENCE)
        except subprocess.TimeoutExpired:
            raise RuntimeError("the messages were not taken in time") from None
        if self._process.returncode != 0:
            raise RuntimeError("the load generator failed")
        noted = json.loads(out)
        if noted["refused"]:
            raise RuntimeError(f"{noted['refused']} messages were refused")
        return noted


async def once(contender: Contender, case: Case, count: int, program: Path, base: Path | None) -> Measured:
    """One run of one contender in one case."""
    directory = Path(tempfile.mkdtemp(prefix="postern-bench-", dir=base))
    os.chmod(directory, 0o755)  # noqa: PTH101  the peers' own users must reach what is below
    authority = Authority(directory / "authority")
    certificate = authority.issue("sink.example", addresses=["127.0.0.1"])
    files = None if case.tls is SinkTls.NONE else (certificate.cert, certificate.key)
    sink = Sink(directory, WARM + count, files, program)
    try:
        with ended(sink.group), ended(Group("load")) as clients, ended(Group(contender.name)) as group:
            setting = Setting(case=case, directory=directory, sink=sink.port, authority=authority, group=group)
            async with contender.running(setting) as port:
                return await _timed(sink, clients, group, port, case, count)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _timed(sink: Sink, clients: Group, group: Group, port: int, case: Case, count: int) -> Measured:
    warm = WARM if case.kind.recipients == 1 else WARM // 10
    each = case.kind.recipients
    await (await load(clients, port, case, 0, warm)).fire()
    await sink.has(warm * each)
    ready = await load(clients, port, case, WARM, count)
    await asyncio.sleep(1.0)  # what the warming started, such as group commits of outcomes, comes to its end
    groups = (group, clients, sink.group)
    before, busy, begun = [one.cpu() for one in groups], busy_seconds(), time.monotonic()
    watch = Watch(group)
    watching = asyncio.create_task(watch.run())
    noted = await ready.fire()
    await sink.has((warm + count) * each)
    wall = time.monotonic() - begun
    watching.cancel()
    await asyncio.sleep(1.0)  # its records of what was delivered belong to the messages too
    used = [one.cpu() - start for one, start in zip(groups, before, strict=True)]
    sink.check(case)
    arrived = sink.arrivals(WARM, count)
    foreign = (busy_seconds() - busy - sum(used)) / (time.monotonic() - begun) / (os.cpu_count() or 1)
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return Measured(
        messages_per_second=round(count / (max(arrived) - min(noted["begun"])) * 1e9, 1) if arrived else count / wall,
        cpu_ms_per_message=round(used[0] / count * 1e3, 3),
        peak_memory_mb=round(watch.peak, 1),
        p99_to_250_ms=_p99(noted["begun"], noted["taken"]),
        p99_end_to_end_ms=_p99(noted["begun"], arrived),
        foreign_percent=round(100 * max(0.0, foreign), 1),
        yardstick_ms=round(statistics.median(watch.yardsticks), 2),
    )


def _p99(begun: list[int], done: list[int]) -> float:
    spans = sorted(end - start for start, end in zip(begun, done, strict=True))
    return round(spans[min(len(spans) - 1, int(len(spans) * 0.99))] / 1e6, 2)


# --- what comes of it -----------------------------------------------------------


def middle(runs: list[Measured]) -> dict[str, float]:
    return {name: round(statistics.median(getattr(run, name) for run in runs), 3) for name in Measured.__slots__}


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="20 sessions; medians; CPU is the figure to compare on a machine that others use too")
    heads = (
        "case",
        "peer",
        "messages/s",
        "CPU ms/message",
        "peak MB",
        "p99 to 250, ms",
        "p99 end to end, ms",
        "others",
    )
    for head in heads:
        table.add_column(head, justify="left" if head in heads[:2] else "right")
    for row in rows:
        table.add_row(
            row["case"], row["peer"], f"{row['messages_per_second']:.0f}", f"{row['cpu_ms_per_message']:.2f}",
            f"{row['peak_memory_mb']:.0f}", f"{row['p99_to_250_ms']:.1f}", f"{row['p99_end_to_end_ms']:.0f}",
            f"{row['foreign_percent']:.0f} %", f"{row['yardstick_ms']:.1f}",
        )  # fmt: skip
    _CONSOLE.print(table)


def write(rows: list[dict[str, Any]]) -> Path:
    """Add to the day's results: rows measured before of the same peer and case are replaced."""
    path = HERE / "results" / f"{dt.datetime.now(dt.UTC).date()}.json"
    path.parent.mkdir(exist_ok=True)
    fresh = {(row["peer"], row["case"]) for row in rows}
    kept = (
        [row for row in json.loads(path.read_text()) if (row["peer"], row["case"]) not in fresh]
        if path.exists()
        else []
    )
    path.write_text(json.dumps(kept + rows, indent=1) + "\n")
    return path


def compile_sink(directory: Path) -> Path:
    """Build sink.c.

    Raises:
        SystemExit: there is no compiler, or no OpenSSL to build against.
    """
    program = directory / "sink"
    command = ["gcc", "-O2", "-pthread", "-o", str(program), str(HERE / "sink.c"), "-lssl", "-lcrypto"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit("gcc is missing: apt-get install gcc libssl-dev") from None
    if done.returncode != 0:
        raise SystemExit(f"the sink cannot be built (apt-get install gcc libssl-dev):\n{done.stderr}")
    return program


def contenders(options: argparse.Namespace) -> Iterator[Contender]:
    if not options.only or "postern" in options.only:
        yield Postern(options.workers)
    for peer in PEERS:
        wanted = options.peers or peer.name in options.only
        if not wanted:
            continue
        if missing := peer.missing():
            _CONSOLE.print(f"{peer.name} is left out, it needs: {', '.join(missing)}")
            continue
        yield peer


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="by default all")
    parser.add_argument("--messages", type=int, default=5000, help="in a run; heavy cases take a share of it")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median counts")
    parser.add_argument("--peers", action="store_true", help="measure the peers too, those that are installed")
    parser.add_argument("--only", action="append", default=[], help="measure this contender only (may be repeated)")
    parser.add_argument("--workers", type=int, default=2, help="Postern's worker processes")
    parser.add_argument("--directory", type=Path, help="on which disk; by default the system's temporary directory")
    parser.add_argument("--no-results", action="store_true", help="write no file")
    return parser.parse_args()


async def measure(
    contender: Contender, case: Case, program: Path, options: argparse.Namespace
) -> dict[str, Any] | None:
    """All runs of one contender in one case."""
    runs = []
    for _ in range(options.runs):
        try:
            runs.append(
                await once(contender, case, max(20, int(options.messages * case.share)), program, options.directory)
            )
        except RuntimeError as error:
            _CONSOLE.print(f"[red]{contender.name}, {case.name}: {error}")
            return None
        _CONSOLE.print(f"[dim]{case.name} {contender.name}: {asdict(runs[-1])}")
    return {"peer": contender.name, "case": case.name, **middle(runs), "runs": len(runs)}


def planned(options: argparse.Namespace, measured: list[Contender]) -> Iterator[tuple[Contender, Case]]:
    for case in CASES:
        if not options.case or case.name in options.case:
            yield from ((one, case) for one in measured if case.peers or one.name == "postern")


async def main() -> None:
    options = parse()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    measured = list(contenders(options))
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as directory:
        program = compile_sink(Path(directory))
        found = [await measure(one, case, program, options) for one, case in planned(options, measured)]
    rows = [row for row in found if row is not None]
    _CONSOLE.print(f"{platform.platform()}, {os.cpu_count()} CPUs; {'; '.join(one.version() for one in measured)}")
    show(rows)
    if rows and not options.no_results:
        _CONSOLE.print(f"written: {write(rows)}")
    if len(rows) < len(found):
        raise SystemExit(1)


if __name__ == "__main__":
    asyncio.run(main())
