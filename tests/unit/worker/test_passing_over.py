"""Copies that pass over what the recipient's domain publishes of its TLS (RFC 8689, RFC 8460 section 3)."""

import dataclasses

import pytest

from relay.core.decision import Treatment
from relay.core.level import Level
from relay.core.outcome import PeerFeatures
from relay.delivery.routing import Route
from tests.support.attempting import Attempting, FakeSession, refusal
from tests.support.queue import a_message

PASSES = Treatment(floor=Level.CLEAR, passes_over=True)


@pytest.fixture
async def it():
    async with Attempting() as attempting:
        yield attempting


async def test_no_other_copy_follows_on_a_connection_that_heeded_nothing(it):
    await it.keep(treatment=PASSES)
    it.connector.next.append(session := FakeSession())
    assert await it.attempt() is None
    assert (it.connector.heeded, session.closed, len(session.transactions)) == ([False], 1, 1)


async def test_a_connection_that_heeded_all_serves_and_goes_on(it):
    await it.keep(treatment=PASSES)
    kept = FakeSession()
    assert await it.attempt(session=kept) is kept
    assert (it.connector.heeded, len(kept.transactions)) == ([], 1)


async def test_the_floor_stays_and_other_copies_heed_all(it):
    await it.keep(treatment=dataclasses.replace(PASSES, floor=Level.VERIFIED))
    await it.over(FakeSession())
    await it.keep(treatment=Treatment(floor=Level.CLEAR))
    await it.over(FakeSession())
    assert it.connector.heeded == [False, True]
    assert [floor for _, floor, _ in it.connector.asked] == [Level.VERIFIED, Level.CLEAR]


async def test_requiretls_goes_before_it(it):
    await it.keep(message=demanding(), treatment=PASSES)
    await it.over(FakeSession(level=Level.AUTHENTICATED))
    assert it.connector.heeded == [True]


def demanding(**envelope):
    message = a_message("m1")
    return dataclasses.replace(message, envelope=dataclasses.replace(message.envelope, require_tls=True, **envelope))


@pytest.mark.parametrize("ret", ["", "FULL", "HDRS"])
async def test_a_notice_about_a_message_with_requiretls_holds_nothing_of_its_body(it, ret):
    """RFC 8689 section 5: as if RET=HDRS were given, whatever was."""
    body = b"From: dr@example.com\r\nSubject: x\r\nTLS-Required: no\r\n\r\nthe body of a patient\r\n"
    message = dataclasses.replace(demanding(ret=ret), size=len(body))
    await it.keep(message=message, body=body)
    await it.over(FakeSession(refusal(550, "5.1.1", "no"), level=Level.AUTHENTICATED))
    ((_, entry, notice),) = await it.notices_kept()
    assert b"body of a patient" not in notice
    assert entry.treatment.floor is Level.AUTHENTICATED


@pytest.mark.parametrize("knows", [True, False])
async def test_a_notice_about_a_message_with_requiretls_asks_for_it_and_is_not_lost_where_nobody_knows_it(it, knows):
    """RFC 8689 section 5: it is protected as the message was, and goes also to a peer that only reaches the level."""
    await it.keep(message=demanding())
    await it.over(FakeSession(refusal(550, "5.1.1", "no"), level=Level.AUTHENTICATED))
    ((_, notice, _),) = await it.notices_kept()
    session = FakeSession(level=Level.AUTHENTICATED, features=PeerFeatures(eight_bit_mime=True, require_tls=knows))
    await it.over(session, entry_id=notice.id)
    assert it.connector.asked[-1][1] is Level.AUTHENTICATED
    (sent,) = session.transactions
    assert (sent.reverse_path_text, sent.require_tls, sent.floor) == ("", knows, Level.AUTHENTICATED)
    assert await it.notices_kept() == []


async def test_inside_the_house_a_notice_goes_as_all_notices_do():
    """Over a route that the operator calls internal, as to a clinic's own server that has no TLS."""
    inside = Route(name="inside", domains=("clinic.example",), internal=True, floor=Level.CLEAR)
    async with Attempting(routes=[inside]) as it:
        await it.keep(message=demanding())
        await it.over(FakeSession(refusal(550, "5.1.1", "no"), level=Level.AUTHENTICATED))
        assert it.connector.asked[-1][1] is Level.AUTHENTICATED, "the message itself has no such exception"
        ((_, notice, _),) = await it.notices_kept()
        assert notice.treatment.floor is Level.CLEAR
        await it.over(session := FakeSession(level=Level.CLEAR), entry_id=notice.id)
        assert it.connector.asked[-1][1] is Level.CLEAR
        assert [sent.require_tls for sent in session.transactions] == [False]
