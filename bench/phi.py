"""How well the scan judges: recall on PHI and false positives by class and source, at the threshold `likely`.

    bench/phi.py DATA.jsonl [--misses N] [--check]
    bench/phi.py --eml FOLDER... [--misses N]

Rows have `text` and `cls` (a: identifier and health, that is PHI; b: health without identifier; c: identifier without
health; d: ordinary; e: tricky), or `is_identifier` (all then count as tricky). Folders hold messages that are not PHI.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from relay.cli.scan import mask
from relay.core.phi import Phi, PhiVerdict
from relay.extract.engine import ScanEngine, load_judge
from relay.extract.extractor import Extractor


@dataclass
class Tally:
    """Rows of one class and source."""

    rows: int = 0
    hits: int = 0
    wrong: list[tuple[str, str, PhiVerdict]] = field(default_factory=list)


def rows_of(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """(class, source, id, text)."""
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            row = json.loads(line)
            yield row.get("cls", "e"), row.get("source", ""), str(row.get("id", number)), row["text"]


def tally_rows(engine: ScanEngine, path: Path) -> dict[tuple[str, str], Tally]:
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for cls, source, identity, text in rows_of(path):
        verdict = engine.scan_text(text)
        note(tallies[cls, source], verdict, is_phi=cls == "a", identity=identity, text=text)
    return tallies


def tally_folders(engine: ScanEngine, folders: list[Path]) -> dict[tuple[str, str], Tally]:
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for folder in folders:
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            content = path.read_bytes()
            verdict = engine.scan(content).verdict
            tally = tallies["ordinary mail", path.parent.name]
            note(tally, verdict, is_phi=False, identity=path.name, text=content.decode("latin-1"))
    return tallies


def note(tally: Tally, verdict: PhiVerdict, *, is_phi: bool, identity: str, text: str) -> None:
    tally.rows += 1
    found = verdict.phi >= Phi.LIKELY
    tally.hits += found
    if found is not is_phi:
        tally.wrong.append((identity, text, verdict))


def show(tallies: dict[tuple[str, str], Tally], misses: int, *, clear: bool) -> None:
    for cls in sorted({key[0] for key in tallies}):
        mine = {source: tally for (klass, source), tally in tallies.items() if klass == cls}
        rows, hits = sum(tally.rows for tally in mine.values()), sum(tally.hits for tally in mine.values())
        word = "recall" if cls == "a" else "false positives"
        print(f"\n{cls}: {word} {hits / rows:.4f} ({hits} of {rows})")
        for source, tally in sorted(mine.items()):
            print(f"    {tally.hits / tally.rows:.4f}  {tally.hits:5d} of {tally.rows:5d}  {source}")
            for identity, text, verdict in tally.wrong[:misses]:
                shown = text if clear else mask(text)
                kinds = sorted((finding.kind, finding.start) for finding in verdict.findings)[:24]
                print(f"        {identity} {verdict.phi.word}: {' '.join(shown.split())[:160]}\n            {kinds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--eml", action="store_true", help="the paths are folders of messages without PHI")
    parser.add_argument("--misses", type=int, default=3, help="wrong verdicts shown a source")
    parser.add_argument("--clear", action="store_true", help="show them unmasked: for public test data only")
    options = parser.parse_args()
    started = time.perf_counter()
    engine = ScanEngine(load_judge(lambda plain: plain), extractor=Extractor())
    print(f"loaded in {time.perf_counter() - started:.2f} s", file=sys.stderr)
    tallies: dict[tuple[str, str], Tally] = {}
    if options.eml:
        tallies = tally_folders(engine, options.paths)
    else:
        for path in options.paths:
            tallies |= tally_rows(engine, path)
    show(tallies, options.misses, clear=options.clear)


if __name__ == "__main__":
    main()
