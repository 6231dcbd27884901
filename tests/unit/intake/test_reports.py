"""Report addresses at a listener: who may write to them, alone, and within the limits."""

import asyncio
import smtplib
from ipaddress import ip_network

import pytest

from relay.core.address import NULL_SENDER, Address
from relay.core.envelope import ClientSession, Envelope, Recipient
from relay.core.reply import Reply
from relay.core.returning import ReportKind
from relay.intake.accept import AcceptOptions, Acceptor, Parts
from relay.intake.reports import ReportDesk, ReportOptions
from relay.protect.keyring import KeyRing
from relay.protect.returnpath import ReturnPaths
from relay.smtp.server_limits import SessionLimits
from tests.support.intake import HOSTNAME, Taker, Tally, listening, options, rooms
from tests.support.queue import ManualClock
from tests.unit.intake.test_accept import Hand, Policy, Scan, Store

NOW = 1_700_000_000.0
RING = KeyRing.create(now=NOW, random=lambda count: bytes(range(count)))
PATHS = ReturnPaths(lambda: RING, 14 * 86_400.0)
DOMAIN = "return.clinic.example"
SIGNED = str(PATHS.make("01M812TVPXRTDGK76AT9.1", 0, DOMAIN, NOW))
STRANGER = "127.0.0.9"
BOUNCE = b"Subject: Undelivered\r\n\r\nnobody there\r\n"


def a_desk(recognise=lambda kind, is_null, content: "", **fields):
    base = {"domains": frozenset({DOMAIN}), "mailboxes": {"fbl@clinic.example": ReportKind.COMPLAINT}}
    return ReportDesk(ReportOptions(**{**base, **fields}), PATHS, recognise, ManualClock(NOW), Tally())


def answers(port, *steps, source=STRANGER):
    """The codes of MAIL FROM, RCPT TO and data as given, in one session."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60, source_address=(source, 0)) as client:
        client.ehlo("peer.example")
        said = []
        for verb, value in steps:
            code, text = {"mail": client.mail, "rcpt": client.rcpt, "data": client.data}[verb](value)
            said.append((code, text.decode().partition(" ")[0]))
        return said, client.esmtp_features.get("size")


async def talk(steps, *, desk=None, reports=True, source=STRANGER, accept=None):
    taker = accept or Taker()
    shared = rooms(taker, reports=desk or a_desk())
    trusted = ((ip_network("127.0.0.1/32"), "ehr"),)
    found = options(reports=reports, trusted=trusted, limits=SessionLimits(hostname=HOSTNAME, max_size=5_000_000))
    async with listening(found, taker, shared=shared) as listener:
        return await asyncio.to_thread(answers, listener.port, *steps, source=source), taker


async def test_a_stranger_may_write_to_report_addresses_and_to_nobody_else():
    (said, size), taker = await talk([
        ("mail", ""), ("rcpt", "pat@mail.example"), ("rcpt", f"x@{DOMAIN}"), ("rcpt", SIGNED), ("data", BOUNCE),
    ])  # fmt: skip
    assert said == [(250, "2.1.0"), (550, "5.7.1"), (550, "5.1.1"), (250, "2.1.5"), (250, "2.0.0")]
    ((session, envelope, _, client),) = taker.taken
    assert (session.client, client, len(envelope.recipients)) == ("", None, 1)
    assert size == "5000000"


async def test_a_report_address_stands_alone_in_a_message():
    (said, _), _ = await talk([("mail", ""), ("rcpt", SIGNED), ("rcpt", "fbl@clinic.example"), ("rcpt", SIGNED)])
    assert said[1:] == [(250, "2.1.5"), (452, "4.5.3"), (452, "4.5.3")]
    (said, _), _ = await talk(
        [("mail", "a@clinic.example"), ("rcpt", "pat@mail.example"), ("rcpt", SIGNED), ("rcpt", "sue@mail.example"),
         ("data", BOUNCE), ("mail", "a@clinic.example"), ("rcpt", SIGNED)],
        source="127.0.0.1",
    )  # fmt: skip
    assert [code for code, _ in said] == [250, 250, 452, 250, 250, 250, 250]


async def test_where_reports_are_not_taken_a_stranger_may_do_nothing():
    (said, _), _ = await talk([("mail", "")], reports=False)
    assert said == [(550, "5.7.1")]


async def test_strangers_share_one_rate_and_a_size_of_their_own():
    (said, size), _ = await talk(
        [("mail", ""), ("rcpt", SIGNED), ("data", BOUNCE), ("mail", "")],
        desk=a_desk(messages_per_minute=1, max_size=70_000),
    )
    assert [code for code, _ in said] == [250, 250, 250, 450]
    assert size == "70000"


async def test_a_client_keeps_its_own_size():
    (_, size), _ = await talk([("mail", "a@clinic.example")], desk=a_desk(max_size=70_000), source="127.0.0.1")
    assert size == "5000000"


# --- acceptance -----------------------------------------------------------------


def an_acceptor(desk):
    store, hand = Store(), Hand()
    parts = Parts(
        scanner=Scan(), policy=Policy(), store=store, hand=hand, metrics=Tally(), route_for=None, bounce=None,
        clock=lambda: NOW, entropy=bytes, reports=desk,
    )  # fmt: skip
    return Acceptor(AcceptOptions(hostname=HOSTNAME), parts), store


@pytest.mark.parametrize("why", ["", "write to whom the message names in From"])
async def test_a_report_is_scanned_and_kept_as_a_message_of_its_own_before_it_is_promised(why):
    acceptor, store = an_acceptor(a_desk(lambda kind, is_null, content: why))
    (said, _), _ = await talk([("mail", ""), ("rcpt", SIGNED), ("data", BOUNCE)], accept=acceptor.accept)
    if why:
        assert said[-1] == (550, "5.7.1")
        assert store.units == []
        return
    assert said[-1] == (250, "2.0.0")
    ((keep, note),) = store.units
    (entry,) = keep.entries
    assert (keep.message.origin, entry.destination) == ("returned", "report:return")
    assert keep.message.verdict.findings
    assert str(entry.recipients[0].recipient.address) == SIGNED
    assert note.events[0].facts["report"] == "return"


@pytest.mark.parametrize(
    ("why", "size", "expected"),
    [("", 200, "250 2.0.0"), ("a plain letter", 200, "550 5.7.1"), ("", len(BOUNCE) - 1, "552 5.3.4")],
)
async def test_acceptance_itself_refuses_what_the_address_does_not_take(why, size, expected):
    acceptor, store = an_acceptor(a_desk(lambda kind, is_null, content: why, max_size=size))
    envelope = Envelope(reverse_path=NULL_SENDER, recipients=(Recipient(address=Address.parse(SIGNED)),))
    reply = await acceptor.accept(ClientSession(listener="test"), envelope, BOUNCE)
    assert str(reply).startswith(expected)
    assert why in str(reply)
    assert bool(store.units) is expected.startswith("250")


def test_refusals_are_smtp():
    assert a_desk().look(PATHS.make("01M812TVPXRTDGK76AT9.1", 0, "other.example", NOW)) is None
    forged = PATHS.make("01M812TVPXRTDGK76AT9.1", 0, "other.example", NOW)
    assert isinstance(a_desk(domains=frozenset({"other.example", DOMAIN})).look(forged), ReportKind)
    moved = type(forged)(forged.local, DOMAIN)
    assert isinstance(a_desk().look(moved), Reply)
