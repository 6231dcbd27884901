import email
import email.policy

import pytest

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.envelope import ClientSession, Envelope, Message, Origin, Recipient
from relay.core.reply import EnhancedStatus, Reply
from relay.mail.dsn import DsnOptions, DsnWriter, Report

SENDER = Address.parse("ehr@clinic.example")
WRITER = DsnWriter(
    DsnOptions(reporting_mta="relay.clinic.example", postmaster=Address.parse("postmaster@clinic.example"))
)
CONTENT = (
    b'From: "Dr Jane Roe" <ehr@clinic.example>\r\n'
    b'To: "Pat Planted" <pat@mail.example>, Sam Secret <sam@mail.example>\r\n'
    b"Cc: hidden@mail.example\r\nSubject: HbA1c of Pat Planted\r\nDate: Mon, 20 Nov 2023 10:00:00 +0100\r\n"
    b"Message-ID: <a1@clinic.example>\r\n\r\nPLANTED TEXT\r\n"
)


def message(sender=SENDER, **more):
    envelope = Envelope(
        reverse_path=ReversePath(sender) if sender else NULL_SENDER,
        recipients=(),
        envelope_id=more.pop("envelope_id", ""),
    )
    return Message(
        id="01HX", origin=Origin.CLIENT, received_at=1_700_000_000.0, session=ClientSession(), envelope=envelope,
        size=len(CONTENT), **more,
    )  # fmt: skip


def report(address="pat@mail.example", **more):
    base = {
        "recipient": Recipient(address=Address.parse(address), original=more.pop("original", "")),
        "why": "the recipient's mail server refused the recipient", "status": EnhancedStatus(5, 1, 1),
        "reply": Reply.of(550, "5.1.1", '<pat@mail.example>: no such user, subject was "HbA1c of Pat Planted"'),
        "host": "mx.mail.example", "at": 1_700_000_100.0,
    }  # fmt: skip
    return Report(**{**base, **more})


def failure(*reports, to=SENDER, content=CONTENT, about=None):
    return WRITER.failure(about or message(), content, reports or (report(),), to=to, now=1_700_000_200.0)


def parsed(raw):
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    whole = email.message_from_bytes(raw, policy=email.policy.default)
    assert not whole.defects
    assert whole.get_content_type() == "multipart/report"
    assert whole.get_param("report-type") == "delivery-status"
    return whole


def blocks(raw):
    return [dict(block.items()) for block in parsed(raw).get_payload()[1].get_payload()]


