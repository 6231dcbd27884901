"""The scan's C part finds what the Python way finds, whatever the text, and takes no table that leads it astray."""

import random
import shutil
import sysconfig
from array import array
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.core.phi import FindingGroup
from relay.extract.engine import ScanEngine, load_judge
from relay.scan import compiled, find, judge, way, weigh
from relay.scan.compiled import BESIDE, ENTRY, LISTED, PHRASE, Index
from relay.scan.find import FindLimits
from relay.scan.lexicon import FOLD
from relay.scan.model import Hit
from relay.scan.tokens import Tokens
from relay.scan.tuning import parse_tuning
from relay.scan.way import NATIVE

CORPUS = sorted(Path(__file__).parents[2].joinpath("corpus").glob("*.eml"))
CAN_COMPILE = (
    shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is not None
    and Path(sysconfig.get_path("include"), "Python.h").is_file()
)
needs_native = pytest.mark.skipif(not NATIVE and not CAN_COMPILE, reason="no compiler or no headers of Python")


@needs_native
def test_what_can_be_compiled_is_what_runs():
    assert NATIVE, "relay/scan/_native.abi3.so is missing or old: `make venv` builds it"


@pytest.fixture(scope="module")
def ways():
    """The same engine both ways: plain, native."""
    return [ScanEngine(load_judge(lambda plain: plain, native=native)) for native in (False, True)]


@pytest.fixture(scope="module")
def finders(ways):
    return [engine._judge._finder for engine in ways]


@needs_native
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_both_ways_say_the_same_of_the_corpus(ways, path):
    plain, native = (engine.scan(path.read_bytes()).verdict for engine in ways)
    assert native == plain


NOTES = """
patient Patient pt jane Jane Roe roe Garcia Luis Dr. Mr. MRN mrn: 4471829 DOB 03/04/1961 1961-03-12 diabetes mellitus
type 2 shortness of breath chest pain no denies insulin metformin 500 mg 500mg BP 120/80 bp: E11.9 icd-10
SSN 219-45-9876 ssn219-45-9876 (212) 736-5000 a@b.example appendicitis zorvastatin call re: name name: client
my your i she he HIV will
may best regards -- confidential intended recipient unauthorized disclosure appointment reschedule o b date birth
seguro social presi\xf3n 98.6 a1c 7.2% ICD acct holder 45yo 45 y/o years old g1p2 38+4 1EG4-TE5-MK73 thanks saludos
"""
WORDS = [
    *NOTES.split(),
    "\n", "\n\n", "\t", "\0", "\xa0", "\xe9\xc9", "\xdf", "\xff", "\u0416\u0436", "\U0001f600", "\u0130", "\ud800",
    "x" * 300, "Name,DOB,MRN\nRoe Jane,03/04/1961,12345\n", "9" * 70, "name", "-- \nJane Roe\n212-736-5000\n",
]  # fmt: skip
BETWEEN = st.sampled_from([" "] * 12 + ["", "  ", "\n", ", ", ". ", ": ", "-", "/", "'s ", "(", ") ", "\t"])
TEXTS = st.lists(
    st.tuples(st.one_of(st.sampled_from(WORDS), st.sampled_from(WORDS).map(str.upper), st.text(max_size=8)), BETWEEN),
    max_size=60,
).map(lambda pieces: "".join(piece for pair in pieces for piece in pair))


