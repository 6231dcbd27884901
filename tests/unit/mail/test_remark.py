"""Notices about mail that came back, and what is left of a stranger's answer in them."""

from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import Address
from relay.core.envelope import Recipient
from relay.core.reply import EnhancedStatus
from relay.mail.dsn import DsnOptions, DsnWriter, Report
from relay.mail.echo import ordinary
from relay.mail.remark import replied_notice, unclear_notice, unmatched_notice
from tests.support.queue import NOW, a_message

WRITER = DsnWriter(DsnOptions(reporting_mta="relay.example", postmaster=Address.parse("postmaster@clinic.example")))
EHR = Address.parse("ehr@clinic.example")
PAT = Address.parse("pat@mail.example")


@pytest.mark.parametrize(("said", "left"), [
    ("550 5.1.1 User unknown", "550 5.1.1 User unknown"),
    ("Recipient address rejected: User unknown in virtual mailbox table",
     "Recipient address rejected: User unknown in virtual mailbox table"),
    ("mailbox of Zacharias Plantedname is full", "mailbox of [withheld] is full"),
    ("552 quota exceeded (4471182 octets)", "552 quota exceeded [withheld]"),
    ("", ""),
])  # fmt: skip
def test_only_what_every_server_says_is_left(said, left):
    assert ordinary(said).replace("[number] [withheld]", "[withheld]").replace("([withheld]", "[withheld]") == left


@given(st.text(max_size=200), st.from_regex(r"[a-z]{9,14}q", fullmatch=True))
def test_no_other_word_is_ever_left(around, word):
    assert word not in ordinary(f"{around} {word} {around}")


@pytest.mark.parametrize("notice", [replied_notice, unclear_notice])
def test_a_notice_is_a_whole_message_about_ours(notice):
    content = notice(WRITER.herald, a_message("M1", message_id="<first@clinic.example>"), [PAT], to=EHR, now=NOW)
    message = message_from_bytes(content, policy=default)
    assert not message.defects
    assert message["To"] == str(EHR)
    assert message["In-Reply-To"] == message["References"] == "<first@clinic.example>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert str(PAT) in message.get_content()
    assert "M1" in message.get_content()
    assert content == notice(
        WRITER.herald, a_message("M1", message_id="<first@clinic.example>"), [PAT], to=EHR, now=NOW
    )  # fmt: skip


@pytest.mark.parametrize("header_id", ["", "nonsense", "<a b>", "<x\r\nBcc: y>"])
def test_a_message_without_a_proper_id_is_not_referred_to(header_id):
    content = replied_notice(WRITER.herald, a_message("M1", message_id=header_id), [PAT], to=EHR, now=NOW)
    assert b"References" not in content
    assert b"Bcc" not in content


def test_beyond_ascii_a_notice_says_so():
    far = Address.parse("пациент@mail.example")
    content = replied_notice(WRITER.herald, a_message("M1"), [far], to=EHR, now=NOW)
    message = message_from_bytes(content, policy=default)
    assert message.get_content_charset() == "utf-8"
    assert "пациент@mail.example" in message.get_content()


def test_the_postmaster_learns_the_facts():
    content = unmatched_notice(WRITER.herald, "R1", ["from: 192.0.2.9"], now=NOW)
    message = message_from_bytes(content, policy=default)
    assert message["To"] == "postmaster@clinic.example"
    assert "from: 192.0.2.9" in message.get_content()
    assert "R1" in message["Subject"]


@pytest.mark.parametrize(("action", "shown", "subject"), [
    ("", "delivered", "Message delivered"), ("delivered", "delivered", "Message delivered"),
    ("expanded", "expanded", "Message delivered"), ("relayed", "relayed", "Message handed on"),
])  # fmt: skip
def test_a_success_is_told_as_one(action, shown, subject):
    report = Report(recipient=Recipient(address=PAT), why="", action=action, status=EnhancedStatus(2, 6, 0))
    message = message_from_bytes(WRITER.success(a_message("M1"), [report], to=EHR, now=NOW), policy=default)
    assert message["Subject"] == subject
    (status,) = (part for part in message.walk() if part.get_content_type() == "message/delivery-status")
    fields = status.get_payload()[1]
    assert (fields["Action"], fields["Status"]) == (shown, "2.6.0")
    assert "What to do" not in message.get_payload()[0].get_content()
