"""Postern and the relays that operators would use instead, side by side on this machine: `make bench`, bench/README.md.

Everything runs on loopback. Contenders take turns within each case, so that a machine that changes changes for all.
"""

import argparse
import asyncio
import os
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console

HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import CASES, Case  # noqa: E402  after the path is set
from contenders import Contender, Postern  # noqa: E402
from installed import build, need  # noqa: E402
from once import Measured, Tools, once  # noqa: E402
from order import orders  # noqa: E402
from peers import PEERS  # noqa: E402
from report import show, write  # noqa: E402

_CONSOLE: Final = Console()
_QUICK: Final = 600


def contenders(options: argparse.Namespace) -> Iterator[Contender]:
    if not options.only or "postern" in options.only:
        yield Postern(options.workers)
    for peer in PEERS:
        if not (options.peers or peer.name in options.only) or (options.only and peer.name not in options.only):
            continue
        if missing := peer.missing():
            _CONSOLE.print(f"{peer.name} is left out, it needs: {', '.join(missing)}")
            continue
        yield peer


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="by default all")
    parser.add_argument("--messages", type=int, default=3000, help="in a run; heavy cases take a share of it")
    parser.add_argument("--runs", type=int, default=3, help="runs of the main cases, of which the median counts")
    parser.add_argument("--others", type=int, default=1, help="runs of the other cases")
    parser.add_argument("--quick", action="store_true", help=f"one run of {_QUICK} messages each: whether all works")
    parser.add_argument("--peers", action="store_true", help="measure the peers too; what they need is installed")
    parser.add_argument("--only", action="append", default=[], help="measure this contender only (may be repeated)")
    parser.add_argument("--workers", type=int, default=2, help="Postern's worker processes")
    parser.add_argument("--directory", type=Path, help="on which disk; by default the system's temporary directory")
    parser.add_argument("--no-order", action="store_true", help="do not look at the order of fsync and 250")
    parser.add_argument("--no-results", action="store_true", help="write no file")
    options = parser.parse_args()
    if options.quick:
        options.messages, options.runs, options.others = _QUICK, 1, 1
    return options


async def measure(
    case: Case, measured: list[Contender], tools: Tools, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """All runs of all contenders in one case; a row for each that came through."""
    count = max(20, int(options.messages * case.share))
    taking_part = [one for one in measured if case.peers or one.name == "postern"]
    found: dict[str, list[Measured]] = {one.name: [] for one in taking_part}
    for _ in range(options.runs if case.thrice else options.others):
        for one in taking_part:
            try:
                found[one.name].append(await once(one, case, count, tools))
            except RuntimeError as error:
                _CONSOLE.print(f"[red]{case.name} {one.name}: {error}")
                continue
            _CONSOLE.print(f"[dim]{case.name} {one.name}: {asdict(found[one.name][-1])}")
    return [
        {"peer": name, "case": case.name, **middle(runs), "runs": len(runs)} for name, runs in found.items() if runs
    ]


def middle(runs: list[Measured]) -> dict[str, float]:
    return {name: round(statistics.median(getattr(run, name) for run in runs), 3) for name in Measured.__slots__}


async def main() -> None:
    options = parse()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    measured = list(contenders(options))
    cases = [case for case in CASES if not options.case or case.name in options.case]
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as directory:
        os.chmod(directory, 0o755)  # noqa: PTH101  the shim is loaded by processes of several users
        sink, shim = build(Path(directory))
        tools = Tools(sink=sink, shim=shim, base=options.directory)
        rows = [row for case in cases for row in await measure(case, measured, tools, options)]
        seen = {}
        if not options.no_order:
            need(("strace", "/usr/bin/strace"))
            seen = {one.name: await orders(one, tools) for one in measured}
    wanted = sum(1 for case in cases for one in measured if case.peers or one.name == "postern")
    machine = f"{platform.platform()}, {os.cpu_count()} CPUs; {'; '.join(one.version() for one in measured)}"
    _CONSOLE.print(machine)
    show(_CONSOLE, rows, seen)
    if rows and not options.no_results:
        _CONSOLE.print(f"written: {write(rows, machine, seen)}")
    if len(rows) < wanted:
        raise SystemExit(1)


if __name__ == "__main__":
    asyncio.run(main())