@needs_native
@given(TEXTS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("")
@example(" ")
@example("\0")
@example("name")
@example("patient Jane Roe, name")
@example("diabetes " * 40)
@example("a" * 100_000 + " MRN 4471829")
@example("seen at Mercy clinic, at mercy clinic, at  clinic; St. Anne hospital\n" + "x" * 50 + " clinic, \xc9 clinic")
@example("Clinic")
@example(f"See you.\n{' ' * 8}respectfully kind respectfully yours ,{' ' * 50}\nJane Roe\n212-736-5000\n")
@example("my asthma is best\nbest\n\nwith kind regards\t\nJane Roe\n" + "thanks " * 20 + "\nthanks\n")
@example("A clinic")
@example("https://intranet.clinic.example/ Intranet.clinic")
@example("Patient\xa0Jane\xadRoe \xff\xfe MRN\x004471829")
def test_both_ways_find_the_same(finders, text):
    plain, native = (finder.find(text) for finder in finders)
    assert native == plain


@needs_native
def test_both_ways_find_the_same_in_heaps_of_known_words(finders):
    plain, native = finders
    use = plain._use
    known = sorted(
        word.decode()
        for word in use.lexicon.vocabulary | use.names.vocabulary | use.shapes.words.keys() | use.shapes.pairs.keys()
    )
    chance = random.Random(7)
    for _ in range(150):
        words = chance.choices(known, k=120)
        text = "".join(
            chance.choice((word, word, word.capitalize(), word.upper()))
            + chance.choice((" ", " ", " ", ", ", ". ", " 12 ", "\n"))
            for word in words
        )
        assert native.find(text) == plain.find(text)


@needs_native
def test_both_ways_stop_at_the_same_word(ways, monkeypatch):
    text = "Patient Jane Roe has diabetes mellitus type 2, MRN 4471829, chest pain and shortness of breath. " * 3
    for limit in range(30):
        found = []
        for engine in ways:
            monkeypatch.setattr(engine._judge._finder, "_limits", FindLimits(words=limit))
            found.append(engine._judge._finder.find(text))
        assert found[0] == found[1]


@needs_native
def test_both_ways_take_what_an_operator_adds_and_takes_out():
    shipped = load_judge(lambda plain: plain, native=False)._finder._use.lexicon
    chance = random.Random(11)
    terms, phrases = sorted(shipped.singles), sorted(shipped.phrases)
    phrases = [b" ".join(words) for words in phrases]
    known = [word.decode() for word in (*chance.sample(terms, 30), *chance.sample(phrases, 30))]
    new = ["zorblax fever", "q", "zorblax of the left knee and of the right knee", "patient jane", "the knee of", "b"]
    new += [" ".join(word.decode() for word in chance.choices(terms, k=3)) for _ in range(10)]
    out = [*known[20:40], *new[2:4], "no such term", "nosuchword", "patient", "jane", "the", "mrn"]
    added = f"terms: [{{kind: condition, weight: 0.4, words: {[*new, *known[:5], *known[-5:]]}}}]"
    tuning = parse_tuning(f"{added}\nexclude: {{words: {out}}}".encode(), "t")
    plain, native = (load_judge(lambda plain: plain, tuning=tuning, native=native)._finder for native in (False, True))
    found = set()
    for _ in range(150):
        words = chance.choices([*new, *known, *out, "12", "Jane Roe", "MRN 4471829"], k=chance.randint(1, 40))
        text = "".join(
            chance.choice((word, word.upper())) + chance.choice((" ", " ", ", ", "\n", ". ")) for word in words
        )
        hits = native.find(text)
        assert hits == plain.find(text)
        assert native._terms.count(text) == plain._terms.count(text)
        found |= {hit.norm for hit in hits}
    assert {b"zorblax fever", b"q"} <= found
    assert not {word.encode() for word in known[20:40]} & found


@needs_native
@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_words_are_those_of_split(data):
    from relay.scan import _native

    padded = b" %b " % data.translate(FOLD)
    words = _native.Words(padded)
    assert list(words) == padded.split()
    assert len(words) == len(padded.split())
    assert [words[index] for index in range(len(words))] == padded.split()
    with pytest.raises(IndexError):
        words[len(words)]


SOME = (b"my", b"i", b"patient", b"name", b"confidential", b"unauthorized", b"xxxxxxxxx", b"")


@needs_native
@given(TEXTS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("My name is I. Confidential xxxxxxxx xxxxxxxxx")
def test_words_among_some_are_those_of_the_text(text):
    assert set(Tokens(text, _native_words()).among(SOME)) == set(Tokens(text).among(SOME))


@needs_native
def test_words_are_asked_for_by_a_few_words():
    from relay.scan import _native

    words = _native.Words(b" a b ")
    assert words.among((b"c", b"b", b"a", b"")) == [b"b", b"a"]
    assert words.among(()) == []
    with pytest.raises(ValueError, match="too many"):
        words.among(tuple(b"%d" % number for number in range(65)))
    for wrong in ([b"a"], ("a",), (None,), None):
        with pytest.raises(TypeError):
            words.among(wrong)


def hits_of(spans):
    return [Hit("kind", "group", start, start + size, 0.5, b"%d" % start) for start, size in spans]


SPANS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 9)), max_size=20)


