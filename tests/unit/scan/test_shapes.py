"""Shapes: the quick set never hides a match, and validators tell numbers from look-alikes."""

import re
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.core.phi import Finding, FindingGroup
from relay.extract.engine import ScanEngine, load_judge
from relay.scan import validate
from relay.scan.everywhere import EverywhereFinder
from relay.scan.icd import IcdTable
from relay.scan.lexicon import FOLD, Lexicon, _rareness
from relay.scan.model import Term
from relay.scan.shape import Shape
from relay.scan.shapes import ShapeFinder, ShapeSearch, all_shapes

ICD = IcdTable(b"A00    E119   I10    ")
SHAPES = all_shapes(ICD)
OWN = (
    Shape(kind="study", regex=rb"(STUDY-\d{4})"),
    Shape(kind="badge", regex=rb"badge (\w{3})"),
)


@pytest.fixture(scope="module")
def kinds():
    engine = ScanEngine(load_judge(lambda plain: plain))
    return lambda text: set(engine.scan_text(text).counts())


def by_anchors(finder, data):
    """(number, span) of what the shapes find around their anchors."""
    search = finder.search(data, data.lower())
    words = data.translate(FOLD).split()
    padded = b" %b " % data.translate(FOLD)
    around = [b"", *words, b""]
    place = -1
    for index, word in enumerate(words):
        place = padded.find(b" %b " % word, place + 1)
        if word in finder.words:
            search.at_word(finder.words[word], place, place + len(word), around[index + 2])
        if word in finder.pairs:
            search.at_pair(finder.pairs[word], place, around[index], around[index + 2])
    return {(found.number, found.start, found.end) for found in search.by_outline()}


@pytest.fixture(scope="module")
def finder():
    return ShapeFinder(SHAPES)


def seek_anew(search, probe, data, place, upto):
    """Each place by itself, whatever was met before."""
    found = probe.match(data, place, upto)
    while found is not None:
        search._keep(probe, found)
        found = probe.match(data, found.end(), upto)


_CODES = st.sampled_from(
    [
        "E11.9",
        "I10",
        "A00",
        "A001",
        "E11.9-",
        "Dx:",
        "diagnosis",
        "codes",
        "K5",
        ",",
        "12.3",
        "e119",
        "x" * 30,
        "\n",
        "\n\n",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_CODES, st.sampled_from([" ", "", ", ", "\n"])), max_size=60))
def test_of_a_list_of_codes_none_is_missed_for_being_behind_several_anchors(finder, told):
    data = "".join(word + between for word, between in told).encode()
    once = by_anchors(finder, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShapeSearch, "_seek", seek_anew)
        assert by_anchors(finder, data) == once


def test_each_code_of_a_long_list_is_looked_at_a_few_times_at_most(finder, monkeypatch):
    """16 KB of codes held a worker's loop for a fifth of a second: each was met behind every anchor before it."""
    kept = []
    keep = ShapeSearch._keep
    monkeypatch.setattr(ShapeSearch, "_keep", lambda *of: kept.append(of[1].number) or keep(*of))
    codes = 500
    assert len(by_anchors(finder, b"E11.9 " * codes)) >= codes
    assert max(map(kept.count, set(kept))) <= 2 * codes


NOTES = (
    """
patient / MRN: / MRN / no. / number / # / 4471829 / 1961-03-12 / March 5, 1962 / 5 March 1962 / (212) 736-5000 /
212-736-5000 / 219-45-9876 / SSN / 10.1.2.3 / IL 62704 / a.b@c.example / E11.9 / dx / 45 yo / 45-year-old / is a /
Jane Roe / DOB / born / 500 mg / 500mg / 12 Main Street / lives in / at Mercy Hospital / , / ( / ) / name: / 12.3.61 /
potassium 5.1 / 98 bpm / NPI 1234567893 / ndc 1234-567-89 / LOINC 4548-4 / CPT 99213 / photo of the wound / visit /
www.x.example?mrn=88123 / resident of / Medicare 219-45-9876A / medical record / fingerprints / 1EG4-TE5-MK73 /
99 years / Account / blood pressure 120 / her / left / knee / is swollen / pain in / can't move / his
""".replace("\n", " ")
    .strip()
    .split(" / ")
)
NOTES += ["\n", "\t", "12/03/1961", "BP 120/80"]


