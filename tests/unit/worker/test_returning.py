"""The senders that copies leave under, what is remembered of them, and who is left out."""

from dataclasses import replace

import pytest

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.change import Remember
from relay.core.entry import Claimed
from relay.core.envelope import Origin, Recipient
from relay.core.errors import CorruptError
from relay.core.outcome import Trouble
from relay.core.reply import Reply
from relay.delivery.dispatched import memo_of, memo_prefix, message_of, read_memo
from relay.delivery.routing import Route, RouteTable
from relay.protect.keyring import KeyRing
from relay.protect.returnpath import ReturnPaths
from relay.worker.returning import Returning, ReturnOptions, without
from tests.support.queue import NOW, a_message, an_entry

NAME = "01M812TVPXRTDGK76AT9"
BOTH = ("bob@example.org", "sue@example.org")
RING = KeyRing.create(now=NOW, random=lambda count: bytes(range(count)))
PATHS = ReturnPaths(lambda: RING, 14 * 86_400.0)
OPTIONS = ReturnOptions(domain="return.clinic.example", by_sender={"lab.example": "return.lab.example"})
ROUTES = RouteTable((Route(name="inside", domains=("in.example",), internal=True),))


def claimed(*, recipients=BOTH, sender="al@clinic.example", destination="example.org", **fields):
    message = a_message(NAME, recipients=recipients, **fields)
    path = ReversePath(Address.parse(sender)) if sender else NULL_SENDER
    message = replace(message, envelope=replace(message.envelope, reverse_path=path))
    return Claimed(entry=an_entry(message, 1, destination=destination), message=message)


def returning(options=OPTIONS, **fields):
    return Returning(options, PATHS, ROUTES, **fields)


def read(sender):
    return PATHS.read(Address.parse(sender), NOW)


def test_a_copy_leaves_once_under_one_address_for_all_its_recipients():
    ((sender, states),) = returning().senders(claimed(), NOW)
    assert (read(sender).entry_id, read(sender).number) == (f"{NAME}.1", None)
    assert len(states) == 2


def test_a_copy_for_one_says_for_whom():
    ((sender, _),) = returning().senders(claimed(recipients=BOTH[:1]), NOW)
    assert read(sender).number == 0


def test_bulk_mail_leaves_once_a_recipient_under_an_address_each():
    found = returning().senders(claimed(stream="bulk"), NOW)
    assert [read(sender).number for sender, _ in found] == [0, 1]
    assert [[state.number for state in states] for _, states in found] == [[0], [1]]


def test_a_sending_domain_can_have_a_return_domain_of_its_own():
    ((sender, _),) = returning().senders(claimed(sender="al@lab.example"), NOW)
    assert sender.endswith("@return.lab.example")
    only = ReturnOptions(by_sender={"lab.example": "return.lab.example"})
    assert returning(only).senders(claimed(), NOW)[0][0] == "al@clinic.example"


@pytest.mark.parametrize("fields", [
    {"sender": ""}, {"origin": Origin.DSN}, {"destination": "route:inside"}, {"sender": "x@return.clinic.example"},
])  # fmt: skip
def test_these_keep_their_sender_and_are_not_remembered(fields):
    copy = claimed(**fields)
    assert returning().senders(copy, NOW)[0][0] == fields.get("sender", "al@clinic.example")
    assert returning().memo(copy, [0], "mx.example.org", NOW) is None


def test_without_a_return_domain_nothing_changes():
    assert Returning().senders(claimed(), NOW) == [("al@clinic.example", claimed().entry.recipients)]
    assert Returning().memo(claimed(), [0], "", NOW) is None
    assert Returning().left_out(claimed()) == ()


# --- memos ---


def test_a_memo_holds_what_a_notice_needs_and_nothing_of_the_text():
    copy = claimed()
    whole = Recipient(address=Address.parse("sue@example.org"), original="rfc822;sue", notify=frozenset({"FAILURE"}))
    states = (copy.entry.recipients[0], replace(copy.entry.recipients[1], recipient=whole))
    copy = replace(copy, entry=replace(copy.entry, recipients=states))
    memo = returning().memo(copy, [1], "mx.example.org", NOW)
    assert memo.name == f"{memo_prefix(f'{NAME}.1')}1"
    assert memo.until == NOW + OPTIONS.lifetime
    sent = read_memo(memo)
    assert (sent.message_id, sent.entry_id, sent.host) == (NAME, f"{NAME}.1", "mx.example.org")
    assert sent.recipients == (states[1],)
    again = message_of(sent)
    assert (again.id, again.envelope.reverse_path, again.session.client) == (
        NAME, copy.message.envelope.reverse_path, "ehr",
    )  # fmt: skip


def test_a_notice_about_what_came_back_knows_whose_mail_it_was():
    copy = claimed(stream="bulk")
    message = copy.message
    message = replace(
        message,
        session=replace(message.session, tenant="clinic"),
        envelope=replace(message.envelope, envelope_id="QQ314", smtputf8=True),
        message_id="<1@clinic.example>",
    )
    again = message_of(read_memo(memo_of(message, copy.entry, [1, 0], host="", now=NOW, lifetime=1.0)))
    assert (again.session.tenant, again.stream, again.message_id) == ("clinic", "bulk", "<1@clinic.example>")
    assert (again.envelope.envelope_id, again.envelope.smtputf8) == ("QQ314", True)
    assert (again.received_at, again.size) == (message.received_at, 0)


def test_a_memo_of_mail_without_a_sender_and_one_of_a_later_form():
    copy = claimed(sender="")
    memo = memo_of(copy.message, copy.entry, [0], host="", now=NOW, lifetime=1.0)
    assert read_memo(memo).sender == NULL_SENDER
    later = replace(memo, value=memo.value.replace(b'"form":1', b'"form":2'))
    assert later != memo
    with pytest.raises(CorruptError, match="does not know"):
        read_memo(later)


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b'{"form":2}', b'{"form":1,"sender":"@"}', b"\xff"])
def test_octets_that_are_no_memo_are_told_apart(value):
    with pytest.raises(CorruptError):
        read_memo(Remember(name="sent/m1.1/0", value=value, until=NOW))


def test_pieces_of_one_entry_have_names_of_their_own():
    copy = claimed()
    names = {
        memo_of(copy.message, copy.entry, [number], host="", now=NOW, lifetime=1.0).name for number in (0, 1)
    }  # fmt: skip
    assert len(names) == 2


# --- who is left out ---


def test_who_was_suppressed_since_is_left_out_with_the_reason():
    reply = Reply.of(550, "5.1.1", "This mailbox refused earlier mail")
    it = returning(suppressed=lambda address, tenant, stream: reply if address.local == "sue" else None)
    copy = claimed()
    (result,) = it.left_out(copy)
    assert (result.number, result.failure.trouble, str(result.failure.status)) == (1, Trouble.SUPPRESSED, "5.1.1")
    assert [state.number for state in without(copy, [result]).entry.recipients] == [0]
    assert without(copy, ()) is copy
    assert it.left_out(claimed(origin=Origin.DSN)) == ()
