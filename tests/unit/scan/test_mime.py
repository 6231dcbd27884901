"""Reading a message: every part accounted for, within limits, and two readers that agree."""

import base64
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.mail.leaf import MimeLimits
from relay.mail.mime import read_message, read_reference
from relay.mail.split import read_split
from relay.mail.transfer import decode_transfer
from tests.support.laborious import laborious

LIMITS = MimeLimits()


def texts(tree):
    return [(leaf.number, leaf.data.decode("utf-8", "replace").strip()) for leaf in tree.leaves]


def test_parts_are_numbered_as_imap_numbers_them():
    outer = MIMEMultipart()
    outer.attach(MIMEText("one"))
    inner = MIMEMultipart("alternative")
    inner.attach(MIMEText("two"))
    inner.attach(MIMEText("<p>three</p>", "html"))
    outer.attach(inner)
    assert texts(read_message(outer.as_bytes(), LIMITS)) == [("1", "one"), ("2.1", "two"), ("2.2", "<p>three</p>")]


def test_a_message_inside_is_read_with_its_header():
    inside = MIMEText("DOB 03/04/1961")
    inside["Subject"] = "Jane Roe"
    outer = MIMEMultipart()
    outer.attach(MIMEText("see below"))
    outer.attach(MIMEMessage(inside))
    tree = read_message(outer.as_bytes(), LIMITS)
    assert ("2.1", "DOB 03/04/1961") in texts(tree)
    assert any("Jane Roe" in text for _, text in tree.notes)


def test_text_around_the_parts_is_not_lost():
    content = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
        + b"secret before " * 30
        + b"\r\n--b\r\n\r\nin\r\n--b--\r\n"
        b"secret after\r\n"
    )
    notes = " ".join(text for _, text in read_message(content, LIMITS).notes)
    assert "secret before" in notes
    assert "secret after" in notes


def nested(depth):
    part = b"Content-Type: text/plain\r\n\r\ndeep down\r\n"
    for level in range(depth):
        mark = b"m%d" % level
        part = b"Content-Type: multipart/mixed; boundary=" + mark + b"\r\n\r\n--" + mark + b"\r\n" + part
        part += b"\r\n--" + mark + b"--\r\n"
    return part


@pytest.mark.parametrize(
    ("content", "limits", "reason"),
    [
        (nested(30), MimeLimits(depth=10), "depth"),
        (nested(400), MimeLimits(), "depth"),
        (MIMEMultipart(_subparts=[MIMEText(str(n)) for n in range(20)]).as_bytes(), MimeLimits(parts=10), "parts"),
        (b"Subject: x\r\n\r\n" + b"x" * 200, MimeLimits(bytes=100), "size"),
    ],
)
def test_over_a_limit_is_a_fault(content, limits, reason):
    assert reason in {found for _, found in read_message(content, limits).faults}
    assert reason in {found for _, found in read_reference(content, limits).faults} or reason == "size"


@pytest.mark.parametrize("encoding", ["base64", "BASE64 ", "quoted-printable", "8bit", ""])
def test_transfer_encodings_are_undone(encoding):
    plain = "DOB 03/04/1961 é".encode()
    if "64" in encoding.lower():
        raw = base64.encodebytes(plain)
    elif encoding == "quoted-printable":
        raw = b"DOB 03/0=\r\n4/1961 =C3=A9"
    else:
        raw = plain
    assert decode_transfer(raw, encoding) == (plain, "")


def test_joined_base64_is_decoded_past_the_padding():
    raw = base64.b64encode(b"first") + base64.b64encode(b"second 1234")
    assert decode_transfer(raw, "base64") == (b"firstsecond 1234", "")


@pytest.mark.parametrize(
    ("raw", "label"), [(b"not base64 at all: 219-45-9876", "base64"), (b"219-45-9876", "x-unknown")]
)
def test_a_broken_or_unknown_encoding_is_a_fault_and_the_octets_are_kept(raw, label):
    data, fault = decode_transfer(raw, label)
    assert fault == "encoding"
    assert b"219-45-9876" in data


