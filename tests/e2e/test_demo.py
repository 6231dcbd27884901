"""The demo is the README's first promise: it runs by itself, and every message meets its expected fate."""

import re
import subprocess
import sys

import pytest

from relay.demo.ledger import HELD, Ledger
from relay.demo.scenario import STORIES, domains
from relay.demo.show import deviations


@pytest.mark.timeout(180)
def test_the_demo_ends_by_itself_with_every_fate_as_expected():
    done = subprocess.run(
        [sys.executable, "-m", "relay", "demo", "--once"], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing left below its floor" in done.stdout
    assert re.search(r"http://localhost:\d+/m/[A-Za-z0-9_-]{22}", done.stdout), "a link that leads to the secure page"
    for domain in domains():
        assert domain.name in done.stdout


def records(**fate):
    decided = {"entry": "m.1", "numbers": [0], "action": "deliver", "rule": "phi", "floor": "verified"}
    yield {"kind": "decided", "message_id": "m", "facts": decided}
    yield {"kind": "fate", "message_id": "m", "facts": {"entry": "m.1", "numbers": [0], "why": "", **fate}}


def ledger_of(story, **fate):
    ledger = Ledger()
    ledger.add("m", story, {"a@b.example": "delivered"})
    ledger.read(records(**fate))
    return ledger.copies


def test_what_leaves_below_its_floor_is_a_deviation():
    story = next(number for number, one in enumerate(STORIES) if one.expected_rule == "phi")
    good = ledger_of(story, fate="delivered", proof={"level": "verified"})
    assert deviations(good) == []
    bad = ledger_of(story, fate="delivered", proof={"level": "encrypted"})
    assert any("below verified" in line for line in deviations(bad))


def test_another_fate_or_rule_is_a_deviation():
    story = next(number for number, one in enumerate(STORIES) if one.expected_rule == "rest")
    lines = deviations(ledger_of(story, fate="bounced"))
    assert any("expected delivered" in line for line in lines)
    assert any("decided by phi" in line for line in lines)


def test_a_held_copy_is_read_from_its_attempt():
    ledger = Ledger()
    ledger.add("m", 0, {"a@b.example": HELD})
    ledger.read(list(records(fate="x"))[:1])
    facts = {"entry": "m.1", "state": "held", "reason": "no portal", "attempt": 3}
    ledger.read([{"kind": "held", "message_id": "m", "facts": facts}])
    (copy,) = ledger.copies
    assert (copy.stands, copy.why, copy.attempts) == (HELD, "no portal", 3)
