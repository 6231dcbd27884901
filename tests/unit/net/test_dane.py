import time
from dataclasses import replace

import pytest

from relay.core.level import Level, Voucher
from relay.core.outcome import Trouble
from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.demo.dns import Trouble as Broken
from tests.support.certificates import leaf_of, tlsa_text
from tests.support.policyhost import answer
from tests.support.trust import GOOD, MX, world

SIGNED = (GOOD, MX)


@pytest.fixture(scope="module")
def files(authority):
    return {"good": authority.issue(MX), "self": authority.issue(MX, self_signed=True)}


def publish(it, *records, name=MX, secure=True):
    it.dns.set(f"_{it.peer.port}._tcp.{name}", {"TLSA": records}, secure=secure)
    it.resolver.forget()


def other_certificate(authority):
    return leaf_of(authority.issue(MX))[0]


async def test_a_matching_record_authenticates_even_a_self_signed_certificate(authority, tls, files):
    behaviour = PeerBehaviour(certificate=files["self"])
    async with world(authority, tls, behaviour, validating=True, secure=SIGNED) as it:
        publish(it, tlsa_text(3, 1, 1, leaf_of(files["self"])[0]))
        proof = await it.proof(floor=Level.AUTHENTICATED)
    assert (proof.level, proof.vouched_by, proof.checked_by) == (Level.AUTHENTICATED, Voucher.DANE, "DANE-EE 3 1 1")
    assert proof.failure == ""


async def test_a_trust_anchor_authenticates_what_it_issued_for_the_name(authority, tls, files):
    foreign = authority.untrusted.issue(MX)
    async with world(authority, tls, PeerBehaviour(certificate=foreign), validating=True, secure=SIGNED) as it:
        it.clock.now = time.time()
        publish(it, tlsa_text(2, 0, 2, leaf_of(foreign)[1]))
        proof = await it.proof(floor=Level.AUTHENTICATED)
        assert (proof.vouched_by, proof.checked_by) == (Voucher.DANE, "DANE-TA 2 0 2")
        it.peer.behaviour = PeerBehaviour(certificate=authority.untrusted.issue("mx.other.example"))
        assert (await it.failure(floor=Level.CLEAR)).trouble is Trouble.BELOW_FLOOR


@pytest.mark.parametrize("floor", list(Level))
async def test_a_record_that_does_not_match_keeps_every_copy_back(authority, tls, files, floor):
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=SIGNED) as it:
        publish(it, tlsa_text(3, 1, 1, other_certificate(authority)))
        failure = await it.failure(floor=floor, tls_failures=3)
        assert failure.trouble is Trouble.BELOW_FLOOR
        assert "TLSA" in failure.detail
        assert it.peer.messages == []


async def test_mta_sts_does_not_override_a_record_that_does_not_match(authority, tls, files):
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=SIGNED) as it:
        it.announce()
        assert (await it.proof(floor=Level.AUTHENTICATED)).vouched_by is Voucher.MTA_STS
        publish(it, tlsa_text(3, 1, 1, other_certificate(authority)))
        assert (await it.failure(floor=Level.CLEAR)).trouble is Trouble.BELOW_FLOOR
        it.dns.set(f"_{it.peer.port}._tcp.{MX}", Broken.SERVFAIL)
        it.resolver.forget()
        assert (await it.failure(floor=Level.CLEAR)).trouble is Trouble.DNS


@pytest.mark.parametrize("starttls", [StartTls.ABSENT, StartTls.REFUSED, StartTls.BROKEN, StartTls.CLOSES])
@pytest.mark.parametrize("usable", [True, False])
async def test_records_make_tls_mandatory(authority, tls, files, starttls, usable):
    behaviour = PeerBehaviour(certificate=files["good"], starttls=starttls)
    async with world(authority, tls, behaviour, validating=True, secure=SIGNED) as it:
        publish(it, tlsa_text(3 if usable else 1, 1, 1, leaf_of(files["good"])[0]))
        assert (await it.failure(floor=Level.CLEAR, tls_failures=3)).trouble is Trouble.BELOW_FLOOR


@pytest.mark.parametrize("trouble", [Broken.SERVFAIL, Broken.REFUSED, Broken.TIMEOUT])
async def test_a_look_up_that_fails_defers_and_spends_no_within(authority, tls, files, trouble):
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=SIGNED) as it:
        it.dns.set(f"_{it.peer.port}._tcp.{MX}", trouble)
        if trouble is Broken.TIMEOUT:
            it.impatient_of_dns()
        failure = await it.failure(floor=Level.CLEAR)
        assert failure.trouble is Trouble.DNS
        assert it.peer.connections == 0


async def test_unusable_records_alone_ask_for_encryption_and_pkix_may_say_more(authority, tls, files):
    record = tlsa_text(1, 1, 1, other_certificate(authority))
    async with world(authority, tls, PeerBehaviour(certificate=files["self"]), validating=True, secure=SIGNED) as it:
        publish(it, record)
        assert (await it.proof(floor=Level.CLEAR)).level is Level.ENCRYPTED
        assert (await it.failure(floor=Level.VERIFIED)).trouble is Trouble.BELOW_FLOOR
        it.peer.behaviour = PeerBehaviour(certificate=files["good"])
        proof = await it.proof(floor=Level.AUTHENTICATED)
        assert (proof.vouched_by, proof.checked_by) == (Voucher.DNSSEC, "PKIX")


