"""Octets found in large content, against the plain way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.octets import holds

LITERALS = [b"  ", b" \r\n", b"\r\n."]
PIECES = st.sampled_from([b" ", b"\r", b"\n", b".", b"\r\n", b"a", b"\xe9", b"\0"])


@pytest.mark.parametrize("literal", LITERALS)
@given(st.lists(PIECES, max_size=8).map(b"".join), st.integers(0, 70_000), st.sampled_from([b"x", b"\xff", b" x"]))
def test_they_are_found_wherever_they_are(literal, piece, before, filler):
    for content in (piece, filler * before + piece, filler * before + piece + filler * (70_000 - before)):
        assert holds(literal)(content) == holds(literal)(bytearray(content)) == (literal in content)
