"""What comes of a run: a table on the terminal, the day's JSON, and the tables of README.md."""

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results"
FIELDS: Final = (
    "peer", "case", "messages_per_second", "cpu_ms_per_message", "peak_memory_mb", "p99_to_250_ms", "p99_end_to_end_ms",
    "runs",
)  # fmt: skip
"""Of an object in results/DATE.json."""
_HEADS: Final = (
    "case", "peer", "messages/s", "of the best peer", "CPU ms/message", "of the best peer", "peak MB", "p99 to 250 ms",
    "p99 end to end ms", "runs", "others", "yardstick ms",
)  # fmt: skip
_BEGIN: Final = "<!-- measured: written by report.py -->"
_END: Final = "<!-- end of measured -->"


def cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table's rows: each figure, and for Postern how it stands to the best peer of the case."""
    made = []
    for row in rows:
        peers = [one for one in rows if one["case"] == row["case"] and one["peer"] != "postern"]
        rate = cpu = ""
        if row["peer"] == "postern" and peers:
            rate = f"{row['messages_per_second'] / max(one['messages_per_second'] for one in peers):.1f} times"
            cpu = f"{row['cpu_ms_per_message'] / min(one['cpu_ms_per_message'] for one in peers):.2f} times"
        made.append((
            row["case"], row["peer"], f"{row['messages_per_second']:.0f}", rate, f"{row['cpu_ms_per_message']:.2f}",
            cpu,
            f"{row['peak_memory_mb']:.0f}", f"{row['p99_to_250_ms']:.0f}", f"{row['p99_end_to_end_ms']:.0f}",
            str(row["runs"]), f"{row['others_percent']:.0f} %", f"{row['yardstick_ms']:.1f}",
        ))  # fmt: skip
    return made


def show(console: Console, rows: list[dict[str, Any]], seen: dict[str, str]) -> None:
    """Print it."""
    table = Table(title="20 sessions; medians of the runs")
    for number, head in enumerate(_HEADS):
        table.add_column(head, justify="left" if number < 2 else "right")
    for line in cells(rows):
        table.add_row(*line)
    console.print(table)
    for name, words in seen.items():
        console.print(f"{name}: of the 250s after a message, {words}")


def write(rows: list[dict[str, Any]], machine: str, seen: dict[str, str]) -> Path:
    """Add to the day's results: rows measured before of the same peer and case are replaced.

    DATE.json holds the figures alone; what they were measured on lies beside it in DATE.notes.json.
    """
    RESULTS.mkdir(exist_ok=True)
    day = dt.datetime.now(dt.UTC).date()
    path, beside = RESULTS / f"{day}.json", RESULTS / f"{day}.notes.json"
    notes = json.loads(beside.read_text()) if beside.exists() else {"order": {}, "rows": []}
    fresh = {(row["peer"], row["case"]) for row in rows}
    whole = [row for row in notes["rows"] if (row["peer"], row["case"]) not in fresh] + rows
    notes = {"machine": machine, "order": notes["order"] | seen, "rows": whole}
    beside.write_text(json.dumps(notes, indent=1) + "\n")
    path.write_text(json.dumps([{name: row[name] for name in FIELDS} for row in whole], indent=1) + "\n")
    return path


def markdown(notes: dict[str, Any], day: str) -> str:
    """The latest, for README.md."""
    order = {name: number for number, name in enumerate(dict.fromkeys(row["case"] for row in notes["rows"]))}
    rows = sorted(notes["rows"], key=lambda row: order[row["case"]])
    lines = [
        f"{day}. {notes['machine']}.",
        "",
        "| " + " | ".join(_HEADS) + " |",
        "|---|---|" + "---:|" * (len(_HEADS) - 2),
    ]
    lines += ["| " + " | ".join(line) + " |" for line in cells(rows)]
    lines += ["", *(f"- {name}: of the 250s after a message, {words}." for name, words in notes["order"].items())]
    return "\n".join(lines)


def main() -> None:
    """`bench/report.py [DATE]`: put a day's results, by default the latest, into README.md."""
    found = sorted(RESULTS.glob(f"{sys.argv[1] if len(sys.argv) > 1 else '*'}.notes.json"))
    if not found:
        raise SystemExit("nothing has been measured: make bench")
    day = found[-1].name.removesuffix(".notes.json")
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    readme.write_text(f"{before}{_BEGIN}\n\n{markdown(json.loads(found[-1].read_text()), day)}\n\n{_END}{after}")
    print(f"{readme}: the figures of {day}")


if __name__ == "__main__":
    main()
