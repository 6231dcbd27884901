"""A report counts only under its author's own signature (RFC 8460 section 3)."""

import contextlib
import re

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.core.errors import StoreUnavailableError
from relay.demo.dns import DnsServer, Trouble
from relay.net.received import ReceivedReports
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.signed import _FORMS, is_signed_by_its_author
from relay.protect.dkim import SigningKey, record_strings, record_text, relaxed_body, sign
from relay.store import MemoryData, MemoryStore
from tests.support.queue import ManualClock
from tests.support.trust import Tallied
from tests.support.vault import FakeVault
from tests.unit.trust.test_tlsrpt import message, packed

RSA = SigningKey(domain="company-x.example", selector="r1", private=generate_private_key(65537, 2048))
ED = SigningKey(domain="sub.company-x.example", selector="e1", private=Ed25519PrivateKey.generate())
OTHER = SigningKey(domain="other.example", selector="r1", private=RSA.private)
REPORT = message(packed()).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
PEM = RSA.private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
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


@pytest.mark.parametrize("form", [b"simple/simple", b"relaxed/simple", b"simple/relaxed", b"relaxed/relaxed"])
@pytest.mark.parametrize("tail", [b"", b"\r\n\r\n", b" a\t b \r\n\r\n", b"no end"])
async def test_whatever_form_was_signed_in_the_body_counts(form, tail):
    content = REPORT + tail
    made = dkim.DKIM(content).sign(
        RSA.selector.encode(), RSA.domain.encode(), PEM,
        canonicalize=tuple(form.split(b"/")),
    )  # fmt: skip
    async with names() as (_, resolver):
        assert await is_signed_by_its_author(made + content, resolver)
        assert not await is_signed_by_its_author(made + content + b"x", resolver)
        assert not await is_signed_by_its_author(made + content.replace(b"To: ", b"To: x"), resolver)


async def test_a_body_is_gone_through_once_however_many_signatures_there_are(monkeypatch):
    """dkimpy, given 8 MB of white space and five signatures, took 17 seconds."""
    gone_through, given = [], []

    def counted(body):
        gone_through.append(len(body))
        return relaxed_body(body)

    whole = dkim.DKIM.__init__
    monkeypatch.setitem(_FORMS, b"relaxed", counted)
    monkeypatch.setattr(dkim.DKIM, "__init__", lambda it, *a, **k: given.append(len(a[0])) or whole(it, *a, **k))
    content = REPORT + b" " * 1_000_000 + b"x\r\n"
    once = signed(RSA, content=content)[: -len(content)]
    spoilt = re.sub(rb"( b=)(....)", rb"\1AAAA", once)
    async with names() as (_, resolver):
        assert not await is_signed_by_its_author(spoilt * 9 + content, resolver)
        assert len(gone_through) == 1
        assert len(given) == 5
        assert max(given) < 10_000
        assert await is_signed_by_its_author(spoilt * 4 + once + content, resolver)


async def test_a_signature_longer_than_any_or_over_more_names_than_any_is_none():
    header = signed(RSA)[: -len(REPORT)]
    async with names() as (_, resolver):
        for spaces, good in ((3000, True), (4096, False)):
            long = header.replace(b"; c=", b";" + b" " * spaces + b"c=")
            assert await is_signed_by_its_author(long + REPORT, resolver) is good
        for count, good in ((90, True), (101, False)):
            more = b"from:" + b":".join(b"x%d" % number for number in range(count - 1))
            made = dkim.DKIM(REPORT).sign(
                RSA.selector.encode(), RSA.domain.encode(), PEM, include_headers=more.split(b":")
            )
            assert await is_signed_by_its_author(made + REPORT, resolver) is good


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
