"""``python -m tests.fuzz TARGET [--minutes 10]``: a coverage-guided run (atheris); what fails is written to ``cases/``.

Needs the package atheris, which is not among the development tools: ``pip install atheris``.
"""

import argparse
import hashlib
import os
import sys
import time
import traceback
from pathlib import Path

CASES = Path(__file__).parent / "cases"
SEEDS = {
    "smtp_server": "tests/dialogs/*.dialog",
    "mime": "tests/corpus/*.eml",
    "outgoing": "tests/corpus/*.eml",
    "policy": "policies/*.yaml",
    "scan": "tests/corpus/*.eml",
    "returned_mail": "tests/unit/reputation/*.txt",
}
"""Where each target's first inputs come from."""


def main() -> None:
    import atheris

    arguments = _arguments()
    with atheris.instrument_imports(include=["relay", "starlette", "python_multipart"]):
        from tests.fuzz.targets import TARGETS

    target, found = TARGETS[arguments.target], set()
    ends = time.monotonic() + arguments.minutes * 60

    def one(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:  # noqa: BLE001  whatever it is, it is what we look for
            place = f"{type(error).__name__} {traceback.extract_tb(error.__traceback__)[-1]}"
            if place not in found and len(found) < 50:  # each fault once: the run goes on and finds others
                found.add(place)
                keep(arguments.target, data)
                traceback.print_exc()
        if time.monotonic() > ends:
            print(f"{arguments.target}: {len(found)} faults in {arguments.minutes} minutes", flush=True)
            sys.stdout.flush()
            os._exit(1 if found else 0)

    work = Path(arguments.corpus or f"/tmp/postern-fuzz-{arguments.target}")
    work.mkdir(parents=True, exist_ok=True)
    seed(arguments.target, work)
    atheris.Setup([sys.argv[0], str(work), "-max_len=8192", "-rss_limit_mb=4096", "-timeout=20"], one)
    atheris.Fuzz()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--corpus", help="directory for what the run learns; by default below /tmp")
    return parser.parse_args()


def seed(target: str, work: Path) -> None:
    root = Path(__file__).parents[2]
    files = [*root.glob(SEEDS.get(target, "tests/fuzz/none")), *(CASES / target).glob("*")]
    for data in [file.read_bytes() for file in files] + made_for(target):
        if len(data) <= 8192:
            (work / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def made_for(target: str) -> list[bytes]:
    """Files of the format that an extractor's target reads; requests, for the portal's."""
    from tests.fuzz.extractors import SEEDS as MADE
    from tests.fuzz.portal import SEEDS as PAGES

    if target == "portal":
        return PAGES
    kind = target.removeprefix("extract_")
    return [data for seeds in MADE.values() for data in seeds] if kind == "anything" else MADE.get(kind, [])


def keep(target: str, data: bytes) -> None:
    directory = CASES / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    main()
