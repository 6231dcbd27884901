"""The second look: what it raises and lowers, what it leaves alone, and what its table may hold."""

import math
from importlib.resources import files

import pytest
import yaml

from relay.core.errors import ProblemsError
from relay.core.phi import FindingGroup, Phi
from relay.extract.engine import load_judge
from relay.scan.judge import MANNER
from relay.scan.manner import Manner, evidence, shape, spoken
from relay.scan.model import SUBJECT, Hit, Passage
from relay.scan.names import NameTable
from relay.scan.tuning import parse_tuning

DATA = files("relay.scan") / "data"
NOTE = "Letter for Khadijah Rountree about the clinic visit"
NEWS = (
    "The library's spring list is out. Jonathan Whitfield reads from his novel about a town doctor on Friday, and the "
    "quilting circle meets upstairs. " * 12
)
NOTICE = (
    "CONFIDENTIALITY NOTICE: This message and any attachments are for the sole use of the intended recipient and may "
    "contain privileged information. Any unauthorized review, use, disclosure or distribution is prohibited. If you "
    "are not the intended recipient, please contact the sender by reply and destroy all copies of the original message."
)


@pytest.fixture(scope="module")
def judge():
    return load_judge(lambda plain: plain)


@pytest.fixture(scope="module")
def card():
    return Manner.parse((DATA / "manner.yaml").read_bytes(), (DATA / "manner-words.txt").read_bytes())


def tuned(text):
    return load_judge(lambda plain: plain, tuning=parse_tuning(text.encode(), "tuning.yaml"))


def of(judge, text, subject=""):
    passages = [Passage(SUBJECT, subject), Passage("1", text)] if subject else [Passage("1", text)]
    return judge.judge(passages)


def manner_of(verdict):
    return [finding for finding in verdict.findings if finding.kind == MANNER]


@pytest.fixture
def deciding(judge, monkeypatch):
    """Lets every text that holds somebody and some health be told by so many points."""

    def decide(points, on=judge):
        monkeypatch.setattr(on, "_manner", Manner(base=points, steps={}, words={}))
        return on

    return decide


def test_the_weights_alone_call_the_note_possible(deciding):
    verdict = of(deciding(-0.1), NOTE)
    assert verdict.phi is Phi.POSSIBLE
    assert not manner_of(verdict)


def test_what_is_put_as_of_a_patient_is_likely_and_a_finding_says_so(deciding):
    verdict = of(deciding(2.0), NOTE)
    assert verdict.phi is Phi.LIKELY
    (found,) = manner_of(verdict)
    assert found.group is FindingGroup.HEALTH
    assert (found.part, found.start, found.end, found.digest, found.weight) == ("1", 0, 0, "", 0.88)


def test_what_the_weights_call_likely_stays_so_however_it_is_put(deciding):
    verdict = of(deciding(-9.0), "Patient Anna Keller has asthma.")
    assert verdict.phi is Phi.LIKELY
    assert not manner_of(verdict)


@pytest.mark.parametrize("below", ["", NOTICE, NEWS, NEWS + NOTICE], ids=["nothing", "notice", "news", "both"])
@pytest.mark.parametrize(
    "note",
    [
        "Patient Anna Keller has asthma.",
        "Anna Keller, DOB 12/03/1961, asthma",
        "SSN 219-09-9999, Anna Keller has asthma",
        "Mr. Yamamoto has a hip fracture",
    ],
)
def test_no_words_below_a_note_take_its_verdict_away(judge, note, below):
    assert of(judge, f"{note}\n\n{below}").phi is Phi.LIKELY


def test_it_says_nothing_where_there_is_nothing_to_be_told(deciding):
    judge = deciding(5.0)
    for text in (
        "Patient Anna Keller, DOB 12/03/1961, MRN 4471829, has asthma, diabetes and takes albuterol and metformin",
        "The quarterly figures are attached. Anna Keller, 212-555-0142",
        "Diabetes is common; walks and sleep help.",
    ):
        assert not manner_of(of(judge, text)), text


def test_its_finding_lies_in_the_body_unless_there_is_only_a_subject(deciding):
    (found,) = manner_of(of(deciding(2.0), NOTE, subject="today"))
    assert found.part == "1"
    (found,) = manner_of(deciding(2.0).judge([Passage(SUBJECT, NOTE)]))
    assert found.part == SUBJECT


def test_what_an_operator_switches_off_does_not_raise(deciding):
    judge = tuned("weights: { manner: { likely: 1 } }")
    assert of(deciding(9.0, judge), NOTE).phi is Phi.POSSIBLE


def test_an_operator_who_says_what_is_likely_decides_alone():
    weights = tuned("weights: { thresholds: { likely: 0.35 } }")._weigher.weights
    assert weights.manner == {"likely": 1}
    weights = tuned("weights: { thresholds: { likely: 0.35 }, manner: { likely: 0.6 } }")._weigher.weights
    assert weights.manner == {"likely": 0.6}


def test_a_mistake_in_what_is_tuned_is_told_with_its_place():
    with pytest.raises(ProblemsError, match=r"weights\.manner\.likly"):
        tuned("weights: { manner: { likly: 0.7 } }")


@pytest.mark.parametrize(("chance", "score", "phi"), [(0.9, 0.2, 2), (0.4, 0.2, 1), (0.1, 0.5, 2), (0.4, 0.5, 2)])
def test_the_opinion_is_told_by_both(judge, card, monkeypatch, chance, score, phi):
    monkeypatch.setattr(type(judge._weigher), "best", lambda *_: (score, None))
    monkeypatch.setattr(Manner, "chance", lambda *_: chance)
    assert card.opinion("", [], judge._weigher)[0] == phi


