import asyncio
from dataclasses import replace

import pytest

from relay.core.errors import StoreError
from relay.core.level import Level, Voucher
from relay.core.outcome import Trouble
from relay.core.ports import Known
from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.demo.dns import Trouble as Broken
from relay.net.mta_sts import KIND
from relay.trust.mta_sts import KeptPolicy, Mode, Policy
from tests.support.policyhost import answer
from tests.support.queue import NOW
from tests.support.trust import GOOD, MX, world

FETCHES = "postern_mta_sts_fetches_total"


def a_policy(mode="enforce", mx=MX, max_age=86_400):
    return answer(f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {max_age}\n".encode())


@pytest.fixture(scope="module")
def good(authority):
    return PeerBehaviour(certificate=authority.issue(MX))


@pytest.fixture(scope="module")
def wrong(authority):
    return PeerBehaviour(certificate=authority.issue("mx.other.example"))


# --- what a policy means for a connection -------------------------------


async def test_an_enforced_policy_vouches_for_a_host_whose_certificate_verifies(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.announce()
        proof = await it.proof(floor=Level.AUTHENTICATED)
    assert (proof.level, proof.vouched_by) == (Level.AUTHENTICATED, Voucher.MTA_STS)
    assert (proof.checked_by, proof.names, proof.failure) == ("PKIX", (MX,), "")
    assert proof.chain[0] == proof.certificate_sha256
    assert len(proof.chain) == 2


@pytest.mark.parametrize("floor", list(Level))
async def test_an_enforced_policy_keeps_every_copy_from_a_host_that_fails_it(authority, tls, wrong, floor):
    async with world(authority, tls, wrong) as it:
        it.announce()
        failure = await it.failure(floor=floor, tls_failures=3)
        assert failure.trouble is Trouble.BELOW_FLOOR
        assert "MTA-STS" in failure.detail
        assert it.peer.messages == []


@pytest.mark.parametrize("starttls", [StartTls.ABSENT, StartTls.REFUSED, StartTls.BROKEN])
async def test_an_enforced_policy_is_not_got_round_by_taking_starttls_away(authority, tls, good, starttls):
    async with world(authority, tls, replace(good, starttls=starttls)) as it:
        it.announce()
        assert (await it.failure(floor=Level.CLEAR, tls_failures=3)).trouble is Trouble.BELOW_FLOOR


async def test_a_host_that_an_enforced_policy_does_not_name_is_not_connected_to(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.host.raw = a_policy(mx="*.other.example")
        it.announce()
        failure = await it.failure(floor=Level.CLEAR)
        assert failure.trouble is Trouble.BELOW_FLOOR
        assert "does not name this host" in failure.detail
        assert it.peer.connections == 0


async def test_a_forged_mx_with_a_good_certificate_of_its_own_is_verified_and_never_authenticated(authority, tls):
    evil = PeerBehaviour(certificate=authority.issue("mx.evil.example"))
    async with world(authority, tls, evil) as it:
        it.dns.set(GOOD, {"MX": ["10 mx.evil.example."]})
        it.dns.set("mx.evil.example", {"A": ["127.0.0.1"]})
        proof = await it.proof(floor=Level.VERIFIED)
        assert (proof.level, proof.vouched_by) == (Level.VERIFIED, Voucher.NOBODY)
        assert (await it.failure(floor=Level.AUTHENTICATED)).trouble is Trouble.BELOW_FLOOR
        it.announce()
        assert (await it.failure(floor=Level.VERIFIED)).trouble is Trouble.BELOW_FLOOR
        assert it.peer.messages == []


@pytest.mark.parametrize("mode", ["testing", "none"])
async def test_other_modes_neither_block_nor_vouch_nor_lower(authority, tls, good, wrong, mode):
    async with world(authority, tls, good) as it:
        it.host.raw = a_policy(mode=mode, mx="mx.elsewhere.example")
        it.announce()
        proof = await it.proof(floor=Level.VERIFIED)
        assert (proof.level, proof.vouched_by) == (Level.VERIFIED, Voucher.NOBODY)
        assert (await it.failure(floor=Level.AUTHENTICATED)).trouble is Trouble.BELOW_FLOOR
    async with world(authority, tls, wrong) as it:
        it.host.raw = a_policy(mode=mode)
        it.announce()
        assert (await it.proof(floor=Level.CLEAR)).level is Level.ENCRYPTED
        assert (await it.failure(floor=Level.VERIFIED)).trouble is Trouble.BELOW_FLOOR


# --- discovery and memory -------------------------------------------------


async def test_without_a_record_no_policy_is_asked_for(authority, tls, good):
    async with world(authority, tls, good) as it:
        assert await it.policies.policy(GOOD) is None
        assert it.host.connections == 0


async def test_a_policy_is_fetched_once_for_all_who_wait_and_all_processes(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.announce()
        it.host.gate.clear()
        waiting = [asyncio.ensure_future(it.policies.policy(GOOD)) for _ in range(5)]
        await it.host.asked.wait()
        it.host.gate.set()
        assert {policy.mode for policy in await asyncio.gather(*waiting)} == {Mode.ENFORCE}
        assert await it.again().policy(GOOD) == waiting[0].result()
        assert it.host.connections == 1
        assert it.metrics.counts == {(FETCHES, "ok"): 1}


async def test_one_who_gives_up_takes_the_policy_from_nobody(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.announce()
        it.host.gate.clear()
        first, second = (asyncio.ensure_future(it.policies.policy(GOOD)) for _ in range(2))
        await it.host.asked.wait()
        first.cancel()
        it.host.gate.set()
        assert (await second).mode is Mode.ENFORCE
        assert first.cancelled() or first.cancelling()


async def test_a_new_id_brings_the_new_policy(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.announce("1")
        assert (await it.policies.policy(GOOD)).mode is Mode.ENFORCE
        it.host.raw = a_policy(mode="testing")
        assert (await it.policies.policy(GOOD)).mode is Mode.ENFORCE
        it.announce("2")
        assert (await it.policies.policy(GOOD)).mode is Mode.TESTING


@pytest.mark.parametrize("record", [None, Broken.SERVFAIL, Broken.TIMEOUT, {"TXT": ["junk"]}, {"A": ["192.0.2.1"]}])
async def test_a_record_that_goes_away_ends_no_known_policy(authority, tls, good, record):
    async with world(authority, tls, good) as it:
        it.announce()
        await it.policies.policy(GOOD)
        it.dns.set(f"_mta-sts.{GOOD}", record)
        it.resolver.forget()
        if record is Broken.TIMEOUT:
            it.impatient_of_dns()
        for cache in (it.policies, it.again()):
            assert (await cache.policy(GOOD)).mode is Mode.ENFORCE


@pytest.mark.parametrize(
    "raw", [answer(status="404 Gone"), answer(b"junk"), None, b"junk", answer(media="text/html")], ids=str
)
async def test_a_policy_host_that_fails_erases_nothing_and_is_left_alone_for_a_while(authority, tls, good, raw):
    now = [0.0]
    async with world(authority, tls, good, monotonic=lambda: now[0]) as it:
        patient = it.fetcher._options
        it.announce("1")
        await it.policies.policy(GOOD)
        if raw is None:
            it.fetcher._options = replace(patient, timeout=0.2)
        it.host.raw = raw
        it.announce("2")
        for _ in range(3):
            assert (await it.policies.policy(GOOD)).mode is Mode.ENFORCE
        assert it.host.connections == 2
        now[0] = 301
        it.fetcher._options = patient
        it.host.raw = a_policy(mode="testing")
        assert (await it.policies.policy(GOOD)).mode is Mode.TESTING
        assert it.metrics.counts == {(FETCHES, "ok"): 2, (FETCHES, "failed"): 1}


async def test_a_domain_whose_first_policy_cannot_be_had_is_as_one_without(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.host.raw = answer(status="500 Oh")
        it.announce()
        assert (await it.proof(floor=Level.CLEAR)).level is Level.VERIFIED
        assert (await it.failure(floor=Level.AUTHENTICATED)).trouble is Trouble.BELOW_FLOOR


async def test_a_policy_ends_with_its_age(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.host.raw = a_policy(max_age=100)
        it.announce()
        await it.policies.policy(GOOD)
        it.dns.set(f"_mta-sts.{GOOD}", None)
        it.resolver.forget()
        it.clock.now = NOW + 99
        assert await it.policies.policy(GOOD) is not None
        it.clock.now = NOW + 100
        assert await it.policies.policy(GOOD) is None


async def test_while_what_is_known_cannot_be_read_copies_wait(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.store.error = StoreError("the disk is gone")
        failure = await it.failure(floor=Level.CLEAR)
        assert failure.trouble is Trouble.LOCAL
        assert it.peer.connections == 0


async def test_a_policy_that_cannot_be_written_down_is_heeded_all_the_same(authority, tls, wrong):
    async with world(authority, tls, wrong) as it:
        it.announce()
        learn = it.store.learn

        async def fails(known):
            it.store.error = StoreError("the disk is full")
            try:
                await learn(known)
            finally:
                it.store.error = None

        it.store.learn = fails
        for _ in range(2):
            assert (await it.failure(floor=Level.CLEAR)).trouble is Trouble.BELOW_FLOOR
        assert it.host.connections == 1


async def test_a_damaged_memory_is_fetched_anew(authority, tls, good):
    async with world(authority, tls, good) as it:
        await it.store.learn(Known(kind=KIND, name=GOOD, value=b"junk", until=NOW + 1000))
        it.announce()
        assert (await it.policies.policy(GOOD)).mode is Mode.ENFORCE


# --- refresh ----------------------------------------------------------------


async def test_known_policies_are_refreshed_ahead_of_need(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.host.raw = a_policy(max_age=1000)
        it.announce()
        await it.policies.policy(GOOD)
        assert await it.again().refresh(pause=0) == 0
        it.clock.now = NOW + 501
        assert await it.again().refresh(pause=0) == 1
        it.clock.now = NOW + 1400
        it.dns.set(f"_mta-sts.{GOOD}", None)
        it.resolver.forget()
        assert (await it.again().policy(GOOD)).mode is Mode.ENFORCE
        assert (await it.policies.policy(GOOD)).mode is Mode.ENFORCE
        assert it.host.connections == 2


async def test_a_refresh_that_fails_changes_nothing(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.announce()
        await it.policies.policy(GOOD)
        before = await it.store.known(KIND, GOOD)
        it.clock.now = NOW + 80_000
        it.host.raw = answer(status="503 Later")
        assert await it.policies.refresh(pause=0) == 0
        assert await it.store.known(KIND, GOOD) == before


async def test_every_page_of_what_is_known_is_refreshed(authority, tls, good):
    async with world(authority, tls, good) as it:
        policy = Policy(mode=Mode.ENFORCE, max_age=1000, mx=(MX,))
        kept = KeptPolicy(policy=policy, id="1", fetched_at=NOW - 600)
        for number in range(3):
            known = Known(kind=KIND, name=f"d{number}.example", value=kept.encode(), until=kept.until)
            await it.store.learn(known)
        page = it.store.all_known
        it.store.all_known = lambda kind, after="", limit=1: page(kind, after=after, limit=1)
        await it.policies.refresh(pause=0)
        assert it.metrics.counts == {(FETCHES, "failed"): 3}
