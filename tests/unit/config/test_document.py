from itertools import islice

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from relay.config import document
from relay.config.document import MAX_BYTES, parse, read
from relay.core.errors import ProblemsError

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(WORDS, VALUES, max_size=5), st.booleans())
def test_what_another_writer_wrote_is_read_back(data, flow):
    written = yaml.safe_dump(data, allow_unicode=True, default_flow_style=flow, sort_keys=False)
    assert parse(written, "x").data == data


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_place(text):
    problems = ()
    try:
        parse(text, "x")
    except ProblemsError as error:
        problems = error.problems
    assert all(problem.where.startswith("x") and problem.what for problem in problems)


@pytest.mark.parametrize(
    "word", ["on", "off", "yes", "no", "y", "1:30", "2027-01-31", "0x10", ".inf", "<<", "1_000", "1e5", "0E0"]
)
def test_nothing_is_guessed_from_plain_words(word):
    assert parse(f"a: {word}", "x").data == {"a": word}


def test_every_value_knows_its_line():
    found = parse("a: 1\nb:\n  - c: 2\n    d:\n      - 3\n      - 4\n", "conf/x.yaml")
    assert found.where(("b", 0, "d", 1)) == "conf/x.yaml:6"
    assert found.where(("b", 0, "d")) == "conf/x.yaml:4"
    assert found.where(("b", 0, "missing", "deeper")) == "conf/x.yaml:3"
    assert found.where(("missing",)) == "conf/x.yaml:1"
    assert found.raw(("b", 0, "d", 1)) == 4
    assert found.raw(("b", 7)) is None


def test_an_alias_brings_its_lines():
    found = parse("a: &x\n  p: 1\nb: *x\n", "x")
    assert found.data == {"a": {"p": 1}, "b": {"p": 1}}
    assert found.where(("b", "p")) == "x:2"


def test_aliases_cannot_multiply_without_end():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ProblemsError, match="too many values"):
        parse("\n".join(lines), "x")


def test_an_alias_inside_its_own_anchor_is_refused():
    with pytest.raises(ProblemsError, match="names no finished anchor"):
        parse("a: &a [*a]", "x")


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, "? " * 1000, "- " * 1000], ids=lambda text: text[:2])
def test_deep_nesting_is_refused_and_harmless(text):
    with pytest.raises(ProblemsError):
        parse(text, "x")


def test_aliases_cannot_nest_deeper_than_what_is_written_out():
    lines = [f"a{n}: &a{n} [[[[[[[[[[{f'*a{n - 1}' if n else 'x'}]]]]]]]]]]" for n in range(4)]
    with pytest.raises(ProblemsError, match="too much nesting"):
        parse("\n".join(lines), "x")


def test_an_anchor_takes_its_own_lines_and_no_others():
    found = parse("o: 1\na: &x\n  p:\n    q: 1\nb: 2\nc:\n  - *x\n", "x")
    assert found.data["c"] == [{"p": {"q": 1}}]
    assert [found.where(("c", 0, *rest)) for rest in ((), ("p",), ("p", "q"))] == ["x:7", "x:3", "x:4"]
    assert {place for place in found.lines if place[:2] == ("c", 0)} == {
        ("c", 0), ("c", 0, "p"), ("c", 0, "p", "q")
    }  # fmt: skip


def test_many_anchors_cost_no_more_than_many_values(monkeypatch):
    looked = []
    monkeypatch.setattr(document, "islice", lambda items, most: looked.append(most) or islice(items, most))
    parse("".join(f"- &a{number} x\n" for number in range(1000)), "x")
    assert sum(looked) <= 1000


def test_all_doubled_keys_are_told_at_once():
    with pytest.raises(ProblemsError) as caught:
        parse("a: 1\nb: 2\na: 3\nc:\n  d: 1\n  d: 2\n", "x")
    assert [problem.where for problem in caught.value.problems] == ["x:3", "x:6"]


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path):
    with pytest.raises(ProblemsError, match="No such file"):
        read(tmp_path / "absent.yaml")
    with pytest.raises(ProblemsError, match="directory"):
        read(tmp_path)
    (tmp_path / "huge").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ProblemsError, match="larger than 4 MiB"):
        read(tmp_path / "huge")
