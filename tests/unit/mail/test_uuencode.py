"""Files in a text itself."""

import binascii

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.uuencode import holds_yenc, uuencoded


def uu(name, content):
    lines = [binascii.b2a_uu(content[place : place + 45]) for place in range(0, len(content), 45)]
    return b"begin 644 " + name + b"\r\n" + b"".join(lines).replace(b"\n", b"\r\n") + b"`\r\nend\r\n"


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=4), st.binary(max_size=40))
def test_each_file_is_found_whatever_is_around_it(contents, around):
    between = b"\r\n" + around.replace(b"begin", b"") + b"\r\n"
    text = between + between.join(uu(b"a b.txt", content) for content in contents) + between
    assert list(uuencoded(text)) == [(b"a b.txt", content) for content in contents]


def test_of_a_damaged_file_the_beginning_is_read():
    text = uu(b"a", b"x" * 100).replace(b"`\r\nend\r\n", b"")
    ((name, content),) = uuencoded(text[:80])
    assert name == b"a"
    assert content.startswith(b"x" * 45)


def test_words_that_begin_so_are_no_file():
    assert list(uuencoded(b"We\nbegin 644 days later\nand\n")) == []
    assert list(uuencoded(b"begin 12 a\nbegin\n")) == []


def test_only_so_many_are_read():
    assert len(list(uuencoded(uu(b"a", b"x") * 500))) == 100


def test_yenc_is_told_by_its_line():
    assert holds_yenc(b"hello\n=ybegin line=128 size=4 name=a\nabcd\n=yend\n")
    assert not holds_yenc(b"hello =ybegin line=128")
