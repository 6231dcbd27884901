"""How long a good client waits for its 250 while others do harm, against its usual wait: a table, attack by attack.

    .venv/bin/python bench/abuse.py [--messages 100] [--attack NAME ...]

Usual and attacked waits are measured in turns, so that a machine that changes its speed changes both.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.abuse.attackers import ATTACKS
from tests.abuse.site import attacked, resident, serve, under

_TURNS = 4


async def measure(names: list[str], messages: int) -> None:
    print(f"{'attack':28} {'usual ms':>9} {'attacked ms':>12} {'ratio':>6} {'p95 ratio':>9} {'strikes':>8}   MiB")
    with tempfile.TemporaryDirectory() as directory:
        async with attacked(Path(directory), workers=1) as (site, _):
            (pid,) = site.worker_pids()
            await serve(site, 50)
            for name in names:
                usual: list[float] = []
                harmed: list[float] = []
                strikes = 0
                for _ in range(_TURNS):
                    usual += await serve(site, messages // _TURNS)
                    async with under(name, site) as answers:
                        harmed += await serve(site, messages // _TURNS)
                    strikes += answers.total()
                middle, slow = statistics.median(usual), statistics.quantiles(usual, n=20)[-1]
                print(
                    f"{name:28} {middle * 1e3:9.1f} {statistics.median(harmed) * 1e3:12.1f} "
                    f"{statistics.median(harmed) / middle:6.2f} {statistics.quantiles(harmed, n=20)[-1] / slow:9.2f} "
                    f"{strikes:8} {resident(pid):5.0f}  {dict(answers)}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--attack", action="append", choices=list(ATTACKS), help="only this one")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.attack or list(ATTACKS), arguments.messages))


if __name__ == "__main__":
    main()
