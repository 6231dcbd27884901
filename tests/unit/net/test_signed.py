"""A report counts only under its author's own signature (RFC 8460 section 3)."""

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from relay.core.errors import StoreUnavailableError
from relay.demo.dns import DnsServer, Trouble
from relay.net.received import ReceivedReports
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.signed import is_signed_by_its_author
from relay.protect.dkim import SigningKey, record_strings, record_text, sign
from relay.store import MemoryData, MemoryStore
from tests.support.queue import ManualClock
from tests.support.trust import Tallied
from tests.support.vault import FakeVault
from tests.unit.trust.test_tlsrpt import message, packed

RSA = SigningKey(domain="company-x.example", selector="r1", private=generate_private_key(65537, 2048))
ED = SigningKey(domain="sub.company-x.example", selector="e1", private=Ed25519PrivateKey.generate())
OTHER = SigningKey(domain="other.example", selector="r1", private=RSA.private)
REPORT = message(packed()).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
NOW = 1_700_000_000.0


def signed(*keys, content=REPORT):
    return sign(content, keys, at=NOW) + content


@contextlib.asynccontextmanager
async def names(**more):
    zone = {
        key.record_name: {"TXT": [" ".join(f'"{part}"' for part in record_strings(record_text(key)))]}
        for key in (RSA, ED, OTHER)
    }
    async with DnsServer(zone | more) as dns:
        resolver = Resolver(
            ResolverOptions(nameservers=("127.0.0.1",), port=dns.port, timeout=20, lifetime=40, failure_ttl=1)
        )
        try:
            yield dns, resolver
        finally:
            await resolver.close()


@pytest.mark.parametrize("keys", [(RSA,), (ED,), (OTHER, RSA)], ids=["own", "below", "second"])
async def test_the_authors_domain_or_one_near_it_will_do(keys):
    async with names() as (_, resolver):
        assert await is_signed_by_its_author(signed(*keys), resolver)


@pytest.mark.parametrize(
    "content",
    [
        REPORT,
        signed(OTHER),
        signed(RSA) + b"more\r\n",
        signed(RSA).replace(b"To: reports@", b"To: other@"),
        b"From: evil@other.example\r\n" + signed(RSA),
        signed(RSA).replace(b"; d=", b"; l=0; d="),
        signed(RSA, content=REPORT.replace(b"From: ", b"X: ")),
        b"DKIM-Signature: v=1; junk\r\n" + REPORT,
        b"\xff\xfe",
        b"",
    ],
    ids=["none", "other", "longer", "changed", "two-authors", "part", "no-author", "junk", "octets", "empty"],
)
async def test_nothing_else_will(content):
    async with names() as (_, resolver):
        assert not await is_signed_by_its_author(content, resolver)


async def test_a_header_longer_than_any_is_not_read():
    """8 MB of short fields, which anyone may send, held a worker's loop for two seconds."""
    async with names() as (_, resolver):
        long = signed(RSA, content=b"X: a\r\n" * 20_000 + REPORT)
        assert await is_signed_by_its_author(long, resolver)
        longer = signed(RSA, content=b"X: a\r\n" * 22_000 + REPORT)
        assert not await is_signed_by_its_author(longer, resolver)


@pytest.mark.parametrize("tlsrpt", [True, False])
async def test_a_key_for_reports_about_tls_alone_signs_nothing_else(tlsrpt):
    text = record_text(RSA).replace("v=DKIM1;", "v=DKIM1; s=tlsrpt;")
    async with names(**{RSA.record_name: {"TXT": [" ".join(f'"{part}"' for part in record_strings(text))]}}) as (_, it):
        assert await is_signed_by_its_author(signed(RSA), it, tlsrpt=tlsrpt) is tlsrpt


async def test_a_key_that_is_gone_is_none_and_one_that_cannot_be_looked_up_is_asked_for_again():
    async with names() as (dns, resolver):
        dns.set(RSA.record_name, None)
        assert not await is_signed_by_its_author(signed(RSA), resolver)
        dns.set(RSA.record_name, Trouble.SERVFAIL)
        resolver.forget()
        with pytest.raises(StoreUnavailableError):
            await is_signed_by_its_author(signed(RSA), resolver)
        assert await is_signed_by_its_author(signed(RSA, ED), resolver), "another that verifies is enough"


async def test_a_report_is_kept_under_its_signature_alone():
    clock, metrics = ManualClock(), Tallied()
    store = MemoryStore(FakeVault(), clock, data=MemoryData())

    async def room(name, window):
        return await store.count(name, window=window, now=clock()) <= 2

    async with names() as (_, resolver):
        kept = ReceivedReports(
            store, room, clock, metrics=metrics, is_signed=lambda content: is_signed_by_its_author(content, resolver)
        )
        for _ in range(5):
            assert await kept.take(REPORT) is None
        assert (await kept.take(signed(RSA))).organization == "Company-X", "unsigned ones take up no room"
    assert metrics.counts["postern_tls_reports_received_total", "unsigned"] == 5
