"""Delimiters are found where the rule says, however they are found."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.split import cut

PIECES = st.sampled_from([b"--", b"-", b"ab", b"a", b"\r\n", b"\n", b" ", b"\t", b"--ab", b"\n--ab\r\n", b"text"])
MARKS = st.sampled_from([b"ab", b"a", b"-a", b"--", b"a-"])


def plain(body, mark):
    """RFC 2046 section 5.1.1 as a pattern."""
    pieces = re.split(rb"(?:\A|(?<=\n))--" + re.escape(mark) + rb"(--)?[ \t]*(?:\r?\n|\Z)", body)
    return [closing is not None for closing in pieces[1::2]], pieces[::2]


@given(st.lists(PIECES, max_size=14).map(b"".join), MARKS)
@example(b"--ab\r\n--ab\r\nx\r\n--ab--", b"ab")
@example(b"x--ab\r\n\n--abc\n---a \t", b"-a")
def test_the_quick_cut_is_the_plain_one(body, mark):
    for around in (b"", b"\r\n--ab\r\n", b"x--a"):
        held = around + body + around
        closings, places = cut(held, mark, len(around), len(held) - len(around))
        assert (closings, [held[start:end] for start, end in places]) == plain(body, mark)
