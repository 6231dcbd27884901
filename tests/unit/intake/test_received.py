from email import message_from_bytes
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import Address, ReversePath
from relay.core.envelope import ClientSession, Envelope, Recipient
from relay.core.ids import queue_id
from relay.mail.received import from_addresses, inspect, mend, protocol, received

NOW = 1_700_000_000.0
TRACE = b"Received: here\r\n"
WHOLE = b"From: a@x.example\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@x>\r\n"


def envelope(**changes):
    recipients = (Recipient(address=Address("b", "y.example")),)
    return Envelope(reverse_path=ReversePath(Address("a", "x.example")), recipients=recipients, **changes)


def mended(content):
    return mend(content, inspect(content), trace=TRACE, message_id="<new@relay.example>", now=NOW)


def test_only_the_trace_is_added_to_a_whole_message():
    content = WHOLE + b"X-Odd:   kept \t as it is\r\n\r\nBcc: body stays\r\n"
    assert mended(content).content == TRACE + content
    assert mended(content).message_id == "<1@x>"


def test_missing_date_and_message_id_are_added():
    parsed = message_from_bytes(mended(b"From: a@x.example\r\n\r\nhi\r\n").content, policy=SMTP)
    assert parsed["Message-ID"] == "<new@relay.example>"
    assert parsed["Date"].datetime.timestamp() == NOW
    assert parsed.get_payload() == "hi\r\n"


@pytest.mark.parametrize(
    ("content", "author", "told"),
    [
        (b"Subject: x\r\n\r\nhi\r\n", "a@x.example", ["<a@x.example>"]),
        (b"Subject: x\r\n\r\nhi\r\n", '"a b"@x.example', ['<"a b"@x.example>']),
        (b"Subject: x\r\n\r\nFrom: body\r\n", "a@x.example", ["<a@x.example>"]),
        (b"From me Mon Jan 1\r\nSubject: x\r\n\r\nhi\r\n", "a@x.example", ["<a@x.example>"]),
        (b"just a line of text\r\n", "a@x.example", ["<a@x.example>"]),
        (b"", "a@x.example", ["<a@x.example>"]),
        (b"from : b@y.example\r\n\r\nhi\r\n", "a@x.example", ["b@y.example"]),
        (b"Subject: x\r\n\r\nhi\r\n", "", []),
    ],
)
def test_a_message_without_from_gets_the_envelopes_sender(content, author, told):
    """Old programs leave it out; large receivers refuse mail without it, and no DKIM signature fits it."""
    made = mend(content, inspect(content), trace=TRACE, message_id="<new@relay.example>", now=NOW, author=author)
    assert message_from_bytes(made.content).get_all("From", []) == told
    again = mend(made.content, inspect(made.content), trace=TRACE, message_id="<n@r.example>", now=NOW, author=author)
    assert again.content == TRACE + made.content


def test_many_lines_of_mbox_go_at_once():
    """Each with a copy of the message, and a call within a call, they took the worker's memory."""
    assert mended(b"From me Mon\r\n>From you Tue\r\n" * 5_000 + WHOLE + b"\r\nx\r\n").content == (
        TRACE + WHOLE + b"\r\nx\r\n"
    )


def test_text_that_begins_like_no_header_is_body_whatever_its_lines_look_like():
    content = b"Dear Ann\r\nFrom: Al\r\nDate: soon\r\nMessage-ID: none\r\nBcc: stays\r\n\r\nBye\r\n"
    made = mend(content, inspect(content), trace=TRACE, message_id="<new@relay.example>", now=NOW, author="a@x.example")
    assert made.message_id == "<new@relay.example>"
    parsed = message_from_bytes(made.content, policy=SMTP)
    assert parsed.keys() == ["Received", "Message-ID", "Date", "From"]
    assert parsed["From"] == "a@x.example"
    assert made.content.endswith(b"\r\n\r\n" + content)


@pytest.mark.parametrize(
    "field",
    [
        b"Bcc: secret@y.example\r\n",
        b"BCC : secret@y.example\r\n",
        b"bcc: one@y.example,\r\n\tsecret@y.example,\r\n secret2@y.example\r\n",
        b"Resent-Bcc: secret@y.example\r\n",
        b"Bcc:\r\n",
        b"Bcc: secret@y.example\r\nBcc: secret@z.example\r\n",
    ],
)
@pytest.mark.parametrize("place", ["first", "middle", "last", "only, no body"])
def test_bcc_goes_wherever_it_is(field, place):
    rest = {"first": b"", "middle": b"X-After: 1\r\n", "last": b"", "only, no body": b""}[place]
    before = b"" if place == "first" else WHOLE
    after = WHOLE if place == "first" else rest
    end = b"" if place == "only, no body" else b"\r\nbody with Bcc: x\r\n"
    assert mended(before + field + after + end).content == TRACE + before + after + end


def test_a_field_that_only_looks_like_bcc_stays():
    content = WHOLE + b"X-Bcc: a\r\nBcc-Note: b\r\nSubject: folded\r\n Bcc: c\r\n\r\n"
    assert mended(content).content == TRACE + content


