import asyncio
import contextlib
from dataclasses import replace

import pytest

from relay.core.errors import StoreError
from relay.core.level import Level, Proof
from relay.core.outcome import Trouble
from relay.core.ports import ConnectError, Known
from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.net.capability import KIND, Capabilities
from relay.store import MemoryData, MemoryStore, StoreOptions
from relay.trust.capability import Observation
from tests.support.queue import NOW, ManualClock
from tests.support.trust import GOOD, MX, Tallied, world
from tests.support.vault import FakeVault

ALERT, FALLS = ("postern_alerts_total", "tls-downgrade"), ("postern_tls_downgrades_total", GOOD)


@pytest.fixture(scope="module")
def good(authority):
    return PeerBehaviour(certificate=authority.issue(MX))


async def known(it):
    await it.capabilities.settle()
    return [one async for one in it.capabilities.known()]


async def test_a_delivery_teaches_what_the_server_can_do(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.announce()
        proof = await it.proof(floor=Level.CLEAR)
        (found,) = await known(it)
    assert (found.domain, found.host, found.level, found.best) == (GOOD, MX, "authenticated", "authenticated")
    assert (found.how, found.seen_at, found.mta_sts, found.dane) == ("delivery", NOW, "enforce", "")
    assert (found.vouched_by, found.certificate_sha256) == ("mta-sts", proof.certificate_sha256)
    assert (found.tls_version, found.cipher, found.not_after) == (proof.tls_version, proof.cipher, proof.not_after)


@pytest.mark.parametrize(
    ("change", "floor", "level"),
    [
        ({"starttls": StartTls.ABSENT}, Level.CLEAR, "clear"),
        ({"starttls": StartTls.ABSENT}, Level.VERIFIED, "clear"),
        ({"starttls": StartTls.BROKEN}, Level.CLEAR, "clear"),
        ({"certificate": "wrong"}, Level.CLEAR, "encrypted"),
        ({"certificate": "wrong"}, Level.AUTHENTICATED, "encrypted"),
    ],
)
async def test_a_server_that_could_and_now_cannot_raises_one_alarm(authority, tls, good, change, floor, level):
    if "certificate" in change:
        change = {"certificate": authority.issue("mx.other.example")}
    async with world(authority, tls, good) as it:
        await it.proof(floor=Level.VERIFIED)
        await known(it)
        it.peer.behaviour = replace(good, **change)
        for _ in range(2):
            with contextlib.suppress(ConnectError):  # what a copy with this floor met does not matter here
                await (await it.connector.connect(GOOD, floor=floor)).close()
            (found,) = await known(it)
        assert (found.level, found.best, found.downgraded_at) == (level, "verified", NOW)
        assert it.metrics.counts[ALERT] == it.metrics.counts[FALLS] == 1
        assert [(event.kind, event.facts["alert"], event.facts["host"]) for event in it.store.events] == [
            ("alert", "tls-downgrade", MX)
        ]
        it.peer.behaviour = good
        await it.proof(floor=Level.VERIFIED)
        (found,) = await known(it)
        assert (found.level, found.downgraded_at) == ("verified", 0)


async def test_one_alarm_for_all_workers(authority, tls, good):
    async with world(authority, tls, good) as it:
        await it.proof(floor=Level.VERIFIED)
        await known(it)
        it.peer.behaviour = replace(good, starttls=StartTls.ABSENT)
        await it.failure(floor=Level.VERIFIED)
        await known(it)
        another = Capabilities(it.store, metrics=it.metrics)
        it.connector._seen = another.saw
        await it.failure(floor=Level.VERIFIED)
        await another.settle()
        assert it.metrics.counts[ALERT] == 1


class Meeting(MemoryStore):
    """Shows what is known only once so many have asked for it: all of them see the same."""

    party: asyncio.Barrier | None = None

    async def known(self, kind, name):
        found = await super().known(kind, name)
        if (party := self.party) is not None:
            await party.wait()
            self.party = None  # who comes now comes again, and alone
        return found


async def test_one_alarm_when_all_workers_see_the_fall_at_once():
    store, metrics = Meeting(FakeVault(), ManualClock(), StoreOptions(), MemoryData()), Tallied()
    workers = [Capabilities(store, metrics=metrics) for _ in range(3)]

    async def all_see(level):
        store.party = asyncio.Barrier(len(workers))
        for worker in workers:
            worker.saw(Observation(domain=GOOD, proof=Proof(level=level, host=MX), how="delivery", at=NOW))
        for worker in workers:
            await worker.settle()

    for falls in (1, 2):
        await all_see(Level.VERIFIED)
        await all_see(Level.CLEAR)
        assert metrics.counts[ALERT] == metrics.counts[FALLS] == len(await store.outbox(limit=9)) == falls


async def test_a_server_that_cannot_be_reached_is_no_downgrade(authority, tls, good):
    async with world(authority, tls, good) as it:
        await it.proof(floor=Level.VERIFIED)
        await it.peer.close()
        assert (await it.failure(floor=Level.VERIFIED)).trouble is Trouble.NETWORK
        (found,) = await known(it)
        assert (found.level, found.downgraded_at) == ("verified", 0)


async def test_a_probe_meets_every_host_and_sends_no_mail(authority, tls, good):
    async with world(authority, tls, good) as it:
        it.dns.set(GOOD, {"MX": [f"10 {MX}.", "20 mx2.good.example."]})
        it.dns.set("mx2.good.example", {"A": ["127.0.0.1"]})
        await it.connector.probe(GOOD)
        found = {one.host: (one.level, one.how) for one in await known(it)}
        assert found == {MX: ("verified", "probe"), "mx2.good.example": ("encrypted", "probe")}
        assert it.peer.messages == it.peer.refused == []
        it.dns.set(GOOD, None)
        it.resolver.forget()
        with pytest.raises(ConnectError):
            await it.connector.probe(GOOD)


async def test_a_probe_asks_the_server_itself_whatever_is_remembered_of_its_certificate(authority, tls, good):
    expired = replace(good, certificate=authority.issue(MX, expired=True))
    async with world(authority, tls, expired) as it:
        await it.connector.probe(GOOD)
        assert [one.level for one in await known(it)] == ["encrypted"]
        it.peer.behaviour = good  # the partner renewed it
        await it.connector.probe(GOOD)
        assert [(one.level, one.failure) for one in await known(it)] == [
            ("verified", "nobody vouches for the host's name")
        ]


async def test_what_is_only_remembered_is_no_downgrade(authority, tls, good):
    expired = replace(good, certificate=authority.issue(MX, expired=True))
    async with world(authority, tls, expired) as it:
        await it.proof(floor=Level.CLEAR)
        await known(it)
        it.peer.behaviour = good  # the partner renewed it, and another worker met that
        it.capabilities.saw(
            Observation(domain=GOOD, proof=Proof(level=Level.VERIFIED, host=MX), how="delivery", at=NOW)
        )
        await known(it)
        assert (await it.proof(floor=Level.CLEAR)).level is Level.ENCRYPTED  # by what this one remembers
        assert [(one.level, one.downgraded_at) for one in await known(it)] == [("verified", 0)]
        assert (await it.proof(floor=Level.VERIFIED)).level is Level.VERIFIED
        assert (await it.proof(floor=Level.CLEAR)).level is Level.VERIFIED  # who met it renewed remembers no more


async def test_a_store_that_fails_keeps_no_mail_from_going(authority, tls, good):
    async with world(authority, tls, good) as it:
        assert await it.policies.policy(GOOD) is None
        it.connector._vouching._mta_sts = None
        it.store.error = StoreError("the disk is gone")
        assert (await it.proof(floor=Level.VERIFIED)).level is Level.VERIFIED
        await it.capabilities.settle()
        it.store.error = None
        assert await known(it) == []


async def test_damaged_memories_are_left_out_and_learnt_anew(authority, tls, good):
    async with world(authority, tls, good) as it:
        await it.store.learn(Known(kind=KIND, name=f"{GOOD}/{MX}", value=b"junk", until=NOW + 99))
        assert await known(it) == []
        await it.proof(floor=Level.VERIFIED)
        assert [one.level for one in await known(it)] == ["verified"]
        assert [one async for one in it.capabilities.known(frozenset({"other.example"}))] == []
