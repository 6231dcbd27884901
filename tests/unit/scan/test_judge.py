"""What a verdict's findings say, and under which key."""

from relay.extract.engine import load_judge
from relay.scan.model import Passage


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
