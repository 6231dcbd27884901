"""Octets found in large content, against the plain way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.octets import finder, holds

LITERALS = [b"  ", b" \r\n", b"\r\n."]
PIECES = st.sampled_from([b" ", b"\r", b"\n", b".", b"\r\n", b"a", b"\xe9", b"\0"])


@pytest.mark.parametrize("literal", LITERALS)
@given(st.lists(PIECES, max_size=8).map(b"".join), st.integers(0, 70_000), st.sampled_from([b"x", b"\xff", b" x"]))
def test_they_are_found_wherever_they_are(literal, piece, before, filler):
    for content in (piece, filler * before + piece, filler * before + piece + filler * (70_000 - before)):
        assert holds(literal)(content) == holds(literal)(bytearray(content)) == (literal in content)


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
