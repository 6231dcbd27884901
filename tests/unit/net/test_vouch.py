"""Who vouches for a host, what its connection must reach, and what a report says: every case of the three sources."""

import itertools

import pytest

from relay.core.errors import StoreError
from relay.core.level import Level, Voucher
from relay.core.outcome import Stage, Trouble
from relay.net.assurance import NOTHING
from relay.net.dane import TlsaFinding
from relay.net.handshake import HostError
from relay.net.mx import Host
from relay.net.vouch import Nobody, Vouchers
from relay.trust.dane import Tlsa
from relay.trust.mta_sts import Mode, Policy
from relay.trust.sessions import NO_POLICY, Fault
from relay.trust.tlsrpt import PolicyType, ResultType

MX = "mx.good.example"
RECORD = Tlsa(usage=3, selector=1, matching=1, data=bytes(32))
NO_RECORDS, UNUSABLE = TlsaFinding(), TlsaFinding(base=MX, present=True)
USABLE = TlsaFinding(base="end.good.example", present=True, records=(RECORD,))
FETCH_FAULT = Fault(result=ResultType.STS_POLICY_FETCH_ERROR, detail="it cannot be had")


class Found:
    """TLSA records and a policy as they were found; whoever must not ask is told."""

    def __init__(self, tlsa=None, policy=None, fault=None):
        self.tlsa, self.given, self.known_fault = tlsa, policy, fault

    async def find(self, _host, _port):
        return self.tlsa

    async def policy(self, _domain):
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    def fault(self, _domain):
        return self.known_fault


def a_host(*, secure=False, **more):
    return Host(name=MX, addresses=("192.0.2.1",), secure=secure, mx_secure=secure, **more)


def policy(mode, mx=MX):
    return Policy(mode=mode, max_age=86_400, mx=(mx,))


async def vouched(host=None, *, tlsa=NO_RECORDS, sts=None, fault=None, dane=True, mta_sts=True, mx=True):
    found = Found(tlsa, sts, fault)
    vouchers = Vouchers(dane=found if dane else None, mta_sts=found if mta_sts else None, mx=mx)
    return await vouchers.vouch("good.example", host or a_host(), 25)


async def refused(**given):
    with pytest.raises(HostError) as caught:
        await vouched(**given)
    return caught.value


@pytest.mark.parametrize(
    ("tlsa", "mode", "secure"), list(itertools.product((NO_RECORDS, UNUSABLE), (None, *Mode), (False, True)))
)
async def test_the_voucher_and_the_least_level_of_every_combination(tlsa, mode, secure):
    got = await vouched(a_host(secure=secure), tlsa=tlsa, sts=mode and policy(mode))
    if mode is Mode.ENFORCE:
        assert (got.voucher, got.floor) == (Voucher.MTA_STS, Level.AUTHENTICATED)
        assert "MTA-STS" in got.why
    else:
        assert got.voucher is (Voucher.DNSSEC if secure else Voucher.NOBODY)
        assert got.floor is (Level.ENCRYPTED if tlsa is UNUSABLE else Level.CLEAR)
        assert ("TLSA" in got.why) is (tlsa is UNUSABLE)
        assert bool(got.why) is bool(got.floor)
    assert (got.mta_sts, got.dane) == (mode.value if mode else "", "unusable" if tlsa is UNUSABLE else "")
    assert not got.binds


async def test_a_signed_mx_vouches_only_where_that_is_switched_on():
    assert (await vouched(a_host(secure=True), mx=False)).voucher is Voucher.NOBODY
    assert (await vouched(a_host(secure=True), dane=False, mta_sts=False)).voucher is Voucher.DNSSEC


async def test_usable_records_decide_alone():
    got = await vouched(tlsa=USABLE, sts=StoreError("nobody asks"))
    assert (got.voucher, got.floor, got.dane) == (Voucher.DANE, Level.AUTHENTICATED, "usable")
    assert (got.tlsa, got.binds) == ((RECORD,), True)
    assert (got.sni, got.names) == ("end.good.example", ("end.good.example", MX, "good.example"))
    assert "TLSA" in got.why
    assert got.policy.kind is PolicyType.TLSA
    assert (got.policy.strings, got.policy.mx) == ((f"3 1 1 {'00' * 32}",), (MX,))


async def test_records_that_cannot_be_looked_up_keep_the_host_from_being_used():
    error = await refused(tlsa=TlsaFinding(base=MX, failed="SERVFAIL"), sts=policy(Mode.ENFORCE))
    assert (error.failure.trouble, error.failure.stage, error.failure.host) == (Trouble.DNS, Stage.DNS, MX)
    assert (error.failure.detail, error.fault.detail) == ("SERVFAIL", "SERVFAIL")
    assert (error.fault.result, error.policy.kind) == (ResultType.DNSSEC_INVALID, PolicyType.TLSA)


async def test_an_enforced_policy_excludes_hosts_that_it_does_not_name_and_others_are_reported():
    error = await refused(sts=policy(Mode.ENFORCE, "mx.other.example"))
    assert (error.failure.trouble, error.failure.stage, error.failure.host) == (Trouble.BELOW_FLOOR, Stage.DNS, MX)
    assert error.fault.result is ResultType.VALIDATION_FAILURE
    assert error.policy.kind is PolicyType.STS
    testing = await vouched(sts=policy(Mode.TESTING, "mx.other.example"))
    assert (testing.voucher, testing.floor) == (Voucher.NOBODY, Level.CLEAR)
    assert testing.breach.result is ResultType.VALIDATION_FAILURE
    assert (await vouched(sts=policy(Mode.TESTING))).breach is None


async def test_a_policy_that_cannot_be_read_from_the_store_is_trouble_of_our_own():
    error = await refused(sts=StoreError("away"))
    assert (error.failure.trouble, error.failure.host) == (Trouble.LOCAL, MX)


async def test_a_report_says_what_the_domain_publishes_and_how_it_fails():
    got = await vouched(sts=policy(Mode.TESTING))
    assert (got.policy.kind, got.policy.mx) == (PolicyType.STS, (MX,))
    assert "mode: testing" in got.policy.strings
    nothing = await vouched()
    assert (nothing.policy, nothing.breach) == (NO_POLICY, None)
    unreachable = await vouched(fault=FETCH_FAULT)
    assert (unreachable.policy.kind, unreachable.breach) == (PolicyType.STS, FETCH_FAULT)
    unusable = await vouched(tlsa=UNUSABLE)
    assert (unusable.policy.kind, unusable.policy.mx) == (PolicyType.TLSA, (MX,))
    assert unusable.breach.result is ResultType.TLSA_INVALID
    beside = await vouched(tlsa=UNUSABLE, sts=policy(Mode.TESTING))
    assert (beside.policy.kind, beside.breach) == (PolicyType.STS, None)
    assert (await vouched(mta_sts=False)).policy is None


async def test_nobody_vouches_for_an_address():
    assert await vouched(a_host(literal=True), tlsa=USABLE, sts=policy(Mode.ENFORCE)) == NOTHING
    assert await Nobody().vouch("good.example", a_host(secure=True), 25) == NOTHING
