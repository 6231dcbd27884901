"""The compiled words are what their sources give, not used for other sources, and break no process when damaged."""

import os
import subprocess
import sys
import zlib
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.core.errors import ProblemsError
from relay.core.phi import Phi
from relay.extract import tables
from relay.extract.engine import ScanEngine, load_judge
from relay.scan.compiled import DamagedTablesError
from relay.scan.icd import IcdTable
from relay.scan.model import Term, Weights
from relay.scan.names import NameFinder, NameTable
from relay.scan.shapes import ShapeFinder, all_shapes
from relay.scan.terms import TermFinder
from relay.scan.tokens import Tokens
from relay.scan.tuning import Tuning
from relay.scan.vocabulary import NativeVocabulary
from relay.scan.way import NATIVE
from relay.scan.word_sources import make
from relay.scan.word_tables import open_tables

ROOT = Path(__file__).parents[3]
DATA = files("relay.scan") / "data"
TEXT = "Patient Jane Roe, MRN 4471829, has diabetes mellitus type 2 and shortness of breath."
needs_native = pytest.mark.skipif(not NATIVE, reason="the scan's C part is not there")


@pytest.fixture(scope="module")
def sources():
    shapes = ShapeFinder(all_shapes(IcdTable((DATA / "icd10cm.bin").read_bytes())))
    return tables.read_sources(Weights.parse((DATA / "weights.yaml").read_bytes()), shapes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The file as the installation makes it, in a process in which sets are in another order."""
    file = tmp_path_factory.mktemp("tables") / "_tables.bin"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "relay.extract.tables", file], check=True, env=environment, timeout=100)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    return file.read_bytes()


def test_the_same_sources_give_the_same_octets(sources, made):
    assert make(sources) == made


def test_what_the_package_has_is_what_its_sources_give(sources, made):
    file = tables.tables_file()
    assert file.is_file(), "relay/scan/_tables.bin is missing: `make venv` makes it"
    image = file.read_bytes()
    if open_tables(memoryview(image), sources.digest()) is not None:  # another is not used, see below
        assert image == made


def test_each_word_is_known_for_what_the_sources_say(sources, made):
    found, lexicon = open_tables(memoryview(made), sources.digest()), sources.lexicon()
    assert found is not None
    for word in lexicon.vocabulary:
        number = found.number(word)
        assert found.word(number) == word
        term = lexicon.singles.get(word)
        assert found.told(number) == (term and (term.kind, term.weight, term.sensitive))
        phrases, _ = found.anchored(number)
        around = lexicon.anchored.get(word)
        sides = [*around.before.values(), *around.after.values()] if around else []
        assert phrases == {
            tuple(phrase.words): ((phrase.before, phrase.size), phrase.term) for side in sides for phrase in side
        }
    assert found.number(b"zorblax") == 0
    assert found.nobody() == sources.names().nobody


@needs_native
def test_each_name_is_on_its_lists(sources, made):
    found, names = open_tables(memoryview(made), sources.digest()), sources.names()
    lists = (names.first, names.first_or_word, names.last, names.last_or_word)
    for number, listed in enumerate(lists):
        mapped = found.listed(1 << number)
        assert all((name in mapped) == (name in listed) for name in names.given | names.surnames)
    assert b"zorblax" not in found.listed(15)


@needs_native
@pytest.mark.parametrize("change", ["data", "levels", "shapes"])
def test_for_other_sources_the_file_is_not_used(sources, made, tmp_path, change):
    file = tmp_path / "_tables.bin"
    file.write_bytes(made)
    other = {
        "data": sources._replace(lexicons=(b"@kind=condition level=strong\nzorblax fever\n", *sources.lexicons)),
        "levels": sources._replace(levels={**sources.levels, "strong": 0.123}),
        "shapes": sources._replace(shapes=ShapeFinder(())),
    }[change]
    assert open_tables(memoryview(made), other.digest()) is None
    used = tables.load_tables(other, file)
    assert (used.number(b"zorblax") > 0) is (change == "data")


@needs_native
def test_without_the_file_the_scan_finds_the_same(made, tmp_path, monkeypatch):
    verdicts = []
    for name, octets in (("with", made), ("without", b"")):
        file = tmp_path / name
        if octets:
            file.write_bytes(octets)
        monkeypatch.setattr(tables, "tables_file", lambda file=file: file)
        verdicts.append(ScanEngine(load_judge(lambda plain: plain)).scan_text(TEXT))
    assert verdicts[0] == verdicts[1]
    assert verdicts[0].phi is Phi.CERTAIN


@needs_native
@pytest.mark.parametrize(("damage", "told"), [
    (lambda octets: b"", "empty"),
    (lambda octets: octets[:9], "cut off"),
    (lambda octets: b"x" + octets[1:], "no file of tables"),
    (lambda octets: octets[:-1], "checksum"),
    (lambda octets: octets[: len(octets) // 2], "checksum"),
    (lambda octets: octets[:2_000_000] + bytes([octets[2_000_000] ^ 1]) + octets[2_000_001:], "checksum"),
], ids=["empty", "stump", "another", "less", "half", "flipped"])  # fmt: skip
def test_a_damaged_file_is_one_clear_error(made, tmp_path, monkeypatch, damage, told):
    file = tmp_path / "_tables.bin"
    file.write_bytes(damage(made))
    monkeypatch.setattr(tables, "tables_file", lambda: file)
    with pytest.raises(ProblemsError) as caught:
        load_judge(lambda plain: plain)
    (problem,) = caught.value.problems
    assert problem.where == str(file)
    assert told in problem.what
    assert "install" in problem.hint


@needs_native
@given(
    st.lists(st.tuples(st.integers(0, 2**32), st.binary(min_size=1, max_size=9)), min_size=1, max_size=6), st.booleans()
)
@settings(max_examples=150, deadline=None)
@example([(0, b"\xff" * 8)], True)
def test_whatever_the_file_holds_no_process_breaks(sources, made, blows, is_signed):
    """With the checksum put right, so that it is the numbers themselves that are looked at."""
    image = bytearray(made)
    for place, octets in blows:
        start = 100 + place % (len(image) - 120)
        image[start : start + len(octets)] = octets
    if is_signed:
        image[48:52] = zlib.crc32(image[52:]).to_bytes(4, sys.byteorder)
    try:
        found = open_tables(memoryview(bytes(image)), sources.digest())
        words = NativeVocabulary(found, sources.shapes)
        names = NameTable.listed(found.listed, found.nobody())
    except DamagedTablesError:
        return
    weights = defaultdict(float)
    TermFinder(words, NameFinder(names, weights)).find(Tokens(TEXT, words.split), 99)


@needs_native
@pytest.mark.parametrize("words", [
    ["x" * 70_000], ["zorblax " + "of the " * 35_000], [f"zorblax a{number}" for number in range(66_000)]
], ids=["octets", "words", "neighbours"])  # fmt: skip
def test_what_no_row_has_room_for_is_one_clear_error(words):
    term = Term(kind="condition", weight=0.4)
    tuning = Tuning(terms=tuple((tuple(word.encode().split()), term) for word in words), name="own.yaml")
    with pytest.raises(ProblemsError) as caught:
        load_judge(lambda plain: plain, tuning=tuning)
    (problem,) = caught.value.problems
    assert problem.where == "own.yaml: terms"
    assert "more than 65,535" in problem.what
