"""Octets found in large content, against the plain way."""

import shutil
import sysconfig
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.core.octets import (
    NATIVE,
    end_of_data,
    end_of_data_plainly,
    finder,
    holds,
    holds_plainly,
    traits,
    traits_plainly,
)

LITERALS = [b"  ", b" \r\n", b"\r\n."]
PIECES = st.sampled_from([b" ", b"\r", b"\n", b".", b"\r\n", b"a", b"\xe9", b"\0"])


@pytest.mark.parametrize("literal", LITERALS)
@given(st.lists(PIECES, max_size=8).map(b"".join), st.integers(0, 70_000), st.sampled_from([b"x", b"\xff", b" x"]))
def test_they_are_found_wherever_they_are(literal, piece, before, filler):
    for content in (piece, filler * before + piece, filler * before + piece + filler * (70_000 - before)):
        assert holds(content, literal) is holds(bytearray(content), literal) is (literal in content)


@given(
    st.sampled_from([b"--a", b"--aa", b"-", b"--=_\xff"]),
    st.lists(st.tuples(st.integers(0, 9_000), st.sampled_from([b"-", b"--", b"--a", b"--=_\xff"])), max_size=8),
    st.integers(0, 20_000),
    st.integers(0, 20_000),
    st.sampled_from([0, 1 << 20]),
)
def test_where_they_are_is_told_as_bytes_tell_it(literal, pieces, start, less, octets):
    content = b"".join(b"x" * gap + piece for gap, piece in pieces)
    stop = max(start, len(content) - less)
    assert finder(literal, octets)(content, start, stop) == content.find(literal, start, stop)


def test_a_boundary_that_stands_everywhere_is_found_everywhere():
    literal, content = b"--a", b"--a\n" * 50_000
    find, places, at = finder(literal, len(content)), 0, -1
    while (at := find(content, at + 1, len(content))) >= 0:
        places += 1
    assert places == 50_000


# --- the two ways -----------------------------------------------------------

CAN_COMPILE = (
    shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is not None
    and Path(sysconfig.get_path("include"), "Python.h").is_file()
)
needs_native = pytest.mark.skipif(not NATIVE and not CAN_COMPILE, reason="no compiler or no headers of Python")

ODD = st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\n.\r\n", b"\xe9", b"\x80", b"\0", b"a"])
MAIL = st.lists(st.one_of(ODD, st.integers(0, 90).map(lambda count: b"x" * count)), max_size=12).map(b"".join)
"""Octets with something odd anywhere in a block, and at its edges."""


@needs_native
def test_what_can_be_compiled_is_what_runs():
    assert NATIVE, "relay/core/_octets.abi3.so is missing or old: `make venv` builds it"


@needs_native
@given(MAIL, st.sampled_from([0, 1, 2, 15, 16, 17, 62, 64, 98, 998, 2**63 - 1]), st.integers(0, 3))
@settings(max_examples=1000, deadline=None)
@example(b"", 0, 0)
@example(b"\n", 0, 0)
@example(b"\r", 0, 0)
@example(b"x" * 16 + b"\n", 998, 0)
@example(b"x" * 15 + b"\r\n", 15, 0)
@example(b"x" * 99, 98, 0)
@example(b"x" * 98 + b"\r\n", 98, 0)
@example(b"x" * 98 + b"\n", 98, 0)
def test_both_ways_see_the_same(content, longest, cut):
    for octets in (content, bytearray(content), content[cut:]):  # cut: no block lies where the memory begins
        assert traits(octets, longest) == traits_plainly(octets, longest)


@needs_native
@given(
    st.sampled_from([b"\0", b"\x80", b"\r", b"\n", b"\r\n.", b"y" * 100, b"\r\n.\r\n", b"\r\n\r\n", b""]),
    st.integers(0, 40_000),
    st.sampled_from([b"x" * 76 + b"\r\n", b"x" * 14 + b"\r\n", b"\r\n", b"x" * 99 + b"\r\n"]),
)
@settings(max_examples=200, deadline=None)
def test_large_content_is_the_same_wherever_something_odd_lies(odd, place, line):
    content = line * (40_000 // len(line))
    content = content[:place] + odd + content[place:]
    for longest in (76, 98, 998):
        assert traits(content, longest) == traits_plainly(content, longest)
    for start in (0, place, place + 1, len(content) - 5, len(content) + 1):
        assert end_of_data(content, start) == end_of_data_plainly(content, start)


@needs_native
@given(MAIL, MAIL, st.integers(0, 60))
@settings(max_examples=1000, deadline=None)
@example(b"\r\n.\r\n", b"", 0)
@example(b"", b"\r\n.\r\n", 0)
@example(b"\r\n.\r", b"", 0)
@example(b"\r\n.\r\n.\r\n", b"", 1)
def test_both_ways_find_the_end_of_data(before, after, start):
    for content in (before + after, bytearray(before + b"\r\n.\r\n" + after), b"\r\n." * 20 + before):
        assert end_of_data(content, start) == end_of_data_plainly(content, start)


@needs_native
def test_what_is_no_content_is_refused():
    from relay.core import _octets

    for wrong in ("a", None, 1):
        with pytest.raises(TypeError):
            _octets.traits(wrong, 1)
        with pytest.raises(TypeError):
            _octets.end_of_data(wrong, 1)
    with pytest.raises(ValueError, match="fewer than no octets"):
        _octets.traits(b"a", -1)
    assert _octets.end_of_data(b"\r\n.\r\n", -1) == 0


TEXT = st.text("ab<\u00e9\u0416\U0001f600\ud800", max_size=60)


@needs_native
@given(TEXT, st.text("ab<\u00e9\u0416\ud800", max_size=4), st.integers(0, 40))
@example("", "", 0)
@example("a", "a" * 20, 0)
@example("\ud800" + "b" * 40 + "a<", "a<", 0)
def test_text_is_told_the_same_both_ways(text, literal, before):
    for content in (text, "x" * before + text + literal, text + "a" * before):
        assert holds(content, literal) is holds_plainly(content, literal)
        octets, some = content.encode("utf-8", "surrogatepass"), literal.encode("utf-8", "surrogatepass")
        assert holds(octets, some) is holds_plainly(octets, some)


@needs_native
@pytest.mark.parametrize(("content", "literal"), [("a", b"a"), (b"a", "a"), (1, b"a"), (b"a", None)])
def test_only_octets_in_octets_and_text_in_text_are_looked_for(content, literal):
    with pytest.raises(TypeError):
        holds(content, literal)
