"""The suppression list over every store: kept sealed, found whatever the case, over when its time is."""

import asyncio
import os

import pytest
from structlog.testing import capture_logs

from relay.core.address import Address
from relay.core.decision import MethodName
from relay.core.entry import Claimed
from relay.core.errors import StoreFullError
from relay.core.fate import Fate, FateKind
from relay.core.outcome import Failure, RecipientResult, Stage, Trouble
from relay.core.reply import Reply
from relay.core.suppression import FOREVER, Cause, Suppression
from relay.delivery.bounce import BounceAction, BounceClass, Verdict
from relay.delivery.trouble import of_result
from relay.protect.keyring import KeyRing
from relay.protect.sealing import RingVault, sealed_version
from relay.reputation.load import load_classifier
from relay.reputation.suppression import KeeperOptions, SuppressionKeeper, SuppressionList, SuppressionView
from relay.store import StoreOptions
from relay.worker.meaning import Meanings
from tests.support.queue import DAY, HARNESSES, KINDS, NOW, ManualClock, a_message, an_entry
from tests.support.vault import FakeVault
from tests.unit.admin.conftest import CountingMetrics

PAT = Address.parse("Pat@clinic.example")
KINDS_KEPT = ("suppressed", "suppression-exempt")


@pytest.fixture(params=KINDS)
async def harness(request, tmp_path):
    made = HARNESSES[request.param](tmp_path, ManualClock(), StoreOptions(reserve_bytes=0))
    yield made
    await made.end()


@pytest.fixture
async def store(harness):
    return await harness.open()


@pytest.fixture
def listed(store, harness):
    return SuppressionList(store, FakeVault(), harness.clock)


def suppression(address=PAT, **fields):
    base = {"cause": Cause.HARD_BOUNCE, "evidence": "550 5.1.1 User unknown", "since": NOW, "until": NOW + DAY}
    return Suppression(address=address, **{**base, **fields})


async def test_what_is_added_is_found_and_comes_back_whole(listed):
    item = suppression(tenant="clinic", stream="bulk", by="alice")
    await listed.suppress(item)
    assert await listed.find(Address.parse("pat@CLINIC.example")) == [item]
    assert await listed.page() == ([item], "")
    assert await listed.find(Address.parse("sue@clinic.example")) == []


async def test_a_second_suppression_takes_the_place_of_the_first(listed):
    await listed.suppress(suppression())
    await listed.suppress(suppression(cause=Cause.OPERATOR, until=FOREVER))
    assert [item.cause for item in await listed.find(PAT)] == [Cause.OPERATOR]


async def test_pages_lead_through_the_whole_list(listed):
    for number in range(5):
        await listed.suppress(suppression(Address.parse(f"p{number}@clinic.example")))
    found, after = [], ""
    while True:
        items, after = await listed.page(after=after, limit=2)
        found += items
        if not after:
            break
    assert {item.address.local for item in found} == {f"p{number}" for number in range(5)}
    assert len(await listed.index()) == 5


async def test_lifting_says_whether_it_was_on(listed):
    await listed.suppress(suppression(tenant="clinic"))
    assert not await listed.lift(PAT, tenant="", stream="")
    assert await listed.lift(PAT, tenant="clinic", stream="")
    assert not await listed.lift(PAT, tenant="clinic", stream="")
    assert await listed.find(PAT) == []


async def test_an_exemption_ends_by_itself(listed, harness):
    await listed.lift(PAT, tenant="", stream="", exempt_until=NOW + DAY)
    assert await listed.is_exempt(PAT, tenant="clinic", stream="bulk")
    harness.clock.now += DAY
    assert not await listed.is_exempt(PAT, tenant="clinic", stream="bulk")


async def test_no_mailbox_lies_open_in_the_store(listed, store):
    await listed.suppress(suppression(evidence="planted evidence"))
    (row,) = await store.all_known("suppressed")
    assert b"clinic" not in row.value.lower()
    assert b"planted" not in row.value
    assert "pat" not in row.name.lower().split("/")[0] or "clinic" not in row.name