@needs_native
@given(SPANS, SPANS)
@settings(deadline=None)
@example([(5, 5), (9, 1), (3, 2), (3, 0)], [(0, 4), (4, 1), (5, 0), (10, 3)])
def test_what_stands_apart_is_told_the_same_both_ways(first, listed):
    from relay.scan import _native

    upto, apart = 0, []
    for start, size in sorted(listed):
        if start >= upto:
            upto = start + max(size, 1)
            apart.append((start, max(size, 1)))
    assert _native.apart(hits_of(first), hits_of(apart), 99) == find._apart(hits_of(first), hits_of(apart), 99)


@needs_native
@pytest.mark.parametrize("wrong", [
    (), ("", "", 3), ("", "", -1, 2), ("", "", 3, 2), ("", "", 3, 10), ("", "", 2**70, 2**70), ("", "", "3", 4), None,
])  # fmt: skip
def test_hits_that_are_none_are_refused(wrong):
    from relay.scan import _native

    for lists in (([wrong], []), ([], [wrong])):
        with pytest.raises((ValueError, OverflowError, TypeError)):
            _native.apart(*lists, 9)
    with pytest.raises(ValueError, match="no size"):
        _native.apart([], [], -1)
    with pytest.raises(TypeError):
        _native.apart((), [], 9)


LISTS = st.lists(
    st.builds(
        Hit,
        st.sampled_from(["condition", "drug", "name", "care"]),
        st.sampled_from(list(FindingGroup)),
        st.integers(0, 500),
        st.integers(0, 500),
        st.sampled_from([0.0, 0.2, 0.5, 1]),
        st.sampled_from([b"a", b"b", b"c", b""]),
        st.sampled_from(["", "", "hiv"]),
    ),
    max_size=30,
)


