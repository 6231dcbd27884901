"""OpenSMTPD as the receiving server: certificates good and bad, or a TLS of its own that is broken."""

import contextlib

import pytest

from relay.core.level import Level, Voucher
from relay.core.outcome import Trouble
from relay.demo.behaviour import PeerBehaviour
from relay.demo.site import free_port
from tests.support.net import contexts
from tests.support.opensmtpd import OpenSmtpd
from tests.support.starttls import starttls_version
from tests.support.trust import CERTIFICATES, MX, attempt, world

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]


@contextlib.asynccontextmanager
async def behind(authority, certificate, **how):
    """``good.example`` with OpenSMTPD as its mail server, which passes on to the peer."""
    async with (
        world(authority, contexts(authority), PeerBehaviour()) as it,
        OpenSmtpd(
            address="127.0.0.1", port=free_port(), certificate=certificate, next_port=it.peer.port, **how
        ) as server,
    ):
        it.use_port(server.port)
        yield it, server


@pytest.mark.parametrize("kind", CERTIFICATES)
async def test_what_opensmtpd_shows_decides(authority, kind):
    async with behind(authority, CERTIFICATES[kind](authority)) as (it, server):
        assert await starttls_version(server.address, server.port) == "TLSv1.3"
        good = kind == "good"
        best = Level.VERIFIED if good else Level.ENCRYPTED
        proof = await attempt(it, Level.CLEAR)
        assert (proof.level, proof.tls_version) == (best, "TLSv1.3")
        await it.peer.wait_messages()
        for floor in (Level.VERIFIED, Level.AUTHENTICATED)[good:]:
            assert await attempt(it, floor, tls_failures=9) is Trouble.BELOW_FLOOR
        it.announce()
        if good:
            assert (await attempt(it, Level.AUTHENTICATED)).vouched_by is Voucher.MTA_STS
        else:
            assert await attempt(it, Level.CLEAR, tls_failures=9) is Trouble.BELOW_FLOOR


async def protects_nothing(it):
    """A TLS that is of no use: the first attempt is put off at any floor, and only floor ``CLEAR`` is served later."""
    assert await attempt(it, Level.CLEAR) is Trouble.BELOW_FLOOR
    for floor in (Level.ENCRYPTED, Level.VERIFIED, Level.AUTHENTICATED):
        assert await attempt(it, floor, tls_failures=9) is Trouble.BELOW_FLOOR
    assert it.peer.messages == []
    proof = await attempt(it, Level.CLEAR, tls_failures=1)
    assert (proof.level, proof.downgraded) == (Level.CLEAR, True)
    it.announce()
    assert await attempt(it, Level.CLEAR, tls_failures=9) is Trouble.BELOW_FLOOR


async def test_tls_1_0_protects_nothing(authority):
    async with behind(authority, authority.issue(MX), old_tls=True) as (it, server):
        assert await starttls_version(server.address, server.port) == "TLSv1"
        await protects_nothing(it)


async def test_a_tls_that_is_broken_protects_nothing(authority):
    async with behind(authority, authority.issue(MX), mended=False) as (it, server):
        if await starttls_version(server.address, server.port):
            pytest.skip("this OpenSMTPD can use its key without help")
        await protects_nothing(it)
