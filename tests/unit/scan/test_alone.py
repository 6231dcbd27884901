"""A word of short notes counts little where it stands alone in a long text, and nowhere else."""

import pytest

from relay.core.phi import FindingGroup, Phi
from relay.extract.engine import ScanEngine, load_judge
from relay.scan import alone

LONG = "The second half of the release notes is about the build, which nobody but packagers reads. " * 14
CREDIT = "Thanks to Andrew Dent for spotting this.\n\n"
NOTE = "Andrew Dent has the spotting. His seizures are back.\n\n"
ILL = "Andrew Dent has leukemia.\n\n"


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain))


def spoken_weights(engine, text):
    judge = engine._judge
    hits = judge._finder.find(text)
    return [hit.weight for hit in hits if hit.group is FindingGroup.HEALTH and hit.norm == b"spotting"]


def test_alone_in_a_long_text_it_weighs_less(engine):
    levels = engine._judge._weigher.weights.levels
    assert spoken_weights(engine, CREDIT + LONG) == [levels["alone"]]
    assert engine.scan_text(CREDIT + LONG).phi < Phi.LIKELY


def test_in_a_short_text_it_weighs_in_full(engine):
    assert spoken_weights(engine, CREDIT) == [engine._judge._weigher.weights.levels["spoken"]]


def test_with_other_health_beside_it_it_weighs_in_full(engine):
    assert spoken_weights(engine, NOTE + LONG) == [engine._judge._weigher.weights.levels["spoken"]]
    assert engine.scan_text(NOTE + LONG).phi >= Phi.LIKELY


def test_health_that_stands_far_off_is_not_beside_it(engine):
    levels = engine._judge._weigher.weights.levels
    assert spoken_weights(engine, CREDIT + LONG + "She has cramps and a fever.") == [levels["alone"]]


def test_the_same_word_again_stands_by_nothing(engine):
    levels = engine._judge._weigher.weights.levels
    assert set(spoken_weights(engine, CREDIT + CREDIT + LONG)) == {levels["alone"]}


def test_the_name_of_a_disease_alone_is_enough(engine):
    assert engine.scan_text(ILL + LONG).phi >= Phi.LIKELY


def test_what_has_no_such_word_is_handed_back_as_it_is(engine):
    judge = engine._judge
    hits = judge._finder.find(ILL + LONG)
    assert alone.weighed(hits, len(ILL + LONG), judge._weigher.weights) is hits


def test_each_level_has_a_number_of_its_own(engine):
    levels = engine._judge._weigher.weights.levels
    assert len(set(levels.values())) == len(levels)
