"""Texts cut at runs of tags, against the plain way."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.core import markup
from relay.core.markup import cut, cut_plainly
from relay.core.octets import NATIVE

needs_native = pytest.mark.skipif(not NATIVE, reason="no compiler or no headers of Python")
PIECES = st.sampled_from(
    ["<b>", "</b>", "<td class='x'>", "<p>\n <br>", "<style>", "</STYLE\n>", "<title x>", "</title>", "<stylex>",
     "<style:x>", "<title\xe9>", "<\u017ftyle>", "<titl", "<style", "</", "<", ">", " ", "\n\t\v\f\r",
     "\x1c", "\xa0", "text", "\xe9\u0416\U0001f600", "\ud800", "\0"]
)  # fmt: skip
SOURCES = st.lists(PIECES, max_size=16).map("".join)


@given(SOURCES)
def test_runs_are_all_tags_and_texts_hold_none(source):
    found = cut(source)
    if found is None:
        assert source.rfind("<") > source.rfind(">")
        return
    runs = [found.runs[number] for number in found.order]
    assert len(set(found.runs)) == len(found.runs) == len(set(found.order))
    assert all(run.startswith("<") and run.endswith(">") for run in runs)
    assert found.joined(found.runs, []) == source
    assert "<" not in found.joined([""] * len(found.runs), [])


@pytest.mark.parametrize("tag", ["<style>", "</style>", "<Title a=b>", "</TITLE >"])
def test_a_tag_of_a_style_or_title_stands_alone(tag):
    for source in (f"<b>{tag}<i>", f"<b> {tag} <i>"):
        found = cut(source)
        assert found is not None
        assert [found.runs[number] for number in found.order] == ["<b>", tag, "<i>"]


def test_what_is_behind_a_run_can_be_left_out():
    found = cut("a<style>b</style>c<p>d<p>e")
    assert found is not None
    assert found.joined(["", "", "\n"], [0, 2]) == "ac\n\ne"


@needs_native
@given(SOURCES, st.lists(st.integers(0, 20), unique=True).map(sorted))
@settings(max_examples=500)
@example("<style", [])
@example("x<p", [])
@example("<>" * 300 + "<a>" * 300, [3, 299])
def test_both_ways_say_the_same(source, dropped):
    found, plain = cut(source), cut_plainly(source)
    assert (found is None) == (plain is None)
    if found is None or plain is None:
        return
    assert (found.runs, found.order) == (plain.runs, plain.order)
    marks = ["\n\t "[: number % 3] for number in range(len(found.runs))]
    behind = [place for place in dropped if place < len(found.order)]
    assert found.joined(marks, behind) == plain.joined(marks, behind)


@needs_native
def test_runs_that_share_a_place_in_the_table_are_told_apart():
    """Alike in their last octets and length, in turn."""
    source = "".join(f"<{number:04} same-ending>x" for number in (*range(3000), *range(3000)))
    found, plain = cut(source), cut_plainly(source)
    assert found is not None
    assert plain is not None
    assert (found.runs, found.order) == (plain.runs, plain.order)


@needs_native
@pytest.mark.parametrize(
    ("places", "order", "marks", "dropped"),
    [
        (b"\0" * 7, [0], [""], []),
        (b"\0" * 8, [0, 0], [""], []),
        (b"\1\0\0\0\xff\0\0\0", [0], [""], []),
        (b"\2\0\0\0\1\0\0\0", [0], [""], []),
        (b"\1\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0", [0, 0], [""], []),
        (b"\0\0\0\0\3\0\0\0", [1], [""], []),
        (b"\0\0\0\0\3\0\0\0", [-1], [""], []),
        (b"\0\0\0\0\3\0\0\0", [0], ["long"], []),
        (b"\0\0\0\0\3\0\0\0", [0], [""], [-1]),
        (b"\0\0\0\0\3\0\0\0", ["x"], [""], []),
    ],
)
def test_places_that_are_none_of_the_text_are_refused(places, order, marks, dropped):
    with pytest.raises((ValueError, IndexError, TypeError)):
        markup._octets.joined("<b>c", order, places, marks, dropped)
