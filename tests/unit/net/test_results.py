"""What a report is told of each session, by the domain's policy (RFC 8460 sections 4.2 and 4.3)."""

import contextlib
from dataclasses import replace

import pytest

from relay.core.level import Level
from relay.core.ports import ConnectError
from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.demo.dns import Trouble as Broken
from relay.net.rules import Rule, Rules
from relay.trust.tlsrpt import PolicyType, ResultType
from tests.support.certificates import leaf_of, tlsa_text
from tests.support.net import contexts
from tests.support.policyhost import answer
from tests.support.trust import GOOD, MX, world

SIGNED = (GOOD, MX)
ENFORCE = b"version: STSv1\nmode: enforce\nmx: mx.good.example\nmax_age: 86400\n"
TESTING = ENFORCE.replace(b"enforce", b"testing")


@pytest.fixture(scope="module")
def certificates(authority):
    return {
        "good": authority.issue(MX),
        "expired": authority.issue(MX, expired=True),
        "not-yet": authority.issue(MX, not_yet=True),
        "self-signed": authority.issue(MX, self_signed=True),
        "wrong-name": authority.issue("mx.other.example"),
        "untrusted": authority.untrusted.issue(MX),
    }


async def told(it, **more):
    """What is told of one attempt: kind and result, and whether it delivered."""
    it.sessions.clear()
    stood = False
    with contextlib.suppress(ConnectError):
        await (await it.connector.connect(GOOD, **{"floor": Level.CLEAR, **more})).close()
        stood = True
    (one,) = it.sessions
    assert (one.domain, one.at) == (GOOD, it.clock())
    return one.policy.kind, one.fault and one.fault.result, stood


BAD = [
    ("expired", ResultType.CERTIFICATE_EXPIRED),
    ("not-yet", ResultType.VALIDATION_FAILURE),
    ("self-signed", ResultType.CERTIFICATE_NOT_TRUSTED),
    ("untrusted", ResultType.CERTIFICATE_NOT_TRUSTED),
    ("wrong-name", ResultType.CERTIFICATE_HOST_MISMATCH),
]


@pytest.mark.parametrize(("kind", "result"), [("good", None), *BAD])
@pytest.mark.parametrize(("policy", "blocks"), [(ENFORCE, True), (TESTING, False)], ids=["enforce", "testing"])
async def test_under_a_policy_the_certificate_counts_and_testing_delivers_all_the_same(
    authority, tls, certificates, kind, result, policy, blocks
):
    async with world(authority, tls, PeerBehaviour(certificate=certificates[kind])) as it:
        it.host.raw = answer(policy)
        it.announce()
        delivers = result is None or not blocks
        assert await told(it) == (PolicyType.STS, result, delivers)
        assert await told(it) == (PolicyType.STS, result, delivers), "also when the bad certificate is known already"
        (one,) = it.sessions
        assert one.policy.strings[:3] == ("version: STSv1", f"mode: {policy.split()[3].decode()}", f"mx: {MX}")
        assert (one.host, one.address, one.source) == (MX, "127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize(
    ("starttls", "result"),
    [(StartTls.ABSENT, ResultType.STARTTLS_NOT_SUPPORTED), (StartTls.BROKEN, ResultType.VALIDATION_FAILURE)],
)
@pytest.mark.parametrize("policy", [None, TESTING], ids=["no-policy", "testing"])
async def test_a_session_without_tls_failed_whether_it_delivers_or_not(
    authority, tls, certificates, starttls, result, policy
):
    kind = PolicyType.STS if policy else PolicyType.NONE
    async with world(authority, tls, PeerBehaviour(certificate=certificates["good"], starttls=starttls)) as it:
        if policy:
            it.host.raw = answer(policy)
            it.announce()
        assert await told(it, tls_failures=1) == (kind, result, True)
        assert await told(it, floor=Level.ENCRYPTED) == (kind, result, False)


@pytest.mark.parametrize("kind", ["good", "expired", "self-signed"])
async def test_without_a_policy_tls_is_enough(authority, tls, certificates, kind):
    async with world(authority, tls, PeerBehaviour(certificate=certificates[kind])) as it:
        assert await told(it) == (PolicyType.NONE, None, True)


