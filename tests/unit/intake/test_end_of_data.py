"""Where a message ends (law 6 of SMTP if there is one): at CRLF.CRLF alone, however the octets are cut."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core.reply import Reply
from relay.smtp.endofdata import BARE_NEWLINE, LONG_LINE, NUL, TOO_BIG, BareNewlines, DataReader

END = b"\r\n.\r\n"
NEWLINES = (b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\r\n\n", b"\n\n", b"\r\r")
VARIANTS = [a + b"." + b for a, b in itertools.product(NEWLINES, repeat=2) if (a + b"." + b).find(END) < 0]


def read(pieces, *, max_size=10_000, max_line=1000, bare=BareNewlines.REFUSE):
    """The result and what follows the end, or ``None`` when the end never came."""
    reader = DataReader(max_size=max_size, max_line=max_line, bare_newlines=bare)
    for number, piece in enumerate(pieces):
        rest = reader.feed(piece)
        if rest is not None:
            return reader.result(), rest + b"".join(pieces[number + 1 :])
    return None


def cuts(data):
    """Whole, octet by octet, and in two at every place."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def stuff(content):
    """What an honest client makes of a message with CRLF line ends."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_nothing_but_crlf_dot_crlf_ends_the_data(variant):
    smuggled = b"a" + variant + b"MAIL FROM:<evil@clinic.example>"
    for pieces in cuts(smuggled):
        assert read(pieces) is None
    for pieces in cuts(smuggled + END + b"NOOP\r\n"):
        assert read(pieces) == (BARE_NEWLINE, b"NOOP\r\n")


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_normalising_moves_no_end_either(variant):
    smuggled = b"a" + variant + b"MAIL FROM:<evil@clinic.example>"
    results = {read(tuple(pieces), bare=BareNewlines.NORMALISE) for pieces in cuts(smuggled + END + b"NOOP\r\n")}
    ((content, rest),) = results
    assert rest == b"NOOP\r\n"
    assert content.replace(b"\r\n", b"").count(b"\r") == content.replace(b"\r\n", b"").count(b"\n") == 0
    assert content.endswith(b"MAIL FROM:<evil@clinic.example>\r\n")


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".x\r\n.\r\n", b"x\r\n"),
        (b"...\r\n..\r\n.\r\n", b"..\r\n.\r\n"),
        (b"a..\r\n.\r\n", b"a..\r\n"),
    ],
)
def test_dots(wire, content):
    for pieces in cuts(wire + b"rest"):
        assert read(pieces) == (content, b"rest")


LINES = st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a.", b"text"]), max_size=8)


@given(LINES, st.binary(max_size=20), st.data())
def test_what_a_client_stuffs_comes_out_as_it_was(lines, rest, data):
    content = b"".join(line + b"\r\n" for line in lines)
    wire = stuff(content) + rest
    places = sorted(data.draw(st.sets(st.integers(0, len(wire)))))
    pieces = [wire[a:b] for a, b in zip([0, *places], [*places, len(wire)], strict=True)]
    assert read(pieces) == (content, rest)


@given(
    st.text("\r\n.ab\0", max_size=40), st.integers(1, 30), st.integers(1, 10), st.sampled_from(BareNewlines), st.data()
)
@example("\r\n.\r\n", 1, 1, BareNewlines.REFUSE, None)
def test_the_answer_does_not_depend_on_the_pieces(text, max_size, max_line, bare, data):
    wire = text.encode() + END
    whole = read([wire], max_size=max_size, max_line=max_line, bare=bare)
    for pieces in cuts(wire) if data is None or len(wire) < 20 else [list(cuts(wire))[1]]:
        assert read(pieces, max_size=max_size, max_line=max_line, bare=bare) == whole
    result = whole[0]
    if isinstance(result, Reply):
        assert result in {BARE_NEWLINE, LONG_LINE, NUL, TOO_BIG}
    else:
        assert len(result) <= max_size
        assert max(map(len, result.split(b"\r\n"))) <= max_line
        assert b"\0" not in result


def test_memory_is_bounded_while_a_message_is_thrown_away():
    reader = DataReader(max_size=1000, max_line=100, bare_newlines=BareNewlines.REFUSE)
    most = 0
    for _ in range(100):
        assert reader.feed(b"x" * 100) is None
        most = max(most, reader.held)
    assert most <= 1000 * 4 // 3 + 8 + 100
    assert reader.hopeless