@example(["12.3.61"] * 3)
@given(st.lists(st.sampled_from(NOTES), max_size=40))
@settings(max_examples=120, deadline=None)
def test_what_a_search_of_the_whole_text_finds_is_found_around_the_anchors(finder, words):
    data = " ".join(words).encode()
    anchored = by_anchors(finder, data)
    for number, shape in enumerate(SHAPES):
        for match in re.finditer(shape.regex, data, re.IGNORECASE):
            start, end = match.span(1)
            before = data[max(0, start - 80) : start]
            if shape.valid(match[1]) and (shape.refine is None or shape.refine(before, match[1])):
                assert any(at == number and first < end and last > start for at, first, last in anchored), (
                    shape.kind, match[0], data,
                )  # fmt: skip


def test_a_set_out_of_memory_falls_back_to_every_shape():
    starved = EverywhereFinder(OWN)
    assert starved.candidates(b"see STUDY-1234") == [0]
    starved._set = Exhausted()
    assert starved.candidates(b"see STUDY-1234") == [0, 1]
    assert [value for *_, value in starved.find(b"see STUDY-1234")] == [b"STUDY-1234"]


class Exhausted:
    def Match(self, data):  # noqa: N802 - as google-re2 names it
        return None


def test_the_sentinel_tells_no_match_from_no_memory():
    assert EverywhereFinder(OWN).candidates(b"") == []
    assert EverywhereFinder(()).candidates(b"STUDY-1234") == []


@pytest.mark.parametrize(
    ("validator", "good", "bad"),
    [
        (validate.is_ssn, ["219-45-9876", "219 45 9876"], ["000-12-3456", "666-12-3456", "912-12-3456", "219-00-9876",
                                                           "219-45-0000", "078-05-1120", "111-11-1111"]),
        (validate.is_itin, ["912-70-1234", "900-94-0001"], ["912-49-1234", "912-93-1234", "812-70-1234"]),
        (validate.is_npi, ["1234567893"], ["1234567890", "3234567893", "123456789"]),
        (validate.is_dea, ["AB1234563"], ["AB1234567"]),
        (validate.is_phone, ["212-736-5000", "+1 (212) 736-5000"], ["112-736-5000", "800-736-5000", "212-136-5000"]),
        (validate.is_date, ["03/14/1962", "14.3.62", "1962-03-14", "March 14, 1962", "14th of March 1962"],
         ["55/14/1962", "03/14/3062", "1/2", "99-99-99", "1962-14-55"]),
        (validate.is_old, ["91", "104 years"], ["89", "45", "130"]),
        (validate.is_ip, ["10.1.2.3", "203.0.113.9"], ["300.1.2.3", "1.2.3.4", "127.0.0.1"]),
    ],
)  # fmt: skip
def test_validators(validator, good, bad):
    assert [value for value in good if not validator(value.encode())] == []
    assert [value for value in bad if validator(value.encode())] == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SSN: 219-45-9876", "ssn"),
        ("social security number is 219 45 9876", "ssn"),
        ("call about 219-45-9876", "ssn-unlabelled"),
        ("ITIN 912-70-1234", "itin"),
        ("Medicare 1EG4-TE5-MK73", "mbi"),
        ("HICN 219-45-9876A", "hicn"),
        ("MRN# 00-4471829", "mrn"),
        ("med rec no. 4471829", "mrn"),
        ("Member ID: W123456789", "member-number"),
        ("claim no 20261122771", "claim-number"),
        ("Rx# 7712345", "prescription-number"),
        ("driver's license number D1234567", "licence-number"),
        ("UDI number 00844588003288", "device-serial"),
        ("NPI 1234567893", "npi"),
        ("DEA AB1234563", "dea"),
        ("born on March 14, 1962", "date-of-birth"),
        ("died 03/14/2026", "date-of-death"),
        ("seen in clinic on 03/14/2026", "visit-date"),
        ("a 93-year-old woman", "age-over-89"),
        ("410 Main Street", "address"),
        ("Springfield, IL 62701", "zip"),
        ("at Northgate Community Hospital", "facility"),
        ("dx E11.9", "icd10"),
        ("CPT 99213", "procedure-code"),
        ("NDC 0071-0155-23", "ndc"),
        ("LOINC 4548-4", "loinc"),
        ("glucose 182 mg/dL", "lab-value"),
        ("A1c:  8.1", "lab-value"),
        ("BP 142/91", "vital-sign"),
        ("500 mg bid", "dose"),
        ("zorvastatin", "drug"),
        ("glossodynitis", "condition"),
        ("Dr. Anna Keller", "provider-name"),
        ("Anna Keller, RN", "provider-name"),
        ("Mrs. Quintalvarez", "name"),
        ("Garcia, Luis", "name"),
        ("pt john doe", "name"),
        ("Patient: Xochitl Mbeki", "name-labelled"),
    ],
)
def test_kinds(kinds, text, kind):
    assert kind in kinds(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("MRN: ____", "mrn"),
        ("Member ID:", "member-number"),
        ("SSN: ___-__-____", "ssn"),
        ("model E11.9 of the printer, version B12", "icd10"),
        ("the Down syndrome society", "name"),
        ("at Johns Hopkins", "name"),
        ("the diagnosis and prognosis", "condition-word"),
        ("1Z5R89390357567127", "mbi"),
    ],
)
def test_look_alikes(kinds, text, kind):
    assert kind not in kinds(text)


