"""One run: a sink, a contender and a load, each in processes of its own, and what was seen of them."""

import asyncio
import contextlib
import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cases import SESSIONS, Case, SinkTls
from contenders import SINK_NAME, Contender, Setting, slowed
from measure import Group, busy_seconds

from relay.demo.authority import Authority
from relay.demo.ports import free_port

HERE: Final = Path(__file__).parent
WARM: Final = 200
"""Messages before the timed part: processes started, first connections made, caches filled."""
PATIENCE: Final = 180.0
_FIRST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run showed; see README.md."""

    messages_per_second: float
    cpu_ms_per_message: float
    peak_memory_mb: float
    p99_to_250_ms: float
    p99_end_to_end_ms: float
    others_percent: float
    yardstick_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all runs share: the compiled programs, and the disk to run on."""

    sink: Path
    shim: Path
    base: Path | None = None


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

    def __init__(self, directory: Path, count: int, files: tuple[Path, Path] | None, program: Path) -> None:
        self.port = free_port()
        self.group = Group("sink")
        table = directory / "arrivals"
        with table.open("wb") as file:
            file.truncate(8 * (_FIRST + count))
        with table.open("r+b") as file:
            self.table = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self.group.start([str(program), str(self.port), str(count), str(table), *(str(path) for path in files or ())])

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


class Load:
    """A load generator with its messages made, ready to send."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    @classmethod
    async def make(
        cls, group: Group, port: int, case: Case, first: int, count: int, *, rate: float = 0.0, sessions: int = SESSIONS
    ) -> "Load":
        options = {
            "host": "127.0.0.1", "port": port, "first": first, "count": count, "sessions": sessions,
            "reuse": case.reuse, "kind": asdict(case.kind), "rate": rate,
        }  # fmt: skip
        process = group.start([sys.executable, str(HERE / "load.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(json.dumps(options).encode() + b"\n")
        process.stdin.flush()
        await asyncio.to_thread(process.stdout.readline)
        return cls(process)

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


@contextlib.contextmanager
def ended(group: Group) -> Iterator[Group]:
    try:
        yield group
    finally:
        group.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What runs in one run."""

    case: Case
    port: int
    sink: Sink
    clients: Group
    contender: Group


@contextlib.asynccontextmanager
async def staged(contender: Contender, case: Case, count: int, tools: Tools):  # noqa: ANN201  a Stage, while it runs
    """Bring up a sink for ``count`` messages, and the contender."""
    directory = Path(tempfile.mkdtemp(prefix="postern-bench-", dir=tools.base))
    os.chmod(directory, 0o755)  # noqa: PTH101  the peers' own users must reach what is below
    authority = Authority(directory / "authority")
    certificate = authority.issue(SINK_NAME, addresses=["127.0.0.1"])
    files = None if case.tls is SinkTls.NONE else (certificate.cert, certificate.key)
    sink = Sink(directory, count, files, tools.sink)
    try:
        with ended(sink.group), ended(Group("load")) as clients, ended(Group(contender.name)) as group:
            setting = Setting(
                case=case, directory=directory, sink=sink.port, authority=authority, group=group,
                environment=slowed(tools.shim, case.slow_fsync),
            )  # fmt: skip
            async with contender.running(setting) as port:
                yield Stage(case=case, port=port, sink=sink, clients=clients, contender=group)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def once(contender: Contender, case: Case, count: int, tools: Tools) -> Measured:
    """One run of one contender in one case.

    Raises:
        RuntimeError: a message was refused, lost, late, unsigned or not protected as the case wants.
    """
    warm = WARM if case.kind.recipients == 1 and case.kind.size < 100_000 else WARM // 10
    each = case.kind.recipients
    async with staged(contender, case, warm + 2 * count, tools) as stage:
        await (await Load.make(stage.clients, stage.port, case, 0, warm)).fire()
        await stage.sink.has(warm * each)
        if not case.half:
            return await _timed(stage, warm, count)
        full = await _timed(stage, warm, count)
        return await _timed(stage, warm + count, count, rate=full.messages_per_second / 2)


async def _timed(stage: Stage, first: int, count: int, rate: float = 0.0) -> Measured:
    each = stage.case.kind.recipients
    ready = await Load.make(stage.clients, stage.port, stage.case, first, count, rate=rate)
    await asyncio.sleep(1.0)  # what came before, such as group commits of outcomes, comes to its end
    groups = (stage.contender, stage.clients, stage.sink.group)
    before, busy, begun = [one.cpu() for one in groups], busy_seconds(), time.monotonic()
    watch = Watch(stage.contender)
    watching = asyncio.create_task(watch.run())
    noted = await ready.fire()
    await stage.sink.has((first + count) * each)
    watching.cancel()
    await asyncio.sleep(1.0)  # its records of what was delivered belong to the messages too
    used = [one.cpu() - start for one, start in zip(groups, before, strict=True)]
    stage.sink.check(stage.case)
    arrived = stage.sink.arrivals(first, count)
    others = (busy_seconds() - busy - sum(used)) / (time.monotonic() - begun) / (os.cpu_count() or 1)
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return Measured(
        messages_per_second=round(count / (max(arrived) - min(noted["begun"])) * 1e9, 1),
        cpu_ms_per_message=round(used[0] / count * 1e3, 3),
        peak_memory_mb=round(watch.peak, 1),
        p99_to_250_ms=_p99(noted["begun"], noted["taken"]),
        p99_end_to_end_ms=_p99(noted["begun"], arrived),
        others_percent=round(100 * max(0.0, others), 1),
        yardstick_ms=round(statistics.median(watch.yardsticks), 2),
    )


def _p99(begun: list[int], done: list[int]) -> float:
    spans = sorted(end - start for start, end in zip(begun, done, strict=True))
    return round(spans[min(len(spans) - 1, int(len(spans) * 0.99))] / 1e6, 2)
