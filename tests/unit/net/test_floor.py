"""Law 2 at the connection: no sequence of peer behaviours makes a copy travel below its floor."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.level import Level
from relay.core.ports import ConnectError
from relay.demo.authority import Authority
from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.net.clear import CLEAR_TOTAL
from relay.net.options import ConnectorOptions
from tests.support.net import PATIENT, contexts, net, transaction

MX = "mx.good.example"
CERTIFICATES = ("good", "wrong-name", "expired", "self-signed", "untrusted", "none")


@pytest.fixture(scope="module")
def world():
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(Path(directory))
        certificates = {
            "good": authority.issue(MX),
            "wrong-name": authority.issue("mx.other.example"),
            "expired": authority.issue(MX, expired=True),
            "self-signed": authority.issue(MX, self_signed=True),
            "untrusted": authority.untrusted.issue(MX),
            "none": None,
        }
        yield authority, contexts(authority), certificates


KINDS = st.tuples(
    st.sampled_from(CERTIFICATES),
    st.sampled_from([kind for kind in StartTls if kind is not StartTls.STALLS]),
    st.sampled_from(["", "banner", "ehlo", "starttls", "mail", "final"]),
)
COPIES = st.tuples(st.sampled_from(list(Level)), st.integers(0, 2))


def chain(kinds, certificates):
    """One behaviour a connection, the last for all that follow."""
    behaviour = None
    for certificate, starttls, drop_at in reversed(kinds):
        one = PeerBehaviour(certificate=certificates[certificate], starttls=starttls, drop_at=drop_at)
        behaviour = one if behaviour is None else replace(one, connections=1, then=behaviour)
    return behaviour


@pytest.mark.law
@given(kinds=st.lists(KINDS, min_size=1, max_size=5), copies=st.lists(COPIES, min_size=1, max_size=4))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_sequence_of_behaviours_sends_below_the_floor(world, kinds, copies):
    asyncio.run(try_all(world, kinds, copies))


async def try_all(world, kinds, copies):
    authority, tls, certificates = world
    options = ConnectorOptions(helo="relay.clinic.example", deadlines=replace(PATIENT, handshake=2))
    async with net(authority, chain(kinds, certificates), tls=tls, options=options) as it:
        for number, (floor, tls_failures) in enumerate(copies):
            commands = len(it.peer.commands)
            eavesdropped = len(it.peer.transcript)
            try:
                session = await it.connector.connect("good.example", floor=floor, tls_failures=tls_failures)
            except ConnectError:
                assert not any(line.upper().startswith("MAIL") for line in it.peer.commands[commands:])
                continue
            assert session.proof.level >= floor
            sent = transaction(f"copy{number}@good.example", content=b"PLANTED\r\n", floor=floor)
            await session.transact(sent)
            above = replace(sent, floor=Level(min(session.proof.level + 1, Level.AUTHENTICATED)))
            if above.floor > session.proof.level:
                before = list(it.peer.commands)
                refused = await session.transact(above)
                assert not refused.results[0].delivered
                assert it.peer.commands == before
            await session.close()
            overheard = b"".join(it.peer.transcript[eavesdropped:])
            if floor > Level.CLEAR:
                assert b"MAIL FROM" not in overheard
                assert b"PLANTED" not in overheard
            in_clear = b"MAIL FROM" in overheard
            assert not in_clear or it.metrics.counts.get(CLEAR_TOTAL, 0) > 0
            for message in it.peer.messages:
                assert not message.clear or floors(copies, message) is Level.CLEAR
                assert message.clear or floors(copies, message) <= best(kinds[min(message.connection, len(kinds)) - 1])


def floors(copies, message):
    return copies[int(message.recipients[0].removeprefix("copy").split("@")[0])][0]


def best(kind):
    """The best level that a peer with this behaviour can truly reach."""
    return Level.VERIFIED if kind[0] == "good" else Level.ENCRYPTED
