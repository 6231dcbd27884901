"""What a verdict's findings say, and under which key."""

import pytest

from relay.core.phi import Phi
from relay.extract.engine import load_judge
from relay.scan.model import SUBJECT, Passage

DISEASES = [
    *("asthma", "diabetes", "hypertension", "pneumonia", "epilepsy", "lymphoma", "melanoma", "hepatitis", "cirrhosis"),
    *("psoriasis", "arthritis", "osteoporosis", "anemia", "leukemia", "glaucoma", "gout", "bronchitis", "sepsis"),
    *("migraine", "dementia", "schizophrenia", "tuberculosis"),
]
RECORDS = "\n".join(
    f"Patient Anna Keller{chr(97 + number % 26)}, DOB {number % 12 + 1}/{number % 28 + 1}/1961, MRN 44718{number:04}, "
    f"seen for {DISEASES[number % len(DISEASES)]}."
    for number in range(700)
)
ADVICE = "\n".join(f"What helps with {disease}, and what does not: sleep, walks, tea." for disease in DISEASES * 60)


@pytest.fixture(scope="module")
def judge():
    return load_judge(lambda plain: plain)


class Counting:
    """Counts the characters that are looked through."""

    def __init__(self, finder):
        self.finder, self.read = finder, []

    def is_dense(self, text):
        return self.finder.is_dense(text)

    def find(self, text):
        self.read.append(len(text))
        return self.finder.find(text)


@pytest.fixture
def counting(judge, monkeypatch):
    counting = Counting(judge._finder)
    monkeypatch.setattr(judge, "_finder", counting)
    return counting


def test_of_long_records_the_beginning_is_enough(judge, counting):
    assert len(RECORDS) > 50_000
    verdict = judge.judge(
        [Passage(SUBJECT, "Patient Anna Keller, MRN 4471829, has asthma and takes albuterol"), Passage("1", RECORDS)]
    )
    assert verdict.phi is verdict.subject_phi is Phi.CERTAIN
    assert verdict.truncated
    assert len(verdict.findings) == 48
    assert max(counting.read) < len(RECORDS) / 3
    whole = judge.judge(
        [
            Passage(SUBJECT, "Patient Anna Keller, MRN 4471829, has asthma and takes albuterol"),
            Passage("1", RECORDS[:40_000]),
        ]
    )
    assert verdict == whole


@pytest.mark.parametrize("end", ["", "Patient Anna Keller, DOB 3/12/1961, MRN 4471829: HIV positive."])
def test_a_long_text_whose_beginning_leaves_anything_open_is_read_to_its_end(judge, counting, end):
    text = f"{ADVICE}\n\n{end}"
    assert len(text) > 50_000
    assert judge._finder.is_dense(text[:6_000])
    verdict = judge.judge([Passage("1", text)])
    assert max(counting.read) == len(text)
    assert verdict.phi is (Phi.CERTAIN if end else Phi.NONE)
    assert any(finding.start >= len(ADVICE) for finding in verdict.findings) is bool(end)


def test_a_subject_longer_than_the_beginning_is_judged_whole(judge, counting):
    subject = RECORDS.replace("\n", " ")[:30_000]
    judge.judge([Passage(SUBJECT, subject), Passage("1", RECORDS)])
    assert max(counting.read) > len(RECORDS)


def test_ordinary_text_however_long_is_read_once(judge, counting):
    judge.judge([Passage("1", "Please send the report on the new building by Monday. " * 2_000)])
    assert len(counting.read) == 1


def test_of_health_findings_of_a_kind_the_last_says_how_many_more_there_are(judge):
    verdict = judge.judge([Passage("1", ", ".join(DISEASES[:4]))])
    assert [finding.more for finding in verdict.findings if finding.kind == "condition"] == [0, 0, 1]
    verdict = judge.judge([Passage("1", ", ".join(DISEASES[:3]))])
    assert [finding.more for finding in verdict.findings if finding.kind == "condition"] == [0, 0, 0]


def test_a_finding_is_digested_under_the_key_of_its_moment():
    version = [1]
    judge = load_judge(lambda plain: f"{version[0]}:{plain}")
    text = [Passage("1", "Patient Anna Keller has asthma and takes albuterol.")]
    before = judge.judge(text).findings
    version[0] = 2  # the sealing key was rotated
    after = judge.judge(text).findings
    assert {finding.kind for finding in before} >= {"condition", "drug"}
    assert {finding.digest[:2] for finding in before} == {"1:"}
    assert {finding.digest[:2] for finding in after} == {"2:"}
