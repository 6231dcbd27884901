"""What is found in lots of everyday messages, and what is called PHI in them and is none: neither may get worse."""

import json
from pathlib import Path

import pytest

from relay.core.phi import Phi
from relay.extract.engine import ScanEngine, load_judge

LOTS = Path(__file__).parent / "lots"
HELD = {
    "one": (127, 3),
    "two": (108, 6),
    "three": (118, 3),
    "four": (115, 0),
    "five": (108, 5),
    "six": (105, 4),
    "seven": (81, 1),
    "eight": (111, 10),
    "nine": (131, 12),
    "ten": (82, 11),
}
"""Of each lot how many messages with a patient are found, and how many without one are called PHI."""


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain))


def test_every_lot_is_held():
    assert {path.stem for path in LOTS.glob("*.jsonl")} == HELD.keys()


@pytest.mark.parametrize("lot", HELD)
def test_a_lot_is_judged_at_least_as_well_as_before(engine, lot):
    found = false = 0
    for line in (LOTS / f"{lot}.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if engine.scan_text(row["text"]).phi >= Phi.LIKELY:
            found += row["cls"] == "a"
            false += row["cls"] != "a"
    least, most = HELD[lot]
    assert found >= least
    assert false <= most
