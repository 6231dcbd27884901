"""The outline of a message: the same parts as the standard library sees, however the octets come."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.leaf import MimeLimits
from relay.mail.mime import read_reference
from relay.mail.transfer import decode_transfer
from relay.portal.message.outline import OutlineLimits, OutlineReader
from relay.portal.message.transfer import decoder

CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*.eml"))
ODD = {
    "nested": b"Content-Type: multipart/mixed; boundary=a\r\n\r\npre\r\n--a\r\nContent-Type: multipart/alternative;\r\n"
    b" boundary=ab\r\n\r\n--ab\r\n\r\none\r\n--ab\r\nContent-Type: text/html\r\n\r\ntwo\r\n--ab--\r\nepi\r\n--a\r\n"
    b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--a--\r\nafter",
    "inner never closed": b"Content-Type: multipart/mixed; boundary=a\n\n--a\n"
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--a\n\ntwo\n--a--\n",
    "no last delimiter": b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\none\r\n--a\r\n\r\ntwo",
    "delimiter in a header": b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
    b"X: y\r\n--a\r\n\r\ntwo\r\n--a--\r\n",
    "no blank line": b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nno header\r\nhere\r\n--a--\r\n",
    "longer boundary": b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
    b"\r\n--ab\r\n--a --\r\nx\r\n--a \t\r\n\r\ny\r\n--a--",
    "message inside": b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: in\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\nin one\r\n--b--\r\n--a\r\n\r\nout\r\n--a--\r\n",
    "empty": b"",
    "header only": b"Subject: x",
    "empty parts": b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n--a\r\n\r\n\r\n--a--\r\n",
    "boundary at once": b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
    b"Content-Type: text/html\r\n\r\nx\r\n--a--",
}


def outline_of(content, sizes=(1 << 30,), limits=None):
    reader, at, turn = OutlineReader(limits), 0, 0
    while at < len(content):
        reader.feed(content[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return reader.finish()


def leaves_of(content, outline):
    return [
        (part.content_type, decode_transfer(content[part.start : part.end], part.encoding)[0])
        for part in outline.parts
        if not outline.children(part.index) and part.content_type != "message/rfc822"
    ]


def leaves_of_the_library(content):
    return [(leaf.content_type, leaf.data) for leaf in read_reference(content, MimeLimits()).leaves]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_has_the_parts_that_the_library_sees(path):
    content = path.read_bytes()
    outline = outline_of(content)
    assert leaves_of(content, outline) == leaves_of_the_library(content)
    assert outline.size == len(content)
    assert not outline.cut


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_odd_messages_have_the_parts_that_the_library_sees(content):
    assert leaves_of(content, outline_of(content)) == leaves_of_the_library(content)


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_the_pieces_do_not_matter(content):
    whole = outline_of(content)
    for size in range(1, 40):
        assert outline_of(content, (size,)) == whole, size


LINES = st.sampled_from(
    [b"--a", b"--b", b"--a--", b"--b--", b"", b"text", b"--", b"--c", b"Content-Type: multipart/mixed; boundary=b",
     b"Content-Type: message/rfc822", b"Content-Type: text/html", b"X: y", b"-", b"\t--a"]
)  # fmt: skip


@given(st.lists(LINES, max_size=20), st.sampled_from([b"\r\n", b"\n"]), st.lists(st.integers(1, 30), min_size=1))
def test_whatever_the_lines_the_pieces_do_not_matter(lines, end, sizes):
    content = b"Content-Type: multipart/mixed; boundary=a" + end * 2 + end.join(lines)
    whole = outline_of(content)
    assert outline_of(content, sizes) == whole
    for part in whole.parts:
        assert 0 <= part.start <= part.end <= len(content)
        if part.parent >= 0:
            assert whole.parts[part.parent].start <= part.start <= part.end <= whole.parts[part.parent].end


@given(st.binary(max_size=400), st.integers(1, 50))
def test_no_octets_raise(content, size):
    assert outline_of(content, (size,)) == outline_of(content)


def test_a_header_without_end_costs_no_more_than_its_limit():
    content = b"X: " + b"y" * 1_000_000 + b"\r\nSubject: late\r\n\r\nbody"
    limits = OutlineLimits(header_bytes=1000)
    for sizes in ((1 << 30,), (777,), (64 * 1024,)):
        reader = outline_of(content, sizes, limits)
        assert content[reader.parts[0].start : reader.parts[0].end] == b"body"
        assert sum(len(value) for _, value in reader.parts[0].headers) <= 1000


def test_too_many_parts_stop_at_the_limit():
    content = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\nx\r\n" * 1000
    outline = outline_of(content, (1000,), OutlineLimits(parts=10))
    assert len(outline.parts) == 10
    assert outline.cut


def test_too_deep_becomes_a_file():
    content = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(50))
    outline = outline_of(content, (100,), OutlineLimits(depth=5))
    assert outline.cut
    assert len(outline.parts) == 6
    assert outline.parts[-1].content_type == "application/octet-stream"


def test_names_and_marks_of_parts():
    content = (
        b'From: a@b.example\r\nContent-Type: multipart/related; boundary=a; start="<root@x>"\r\n\r\n'
        b"--a\r\nContent-Type: text/plain; charset=utf-8; format=flowed; delsp=yes\r\nContent-ID: <root@x>\r\n\r\nx\r\n"
        b"--a\r\nContent-Type: image/png\r\n"
        b"Content-Disposition: attachment; filename*=utf-8''r%C3%A9sultat.png\r\n\r\n\r\n"
        b"--a--\r\n"
    )
    message, text, image = outline_of(content).parts
    assert message.root == text.content_id == "root@x"
    assert message.header("from") == "a@b.example"
    assert (text.flowed, text.delsp, text.charset) == (True, True, "utf-8")
    assert (image.attached, image.filename) == (True, "résultat.png")
    assert dataclasses.replace(image, filename="") != image


@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable", "", "x-unknown"]), st.integers(1, 70))
def test_decoding_by_pieces_gives_what_decoding_at_once_gives(content, encoding, size):
    whole = decoder(encoding)
    expected = whole.feed(content) + whole.finish()
    parts = decoder(encoding)
    pieces = [parts.feed(content[at : at + size]) for at in range(0, len(content), size)]
    assert b"".join(pieces) + parts.finish() == expected


@given(st.binary(max_size=3000), st.integers(1, 200))
def test_what_was_encoded_comes_back(content, size):
    import base64
    import quopri

    for encoding, encoded in (
        ("base64", base64.encodebytes(content)),
        ("quoted-printable", quopri.encodestring(content)),
    ):
        parts = decoder(encoding)
        pieces = [parts.feed(encoded[at : at + size]) for at in range(0, len(encoded), size)]
        expected = content if encoding == "base64" else quopri.decodestring(encoded)
        assert b"".join(pieces) + parts.finish() == expected


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [(b"QUJD", b"ABC"), (b"QUI=", b"AB"), (b"QQ==", b"A"), (b"QUJ", b"AB"), (b"Q", b""), (b"Q!U\nJ D", b"ABC"),
     (b"QQ==QUJD", b"AABC"), (b"====", b"")],
)  # fmt: skip
def test_base64_that_is_not_well_formed(encoded, expected):
    for size in (1, 3, 100):
        parts = decoder("base64")
        pieces = [parts.feed(encoded[at : at + size]) for at in range(0, len(encoded), size)]
        assert b"".join(pieces) + parts.finish() == expected