TWICE = [
    (b"Content-Type: text/plain", b"Content-Type: text/html"),
    (b"Content-Type: application/pdf", b"Content-Type : text/plain"),
    (b"Content-Type: text/plain; charset=utf-8", b"Content-Type: text/plain; charset=utf-7"),
    (b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: multipart/mixed; boundary=c"),
    (b"Content-Transfer-Encoding: 7bit", b"Content-Transfer-Encoding: base64"),
]


@pytest.mark.parametrize(("first", "last"), TWICE)
@pytest.mark.parametrize("inside", [False, True])
def test_a_part_that_says_twice_how_it_is_read_is_not_trusted_to_be_read(first, last, inside):
    """The scan takes the first field, a mail program perhaps the last: it then shows what nobody looked at."""
    part = first + b"\r\n" + last + b"\r\n\r\ntext\r\n"
    content = b"Subject: x\r\nMIME-Version: 1.0\r\n" + part
    if inside:
        content = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + part + b"--m--\r\n"
    tree = read_message(content, LIMITS)
    assert ("1", "malformed") in tree.faults
    assert tree == read_reference(content, LIMITS)


@pytest.mark.parametrize(("first", "last"), TWICE)
def test_a_part_that_says_the_same_twice_is_read(first, last):
    del last
    content = first + b"\r\n" + first.replace(b": ", b":\r\n ") + b"\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n"
    assert not read_message(content, LIMITS).faults


@pytest.mark.parametrize(
    ("parameters", "faults"),
    [
        (b"charset=UTF-8; charset=UTF-8", ()),
        (b'charset=UTF-8; format=flowed; charset="utf-8"', ()),
        (b'charset=UTF-8; charset="utf-7"', (("1", "malformed"),)),
    ],
)
def test_a_charset_said_twice_is_a_fault_only_where_the_two_differ(parameters, faults):
    """Scripts put behind a type with a charset the same charset once more."""
    content = b"Content-Type: text/plain; " + parameters + b"\r\n\r\ntext\r\n"
    assert read_message(content, LIMITS).faults == read_reference(content, LIMITS).faults == faults


@pytest.mark.parametrize(("last", "faults"), [(b"b", ()), (b"B", (("1", "malformed"),))])
def test_a_boundary_said_twice_is_a_fault_only_where_the_two_differ(last, faults):
    content = b'Content-Type: multipart/mixed; boundary=b; boundary="' + last + b'"\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n'
    assert read_message(content, LIMITS).faults == faults


header_lines = st.sampled_from(
    [
        b"Content-Type: text/plain", b"Content-Type: text/html; charset=utf-8", b"Content-Type: rubbish",
        b"Content-Type: multipart/mixed; boundary=b", b'Content-Type: multipart/alternative; boundary="c c"',
        b"Content-Type: multipart/mixed", b"Content-Type: message/rfc822",
        b"Content-Type: multipart/digest; boundary=b", b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b'Content-Disposition: attachment; filename="a b.txt"', b"Content-Type: text/plain; name*=utf-8''%41",
        b"Content-Type: text/plain; charset=us-ascii; name=x.txt", b"Content-Type: text/plain; charset=a; charset=b",
        b"Subject: =?utf-8?q?caf=C3=A9?=", b" folded", b"\tfolded", b"no colon here", b"Bad Name: x",
        b"Content-ID: <x>", b"Subject: \xe9",
    ]
)  # fmt: skip
body_lines = st.one_of(
    st.sampled_from(
        [b"--b", b"--b--", b"--c c", b"--c c--", b"--b ", b"--bb", b"", b"", b"text", b"=3D=", b"SGVsbG8="]
    ),
    header_lines,
    st.binary(max_size=20),
)
ends = st.sampled_from([b"\r\n", b"\n", b"\r\n", b"\r"])


@st.composite
def mail_like(draw):
    lines = [*draw(st.lists(header_lines, max_size=4)), b"", *draw(st.lists(body_lines, max_size=14))]
    if draw(st.booleans()):
        return draw(ends).join(lines)
    return b"".join(line + draw(ends) for line in lines)


@given(mail_like())
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_quick_reader_sees_what_the_reference_sees_or_gives_way(content):
    quick = read_split(content, LIMITS)
    if quick is not None:
        assert quick == read_reference(content, LIMITS)


@given(mail_like())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_reading_never_raises(content):
    tree = read_message(content, MimeLimits(depth=3, parts=6, bytes=4096))
    assert len(tree.leaves) <= 6
    assert sum(len(leaf.data) for leaf in tree.leaves) <= 4096


def test_the_quick_reader_takes_ordinary_mail():
    outer = MIMEMultipart("alternative")
    outer["Subject"] = "Hello"
    outer.attach(MIMEText("plain"))
    outer.attach(MIMEText("<p>html</p>", "html"))
    assert read_split(outer.as_bytes(), LIMITS) is not None


SECRET = base64.encodebytes(b"Patient Jane Roe, DOB 03/04/1961").replace(b"\n", b"\r\n")
HIDING = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + SECRET


@pytest.mark.parametrize(
    "content",
    [
        b"From: a@b.example\r\n" + HIDING,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + HIDING + b"--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        + HIDING
        + b"--b--\r\n",
    ],
)
@pytest.mark.parametrize("colon", [b":", b" :", b"\t :"])
def test_white_space_before_a_colon_ends_no_header(content, colon):
    """RFC 5322 section 4.5: old programs write it, and all that read mail take it."""
    written = content.replace(b"Content-Type:", b"Content-Type" + colon).replace(b"Encoding:", b"Encoding" + colon)
    tree = read_message(written, LIMITS)
    assert [leaf.data for leaf in tree.leaves] == [b"Patient Jane Roe, DOB 03/04/1961"]
    assert tree.faults == ()


@pytest.mark.parametrize("odd", [b"no field", b"S\xc3\xbcbject: x", b">From a@b.example"])
@pytest.mark.parametrize("around", [b"%s", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n%s--b--\r\n"])
def test_a_header_that_may_go_on_behind_a_line_that_is_no_field_is_a_fault(odd, around):
    tree = read_message(around % (b"X-A: b\r\n" + odd + b"\r\n" + HIDING), LIMITS)
    assert [reason for _, reason in tree.faults] == ["malformed"]


def test_text_that_follows_a_header_without_an_empty_line_is_read_as_text():
    tree = read_message(b"Subject: x\r\nHello Jane,\r\nyour result is here.\r\n\r\nNote: call us.\r\n", LIMITS)
    assert tree.faults == ()
    assert b"Hello Jane" in tree.leaves[0].data


def test_what_costs_too_much_to_take_apart_is_a_fault():
    content = laborious(lines=200_000, inside=100, head=b"Subject: x\r\n")
    tree = read_message(content, LIMITS)
    assert tree.faults == (("1", "depth"),)
    assert tree.leaves == ()


def test_many_lines_in_few_parts_or_many_parts_of_few_lines_are_read():
    for content in (laborious(lines=200_000, inside=2), laborious(lines=10, inside=15)):
        tree = read_message(content, LIMITS)
        assert tree.faults == ()
        assert len(tree.leaves) == 1


def test_rulers_in_a_text_are_no_boundaries():
    content = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"-----\r\n" * 20_000
    assert read_message(content, LIMITS).faults == ()


@pytest.mark.parametrize("field", [b"Content-Type: text/plain", b"Content-Disposition: attachment"])
@pytest.mark.parametrize("many", [b'; x="' + b";" * 200_000 + b'"', b";a=b" * 50_000, b";name*1*=b" * 20_000])
def test_more_parameters_than_are_looked_at_are_a_fault(field, many):
    tree = read_message(field + many + b"\r\n\r\nhello\r\n", LIMITS)
    assert tree.faults == (("1", "malformed"),)
    assert texts(tree) == [("1", "hello")]


def test_a_file_name_in_many_pieces_is_put_together():
    pieces = b"".join(b'; filename*%d="%d"' % (each, each % 10) for each in range(40))
    tree = read_message(b"Content-Disposition: attachment" + pieces + b"\r\n\r\nhello\r\n", LIMITS)
    assert tree.faults == ()
    assert tree.leaves[0].filename == "0123456789" * 4


@pytest.mark.parametrize("kind", ["message/rfc822", "message/global", "message/news"])
@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable"])
def test_a_message_that_is_encoded_as_a_whole_is_decoded_and_read(kind, encoding):
    inside = b"Subject: in\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(b"hello")
    coded = base64.encodebytes(inside) if encoding == "base64" else inside.replace(b"=", b"=3D")
    tree = read_message(
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + coded, LIMITS
    )
    assert tree.faults == ()
    assert texts(tree) == [("1.1", "hello")]
    assert tree.notes[0] == ("1.HEADER", "subject: in\ncontent-transfer-encoding: base64")


def test_a_message_that_is_encoded_again_and_again_is_read_no_deeper_than_the_limit():
    content = b"Subject: in\r\n\r\nhello"
    for _ in range(8):
        coded = base64.encodebytes(content)
        content = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + coded
    assert texts(read_message(content, LIMITS)) == [("1.1", "hello")]
    assert read_message(content, MimeLimits(depth=4)).faults == (("1", "depth"),)
    assert "size" in {reason for _, reason in read_message(content, MimeLimits(bytes=len(content))).faults}


@pytest.mark.parametrize("parameters", [b"", b"; boundary=x", b"; boundary=a; boundary=b"])
def test_a_multipart_whose_boundary_is_not_there_or_not_one_is_a_fault(parameters):
    tree = read_message(
        b"Content-Type: multipart/mixed" + parameters + b"\r\n\r\n--r\r\n\r\nhello\r\n--r--\r\n", LIMITS
    )
    assert ("1", "malformed") in tree.faults
    empty = read_message(b"Content-Type: multipart/mixed\r\n\r\n\r\n", LIMITS)
    assert empty.faults == ()


def test_what_is_said_of_a_part_beside_its_file_name_is_kept():
    fields = b'Content-Type: text/plain; name="a.txt"\r\nContent-Disposition: attachment; filename="b.txt"\r\n'
    both = (
        b"Content-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\nContent-Description: =?utf-8?q?c=20d?=\r\n" + fields
    )
    tree = read_message(both + b"\r\nhello\r\n--q--\r\n", LIMITS)
    assert tree.notes == (("1", "c d\na.txt b.txt"),)
    same = both.replace(b"b.txt", b"a.txt").replace(b"Content-Description: =?utf-8?q?c=20d?=\r\n", b"")
    assert read_message(same + b"\r\nhello\r\n--q--\r\n", LIMITS).notes == ()