@pytest.mark.parametrize("records", [None, {"A": ["192.0.2.1"]}, Broken.NXDOMAIN])
async def test_without_records_a_signed_mx_vouches_for_a_certificate_that_verifies(authority, tls, files, records):
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=SIGNED) as it:
        it.dns.set(f"_{it.peer.port}._tcp.{MX}", records)
        proof = await it.proof(floor=Level.AUTHENTICATED)
        assert (proof.level, proof.vouched_by) == (Level.AUTHENTICATED, Voucher.DNSSEC)
        it.peer.behaviour = PeerBehaviour(certificate=files["self"])
        assert (await it.failure(floor=Level.VERIFIED)).trouble is Trouble.BELOW_FLOOR


@pytest.mark.parametrize(
    ("secure", "record_secure"), [((), True), ((MX,), True), ((GOOD,), True), (SIGNED, False)], ids=str
)
async def test_records_that_dnssec_does_not_vouch_for_mean_nothing(authority, tls, files, secure, record_secure):
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=secure) as it:
        publish(it, tlsa_text(3, 1, 1, other_certificate(authority)), secure=record_secure)
        assert (await it.proof(floor=Level.CLEAR)).level >= Level.VERIFIED


async def test_an_ad_bit_that_nobody_vouches_for_is_not_believed(authority, tls, files):
    """The resolver is not configured as validating: what it says of security is a stranger's word."""
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), secure=SIGNED) as it:
        publish(it, tlsa_text(3, 1, 1, other_certificate(authority)))
        proof = await it.proof(floor=Level.VERIFIED)
        assert (proof.level, proof.vouched_by) == (Level.VERIFIED, Voucher.NOBODY)
        assert not [one for one in it.dns.queries if one.type == "TLSA"]


async def test_hosts_of_unsigned_zones_are_not_asked_for_records(authority, tls, files):
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=(GOOD,)) as it:
        it.dns.set(f"_{it.peer.port}._tcp.{MX}", Broken.SERVFAIL)
        assert (await it.proof(floor=Level.CLEAR)).level is Level.AUTHENTICATED


async def test_an_address_look_up_that_fails_does_not_make_a_signed_host_look_unsigned(authority, tls, files):
    """Else whoever can drop one answer could switch DANE off."""
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=SIGNED) as it:
        it.connector._finder._options = replace(it.connector._finder._options, ipv6=True)
        it.dns.set(MX, {"A": ["127.0.0.1"], "AAAA": Broken.SERVFAIL})
        publish(it, tlsa_text(3, 1, 1, other_certificate(authority)))
        assert (await it.failure(floor=Level.CLEAR)).trouble is Trouble.BELOW_FLOOR


# --- CNAMEs: RFC 7672 section 2.2.2 ------------------------------------

END = "real.hosting.example"


async def test_records_at_the_end_of_secure_cnames_come_first_then_those_of_the_host(authority, tls, files):
    good, bad = leaf_of(files["good"])[0], other_certificate(authority)
    async with world(
        authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=(*SIGNED, END)
    ) as it:
        it.dns.set(MX, {"CNAME": [f"{END}."]})
        it.dns.set(END, {"A": ["127.0.0.1"]})
        publish(it, tlsa_text(3, 1, 1, bad))
        assert (await it.failure(floor=Level.CLEAR)).trouble is Trouble.BELOW_FLOOR
        publish(it, tlsa_text(3, 1, 1, good), name=END)
        assert (await it.proof(floor=Level.CLEAR)).vouched_by is Voucher.DANE


async def test_a_secure_alias_into_an_unsigned_zone_is_looked_up_under_its_own_name(authority, tls, files):
    async with world(authority, tls, PeerBehaviour(certificate=files["good"]), validating=True, secure=SIGNED) as it:
        it.dns.set(MX, {"CNAME": [f"{END}."]})
        it.dns.set(END, {"A": ["127.0.0.1"]})
        publish(it, tlsa_text(3, 1, 1, other_certificate(authority)))
        assert (await it.failure(floor=Level.CLEAR)).trouble is Trouble.BELOW_FLOOR
        publish(it, tlsa_text(3, 1, 1, leaf_of(files["good"])[0]))
        assert (await it.proof(floor=Level.CLEAR)).vouched_by is Voucher.DANE


async def test_under_a_trust_anchor_the_domain_itself_is_a_name_that_will_do(authority, tls):
    foreign = authority.untrusted.issue(GOOD)
    async with world(authority, tls, PeerBehaviour(certificate=foreign), validating=True, secure=SIGNED) as it:
        it.clock.now = time.time()
        publish(it, tlsa_text(2, 1, 1, leaf_of(foreign)[1]))
        assert (await it.proof(floor=Level.AUTHENTICATED)).vouched_by is Voucher.DANE


async def test_with_usable_records_the_domains_policy_is_not_asked(authority, tls, files):
    async with world(authority, tls, PeerBehaviour(certificate=files["self"]), validating=True, secure=SIGNED) as it:
        it.host.raw = answer(status="500 Oh")
        it.announce()
        publish(it, tlsa_text(3, 1, 1, leaf_of(files["self"])[0]))
        assert (await it.proof(floor=Level.AUTHENTICATED)).vouched_by is Voucher.DANE
