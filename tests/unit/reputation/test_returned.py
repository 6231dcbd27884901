"""Mail that comes back is read whatever its form, and read safely whatever it holds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.reputation.formats import FORMATS
from relay.reputation.load import load_classifier
from relay.reputation.returned import _MAX_FIELD, LIMIT, MAX_RECIPIENTS, Kind, _groups, is_quick, own_id, read_returned
from tests.support.laborious import laborious

CLASSIFIER = load_classifier()


def samples():
    text = (Path(__file__).parent / "bounces.txt").read_text("utf-8")
    for block in text.split("=== ")[1:]:
        head, _, body = block.partition("\n")
        name, address, klass = (part.strip() for part in head.split("|"))
        yield pytest.param(name, address, klass, body.replace("\n", "\r\n").encode(), id=name)


SAMPLES = list(samples())


@pytest.mark.parametrize(("name", "address", "klass", "content"), SAMPLES)
def test_bounces_in_words_of_their_own_are_read(name, address, klass, content):
    found = read_returned(content)
    assert (found.kind, found.form) == (Kind.BOUNCE, name)
    assert [one.address for one in found.recipients] == [address]
    assert CLASSIFIER.classify(found.recipients[0].reason).klass == klass, found.recipients[0].reason


def test_every_format_has_a_sample_and_there_are_thirty_at_least():
    assert {param.values[0] for param in SAMPLES} == {form.name for form in FORMATS}
    assert len(FORMATS) >= 30


def test_what_is_below_the_copy_mark_is_not_believed():
    content = next(param.values[3] for param in SAMPLES if param.id == "qmail")
    found = read_returned(content)
    assert "blocked" not in found.recipients[0].reason
    assert found.message_id == "<m1@sender.example>"


# --- structured reports ---

DSN = """\
From: MAILER-DAEMON@mx.clinic.example
To: ehr@sender.example
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

This is the mail system.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.clinic.example
Original-Envelope-Id: 7KQ2

Final-Recipient: rfc822; one@clinic.example
Original-Recipient: rfc822;first@clinic.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx2.clinic.example
Diagnostic-Code: smtp; 550 5.1.1 User unknown
 in local recipient table

Final-Recipient: rfc822; two@clinic.example
Action: delayed
Status: 4.2.2

--b
Content-Type: text/rfc822-headers

Message-ID: <00G7Y2T5VJXM0000ABCD@relay.sender.example>
Subject: x
--b--
"""


def test_a_delivery_status_notification_is_read_recipient_by_recipient():
    found = read_returned(DSN.replace("\n", "\r\n").encode())
    assert (found.kind, found.form, found.envelope_id) == (Kind.DSN, "rfc3464", "7KQ2")
    one, two = found.recipients
    assert (one.address, one.action, one.status, one.host) == (
        "first@clinic.example", "failed", "5.1.1", "mx2.clinic.example",
    )  # fmt: skip
    assert one.reason == "550 5.1.1 User unknown in local recipient table"
    assert (two.address, two.action, two.reason) == ("two@clinic.example", "delayed", "4.2.2")
    assert own_id(found.message_id) == "00G7Y2T5VJXM0000ABCD"


def test_a_report_that_tells_only_people_the_reason_is_still_understood():
    content = DSN.replace("Diagnostic-Code: smtp; 550 5.1.1 User unknown\n in local recipient table\n", "")
    content = (
        content.replace("Status: 5.1.1\n", "")
        .replace("Status: 4.2.2", "")
        .replace("\nFinal-Recipient: rfc822; two@clinic.example\nAction: delayed\n\n", "\n")
        .replace("This is the mail system.", "<one@clinic.example>: 550 5.2.2 Mailbox full (delivery failed)\n")
    )
    (one,) = read_returned(content.encode()).recipients
    assert CLASSIFIER.classify(one.reason).klass == "mailbox-full"


ARF = """\
From: <abuse@mailbox.example>
Subject: FW: Your result
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

This is an email abuse report.
--b
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: <pat@mailbox.example>
Arrival-Date: Thu, 8 Mar 2026 14:00:00 EDT

--b
Content-Type: message/rfc822

From: <clinic@sender.example>
To: <redacted@mailbox.example>
Message-ID: <8787@sender.example>
Subject: Your result

