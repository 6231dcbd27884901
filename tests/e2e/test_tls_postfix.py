"""Postfix as the receiving server, with certificates good and bad: what is reached, and what comes back."""

import contextlib

import pytest

from relay.core.level import Level, Voucher
from relay.core.outcome import Trouble
from relay.demo.behaviour import PeerBehaviour
from relay.demo.ports import free_port
from tests.support.net import contexts
from tests.support.peers import Postfix
from tests.support.starttls import starttls_version
from tests.support.trust import CERTIFICATES, GOOD, attempt, world

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]


class OldPostfix(Postfix):
    """One that speaks nothing newer than TLS 1.0."""

    def _write(self):
        super()._write()
        with (self.directory / "etc" / "main.cf").open("a") as settings:
            settings.write("smtpd_tls_security_level = may\n")
            settings.write("smtpd_tls_protocols = TLSv1\nsmtpd_tls_mandatory_protocols = TLSv1\n")
            settings.write("tls_high_cipherlist = ALL:@SECLEVEL=0\ntls_medium_cipherlist = ALL:@SECLEVEL=0\n")


@contextlib.asynccontextmanager
async def behind(authority, kind, *, program=Postfix):
    """``good.example`` with a Postfix as its mail server."""
    async with (
        world(authority, contexts(authority), PeerBehaviour()) as it,
        program(
            address="127.0.0.1", port=free_port(), domain=GOOD, certificate=CERTIFICATES[kind](authority)
        ) as postfix,
    ):
        it.use_port(postfix.port)
        yield it, postfix


async def test_a_good_certificate_verifies_and_a_policy_authenticates_it(authority):
    async with behind(authority, "good") as (it, _):
        assert (await attempt(it, Level.VERIFIED)).level is Level.VERIFIED
        assert await attempt(it, Level.AUTHENTICATED) is Trouble.BELOW_FLOOR
        it.announce()
        assert (await attempt(it, Level.AUTHENTICATED)).vouched_by is Voucher.MTA_STS


@pytest.mark.parametrize("kind", ["expired", "self-signed", "wrong-name", "private-authority"])
async def test_a_bad_certificate_is_encrypted_at_the_most_and_nothing_under_a_policy(authority, kind):
    async with behind(authority, kind) as (it, _):
        assert (await attempt(it, Level.CLEAR)).level is Level.ENCRYPTED
        assert await attempt(it, Level.VERIFIED) is Trouble.BELOW_FLOOR
        it.announce()
        assert await attempt(it, Level.CLEAR, tls_failures=3) is Trouble.BELOW_FLOOR


async def test_tls_1_0_protects_nothing(authority):
    async with behind(authority, "good", program=OldPostfix) as (it, postfix):
        assert await starttls_version(postfix.address, postfix.port) == "TLSv1"
        assert await attempt(it, Level.ENCRYPTED) is Trouble.BELOW_FLOOR
        assert await attempt(it, Level.CLEAR) is Trouble.BELOW_FLOOR
        assert (await attempt(it, Level.CLEAR, tls_failures=1)).level is Level.CLEAR