async def test_a_host_that_the_policy_does_not_name(authority, tls, certificates):
    async with world(authority, tls, PeerBehaviour(certificate=certificates["good"])) as it:
        it.host.raw = answer(ENFORCE.replace(b"mx.good", b"mx.other"))
        it.announce()
        assert await told(it) == (PolicyType.STS, ResultType.VALIDATION_FAILURE, False)
        assert it.peer.connections == 0
        it.host.raw = answer(TESTING.replace(b"mx.good", b"mx.other"))
        it.announce("2")
        assert await told(it) == (PolicyType.STS, ResultType.VALIDATION_FAILURE, True)


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (answer(status="500 Oops"), ResultType.STS_POLICY_FETCH_ERROR),
        (answer(b"version: STSv2\n"), ResultType.STS_POLICY_INVALID),
    ],
)
async def test_a_policy_that_cannot_be_had(authority, tls, certificates, raw, result):
    async with world(authority, tls, PeerBehaviour(certificate=certificates["good"])) as it:
        it.host.raw = raw
        it.announce()
        assert await told(it) == (PolicyType.STS, result, True)
        it.host.raw = answer()
        it.announce("2")
        assert await told(it) == (PolicyType.STS, None, True), "what was wrong once is not told for ever"


async def test_a_policy_host_whose_certificate_does_not_verify(authority, certificates):
    class Stranger:
        issue = authority.untrusted.issue

    async with world(Stranger(), contexts(authority), PeerBehaviour(certificate=certificates["good"])) as it:
        it.announce()
        assert await told(it) == (PolicyType.STS, ResultType.STS_WEBPKI_INVALID, True)


async def test_tlsa_records(authority, tls, certificates):
    behaviour = PeerBehaviour(certificate=certificates["good"])
    async with world(authority, tls, behaviour, validating=True, secure=SIGNED) as it:

        def publish(**records):
            it.dns.set(f"_{it.peer.port}._tcp.{MX}", secure=True, **records)
            it.resolver.forget()

        publish(records={"TLSA": [tlsa_text(3, 1, 1, leaf_of(certificates["good"])[0])]})
        assert await told(it) == (PolicyType.TLSA, None, True)
        assert it.sessions[0].policy.strings[0].startswith("3 1 1 ")
        publish(records={"TLSA": [tlsa_text(3, 1, 1, leaf_of(certificates["expired"])[0])]})
        assert await told(it) == (PolicyType.TLSA, ResultType.VALIDATION_FAILURE, False)
        publish(records={"TLSA": [tlsa_text(1, 1, 1, leaf_of(certificates["good"])[0])]})
        assert await told(it) == (PolicyType.TLSA, ResultType.TLSA_INVALID, True)
        it.dns.set(f"_{it.peer.port}._tcp.{MX}", Broken.SERVFAIL)
        it.resolver.forget()
        assert await told(it) == (PolicyType.TLSA, ResultType.DNSSEC_INVALID, False)


async def test_nothing_is_told_of_probes_of_pins_and_of_sessions_that_heed_nothing(authority, tls, certificates):
    async with world(authority, tls, PeerBehaviour(certificate=certificates["good"])) as it:
        await it.connector.probe(GOOD)
        await (await it.connector.connect(GOOD, floor=Level.CLEAR, heed=False)).close()
        assert it.sessions == []
    rules = Rules([Rule(destinations=(GOOD,), contexts=tls, pins=frozenset({"00" * 32}))])
    async with world(authority, tls, PeerBehaviour(certificate=certificates["good"]), rules=rules) as it:
        await it.failure(floor=Level.CLEAR)
        assert it.sessions == []


async def test_whoever_heeds_nothing_gets_through_where_the_policy_blocks_but_not_below_the_floor(
    authority, tls, certificates
):
    behaviour = PeerBehaviour(certificate=certificates["expired"])
    async with world(authority, tls, behaviour) as it:
        it.announce()
        await it.failure(floor=Level.CLEAR)
        await it.capabilities.settle()
        before = [one async for one in it.capabilities.known()]
        assert (await it.proof(floor=Level.CLEAR, heed=False)).level is Level.ENCRYPTED
        await it.capabilities.settle()
        assert [one async for one in it.capabilities.known()] == before, "it says nothing of what the server can do"
        await it.failure(floor=Level.VERIFIED, heed=False)
        it.peer.behaviour = replace(behaviour, starttls=StartTls.ABSENT)
        assert (await it.proof(floor=Level.CLEAR, heed=False, tls_failures=1)).level is Level.CLEAR
        await it.failure(floor=Level.ENCRYPTED, heed=False)