Text
--b--
"""


def test_a_complaint_is_read():
    found = read_returned(ARF.encode())
    assert (found.kind, found.feedback_type, found.message_id) == (Kind.FEEDBACK, "abuse", "<8787@sender.example>")
    assert [(one.address, one.action) for one in found.recipients] == [("pat@mailbox.example", "complained")]


def test_a_complaint_that_names_nobody_falls_back_to_the_copy():
    found = read_returned(ARF.replace("Original-Rcpt-To: <pat@mailbox.example>\n", "").encode())
    assert found.recipients[0].address == "redacted@mailbox.example"


@pytest.mark.parametrize("head", [
    "Auto-Submitted: auto-replied", "X-Autoreply: yes", "Precedence: auto_reply",
    "Subject: Out of Office: result", "Subject: Automatic reply: result", "Subject: Abwesenheitsnotiz",
    "Subject: =?utf-8?q?R=C3=A9ponse_automatique?=", "Subject: Re: autoreply", "Subject: 自動応答",
])  # fmt: skip
def test_automatic_replies_are_not_bounces(head):
    content = f"From: pat@clinic.example\r\n{head}\r\n\r\nI am away. Mail to pat@clinic.example is not read: 550.\r\n"
    assert read_returned(content.encode()).kind is Kind.AUTO_REPLY


def test_a_receipt_is_no_bounce():
    mdn = ARF.replace("feedback-report", "disposition-notification")
    assert read_returned(mdn.encode()).kind is Kind.RECEIPT


@pytest.mark.parametrize("content", [
    b"", b"\r\n", b"From: a@b.example\r\nSubject: lunch\r\n\r\nShall we meet?\r\n", b"\xff\xfe\x00" * 1000,
    b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\n",
])  # fmt: skip
def test_ordinary_mail_and_rubbish_are_none_of_it(content):
    assert read_returned(content).kind is Kind.OTHER


# --- hostile ones ---


def test_an_enormous_bounce_is_read_at_its_beginning():
    content = DSN.replace("\n", "\r\n").encode() + b"x" * (3 * LIMIT)
    found = read_returned(content)
    assert found.truncated
    assert len(found.recipients) == 2


def test_a_bounce_of_very_many_recipients_is_cut():
    blocks = "".join(f"Final-Recipient: rfc822; p{n}@clinic.example\nAction: failed\n\n" for n in range(2000))
    content = DSN.replace(
        "Final-Recipient: rfc822; one@clinic.example\n", blocks + "Final-Recipient: rfc822; one@c.example\n"
    )
    assert len(read_returned(content.encode()).recipients) <= MAX_RECIPIENTS
    plain = "From: MAILER-DAEMON@x.example\n\nHi. This is the qmail-send program at x.\n\n" + "".join(
        f"<p{n}@clinic.example>:\nUser unknown\n\n" for n in range(2000)
    )
    assert len(read_returned(plain.encode()).recipients) == MAX_RECIPIENTS


def test_reports_nested_without_end_do_no_harm():
    content = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(3000))
    assert read_returned(content).kind is Kind.OTHER
    content = b"Content-Type: message/rfc822\r\n\r\n" * 3000
    assert read_returned(content).kind is Kind.OTHER


def test_no_text_takes_a_pattern_long():
    for char in ("<", " ", "a@", "\n ", "-- ", "550 "):
        read_returned(b"From: MAILER-DAEMON@x\r\n\r\ndelivery failed\r\n" + char.encode() * 200_000)


@given(st.binary(max_size=2000))
def test_no_bytes_raise(content):
    read_returned(content)
    read_returned(DSN.encode().replace(b"Final", content[:50]))


def test_what_costs_too_much_to_take_apart_is_nothing_we_know():
    found = read_returned(laborious(lines=100_000, inside=200))
    assert found.kind is Kind.OTHER
    assert found.truncated


def test_of_a_field_folded_without_end_no_more_is_put_together_than_is_read():
    """Each of 200,000 lines copied what was before it: a megabyte from a stranger kept a thread busy for seconds."""
    ((field,),) = _groups("Feedback-Type: abuse\r\n" + " more\r\n" * 200_000)
    assert field[0] == "Feedback-Type"
    assert field[1].startswith("abuse more more")
    assert _MAX_FIELD <= len(field[1]) <= 2 * _MAX_FIELD


def test_a_small_report_of_thousands_of_empty_lines_is_not_read_on_the_loop():
    """Each is a group of fields of its own: 64 KB of them take the parser most of a second."""
    assert read_returned(SAMPLES[0].values[3]).kind is Kind.BOUNCE, "the patterns are loaded now"
    assert all(is_quick(sample.values[3]) for sample in SAMPLES)
    head = b"Content-Type: multipart/report; boundary=q\r\n\r\n--q\r\nContent-Type: message/delivery-status\r\n\r\n"
    assert is_quick(head + b"Action: failed\r\n" * 50)
    assert not is_quick(head + b"\r\n" * 30_000)
