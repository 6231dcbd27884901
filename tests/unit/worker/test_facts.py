"""The facts an attempt judges by are those that intake judged by: the same rule sees the same subject and fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.mime import MimeLimits, read_message
from relay.worker.facts import facts_of
from tests.support.queue import a_message

NAMES = st.sampled_from([b"Subject", b"SUBJECT ", b"subject\t", b"X-Class", b"To", b"garbage without a colon", b" on"])
VALUES = st.one_of(
    st.sampled_from(
        [b"[s\xc3\xa9cure] plan", b"=?utf-8?q?=5Bsecure=5D?= x", b"\xe4\xf6", b"a\r\n b", b"a\xe2\x80\xa8b"]
    ),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b"")),
)
KINDS = st.sampled_from([b"", b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: message/rfc822\r\n"])
HEADS = st.builds(
    lambda pairs, kind: b"".join(name + b": " + value + b"\r\n" for name, value in pairs) + kind,
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    KINDS,
)


@pytest.mark.parametrize(
    ("field", "subject"),
    [
        (b"Subject: [s\xc3\xa9cure] plan", "[sécure] plan"),  # RFC 6532
        (b"Subject : [secure] plan", "[secure] plan"),  # RFC 5322 section 4.5
    ],
)
def test_a_subject_is_the_one_that_intake_saw(field, subject):
    content = b"From: al@clinic.example\r\n" + field + b"\r\n\r\nHello\r\n"
    facts = facts_of(a_message(), content)
    assert facts.subject == subject
    assert facts.headers == (("from", "al@clinic.example"), ("subject", subject))


@given(HEADS)
def test_every_field_is_the_one_that_the_scan_saw(head):
    content = head + b"\r\n--b\r\nSubject: inside\r\n\r\ntext\r\n--b--\r\n"
    assert facts_of(a_message(), content).headers == read_message(content, MimeLimits()).headers