async def test_a_damaged_row_is_left_out_and_still_refuses(listed, store, harness):
    from dataclasses import replace

    await listed.suppress(suppression())
    (row,) = await store.all_known("suppressed")
    await store.learn(replace(row, value=b"damaged" + row.value[-1:]))
    assert (await listed.page())[0] == []
    view = SuppressionView(listed, harness.clock)
    await view.refresh()
    assert view.refusal(PAT, "clinic", "bulk") is not None


# --- what intake asks ---


@pytest.mark.parametrize(("tenant", "stream", "refused"), [
    ("", "", True), ("clinic", "", True), ("", "bulk", True), ("clinic", "bulk", True),
    ("other", "", False), ("clinic", "transactional", False), ("", "transactional", False),
])  # fmt: skip
async def test_a_recipient_is_refused_in_its_tenant_and_stream_alone(listed, harness, tenant, stream, refused):
    await listed.suppress(suppression(tenant=tenant, stream=stream))
    view = SuppressionView(listed, harness.clock)
    await view.refresh()
    assert (view.refusal(Address.parse("PAT@clinic.example"), "clinic", "bulk") is not None) == refused
    assert view.refusal(Address.parse("sue@clinic.example"), "clinic", "bulk") is None


@pytest.mark.parametrize(("cause", "said"), [
    (Cause.HARD_BOUNCE, "5.1.1"), (Cause.COMPLAINT, "5.7.1"), (Cause.OPERATOR, "operator"),
])  # fmt: skip
async def test_the_refusal_says_why(listed, harness, cause, said):
    await listed.suppress(suppression(cause=cause))
    view = SuppressionView(listed, harness.clock)
    await view.refresh()
    reply = view.refusal(PAT, "", "")
    assert reply.code == 550
    assert said in str(reply)


async def test_a_suppression_is_over_when_its_time_is_though_nothing_was_read_since(listed, harness):
    await listed.suppress(suppression())
    view = SuppressionView(listed, harness.clock)
    await view.refresh()
    harness.clock.now += DAY
    assert view.refusal(PAT, "", "") is None
    await view.refresh()
    assert len(view) == 0


