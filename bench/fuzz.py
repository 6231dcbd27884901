"""Damages documents until the time is up: ``bench/fuzz.py [--minutes 10] [--seed 0]``.

Prints each seed at which a reader raised, said something that is no reason, or took more than its time, and ends with 1
if there was one. Under atheris, where it is installed, ``--atheris`` lets coverage lead the way.
"""

import argparse
import sys
import time
import traceback

from tests.unit.extract.damage import SEEDS, damaged
from tests.unit.extract.test_damage import check

_LIMIT = 5.0  # seconds of CPU that a small document may take


def one(data: bytes) -> str:
    """What is wrong with the reading of a document, or nothing."""
    started = time.process_time()
    try:
        check(data)
    except Exception:  # noqa: BLE001 - that is what is looked for
        return traceback.format_exc()
    spent = time.process_time() - started
    return f"took {spent:.1f} s" if spent > _LIMIT else ""


def led_by_coverage(minutes: float) -> None:
    """Let atheris look for new ways through the code."""
    import atheris  # noqa: PLC0415 - optional

    def target(data: bytes) -> None:
        wrong = one(data)
        if wrong:
            raise RuntimeError(wrong)

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={int(minutes * 60)}", "-rss_limit_mb=2048"], target)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    options = parser.parse_args()
    if options.atheris:
        led_by_coverage(options.minutes)
        return
    until = time.monotonic() + options.minutes * 60
    seed, found = options.seed, 0
    while time.monotonic() < until:
        for kind in SEEDS:
            wrong = one(damaged(kind, seed))
            if wrong:
                found += 1
                print(f"{kind} {seed}: {wrong}", flush=True)
        seed += 1
    print(f"{(seed - options.seed) * len(SEEDS)} documents, {found} findings")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
