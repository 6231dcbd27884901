"""``posttls-finger``, which is Postfix's own TLS client, agrees with what our probe says of a server."""

import asyncio

import pytest

from relay.core.level import Level
from relay.demo.behaviour import PeerBehaviour, StartTls
from tests.support.net import contexts
from tests.support.peers import require
from tests.support.trust import GOOD, MX, world

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]


async def finger(program, authority, port, *, name=MX):
    """What it says of the server, in the words of our levels."""
    process = await asyncio.create_subprocess_exec(
        program, "-c", "-t", "60", "-T", "60", "-l", "verify", "-L", "summary", "-F", str(authority.root),
        f"[127.0.0.1]:{port}", name, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 100)
    said = output.decode()
    if "Verified TLS connection established" in said:
        return Level.VERIFIED
    if "TLS connection established" in said:
        return Level.ENCRYPTED
    return Level.CLEAR


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("good", Level.VERIFIED),
        ("expired", Level.ENCRYPTED),
        ("self-signed", Level.ENCRYPTED),
        ("wrong-name", Level.ENCRYPTED),
        ("private-authority", Level.ENCRYPTED),
        ("stripped", Level.CLEAR),
    ],
)
async def test_postfix_sees_what_our_probe_sees(authority, kind, level):
    program = require("posttls-finger")
    certificate = {
        "good": lambda: authority.issue(MX),
        "expired": lambda: authority.issue(MX, expired=True),
        "self-signed": lambda: authority.issue(MX, self_signed=True),
        "wrong-name": lambda: authority.issue("mx.other.example"),
        "private-authority": lambda: authority.untrusted.issue(MX),
        "stripped": lambda: authority.issue(MX),
    }[kind]()
    starttls = StartTls.ABSENT if kind == "stripped" else StartTls.OFFERED
    behaviour = PeerBehaviour(certificate=certificate, starttls=starttls)
    async with world(authority, contexts(authority), behaviour) as it:
        await it.connector.probe(GOOD)
        await it.capabilities.settle()
        (ours,) = [one async for one in it.capabilities.known()]
        theirs = await finger(program, authority, it.peer.port)
        assert it.peer.messages == it.peer.refused == []
    assert (ours.level, theirs) == (level.word, level)
