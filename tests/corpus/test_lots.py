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
    "six": (106, 4),
    "seven": (80, 1),
    "eight": (120, 7),
    "nine": (140, 9),
    "ten": (85, 8),
    "eleven": (130, 7),
}
"""Of each lot how many messages with a patient are found, and how many without one are called PHI."""


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain))


def test_every_lot_is_held():
    assert {path.stem for path in LOTS.glob("*.jsonl")} == HELD.keys()


def judged(engine, lot, below=""):
    """How many with a patient are found in a lot, and how many without one are called PHI."""
    found = false = 0
    for line in (LOTS / f"{lot}.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if engine.scan_text(row["text"] + below).phi >= Phi.LIKELY:
            found += row["cls"] == "a"
            false += row["cls"] != "a"
    return found, false


@pytest.mark.parametrize("lot", HELD)
def test_a_lot_is_judged_at_least_as_well_as_before(engine, lot):
    found, false = judged(engine, lot)
    least, most = HELD[lot]
    assert found >= least
    assert false <= most


def test_the_signature_of_a_clinic_makes_nobody_a_patient_and_hides_none(engine):
    below = "\n\nKind regards,\nDeborah Marsh\nFront office, Maple Street Clinic\n212-555-0147\n"
    found, false = map(sum, zip(*(judged(engine, lot, below) for lot in HELD), strict=True))
    assert found >= sum(least for least, _ in HELD.values())
    assert false <= sum(most for _, most in HELD.values()) + 13
