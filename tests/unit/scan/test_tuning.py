"""What operators add to the scan, and what they are told when it is wrong."""

import re

import pytest

from relay.core.errors import ProblemsError
from relay.core.phi import FindingGroup, Phi
from relay.extract import engine as engine_module
from relay.extract.engine import ScanEngine, load_judge
from relay.scan.detector import Detection
from relay.scan.tuning import Tuning, parse_tuning

FILE = b"""
patterns:
  - kind: study-id
    group: identifier
    regex: 'STUDY-(\\d{4})'
    weight: 0.9
    example: STUDY-1234
terms:
  - kind: program
    weight: 0.6
    sensitive: mental-health
    words: [Bright Futures, wellderly]
exclude:
  words: [cough, asthma]
  regex: ['4471829']
weights:
  health: { dose: 0 }
  thresholds: { likely: 0.3 }
"""


def engine(source=None):
    return ScanEngine(load_judge(lambda plain: plain, tuning=parse_tuning(source, "scan.yaml") if source else None))


def test_own_patterns_and_terms_count():
    verdict = engine(FILE).scan_text("STUDY-1234 joined Bright Futures")
    assert verdict.phi >= Phi.LIKELY
    assert verdict.counts() == {"study-id": 1, "program": 1}
    assert {finding.sensitive for finding in verdict.findings} == {"", "mental-health"}
    assert verdict.engine.endswith("+tuned")
    assert engine().scan_text("STUDY-1234 joined Bright Futures").phi is Phi.NONE


def test_exclusions_take_terms_and_values_out():
    text = "MRN 4471829, cough, chest pain, asthma"
    assert {"mrn", "condition"} <= set(engine().scan_text(text).counts())
    tuned = engine(FILE).scan_text(text).counts()
    assert "mrn" not in tuned
    assert tuned["condition"] == engine().scan_text(text).counts()["condition"] - 2


def test_thresholds_move_the_verdict():
    text = "Mrs. Alvarez called, asthma."
    below = engine(b"weights: {thresholds: {likely: 0.99, certain: 1}}").scan_text(text)
    above = engine(b"weights: {thresholds: {likely: 0.15}}").scan_text(text)
    assert below.phi is Phi.POSSIBLE
    assert above.phi is Phi.LIKELY


def test_an_empty_file_changes_nothing():
    assert parse_tuning(b"", "scan.yaml") == Tuning(weights={"own": {}})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"patterns: [", "not YAML"),
        (b"patterns: 2026-02-31", "a value cannot be read: day is out of range for month"),
        (b"- a", "is not a mapping"),
        (b"pattern: []", "pattern: is not known"),
        (b"patterns: {}\nterms: 3", "terms: is not a list"),
        (b"patterns: [{kind: Bad Name, regex: a}]", "patterns[1].kind"),
        (b"patterns: [{kind: x, regex: '(?=a)'}]", "RE2"),
        (b"patterns: [{kind: x, regex: '(a)(b)'}]", "more than one group"),
        (b"patterns: [{kind: x, regex: 'a', weight: 2}]", "patterns[1].weight"),
        (b"patterns: [{kind: x, regex: 'a', group: health, example: b}]", "not matched"),
        (b"patterns: [{kind: x, regex: 'a', group: other}]", "patterns[1].group"),
        (b"terms: [{kind: x}]", "terms[1].words"),
        (b"terms: [{kind: x, words: [a], sensitive: odd}]", "terms[1].sensitive"),
        (b"weights: {health: {dose: much}}", "weights.health.dose"),
        (b"exclude: {regex: ['(']}", "exclude.regex"),
    ],
)
def test_mistakes_are_told_with_their_place(source, said):
    with pytest.raises(ProblemsError) as caught:
        parse_tuning(source, "scan.yaml")
    assert said in str(caught.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ProblemsError) as caught:
        parse_tuning(b"foo: 1\nterms: [{kind: x}]\npatterns: [{kind: x, regex: '('}]", "scan.yaml")
    assert len(caught.value.problems) == 3


class Entry:
    value = "package:Detector"

    def __init__(self, made):
        self.made = made

    def load(self):
        return self.made


class Badges:
    def find(self, text):
        start = text.find("BADGE")
        if start >= 0:
            yield Detection(kind="badge", group=FindingGroup.IDENTIFIER, start=start, end=start + 5, weight=0.9)


def test_a_detector_of_ones_own(monkeypatch):
    monkeypatch.setattr(engine_module, "entry_points", lambda group: [Entry(Badges)])
    verdict = engine().scan_text("BADGE has asthma and gout")
    assert verdict.counts()["badge"] == 1
    assert verdict.phi >= Phi.LIKELY


@pytest.mark.parametrize("made", [object, lambda: 1 / 0])
def test_a_detector_that_cannot_be_used_is_a_problem_not_a_gap(monkeypatch, made):
    monkeypatch.setattr(engine_module, "entry_points", lambda group: [Entry(made)])
    with pytest.raises(ProblemsError):
        load_judge(lambda plain: plain)


TESTED = b"""
patterns: [ { kind: study-id, regex: 'STUDY-\\d{4}', weight: 0.9 } ]
terms: [ { kind: program, weight: 0.5, words: [Bright Futures] } ]
tests:
  - { text: "STUDY-1234 joined Bright Futures", verdict: likely, kinds: [study-id, program] }
  - { text: "Lunch at noon", at_most: none }
"""