def test_a_failure_has_the_fields_of_rfc_3464():
    raw = failure(report(original="rfc822;pat+2Bold@mail.example"), about=message(envelope_id="QQ+2B1"))
    head, one = blocks(raw)
    assert head["Reporting-MTA"] == "dns; relay.clinic.example"
    assert head["Original-Envelope-Id"] == "QQ+1"
    assert head["Arrival-Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert one["Original-Recipient"] == "rfc822; pat+old@mail.example"
    assert one["Final-Recipient"] == "rfc822; pat@mail.example"
    assert one["Action"] == "failed"
    assert one["Status"] == "5.1.1"
    assert one["Remote-MTA"] == "dns; mx.mail.example"
    assert one["Diagnostic-Code"].startswith("smtp; 550 5.1.1 <[mailbox]@mail.example>: no such user")


def test_it_repeats_four_headers_and_nothing_of_the_patient():
    raw = failure()
    for planted in (b"Planted", b"PLANTED", b"HbA1c", b"Secret", b"Jane", b"hidden", b"Roe"):
        assert planted not in raw
    part = parsed(raw).get_payload()[2]
    assert part.get_content_type() == "text/rfc822-headers"
    assert part.get_payload(decode=True) == (
        b"Date: Mon, 20 Nov 2023 10:00:00 +0100\r\nMessage-ID: <a1@clinic.example>\r\nFrom: <ehr@clinic.example>\r\n"
        b"To: <pat@mail.example>,\r\n\t<sam@mail.example>\r\n"
    )


def test_it_is_addressed_so_that_no_robot_answers():
    whole = parsed(failure())
    assert whole["To"] == "ehr@clinic.example"
    assert whole["From"].addresses[0].addr_spec == "postmaster@clinic.example"
    assert whole["Auto-Submitted"] == "auto-replied"
    assert whole["References"] == "<a1@clinic.example>"
    assert whole["Subject"] == "Message not delivered"


def test_it_tells_a_person_who_why_and_what_to_do():
    text = parsed(failure()).get_payload()[0].get_content()
    assert "pat@mail.example" in text
    assert "Why: the recipient's mail server refused the recipient." in text
    assert "Check the address for typing errors" in text
    assert "01HX" in text
    protection = failure(report(status=EnhancedStatus(5, 7, 10), reply=None))
    assert "secure" in parsed(protection).get_payload()[0].get_content()


def test_a_delay_says_until_when():
    waiting = report(status=None, reply=None, host="", at=0.0, will_retry_until=1_700_400_000.0)
    raw = WRITER.delay(message(), CONTENT, (waiting,), to=SENDER, now=1_700_014_400.0)
    _, one = blocks(raw)
    assert (one["Action"], one["Status"]) == ("delayed", "4.4.7")
    assert one["Will-Retry-Until"] == "Sun, 19 Nov 2023 13:20:00 +0000"
    assert "Remote-MTA" not in one
    assert "need not do anything" in parsed(raw).get_payload()[0].get_content()


def test_every_recipient_has_its_block():
    raw = failure(report(), report("b@mail.example", status=EnhancedStatus(4, 4, 7)), report("c@mail.example"))
    assert [block.get("Status") for block in blocks(raw)] == [None, "5.1.1", "4.4.7", "5.1.1"]


def test_a_double_bounce_says_so():
    raw = failure(to=WRITER.postmaster, about=message(sender=None))
    assert "no sender" in " ".join(parsed(raw).get_payload()[0].get_content().split())


def test_internationalised_addresses_are_utf8_for_those_who_can_read_it_and_ascii_for_others():
    ascii_raw = failure(report("pät@mail.example"))
    assert ascii_raw.isascii()
    assert blocks(ascii_raw)[1]["Final-Recipient"] == "utf-8; p\\x{E4}t@mail.example"
    reader = Address.parse("jürgen@clinic.example")
    utf8 = failure(report("pät@mail.example"), to=reader, about=message(sender=reader))
    assert b"message/global-delivery-status" in utf8
    assert "Final-Recipient: utf-8; pät@mail.example".encode() in utf8


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\r\n", b"nonsense", b"Date: soon\r\nMessage-ID: <a\r\n b>\r\nFrom: \xff\xfe\r\nTo: ,,<>;@\r\n\r\n",
     b"To: " + b"a@b.example, " * 5000 + b"\r\n\r\n"],
)  # fmt: skip
def test_headers_that_cannot_be_read_are_left_out(content):
    assert blocks(failure(content=content))[1]["Action"] == "failed"


def test_what_strangers_gave_cannot_forge_fields():
    forged = report(
        original="rfc822;a+0D+0AAction: delivered", host="mx\r\nAction: delivered",
        reply=Reply(550, None, ("no\r\nAction: delivered",)),
    )  # fmt: skip
    raw = failure(forged, about=message(envelope_id="x+0D+0AAction: delivered"))
    assert raw.count(b"\r\nAction:") == 1


def test_equal_arguments_give_equal_bytes():
    assert failure() == failure()
    assert failure() != failure(report("b@mail.example"))


@pytest.mark.parametrize(("why", "encoding"), [("it was refused", None), ("it said: d\u00e9l\u00e9t\u00e9", "8bit")])
def test_the_whole_is_8bit_where_a_part_of_it_is(why, encoding):
    """RFC 2045 section 6.4."""
    raw = failure(report(why=why))
    assert email.message_from_bytes(raw)["Content-Transfer-Encoding"] == encoding
    assert raw.isascii() is (encoding is None)
