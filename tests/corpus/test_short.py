"""Messages of a sentence or two, as offices, patients and families write them.

``everyday.jsonl`` says health in words of every day, and says what looks like it of cars, servers, novels and pets.
``trades.jsonl`` says it as dentists, opticians, ambulances, laboratories and payers do, of persons on no list; and has
posts to fill, sports, sales and committees with the same words in them.

The rows are as bench/phi.py reads them. ``cls`` a: a person and their health; b: health of nobody; c: a person without
health; d: ordinary mail, some of it with names and diseases in it; e: numbers that look like something else. What is
asked here is a little less than what was reached when it was written, so that it stands for texts like these and not
for each of them.
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from relay.core.phi import Phi
from relay.extract.engine import ScanEngine, load_judge

ROWS = {
    name: [json.loads(line) for line in (Path(__file__).parent / f"{name}.jsonl").read_text("utf-8").splitlines()]
    for name in ("short", "everyday", "trades")
}


@pytest.fixture(scope="module")
def wrong():
    """The ids of rows judged wrongly, by file and class."""
    engine = ScanEngine(load_judge(lambda plain: plain))
    wrong = defaultdict(list)
    for name, rows in ROWS.items():
        for row in rows:
            if (engine.scan_text(row["text"]).phi >= Phi.LIKELY) != (row["cls"] == "a"):
                wrong[name, row["cls"]].append(row["id"])
    return wrong


@pytest.mark.parametrize(
    ("name", "cls", "rows", "most"),
    [
        ("short", "a", 180, 15),
        ("short", "b", 30, 1),
        ("short", "c", 65, 1),
        ("short", "d", 85, 8),
        ("short", "e", 20, 1),
        ("everyday", "a", 96, 12),
        ("everyday", "b", 25, 2),
        ("everyday", "c", 20, 1),
        ("everyday", "d", 60, 12),
        ("trades", "a", 60, 8),
        ("trades", "d", 46, 3),
    ],
)
def test_short_messages(wrong, name, cls, rows, most):
    assert sum(row["cls"] == cls for row in ROWS[name]) == rows
    assert len(wrong[name, cls]) <= most, wrong[name, cls]
