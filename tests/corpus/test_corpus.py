"""Messages written for the scan, each with what must be found in it: ``x.eml`` and ``x.findings.json``.

The expectation: ``verdict`` (the least), ``at_most`` (the most, for mail that must not be called PHI), ``subject`` (the
least over the subject alone), ``kinds`` (some of those found), ``sensitive`` kinds, ``unreadable`` reasons (exactly
these) and ``attachments`` (their types, exactly).
"""

import json
from pathlib import Path

import pytest

from relay.core.phi import Phi
from relay.extract.engine import ScanEngine, load_judge
from relay.extract.extractor import Extractor

FOLDER = Path(__file__).parent
MESSAGES = sorted(FOLDER.glob("*.eml"))


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain), extractor=Extractor())


def test_each_message_has_its_expectation():
    assert {path.stem for path in MESSAGES} == {
        path.name.removesuffix(".findings.json") for path in FOLDER.glob("*.json")
    }
    assert MESSAGES


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_message(engine, path):
    expected = json.loads(path.with_suffix(".findings.json").read_text())
    assert set(expected) <= {"why", "verdict", "at_most", "subject", "kinds", "sensitive", "unreadable", "attachments"}
    report = engine.scan(path.read_bytes())
    verdict = report.verdict
    kinds = set(verdict.counts())
    assert verdict.phi >= Phi[expected.get("verdict", "none").upper()], kinds
    assert verdict.phi <= Phi[expected.get("at_most", "certain").upper()], kinds
    assert verdict.subject_phi >= Phi[expected.get("subject", "none").upper()]
    assert set(expected.get("kinds", [])) <= kinds
    assert set(expected.get("sensitive", [])) <= {finding.sensitive for finding in verdict.findings}
    unreadable = sorted(kind.removeprefix("unreadable: ") for kind in kinds if kind.startswith("unreadable"))
    assert unreadable == expected.get("unreadable", [])
    if "attachments" in expected:
        assert [attachment.type for attachment in report.attachments] == expected["attachments"]