@pytest.mark.parametrize("content", [b"", b"\r\n", b"\r\nbody\r\n"])
def test_a_message_without_header(content):
    result = mended(content).content
    parsed = message_from_bytes(result)
    assert parsed["Message-ID"] == "<new@relay.example>"
    assert parsed["Received"] == "here"
    assert result.endswith(content)


def test_a_text_without_header_stays_body():
    parsed = message_from_bytes(mended(b"just a line of text\r\nand more\r\n").content)
    assert parsed.get_payload() == "just a line of text\r\nand more\r\n"


def test_an_mbox_line_goes():
    assert (
        mended(b"From ehr Tue Nov 14 22:13:20 2023\r\n" + WHOLE + b"\r\nx\r\n").content == TRACE + WHOLE + b"\r\nx\r\n"
    )


def test_hops_are_counted_in_the_header_alone():
    head = b"Received: a\r\n by b\r\nreceived : c\r\nX-Received: d\r\n"
    assert inspect(head + b"\r\nReceived: e\r\n").hops == 2


def test_a_long_message_id_is_bounded_and_kept_in_the_message():
    content = b"Message-ID: <" + b"x" * 400 + b">\r\n\r\n"
    assert len(mended(content).message_id) == 255
    assert content[:-2] in mended(content).content


@given(st.binary(max_size=300).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b"\r\n")))
def test_all_but_bcc_is_kept_octet_for_octet(content):
    content = b"X-Head: 1\r\n" + content
    seen = inspect(content)
    kept = b"".join(
        content[a:b]
        for a, b in zip([0, *[e for _, e in seen.hidden]], [*[s for s, _ in seen.hidden], None], strict=True)
    )
    assert mended(content).content.endswith(kept)


def test_received_tells_how_it_came_and_not_for_whom():
    session = ClientSession(
        client="ehr", network="192.0.2.7", helo="ehr.clinic.example", identity="ehr",
        tls_version="TLSv1.3", tls_cipher="TLS_AES_256_GCM_SHA384",
    )  # fmt: skip
    line = received(session=session, envelope=envelope(), hostname="relay.example", queue_id="ID", now=NOW)
    assert line == (
        b"Received: from ehr.clinic.example ([192.0.2.7])\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
        b"\tby relay.example with ESMTPSA id ID;\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )
    assert b" for " not in line


@pytest.mark.parametrize(
    ("changes", "utf8", "keyword"),
    [
        ({"esmtp": False}, False, "SMTP"),
        ({}, False, "ESMTP"),
        ({"tls_version": "TLSv1.2"}, False, "ESMTPS"),
        ({"identity": "x"}, False, "ESMTPA"),
        ({"tls_version": "TLSv1.2", "identity": "x"}, True, "UTF8SMTPSA"),
    ],
)
def test_protocol_keywords(changes, utf8, keyword):
    assert protocol(ClientSession(**changes), envelope(smtputf8=utf8)) == keyword


def test_a_helo_cannot_write_headers():
    session = ClientSession(network="2001:db8::1", helo="x\r\nBcc: a (b); c")
    line = received(session=session, envelope=envelope(), hostname="r", queue_id="ID", now=NOW)
    assert line.startswith(b"Received: from x??Bcc:?a??b???c ([IPv6:2001:db8::1])\r\n")


def test_authors_are_read_from_folded_and_repeated_fields():
    content = b'From: "A, B" <a@x.example>,\r\n\tc@x.example\r\nX: y\r\nFROM : d@z.example\r\n\r\nFrom: no@x\r\n'
    assert from_addresses(content) == ["a@x.example", "c@x.example", "d@z.example"]


@given(st.floats(0, 2e9), st.floats(0, 2e9), st.binary(min_size=7, max_size=9), st.binary(min_size=7, max_size=9))
def test_queue_ids_sort_by_time(one, other, left, right):
    first, second = queue_id(one, left), queue_id(other, right)
    assert len(first) == 20
    assert set(first) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    if int(one * 1000) != int(other * 1000):
        assert (one < other) == (first < second)


def test_queue_ids_need_their_entropy():
    with pytest.raises(ValueError, match="7 random bytes"):
        queue_id(NOW, b"123456")
    with pytest.raises(ValueError, match="clock"):
        queue_id(-1, b"1234567")


@pytest.mark.parametrize("deep", [b"(" * 5_000 + b") a@x.example", b"a:" * 5_000 + b"a@x.example;"])
def test_authors_nested_too_deeply_to_be_read_are_none(deep):
    assert from_addresses(b"From: " + deep + b"\r\n\r\n") == []


def test_white_space_before_a_colon_goes_so_that_all_see_the_same_header():
    written = WHOLE + b"Subject \t: a : b\r\n\tfolded : c\r\nContent-Type : text/html\r\n\r\nbody : stays\r\n"
    assert mended(written).content == TRACE + (
        WHOLE + b"Subject: a : b\r\n\tfolded : c\r\nContent-Type: text/html\r\n\r\nbody : stays\r\n"
    )
    assert mended(b"note : all of it\r\n is body".replace(b"note :", b"a note :")).content.endswith(
        b"a note : all of it\r\n is body"
    )