class TellingList(SuppressionList):
    """Says when it was read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.was_read = asyncio.Event()

    async def index(self):
        found = await super().index()
        self.was_read.set()
        return found


async def test_the_view_follows_the_list_while_it_runs(store, harness):
    listed = TellingList(store, FakeVault(), harness.clock)
    view = SuppressionView(listed, harness.clock, interval=0.0)
    task = asyncio.create_task(view.run())
    for change, refused in ((listed.suppress(suppression()), True), (listed.lift(PAT, tenant="", stream=""), False)):
        await change
        for _ in range(2):  # the first reading may have begun before the change
            listed.was_read.clear()
            await listed.was_read.wait()
        assert (view.refusal(PAT, "", "") is not None) == refused
    task.cancel()


# --- what bounces add ---

UNKNOWN = Reply.of(550, "5.1.1", "User unknown")


@pytest.fixture
async def keeping(listed, store, harness):
    """A keeper that runs, and how to tell it of a reply."""
    metrics = CountingMetrics()
    keeper = SuppressionKeeper(listed, KeeperOptions(hard_bounce=DAY), harness.clock, metrics)
    meanings = Meanings(metrics, load_classifier())
    meanings.listen(keeper.heed)
    task = asyncio.create_task(keeper.run())

    async def refuse(reply, *, message=None):
        message = message or a_message(recipients=["Pat@clinic.example"])
        claimed = Claimed(entry=an_entry(message), message=message)
        failure = Failure(trouble=Trouble.REPLY, stage=Stage.RCPT, reply=reply)
        course = of_result(RecipientResult(number=0, failure=failure))
        verdict = meanings.of(course)
        fates = {0: Fate(kind=FateKind.BOUNCED, at=NOW, reply=reply)} if verdict.permanent else {}
        meanings.heed(claimed, fates, {0: verdict}, NOW)
        await keeper.aclose()

    yield refuse
    task.cancel()


async def test_a_hard_bounce_suppresses_with_its_evidence_and_an_audit_event(keeping, listed, store):
    await keeping(UNKNOWN)
    (item,) = await listed.find(PAT)
    assert (item.cause, item.until, item.by) == (Cause.HARD_BOUNCE, NOW + DAY, "postern")
    assert "550 5.1.1 User unknown" in item.evidence
    assert "unknown-user" in item.evidence
    assert "m1" in item.evidence
    (event,) = [event for row in await store.outbox(limit=10) for event in row.events]
    assert (event.kind, event.message_id, event.facts["cause"]) == ("suppressed", "m1", "hard-bounce")


@pytest.mark.parametrize("reply", [
    Reply.of(450, "4.1.1", "User unknown"), Reply.of(552, "5.2.2", "Mailbox full"),
    Reply.of(550, "5.1.1", "Your IP is blocklisted"), Reply.of(550, "5.7.1", "Message looks like spam"),
    Reply.of(550, "5.1.1", "Recipient rejected"), Reply.of(550, "5.7.26", "DMARC policy: user unknown"),
])  # fmt: skip
async def test_other_refusals_suppress_nobody(keeping, listed, reply):
    await keeping(reply)
    assert await listed.page() == ([], "")


async def test_an_exempt_mailbox_is_not_suppressed(keeping, listed):
    await listed.lift(PAT, tenant="", stream="", exempt_until=NOW + DAY)
    await keeping(UNKNOWN)
    assert await listed.find(PAT) == []


@pytest.mark.parametrize(("stronger", "until"), [(Cause.OPERATOR, FOREVER), (Cause.COMPLAINT, NOW + 365 * DAY)])
async def test_a_bounce_ends_no_suppression_sooner_that_a_person_wanted(keeping, listed, store, stronger, until):
    standing = suppression(cause=stronger, until=until)
    await listed.suppress(standing)
    await keeping(UNKNOWN)
    assert await listed.find(PAT) == [standing]
    assert [event for row in await store.outbox(limit=10) for event in row.events] == []


async def test_a_bounce_prolongs_what_would_end_sooner(keeping, listed):
    await listed.suppress(suppression(cause=Cause.OPERATOR, until=NOW + DAY / 2))
    await keeping(UNKNOWN)
    assert [item.until for item in await listed.find(PAT)] == [NOW + DAY]


async def test_a_keeper_without_room_says_so(listed, store, harness):
    metrics = CountingMetrics()
    keeper = SuppressionKeeper(listed, KeeperOptions(waiting=1), harness.clock, metrics)
    message = a_message()
    claimed = Claimed(entry=an_entry(message, method=MethodName.TLS), message=message)
    verdict = Verdict(
        klass=BounceClass.INVALID_RECIPIENT, action=BounceAction.SUPPRESS, rule="unknown-user", permanent=True
    )
    for _ in range(2):
        keeper.heed(claimed, 0, Fate(kind=FateKind.BOUNCED, at=NOW), verdict)
    assert metrics.counted == [("postern_alerts_total", {"kind": "suppression-lost"}, 1)]


async def test_suppression_can_be_off(listed, store, harness):
    keeper = SuppressionKeeper(listed, KeeperOptions(hard_bounce=0), harness.clock, CountingMetrics())
    message = a_message()
    verdict = Verdict(klass=BounceClass.INVALID_RECIPIENT, action=BounceAction.SUPPRESS, rule="x", permanent=True)
    keeper.heed(Claimed(entry=an_entry(message), message=message), 0, Fate(kind=FateKind.BOUNCED, at=NOW), verdict)
    await keeper.aclose()
    assert await listed.page() == ([], "")


# --- keys come and go ---


async def test_what_older_keys_sealed_is_sealed_anew_so_that_they_can_be_retired(store, harness):
    ring = KeyRing.create(now=NOW, random=os.urandom)
    vault = RingVault(ring, os.urandom)
    listed = SuppressionList(store, vault, harness.clock)
    item = suppression(tenant="clinic", stream="bulk", by="alice")
    await listed.suppress(item)
    exempt = Address.parse("sue@clinic.example")
    await listed.lift(exempt, tenant="", stream="", exempt_until=NOW + DAY)
    assert await listed.renew() == 0

    vault.adopt(vault.ring.rotated(now=NOW, random=os.urandom))
    used = [sealed_version(row.value) for kind in KINDS_KEPT for row in await store.all_known(kind)]
    assert used == [1, 1]
    assert await listed.renew() == 2
    assert await listed.renew() == 0
    used = [sealed_version(row.value) for kind in KINDS_KEPT for row in await store.all_known(kind)]
    assert used == [2, 2]

    vault.adopt(vault.ring.without(1))
    assert await listed.find(PAT) == [item]
    assert await listed.is_exempt(exempt, tenant="clinic", stream="bulk")
    view = SuppressionView(listed, harness.clock)
    await view.refresh()
    assert view.refusal(PAT, "clinic", "bulk") is not None


async def test_what_cannot_be_opened_is_left_as_it_is(store, harness):
    vault = RingVault(KeyRing.create(now=NOW, random=os.urandom), os.urandom)
    listed = SuppressionList(store, vault, harness.clock)
    await listed.suppress(suppression())
    await listed.lift(Address.parse("sue@clinic.example"), tenant="", stream="", exempt_until=NOW + DAY)
    other = RingVault(KeyRing.create(now=NOW, random=os.urandom).rotated(now=NOW, random=os.urandom), os.urandom)
    assert await SuppressionList(store, other, harness.clock).renew() == 0
    assert len(await listed.find(PAT)) == 1


async def test_what_cannot_be_sealed_anew_now_stays_suppressed(store, harness, monkeypatch):
    vault = RingVault(KeyRing.create(now=NOW, random=os.urandom), os.urandom)
    listed = SuppressionList(store, vault, harness.clock)
    item = suppression(cause=Cause.OPERATOR)
    await listed.suppress(item)
    vault.adopt(vault.ring.rotated(now=NOW, random=os.urandom))

    async def full(_known, **_):
        raise StoreFullError("no room")

    monkeypatch.setattr(store, "learn", full)
    with pytest.raises(StoreFullError):
        await listed.renew()
    assert await listed.find(PAT) == [item]


# --- faults of ours ---


async def test_a_fault_with_one_bounce_does_not_end_the_keeping(keeping, listed, monkeypatch):
    real = listed.suppress

    async def fails(_item, **_):
        monkeypatch.setattr(listed, "suppress", real)
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(listed, "suppress", fails)
    await keeping(UNKNOWN)
    assert await listed.find(PAT) == []
    await keeping(UNKNOWN)
    assert len(await listed.find(PAT)) == 1


async def test_a_suppression_that_cannot_be_kept_is_not_told_of(keeping, listed, store, monkeypatch):
    refuses = Knowledge(store)
    monkeypatch.setattr(listed, "_knowledge", refuses)
    await keeping(Reply.of(550, "5.1.1", "User unknown"))
    assert await store.outbox(limit=10) == []
    refuses.error = None
    await keeping(Reply.of(550, "5.1.1", "User unknown"))
    assert [event.kind for row in await store.outbox(limit=10) for event in row.events] == ["suppressed"]


class Knowledge:
    """A store that keeps nothing while it has an error to raise."""

    def __init__(self, store):
        self._store = store
        self.error = StoreFullError("full")

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def learn(self, *arguments, **fields):
        if self.error is not None:
            raise self.error
        return await self._store.learn(*arguments, **fields)


async def test_a_fault_in_reading_does_not_end_the_view(store, harness, monkeypatch):
    listed = TellingList(store, FakeVault(), harness.clock)
    await listed.suppress(suppression())
    view, real = SuppressionView(listed, harness.clock, interval=0.0), listed.index

    async def fails():
        monkeypatch.setattr(listed, "index", real)
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(listed, "index", fails)
    task = asyncio.create_task(view.run())
    reading = asyncio.create_task(listed.was_read.wait())
    with capture_logs():  # a trace takes long to write, and the view rests fifty times as long
        await asyncio.wait({task, reading}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    reading.cancel()
    assert not task.done()
    task.cancel()
    assert listed.was_read.is_set()