def test_tests_in_the_file_that_hold_are_in_order():
    tuning = parse_tuning(TESTED, "t.yaml")
    ScanEngine(load_judge(lambda plain: plain, tuning=tuning)).prove(tuning)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((b"study-id, program", b"drug"), "tests[1]: does not find drug"),
        ((b"at_most: none", b"verdict: likely"), "tests[2]: the verdict is none"),
    ],
)
def test_a_test_that_fails_is_told_with_its_place(change, told):
    tuning = parse_tuning(TESTED.replace(*change), "t.yaml")
    with pytest.raises(ProblemsError, match=re.escape(told)):
        ScanEngine(load_judge(lambda plain: plain, tuning=tuning)).prove(tuning)


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ("{ text: '' }", "text"),
        ("{ text: a, verdict: maybe }", "is no verdict"),
        ("{ text: a, kind: [b] }", "is not known"),
        ("{ text: a, kinds: b }", "is not a list"),
    ],
)
def test_a_test_that_says_nothing_is_refused(test, told):
    with pytest.raises(ProblemsError, match=told):
        parse_tuning(f"tests: [ {test} ]".encode(), "t.yaml")


FOR_CLIENTS = b"""
patterns:
  - { kind: study-id, regex: 'STUDY-\\d{4}', weight: 0.9 }
terms:
  - { kind: program, weight: 0.6, words: [Bright Futures] }
exclude:
  words: [cough]
clients:
  lab:
    without: [study-id]
    terms:
      - { kind: panel, weight: 0.6, words: [Panel Nine, cough] }
    exclude: { words: [asthma], regex: ['4471829'] }
    weights: { identifiers: { mrn: 0.2, name-title: 0.9 } }
    tests:
      - { text: "STUDY-1234 joined Bright Futures", at_most: none }
  billing:
    patterns:
      - { kind: ledger-id, regex: 'LG-\\d{5}', weight: 0.9 }
    weights: { thresholds: { likely: 0.3 } }
tests:
  - { text: "STUDY-1234 joined Bright Futures", verdict: likely }
  - { text: "LG-12345, Bright Futures", client: billing, verdict: likely, kinds: [ledger-id] }
"""


@pytest.fixture(scope="module")
def for_clients():
    return engine(FOR_CLIENTS)


def test_a_clients_tuning_holds_for_its_mail_alone(for_clients):
    text = "STUDY-1234 joined Bright Futures, LG-12345, Panel Nine"
    assert set(for_clients.scan_text(text).counts()) == {"study-id", "program"}
    assert set(for_clients.scan_text(text, "billing").counts()) == {"study-id", "program", "ledger-id"}
    assert set(for_clients.scan_text(text, "lab").counts()) == {"program", "panel"}
    assert for_clients.scan_text(text, "somebody else") == for_clients.scan_text(text)


def test_a_client_adds_to_what_holds_for_all_and_wins_over_it(for_clients):
    text = "MRN 4471829, cough, asthma"
    assert for_clients.scan_text(text).counts() == {"mrn": 1, "condition": 1}
    assert for_clients.scan_text(text, "lab").counts() == {"panel": 1}
    name = "Mrs. Alvarez is here"
    weights = {client: for_clients.scan_text(name, client).findings[0].weight for client in ("", "lab")}
    assert weights == {"": 0.45, "lab": 0.9}


def test_a_message_is_judged_as_its_clients(for_clients):
    content = b"Subject: s\r\n\r\nLG-12345 joined Bright Futures\r\n"
    assert for_clients.scan(content).verdict.phi is Phi.NONE
    assert for_clients.scan(content, "billing").verdict.phi >= Phi.LIKELY


def test_the_tests_of_every_client_are_tried(for_clients):
    tuning = parse_tuning(FOR_CLIENTS, "scan.yaml")
    assert [test.client for test in tuning.tests] == ["", "billing", "lab"]
    for_clients.prove(tuning)
    wrong = parse_tuning(FOR_CLIENTS.replace(b"at_most: none", b"verdict: likely"), "scan.yaml")
    with pytest.raises(ProblemsError, match=r"clients\.lab: tests\[1\]"):
        for_clients.prove(wrong)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"clients: [a]", "scan.yaml: clients: is not a mapping"),
        (b"clients: {lab: [a]}", "scan.yaml: clients.lab: is not a mapping"),
        (b"clients: {lab: {pattern: []}}", "clients.lab: pattern: is not known"),
        (b"clients: {lab: {clients: {}}}", "clients.lab: clients: is not known"),
        (b"without: [a]", "without: is not known"),
        (b"clients: {lab: {without: [mrn]}}", "mrn is no kind of this file's"),
        (b"clients: {lab: {without: mrn}}", "clients.lab: without: is not a list"),
        (b"clients: {lab: {exclude: {regex: ['(']}}}", "clients.lab: exclude.regex"),
        (b"exclude: {words: cough}", "exclude.words: is not a list"),
        (b"clients: {" + b",".join(b"c%d: {}" % n for n in range(201)) + b"}", "are more than 100"),
    ],
)
def test_mistakes_of_a_clients_tuning_are_told_with_their_place(source, said):
    with pytest.raises(ProblemsError) as caught:
        parse_tuning(source, "scan.yaml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"weights: {health: {dosis: 0.1}}", "weights.health.dosis: is not known (did you mean dose?)"),
        (b"weights: {implies: {zebra: 0.1}}", "weights.implies.zebra: is not known"),
        (b"weights: {thresholds: {probable: 0.1}}", "weights.thresholds.probable: is not known"),
        (b"clients: {lab: {weights: {identifiers: {mrm: 1}}}}", "clients.lab: weights.identifiers.mrm"),
        (b"weights: {thresholds: {likely: 0.9}}", "possible, likely and certain do not rise"),
        (b"clients: {lab: {weights: {thresholds: {possible: 0.9}}}}", "clients.lab: weights.thresholds"),
    ],
)
def test_a_weight_that_nothing_has_is_no_silent_mistake(source, said):
    with pytest.raises(ProblemsError) as caught:
        engine(source)
    assert said in str(caught.value)