def test_codes_are_found_in_the_table():
    assert [code for code in (b"E11.9", b"e119", b"I10", b"A00") if code not in ICD] == []
    assert b"E11.8" not in ICD
    assert b"Z99" not in ICD
    with pytest.raises(ValueError, match="damaged"):
        IcdTable(b"xx")


def test_a_finding_made_quickly_is_a_finding_like_any_other():
    """Field by field: what one is made from has its fields in the same order."""
    finding = ScanEngine(load_judge(lambda _: "d")).scan_text("Patient Jane Roe, MRN 4471829").findings[0]
    assert type(finding) is Finding
    assert finding == Finding(
        kind=finding.kind, group=FindingGroup.IDENTIFIER, part="1", start=finding.start, end=finding.end, digest="d",
        weight=finding.weight, sensitive="", more=0,
    )  # fmt: skip
    with pytest.raises(FrozenInstanceError):
        finding.digest = ""


PIECES = st.sampled_from([b"chest", b"pain", b"relief", b"of", b"shortness", b"breath", b"in", b"the", b"left"])


@given(
    st.sets(st.lists(PIECES, min_size=2, max_size=4).map(tuple), min_size=1, max_size=12), st.lists(PIECES, max_size=14)
)
@settings(max_examples=200, deadline=None)
def test_a_phrase_found_by_its_neighbour_is_the_one_that_trying_every_window_finds(terms, words):
    term = Term(kind="condition", weight=0.5)
    lexicon = Lexicon.of(dict.fromkeys(terms, term))
    words = [*words, b""]
    for index, word in enumerate(words[:-1]):
        if word in lexicon.anchored:
            found = lexicon.anchored[word].around(words, index)
            around = [
                phrase
                for phrase in terms
                for first in range(len(words) - len(phrase))
                if tuple(words[first : first + len(phrase)]) == phrase
                and index == first + phrase.index(max(phrase, key=_rareness))
                and word == max(phrase, key=_rareness)
            ]
            assert (found is None) == (not around)
            if found is not None:
                assert tuple(found.words) in around
                assert found.size == max(map(len, around))
                assert tuple(words[index - found.before :][: found.size]) == tuple(found.words)