def test_what_stands_around_somebody_is_looked_at_as_well(judge, monkeypatch):
    looked_at = []

    def chance(_, text, hits, score, least):
        looked_at.append((text, [hit.norm for hit in hits]))
        return 0.9 if len(text) < 600 else 0.1

    monkeypatch.setattr(Manner, "chance", chance)
    below = "A cushion, a lamp and a friend who can sew, for the quilts of spring. " * 40
    verdict = of(judge, f"{below}\n\n{NOTE}\n\n{below}ibuprofen")
    assert verdict.phi is Phi.LIKELY
    (whole, every), (around, beside) = looked_at
    assert NOTE in around
    assert len(around) < 600 < len(whole)
    assert b"KHADIJAH ROUNTREE" in beside
    assert b"ibuprofen" in every
    assert b"ibuprofen" not in beside


def test_what_the_whole_tells_is_not_asked_again(judge, monkeypatch):
    looked_at = []
    monkeypatch.setattr(Manner, "chance", lambda _, text, *rest: looked_at.append(text) or 0.9)
    assert of(judge, NOTE + NEWS).phi is Phi.LIKELY
    assert len(looked_at) == 1


@pytest.mark.parametrize(("score", "phi"), [(0.95, Phi.CERTAIN), (0.45, Phi.LIKELY)])
def test_what_is_likely_is_not_looked_at_again(judge, card, monkeypatch, score, phi):
    monkeypatch.setattr(type(judge._weigher), "best", lambda *_: (score, None))
    monkeypatch.setattr(Manner, "chance", lambda *_: pytest.fail("looked again"))
    assert card.opinion("", [], judge._weigher) == (phi, None)


def test_nothing_is_to_be_told_without_somebody_or_without_health_or_of_long_texts(judge, card):
    somebody = Hit("name", FindingGroup.IDENTIFIER, 0, 13, 0.55, b"CHUCK BIELSKI")
    health = Hit("care", FindingGroup.HEALTH, 20, 27, 0.22, b"therapy")
    assert card.chance(NOTE, [somebody], 0.0) is None
    assert card.chance(NOTE, [health], 0.0) is None
    assert card.chance(NOTE * 500, [somebody, health], 0.3) is None
    assert 0 < card.chance(NOTE, [somebody, health], 0.3) < 1


def test_the_same_term_and_kind_counts_once():
    hits = [
        *(Hit("name", FindingGroup.IDENTIFIER, place, place + 4, 0.5, b"ROE") for place in (0, 40, 80)),
        *(Hit("care", FindingGroup.HEALTH, place, place + 4, 0.2, b"care") for place in (10, 50, 90)),
        Hit("drug", FindingGroup.HEALTH, 100, 104, 0.5, b"drug"),
    ]
    known, health = evidence(hits, 0.3)
    assert known == {"score": 0.3, "who": 0.5, "distance": 6}
    assert math.isclose(health, 0.7)
    assert evidence(hits[:3], 0.3) is None
    assert math.isclose(shape("x" * 150, health)["density"], 100 * 0.7 / 200)


def test_a_notice_and_a_signature_tell_nothing_of_how_a_text_is_put(card):
    hits = [
        Hit("name", FindingGroup.IDENTIFIER, 11, 28, 0.55, b"KHADIJAH ROUNTREE"),
        Hit("care", FindingGroup.HEALTH, 39, 45, 0.22, b"clinic"),
    ]
    notice = (
        "\n\nCONFIDENTIALITY NOTICE: this message is intended only for its recipient; any unauthorized disclosure or "
        "copying is prohibited.\n"
    )
    assert card.chance(NOTE + notice, hits, 0.3) == card.chance(NOTE, hits, 0.3)


def test_who_is_spoken_of_is_told_by_the_words():
    words = [b"she", b"took", b"the", b"drug", b"i", b"gave", b"her", b"and", b"she"]
    assert spoken(words, set(words)) == {"he-or-she": 3, "i": 1}


def test_what_cannot_come_to_enough_is_not_read_to_the_end(card, monkeypatch):
    hits = [
        Hit("name", FindingGroup.IDENTIFIER, 0, 13, 0.55, b"CHUCK BIELSKI"),
        Hit("care", FindingGroup.HEALTH, 20, 27, 0.22, b"therapy"),
    ]
    whole = card.chance(NOTE, hits, 0.3)
    assert card.chance(NOTE, hits, 0.3, whole - 0.01) == whole
    monkeypatch.setattr("relay.scan.manner.words_of", lambda _: pytest.fail("read to the end"))
    assert card.chance(NOTE, hits, 0.3, 0.9999) is None


def test_more_of_what_tells_never_makes_a_text_less_likely(card):
    for name, (edges, points, most) in card.steps.items():
        assert len(points) == len(edges) + 1
        assert list(edges) == sorted(edges)
        assert list(points) == sorted(points, reverse=name in {"length", "distance"}), name
        assert most == max(points)


def test_the_words_are_everyday_words_and_nobodys_name(card):
    names = NameTable.parse(b"\n".join((DATA / name).read_bytes() for name in ("names.txt", "names-today.txt")))
    assert len(card.words) > 1000
    assert not card.words.keys() & (names.first | names.last)
    assert all(word.isalpha() and word.islower() for word in card.words)


@pytest.mark.parametrize("gone", ["base", "steps"])
def test_a_card_that_lacks_something_is_refused(gone):
    raw = yaml.safe_load((DATA / "manner.yaml").read_bytes())
    del raw[gone]
    with pytest.raises(ValueError, match="card of points"):
        Manner.parse(yaml.safe_dump(raw).encode(), b"")


def test_ordinary_news_stays_what_it_was(judge):
    assert of(judge, NEWS).phi < Phi.LIKELY
