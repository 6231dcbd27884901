"""Messages of a sentence or two, as offices, patients and families write them (``short.jsonl``).

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

ROWS = [json.loads(line) for line in (Path(__file__).parent / "short.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def wrong():
    """The ids of rows judged wrongly, by class."""
    engine = ScanEngine(load_judge(lambda plain: plain))
    wrong = defaultdict(list)
    for row in ROWS:
        if (engine.scan_text(row["text"]).phi >= Phi.LIKELY) != (row["cls"] == "a"):
            wrong[row["cls"]].append(row["id"])
    return wrong


@pytest.mark.parametrize(
    ("cls", "rows", "most"), [("a", 180, 15), ("b", 30, 1), ("c", 65, 1), ("d", 85, 8), ("e", 20, 1)]
)
def test_short_messages(wrong, cls, rows, most):
    assert sum(row["cls"] == cls for row in ROWS) == rows
    assert len(wrong[cls]) <= most, wrong[cls]
