"""Someone in between, who records all that he sees: of a protected copy that is nothing, its envelope included."""

import contextlib
import hashlib

import pytest

from relay.core.level import Level
from relay.core.outcome import Trouble
from relay.demo.behaviour import PeerBehaviour
from relay.net.rules import Rule, Rules
from tests.support.certificates import leaf_of, tlsa_text
from tests.support.delivering import HearingPeer
from tests.support.meddler import CONTENT, INJECTED, WORDS, Meddler, attempted
from tests.support.net import contexts
from tests.support.trust import GOOD, MX, world

ASKED = ("floor", "mta-sts", "dane", "pin")
"""Who asks that the copy be protected: its own floor, or the domain, or the operator; then its floor is clear."""


@contextlib.asynccontextmanager
async def protected(authority, asked, files):
    """``good.example`` as it should be reached, and the floor of the copy."""
    tls = contexts(authority)
    pin = leaf_of(files)[0]
    rules = Rules([Rule(destinations=(GOOD,), contexts=tls, pins=frozenset({_sha256(pin)}))])
    more = {"validating": True, "secure": (GOOD, MX)} if asked == "dane" else {}
    more |= {"rules": rules} if asked == "pin" else {}
    async with world(authority, tls, PeerBehaviour(certificate=files), **more) as it:
        if asked == "mta-sts":
            it.announce()
        yield it, Level.VERIFIED if asked == "floor" else Level.CLEAR


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def reach(it, port, files, asked):
    """Let connections go to another port, for which the records stand as well."""
    it.use_port(port)
    if asked == "dane":
        it.dns.set(f"_{port}._tcp.{MX}", {"TLSA": [tlsa_text(3, 1, 1, leaf_of(files)[0])]}, secure=True)


@pytest.mark.parametrize("asked", ASKED)
async def test_who_listens_sees_nothing_of_a_copy_that_goes(authority, asked):
    files = authority.issue(MX)
    async with protected(authority, asked, files) as (it, floor), Meddler(it.peer.port) as meddler:
        reach(it, meddler.port, files, asked)
        assert await attempted(it, floor) is None
        assert it.peer.messages[0].content == CONTENT
    assert b"STARTTLS" in meddler.seen
    assert not [word for word in WORDS if word in meddler.seen]


@pytest.mark.parametrize("asked", ASKED)
async def test_who_takes_starttls_away_gets_nothing(authority, asked):
    files = authority.issue(MX)
    async with protected(authority, asked, files) as (it, floor), Meddler(it.peer.port, strip=True) as meddler:
        reach(it, meddler.port, files, asked)
        assert await attempted(it, floor) is Trouble.BELOW_FLOOR
        assert it.peer.messages == []
    assert b"EHLO" in meddler.seen
    assert not [word for word in WORDS if word in meddler.seen]


@pytest.mark.parametrize("words", INJECTED)
@pytest.mark.parametrize("asked", ASKED)
async def test_who_puts_words_before_the_handshake_is_not_heard(authority, asked, words):
    """RFC 3207 section 6: whatever came in the clear counts for nothing once TLS stands."""
    files = authority.issue(MX)
    async with protected(authority, asked, files) as (it, floor), Meddler(it.peer.port, inject=words) as meddler:
        reach(it, meddler.port, files, asked)
        trouble = await attempted(it, floor)
        assert meddler.injected
        taken = [one.content for one in it.peer.messages]
        assert (trouble, taken) in [(None, [CONTENT]), (Trouble.BELOW_FLOOR, [])], "delivered whole, or not at all"
        assert all(one.tls_version for one in it.peer.messages)
    assert not [word for word in WORDS if word in meddler.seen]


@pytest.mark.parametrize("asked", ASKED)
async def test_who_answers_in_the_servers_place_gets_nothing(authority, asked):
    """He speaks TLS with a certificate of his own: another name's, from an authority that is trusted."""
    files = authority.issue(MX)
    his = PeerBehaviour(certificate=authority.issue("mx.evil.example"))
    async with protected(authority, asked, files) as (it, floor), HearingPeer(his) as evil:
        reach(it, evil.port, files, asked)
        assert await attempted(it, floor) is Trouble.BELOW_FLOOR
        heard = b"".join(one.octets for one in evil.heard)
    assert b"STARTTLS" in heard
    assert not [word for word in WORDS if word in heard]


async def test_the_meddler_would_see_a_copy_that_nobody_protects(authority):
    """Else the tests above could not fail."""
    files = authority.issue(MX)
    async with (
        world(authority, contexts(authority), PeerBehaviour(certificate=files)) as it,
        Meddler(it.peer.port, strip=True) as meddler,
    ):
        reach(it, meddler.port, files, "nobody")
        assert await attempted(it, Level.CLEAR) is None
    assert all(word in meddler.seen for word in WORDS)
