"""DANE against a real signed zone: NSD serves it, Unbound validates it, and a mail server shows its certificate."""

import contextlib
from dataclasses import dataclass

import pytest

from relay.core.level import Level, Voucher
from relay.core.outcome import Trouble
from relay.core.ports import ConnectError
from relay.demo.authority import Authority
from relay.demo.behaviour import PeerBehaviour
from relay.demo.peer import Peer
from relay.net.connect import SmtpConnector
from relay.net.dane import TlsaFinder
from relay.net.mx import HostFinder
from relay.net.options import ConnectorOptions
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.vouch import Vouchers
from tests.support.certificates import leaf_of, tlsa_text
from tests.support.dnssec import PLAIN, SIGNED, validated_zone
from tests.support.net import LOOPBACK, PATIENT, contexts, transaction

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]

FORMS = [(usage, selector, matching) for usage in (2, 3) for selector in (0, 1) for matching in (0, 1, 2)]


@dataclass
class Internet:
    """What the tests connect through."""

    peer: Peer
    connector: SmtpConnector

    async def proof(self, domain, **more):
        session = await self.connector.connect(domain, **more)
        result = await session.transact(transaction(f"pat@{domain}", floor=more["floor"]))
        await session.close()
        assert result.results[0].delivered
        return session.proof

    async def failure(self, domain, **more):
        taken = len(self.peer.messages)
        with pytest.raises(ConnectError) as caught:
            await self.connector.connect(domain, **more)
        assert len(self.peer.messages) == taken
        return caught.value.failures[-1]


def mail_server(name, port, *tlsa):
    """Lines of a zone: a domain, its mail server, and the server's records."""
    lines = [f"{name} IN MX 10 mx.{name}", f"mx.{name} IN A 127.0.0.1"]
    return [*lines, *(f"_{port}._tcp.mx.{name} IN TLSA {record}" for record in tlsa)]


def signed_zone(port, leaf, root, other):
    good = tlsa_text(3, 1, 1, leaf)
    lines = []
    for usage, selector, matching in FORMS:
        record = tlsa_text(usage, selector, matching, leaf if usage == 3 else root)
        lines += mail_server(f"form{usage}{selector}{matching}", port, record)
    for name, record in {"wrong": tlsa_text(3, 1, 1, other), "wrong-anchor": tlsa_text(2, 1, 1, other)}.items():
        lines += mail_server(name, port, record)
    lines += mail_server("none", port)
    lines += mail_server("unusable", port, tlsa_text(1, 1, 1, leaf), "3 1 9 abcd")
    lines += mail_server("rollover", port, tlsa_text(3, 1, 1, other), good)
    for name in ("expired", "forged"):
        lines += mail_server(name, port, good)
    lines += [f"alias IN MX 10 mx.{PLAIN}.", "cname IN MX 10 mx.cname", "mx.cname IN CNAME mx.form311"]
    return lines


@pytest.fixture
async def internet(tmp_path):
    authority = Authority(tmp_path / "authority")
    names = [f"mx.{name}.{SIGNED}" for name in ("none", "unusable", *(f"form{u}{s}{m}" for u, s, m in FORMS))]
    files = authority.issue("mail", names=[*names, f"mx.{PLAIN}"])
    leaf, root = leaf_of(files)
    other = leaf_of(authority.issue("other"))[0]
    async with contextlib.AsyncExitStack() as stack:
        peer = await stack.enter_async_context(Peer(PeerBehaviour(certificate=files)))
        plain = [f"@ IN MX 10 mx.{PLAIN}.", "mx IN A 127.0.0.1", f"_{peer.port}._tcp.mx IN TLSA 3 1 1 {'00' * 32}"]
        zone = signed_zone(peer.port, leaf, root, other)
        broken = {f"_{peer.port}._tcp.mx.{kind}" for kind in ("expired", "forged")}
        faults = {kind: [name for name in broken if name.endswith(kind)] for kind in ("expired", "forged")}
        port = await stack.enter_async_context(validated_zone(tmp_path / "dns", zone, plain, **faults))
        resolver = Resolver(ResolverOptions(nameservers=("127.0.0.1",), port=port, validating=True))
        stack.push_async_callback(resolver.close)
        connector = SmtpConnector(
            ConnectorOptions(helo="relay.clinic.example", deadlines=PATIENT, port=peer.port),
            HostFinder(resolver, LOOPBACK),
            contexts(authority),
            vouching=Vouchers(dane=TlsaFinder(resolver), mta_sts=None),
        )
        yield Internet(peer, connector)


async def test_every_usage_selector_and_matching_type_authenticates(internet):
    for usage, selector, matching in FORMS:
        proof = await internet.proof(f"form{usage}{selector}{matching}.{SIGNED}", floor=Level.AUTHENTICATED)
        assert proof.vouched_by is Voucher.DANE
        assert proof.checked_by == f"DANE-{'EE' if usage == 3 else 'TA'} {usage} {selector} {matching}"
    assert (await internet.proof(f"rollover.{SIGNED}", floor=Level.AUTHENTICATED)).vouched_by is Voucher.DANE


async def test_records_that_do_not_match_keep_every_copy_back(internet):
    for name in ("wrong", "wrong-anchor"):
        for floor in Level:
            failure = await internet.failure(f"{name}.{SIGNED}", floor=floor, tls_failures=3)
            assert failure.trouble is Trouble.BELOW_FLOOR


async def test_signatures_that_are_expired_or_forged_defer(internet):
    for name in ("expired", "forged"):
        failure = await internet.failure(f"{name}.{SIGNED}", floor=Level.CLEAR)
        assert failure.trouble is Trouble.DNS
        assert "TLSA" in failure.detail


async def test_records_of_no_use_ask_for_tls_and_a_signed_mx_vouches_for_pkix(internet):
    proof = await internet.proof(f"unusable.{SIGNED}", floor=Level.AUTHENTICATED)
    assert (proof.vouched_by, proof.checked_by) == (Voucher.DNSSEC, "PKIX")
    proof = await internet.proof(f"none.{SIGNED}", floor=Level.AUTHENTICATED)
    assert (proof.vouched_by, proof.checked_by) == (Voucher.DNSSEC, "PKIX")


async def test_records_in_an_unsigned_zone_mean_nothing_and_vouch_for_nothing(internet):
    proof = await internet.proof(PLAIN, floor=Level.VERIFIED)
    assert (proof.level, proof.vouched_by) == (Level.VERIFIED, Voucher.NOBODY)
    assert (await internet.failure(PLAIN, floor=Level.AUTHENTICATED)).trouble is Trouble.BELOW_FLOOR


async def test_a_signed_mx_into_an_unsigned_zone_vouches_for_the_name_alone(internet):
    proof = await internet.proof(f"alias.{SIGNED}", floor=Level.AUTHENTICATED)
    assert proof.vouched_by is Voucher.DNSSEC


async def test_records_at_the_end_of_a_secure_cname_hold(internet):
    proof = await internet.proof(f"cname.{SIGNED}", floor=Level.AUTHENTICATED)
    assert (proof.vouched_by, proof.checked_by) == (Voucher.DANE, "DANE-EE 3 1 1")
