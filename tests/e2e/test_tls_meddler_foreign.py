"""Someone in between us and a foreign server, who records what he sees: Postfix and OpenSMTPD behind him."""

import contextlib

import pytest

from relay.core.level import Level
from relay.core.outcome import Trouble
from relay.demo.behaviour import PeerBehaviour
from relay.demo.ports import free_port
from tests.support.meddler import INJECTED, WORDS, Meddler, attempted
from tests.support.net import contexts
from tests.support.opensmtpd import OpenSmtpd
from tests.support.peers import Postfix
from tests.support.trust import GOOD, MX, world

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]

PLAIN = b"MAIL FROM:<evil@evil.example>\r\nRCPT TO:<evil@good.example>\r\n"


@contextlib.asynccontextmanager
async def behind(authority, kind, **meddling):
    """``good.example`` with a foreign server and its meddler, and what the server took."""
    certificate = authority.issue(MX)
    async with contextlib.AsyncExitStack() as stack:
        it = await stack.enter_async_context(world(authority, contexts(authority), PeerBehaviour()))
        where = {"address": "127.0.0.1", "port": free_port(), "certificate": certificate}
        if kind == "postfix":
            server = await stack.enter_async_context(Postfix(domain=GOOD, **where))

            async def taken():
                return [mail.partition(b"\r\n\r\n")[2] for mail in await server.wait_mail(1)]
        else:
            server = await stack.enter_async_context(OpenSmtpd(next_port=it.peer.port, **where))

            async def taken():
                return [one.content.partition(b"\r\n\r\n")[2] for one in await it.peer.wait_messages()]

        meddler = await stack.enter_async_context(Meddler(server.port, **meddling))
        it.use_port(meddler.port)
        yield it, meddler, taken


def unseen(meddler):
    """Of what was passed on: his own words he may see."""
    seen = bytes(meddler.seen)
    return b"STARTTLS" in seen and not [word for word in WORDS if word in seen]


@pytest.mark.parametrize("asked", ["floor", "mta-sts"])
@pytest.mark.parametrize("kind", ["postfix", "opensmtpd"])
async def test_of_a_copy_that_goes_he_sees_nothing_and_without_starttls_none_goes(authority, kind, asked):
    floor = Level.VERIFIED if asked == "floor" else Level.CLEAR
    async with behind(authority, kind) as (it, meddler, taken):
        if asked == "mta-sts":
            it.announce()
        assert await attempted(it, floor) is None
        assert unseen(meddler)
        assert await taken() == [b"planted-text\r\n"]
        async with Meddler(meddler._port, strip=True) as thief:
            it.use_port(thief.port)
            assert await attempted(it, floor) is Trouble.BELOW_FLOOR
        assert unseen(thief)
        assert await taken() == [b"planted-text\r\n"]


@pytest.mark.parametrize("words", [{"inject": INJECTED[1]}, {"commands": PLAIN}], ids=["replies", "commands"])
@pytest.mark.parametrize("kind", ["postfix", "opensmtpd"])
async def test_plain_words_after_starttls_deliver_nothing_and_show_nothing(authority, kind, words):
    """RFC 3207 section 6, from either side: the copy goes whole, or not at all."""
    async with behind(authority, kind, **words) as (it, meddler, taken):
        trouble = await attempted(it, Level.VERIFIED)
        assert meddler.injected
        assert unseen(meddler)
        if trouble is None:
            assert await taken() == [b"planted-text\r\n"]