@needs_native
@given(LISTS, st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_what_is_listed_is_the_same_both_ways(hits, alike):
    from relay.scan import _native

    assert _native.listed(hits, alike, FindingGroup.HEALTH) == judge._listed(hits, alike, FindingGroup.HEALTH)


@needs_native
@given(LISTS, st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_what_is_weighed_is_the_same_both_ways(hits, distance):
    from relay.scan import _native

    told = (FindingGroup.IDENTIFIER, FindingGroup.HEALTH, {"name": 0.3, "care": 0.1}, distance)
    assert _native.weighed(hits, *told) == weigh._weighed(hits, *told)


@needs_native
@pytest.mark.parametrize("wrong", [
    None, (), ("k", "g", 1, 2, 0.5, b"n"), (1, "g", 1, 2, 0.5, b"n", ""), ("k", "g", 1, 2, 0.5, "n", ""),
    ("k", "g", 1, 2, 0.5, b"n", None),
])  # fmt: skip
def test_hits_that_are_none_are_neither_weighed_nor_listed(wrong):
    from relay.scan import _native

    with pytest.raises(ValueError, match="none"):
        _native.listed([wrong], 3, "g")
    with pytest.raises(ValueError, match="none"):
        _native.weighed([wrong], "g", "g", {}, 9)
    with pytest.raises(TypeError):
        _native.weighed([("k", "g", 1, 2, "heavy", b"n", "")], "g", "h", {}, 9)
    with pytest.raises(TypeError):
        _native.weighed([("k", "g", "first", 2, 0.5, b"n", "")], "g", "g", {}, 9)
    with pytest.raises(TypeError):
        _native.listed(3, 3, "g")


TOLD = ("kind", 0.5, "")
TABLE = {
    "words": (b"a", b"b", b""),
    "values": ((b"a", TOLD, None, None, False), None, None),
    "facts": ((0, 1, 0, 0, 1, 1 | 2, 1), (0,) * 7, (0,) * 7),  # neighbours from, many, near, far, term, traits, signs
    "beside": ((2, 0, 0, 1, 0),),
    "phrases": ((0, 0, 0, 2, 1),),
    "parts": (1, 2),
    "phrase_values": ((b"a b", TOLD),),
    "signs": (b":",),
    "terms": 1,
}


def rows_of(table):
    """The tables as octets, by name."""
    words, arena, entries = table["words"], b"".join(table["words"]), b""
    for number, (first, count, *rest) in enumerate(table["facts"]):
        entries += ENTRY.pack(len(b"".join(words[:number])), first, len(words[number]), count, *rest)
    return {
        "arena": arena,
        "entries": entries,
        **Index(words).tables(),
        "beside": b"".join(BESIDE.pack(*row) for row in table["beside"]),
        "phrases": b"".join(PHRASE.pack(*row) for row in table["phrases"]),
        "parts": array("I", table["parts"]).tobytes(),
        "signs": b"".join(int.to_bytes(sum(1 << sign for sign in signs), 32, "little") for signs in table["signs"]),
    }


def table_of(table, **wrong):
    from relay.scan import _native

    rows = {**rows_of(table), **wrong}
    values, phrases = table["values"], table["phrase_values"]
    return _native.Vocabulary(
        table["terms"],
        lambda number: values[number - 1],
        lambda number: phrases[number - 1],
        *(rows[name] for name in compiled.WORDS),
    )


def nobody(tokens, index, place):
    return None


def found_in(table, text, limit=9, at=nobody, labelled=nobody):
    from relay.scan import _native

    tokens = Tokens(text, _native.Words)
    return table.found(tokens, tokens.words, tokens.data, limit, Hit, "group", at, labelled)


@needs_native
def test_a_small_table_by_hand():
    table = table_of(TABLE)
    known = TABLE["values"][0]
    hits, tried = found_in(table, "x A b - a: a")
    assert hits == [("kind", "group", 2, 5, 0.5, b"a b", ""), ("kind", "group", 8, 9, 0.5, b"a", "")]
    assert {type(hit) for hit in hits} == {Hit}
    assert tried == [(1 | 8, 8, known, b"b", b"a")]
    assert found_in(table, "x A b - a: a", 1) == (hits[:1], [])


@needs_native
def test_persons_are_asked_for_where_words_tell_them():
    asked = []

    def at(tokens, index, place):
        asked.append((index, place))
        return Hit("name", "group", place, place + 3, 0.5, b"") if place else None

    table = table_of({
        **TABLE,
        "values": ((*TABLE["values"][0][:-1], True), (b"b", None, None, None, False), None),
        "facts": ((0, 0, 0, 0, 1, 1 | 2, 0), (0, 0, 0, 0, 0, 1 | 8, 0), (0,) * 7),
    })  # fmt: skip
    assert [hit[0] for hit in found_in(table, "B B a B x", at=at, labelled=at)[0]] == ["name", "name"]
    assert asked == [(0, 0), (1, 2), (3, 6)]
    asked.clear()
    assert [hit[0] for hit in found_in(table, "a B", labelled=lambda *_: Hit("name", "", 2, 3, 0.5, b""))[0]] == [
        "kind", "name",
    ]  # fmt: skip
    for wrong in ((), ("", "", -1, 2, 0.5, b""), ("", "", 1, "", 0.5, b""), "name", 3):
        with pytest.raises((ValueError, TypeError)):
            found_in(table, "B a B", at=lambda *_, wrong=wrong: wrong, labelled=nobody)
    with pytest.raises(ZeroDivisionError):
        found_in(table, "B a B", at=lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        found_in(table, "B a B", labelled=lambda *_: 1 / 0)


@needs_native
@pytest.mark.parametrize("wrong", [
    {"values": (None,) * 3}, {"values": ((b"a",), None, None)}, {"values": ((b"a", None, 0, 0, 0), None, None)},
    {"values": ((b"a", ("kind", 0.5), 0, 0, 0), None, None)}, {"phrase_values": (None,)}, {"phrase_values": ((b"",),)},
    {"phrase_values": ((b"", ("kind",)),)},
])  # fmt: skip
def test_values_that_are_not_whole_are_refused(wrong):
    with pytest.raises(ValueError, match="not whole"):
        found_in(table_of({**TABLE, **wrong}), "a a b")


@needs_native
def test_hits_are_tuples():
    from relay.scan import _native

    with pytest.raises(TypeError, match="no tuples"):
        table_of(TABLE).found(None, _native.Words(b" a "), b"a", 9, list, "", nobody, nobody)


@needs_native
@pytest.mark.parametrize("wrong", [
    {"facts": ((0, 1, 0, 0, 1, 3, 2), (0,) * 7, (0,) * 7)}, {"facts": ((1, 1, 0, 0, 1, 3, 1), (0,) * 7, (0,) * 7)},
    {"facts": ((2**32 - 1, 1, 0, 0, 1, 3, 1), (0,) * 7, (0,) * 7)}, {"facts": ((0, 1, 0, 0, 2, 3, 1),) * 3},
    {"facts": ((0, 1, 0, 0, 0, 3, 1),) * 3}, {"facts": ((0, 2, 0, 0, 1, 3, 1),) * 3}, {"beside": ((4, 0, 0, 1, 0),)},
    {"beside": ((0, 0, 0, 1, 0),)}, {"beside": ((2, 0, 0, 1, 4),)}, {"beside": ((2, 1, 0, 1, 0),)},
    {"beside": ((2, 2**32 - 1, 1, 1, 0),)}, {"beside": ((2, 0, 1, 1, 0),)}, {"phrases": ((1, 0, 0, 2, 1),)},
    {"phrases": ((0, 0, 2, 2, 1),)}, {"phrases": ((2**32 - 1, 0, 0, 2, 1),)}, {"phrases": ((0, 0, 0, 2, 2),)},
    {"phrases": ((0, 0, 0, 2, 0),)}, {"phrases": ((0, 0, 0, 0, 1),)}, {"parts": (1, 4)}, {"parts": (1, 0)},
    {"parts": (1,)}, {"terms": 0}, {"terms": -1},
])  # fmt: skip
def test_a_table_that_leads_astray_is_refused(wrong):
    with pytest.raises(ValueError, match=" "):
        table_of({**TABLE, **wrong})


@needs_native
@pytest.mark.parametrize("wrong", [
    {"arena": b"a"}, {"entries": b"1234567"}, {"filter": b""}, {"filter": bytes(24)}, {"filter": bytes(4)},
    {"prints": b""}, {"prints": bytes(8)}, {"prints": bytes(6), "slots": bytes(12)}, {"slots": bytes(32)},
    {"slots": b"\4\0\0\0" * 16}, {"prints": b"x" * 32}, {"prints": b"x" * 32, "slots": b"\1\0\0\0" * 16},
    {"beside": b"1"}, {"phrases": b"1"}, {"parts": b"1"}, {"signs": b"1"},
    {"parts": memoryview(bytes(12))[1:9]}, {"slots": memoryview(bytes(72))[1:65]},
], ids="-".join)  # fmt: skip
def test_tables_of_another_size_are_refused(wrong):
    with pytest.raises(ValueError, match=" "):
        table_of(TABLE, **wrong)


@needs_native
def test_names_on_lists():
    from relay.scan import _native

    words = [b"anne", b"maximiliane", b"roe"]
    rows = b"".join(
        LISTED.pack(at, len(word), lists) for at, word, lists in zip((0, 4, 15), words, (1, 2, 3), strict=True)
    )
    tables = [b"".join(words), rows, *Index(words).tables().values()]
    first, second, both = (_native.Names(lists, *tables) for lists in (1, 2, 3))
    asked = [*words, b"", b"ann", b"annex", b"roe ", "roe", None]
    assert [[word in names for word in asked[:3]] for names in (first, second, both)] == [
        [True, False, True], [False, True, True], [True] * 3,
    ]  # fmt: skip
    assert not any(word in both for word in asked[3:])
    for wrong in (b"", rows[:-1], LISTED.pack(0, 99, 1), LISTED.pack(99, 1, 1), LISTED.pack(2**32 - 1, 1, 1)):
        with pytest.raises(ValueError, match=" "):
            _native.Names(3, tables[0], wrong, *tables[2:])


@needs_native
def test_what_is_no_text_is_refused():
    from relay.scan import _native

    table = table_of(TABLE)
    for padded in (b"", b" ", b"a ", b" a", b"abc"):
        with pytest.raises(ValueError, match="space"):
            _native.Words(padded)
    for words, data in ((_native.Words(b" a "), b""), (_native.Words(b" a "), b"abc"), ([b"a"], b"a"), (None, b"a")):
        with pytest.raises(ValueError, match="not those of the text"):
            table.found(None, words, data, 9, Hit, "", nobody, nobody)
    with pytest.raises(TypeError):
        table.found(None, _native.Words(b" a "), "a", 9, Hit, "", nobody, nobody)


@needs_native
@given(st.text(alphabet="aeiostmlrb\xe9_9- .ITS", max_size=60))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("appendicitis")
@example(
    "Appendicitis, APPENDICITIS; appendicitis_ appendicitis9 appendicitis\xe9 \xe9appendicitis itis xxitis xxxitis"
)
@example("\xe9 9arthritis _arthritis arthritis")
def test_endings_are_those_of_the_automaton(finders, text):
    plain, native = (finder._use.endings for finder in finders)
    tokens, split = Tokens(text), Tokens(text, _native_words())
    nowhere = lambda start, end: False  # noqa: E731
    assert list(native.find(split, nowhere)) == list(plain.find(tokens, nowhere))
    assert list(native._ends(split.words, split.data)) == list(plain._ends(tokens.words, tokens.data))


@needs_native
@given(st.text(alphabet="99991a5bmgssnyoAk-/.) (@+\n\xe9", max_size=60))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("ssn219-45-9876 45yo 5mg 1EG4-TE5-MK73 (212) 736-5000 E11.9 12/03/1961 1.2.3.4 38+4")
@example("9")
@example("9a")
@example("a9")
@example("9-9-")
@example("9----9-9 9---999---9 9-9999-9 9)-)9-9 9)))9.9")
def test_places_at_digits_are_those_of_the_pattern(finders, text):
    plain, native = (finder._use.shapes for finder in finders)
    data = Tokens(text).data
    found = [
        [
            (place, several if several is None else [probe.number for probe in several])
            for place, several in finder.search(data, data.lower())._digits()
            if several is None or several
        ]
        for finder in (plain, native)
    ]
    assert found[1] == found[0]


@needs_native
@pytest.mark.parametrize("wrong", [(b"it",), (b"it1s",), ("itis",), (b"it\xefs",), (b"",), (None,)])
def test_endings_that_are_none_are_refused(wrong):
    from relay.scan import _native

    with pytest.raises(ValueError, match="ending"):
        _native.Endings(wrong)


@needs_native
def test_tables_of_anchors_that_are_none_are_refused():
    from relay.scan import _native

    groups = (((),) * 256,) * 4
    _native.Anchors(bytes(256), groups, {}, {}, (), True)
    for outline, middle in ((bytes(255), groups), (bytes(256), groups[:3]), (bytes(256), (((),) * 255,) * 4),
                            (bytes(256), ((0,) * 256,) * 4), (bytes(256), (None,) * 4)):  # fmt: skip
        with pytest.raises(ValueError, match="none"):
            _native.Anchors(outline, middle, {}, {}, (), True)
    with pytest.raises(ValueError, match="lower case"):
        _native.Anchors(bytes(256), groups, {}, {}, (), True).digits(b"12", b"1")


def _native_words():
    from relay.scan import _native

    return _native.Words


@pytest.mark.parametrize(("is_native", "version", "told"), [
    (True, 11, "compiled"), (False, 0, "its C part is not installed"), (False, 1, "its C part is of another version")
])  # fmt: skip
def test_people_are_told_which_way_runs(monkeypatch, is_native, version, told):
    monkeypatch.setattr(way, "NATIVE", is_native)
    monkeypatch.setattr(way, "_VERSION", version)
    assert told in way.told()
