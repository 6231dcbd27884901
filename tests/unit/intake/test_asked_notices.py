"""What MAIL and RCPT ask of notices (RFC 3461): read strictly, kept as it travels, in the envelope of the message."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core.address import NULL_SENDER, Address
from relay.core.envelope import Envelope, Recipient
from relay.intake.entries import distinct
from relay.smtp.dsn import read_envid, read_notify, read_orcpt, read_ret
from relay.smtp.server_limits import SessionLimits
from relay.smtp.wire import CommandError, parse_mail, parse_rcpt
from tests.support.session import Driver

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


def xtext(text):
    return "".join(mark if mark.isalnum() else f"+{ord(mark):02X}" for mark in text)


def rcpt(parameters):
    return parse_rcpt(f"TO:<a@mail.example> {parameters}", smtputf8=False, hostname="relay.example")


def test_a_message_carries_what_was_asked():
    driver = Driver(SessionLimits(hostname="relay.example"))
    driver.feed(
        b"EHLO ehr\r\nMAIL FROM:<ehr@clinic.example> RET=hdrs ENVID=Case+2B1\r\n"
        b"RCPT TO:<a@mail.example> ORCPT=rfc822;A+2Bb@Mail.example NOTIFY=Success,failure\r\n"
        b"RCPT TO:<b@mail.example> NOTIFY=never\r\nRCPT TO:<c@mail.example>\r\nDATA\r\nx\r\n.\r\n"
        b"MAIL FROM:<ehr@clinic.example>\r\nRCPT TO:<a@mail.example>\r\nDATA\r\nx\r\n.\r\n"
    )
    first, second = (event.envelope for event in driver.events if hasattr(event, "envelope"))
    assert (first.ret, first.envelope_id) == ("HDRS", "Case+2B1")
    assert [(one.original, one.notify) for one in first.recipients] == [
        ("rfc822;A+2Bb@Mail.example", {"SUCCESS", "FAILURE"}), ("", {"NEVER"}), ("", frozenset()),
    ]  # fmt: skip
    assert (second.ret, second.envelope_id) == ("", "")
    assert second.recipients == (Recipient(address=first.recipients[0].address),)


@given(PRINTABLE)
@example("+=\\;")
def test_all_that_prints_is_taken_and_kept_as_given(text):
    assert read_envid(xtext(text)) == xtext(text)
    assert rcpt(f"ORCPT=x-local;{xtext(text)}").original == f"x-local;{xtext(text)}"


@given(st.text(max_size=40))
@example("a+0D+0A")
@example("a+7F")
@example("a\n")
@example("+2")
def test_what_is_taken_prints_when_it_is_decoded_and_travels_as_it_is(text):
    for taken in (read_envid(text), read_orcpt(text), read_orcpt(f"rfc822;{text}"), read_orcpt(f"utf-8;{text}")):
        assert taken is None or (taken.isascii() and taken.isprintable() and " " not in taken and "=" not in taken)


@pytest.mark.parametrize("argument", ["FROM:<> ENVID=x", "FROM:<ehr@clinic.example>"])
def test_an_identifier_is_of_its_own_message(argument):
    assert parse_mail(argument).envelope_id == ("x" if "ENVID" in argument else "")


def test_an_address_in_utf_8_is_kept_in_the_form_that_every_peer_takes():
    assert rcpt("ORCPT=utf-8;dör@mail.example").original == r"utf-8;d\x{F6}r@mail.example"
    assert rcpt(r"ORCPT=utf-8;d\x{F6}r@mail.example").original == r"utf-8;d\x{F6}r@mail.example"


@pytest.mark.parametrize(("first", "second", "both"), [
    ((), (), ()), (("NEVER",), ("NEVER",), ("NEVER",)), (("NEVER",), ("FAILURE",), ("FAILURE",)),
    (("SUCCESS",), (), ("SUCCESS", "FAILURE", "DELAY")), (("NEVER",), (), ("FAILURE", "DELAY")),
    (("SUCCESS",), ("DELAY",), ("SUCCESS", "DELAY")),
])  # fmt: skip
def test_a_mailbox_named_twice_is_told_of_all_that_either_asked_for(first, second, both):
    twice = [
        Recipient(address=Address.parse("a@mail.example"), original=original, notify=frozenset(words))
        for original, words in (("rfc822;one", first), ("rfc822;two", second))
    ]
    other = Recipient(address=Address.parse("b@mail.example"))
    found = distinct(Envelope(reverse_path=NULL_SENDER, recipients=(twice[0], other, twice[1]))).recipients
    assert found == (Recipient(address=twice[0].address, original="rfc822;one", notify=frozenset(both)), other)


@pytest.mark.parametrize("value", [
    None, "", "NEVER,SUCCESS", "SUCCESS,", ",", "SUCCESS FAILURE", "ALL", "SUCCESS,NEVER", "DELAYED",
])  # fmt: skip
def test_no_list_of_notices(value):
    assert read_notify(value) is None


@pytest.mark.parametrize("value", [None, "", "FULLY", "HDR", "NONE"])
def test_nothing_to_return(value):
    assert read_ret(value) is None


@pytest.mark.parametrize("argument", ["ENVID=planted+0A", "ENVID=planted=x", "RET=planted", "PLANTED=1"])
def test_no_answer_repeats_what_was_typed(argument):
    with pytest.raises(CommandError) as refused:
        parse_mail(f"FROM:<ehr@clinic.example> {argument}")
    assert "planted" not in str(refused.value).lower()
