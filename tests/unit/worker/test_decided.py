"""The notices that rules ask for by ``notify``: who is told, of what, and that they say nothing of the message."""

import email
from email.policy import default

from relay.core.address import Address
from relay.core.decision import Action, PolicyDecision, Treatment
from relay.core.envelope import Origin
from relay.core.level import Level
from relay.delivery.routing import Route
from tests.support.attempting import Attempting
from tests.support.queue import BODY, a_message

PRIVACY = "privacy@clinic.example"


def decision(recipient, rule, action=Action.HOLD, *notify):
    return PolicyDecision(
        recipient=Address.parse(recipient), treatment=Treatment(rule=rule, action=action, notify=notify)
    )


def keeps(changes):
    return [change for change in changes if hasattr(change, "content")]


async def test_each_mailbox_is_told_once_of_all_that_concerns_it():
    async with Attempting(routes=(Route(name="inside", domains=("clinic.example",), internal=True),)) as it:
        message = a_message("m1", recipients=("planted-bob@example.org",), size=len(BODY))
        decisions = [
            decision("planted-bob@example.org", "phi", Action.HOLD, PRIVACY, "it@clinic.example"),
            decision("planted-ann@example.org", "phi", Action.HOLD, PRIVACY),
            decision("planted-cyd@example.net", "never", Action.REJECT, PRIVACY),
            decision("planted-dan@example.net", "rest", Action.DELIVER),
        ]
        first, second = keeps(it.notices.decided(message, decisions))
        assert [str(one.message.envelope.recipients[0].address) for one in (first, second)] == [
            PRIVACY,
            "it@clinic.example",
        ]
        assert first.message.origin is Origin.NOTICE
        assert first.message.envelope.reverse_path.is_null
        assert first.entries[0].destination == "route:inside"
        told = email.message_from_bytes(first.content, policy=default)
        text = told.get_content()
        assert "phi: held for an operator, 2 recipients" in text
        assert "never: refused, 1 recipient\n" in text.replace("\r\n", "\n")
        assert "rest" not in text
        assert "m1" in told["Subject"]
        assert told["Auto-Submitted"] == "auto-generated"
        assert b"planted" not in first.content, "neither mailbox nor anything of the message"
        await it.store.commit((first, second))


async def test_a_notice_has_the_floor_of_all_our_own_mail_and_who_names_nobody_tells_nobody():
    async with Attempting() as it:
        message = a_message("m1", recipients=("bob@example.org",), size=len(BODY))
        (kept,) = keeps(it.notices.decided(message, [decision("bob@example.org", "phi", Action.HOLD, PRIVACY)]))
        assert kept.entries[0].treatment.floor is Level.VERIFIED
        assert it.notices.decided(message, [decision("bob@example.org", "phi")]) == ()


async def test_a_notice_that_cannot_be_written_keeps_no_message_from_being_taken():
    async with Attempting() as it:
        message = a_message("m1", recipients=("bob@example.org",), size=len(BODY))
        assert it.notices.decided(message, [decision("bob@example.org", "phi", Action.HOLD, "not a mailbox")]) == ()
