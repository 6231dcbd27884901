"""What every implementation of ``QueueStore`` promises. A new one joins by adding its harness to ``HARNESSES``."""

import asyncio
from dataclasses import replace

import pytest

from relay.core.address import Address
from relay.core.change import Keep, Note, Settle
from relay.core.entry import EntryState
from relay.core.errors import CorruptError, StoreError, StoreFullError, StoreUnavailableError
from relay.core.fate import Fate, FateKind
from relay.core.ports import QueueFilter, QueueStore
from relay.store import StoreOptions
from tests.support.queue import BODY, DAY, HARNESSES, KINDS, NOW, ManualClock, a_message, an_entry, an_event, keeping

DELIVERED = Fate(kind=FateKind.DELIVERED, at=NOW)


@pytest.fixture(params=KINDS)
async def harness(request, tmp_path):
    options = StoreOptions(reserve_bytes=0, max_bytes=10_000, large_body=2_000)
    harness = HARNESSES[request.param](tmp_path, ManualClock(), options)
    yield harness
    await harness.end()


@pytest.fixture
async def store(harness):
    return await harness.open()


async def claimed_ids(store: QueueStore, now: float = NOW, limit: int = 10) -> list[str]:
    return [claimed.entry.id for claimed in await store.claim(now=now, limit=limit)]


async def listed(store: QueueStore, page: int = 2, **where) -> list[str]:
    return [entry.id async for entry in store.entries(QueueFilter(**where), page=page)]


# --- keep ---


async def test_a_kept_message_comes_back_whole(store):
    unit, entry = keeping()
    await store.commit(unit)
    (claimed,) = await store.claim(now=NOW, limit=10)
    assert (claimed.entry, claimed.message) == (entry, unit[0].message)
    assert await store.message("m1") == unit[0].message
    assert await store.entry("m1.0") == entry
    assert await store.content("m1") == BODY


async def test_what_was_asked_of_notices_comes_back(store):
    """NOTIFY and ORCPT of each recipient, ENVID and RET of the message (RFC 3461 section 5.2.1)."""
    plain = a_message(recipients=("ann@example.org", "ben@example.org", "cyd@example.org"))
    wishes = (frozenset({"SUCCESS", "FAILURE"}), frozenset({"NEVER"}), frozenset())
    recipients = tuple(
        replace(one, original=f"rfc822;O+2B{place}@old.example", notify=wish)
        for place, (one, wish) in enumerate(zip(plain.envelope.recipients, wishes, strict=True))
    )
    message = replace(plain, envelope=replace(plain.envelope, recipients=recipients, envelope_id="QQ+2B1", ret="FULL"))
    await store.commit((Keep(message=message, content=BODY, entries=(an_entry(message),)),))
    (claimed,) = await store.claim(now=NOW, limit=10)
    assert claimed.message.envelope == message.envelope
    assert [state.recipient for state in claimed.entry.recipients] == list(recipients)


async def test_a_large_body_comes_back_and_goes_with_its_message(store):
    content = bytes(range(256)) * 20
    unit, entry = keeping(content=content, leased=True)
    await store.commit(unit)
    assert await store.content("m1") == content
    await store.commit((Settle(entry=entry, fates={0: DELIVERED}),))
    with pytest.raises(StoreError, match="no such message"):
        await store.content("m1")


async def test_an_id_is_kept_once(store):
    unit, _ = keeping()
    await store.commit(unit)
    with pytest.raises(StoreError):
        await store.commit(unit)
    assert await listed(store) == ["m1.0"]
    assert (await store.stats()).bytes == len(BODY)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda keep: replace(keep, entries=()),
        lambda keep: replace(keep, leased=frozenset({"other.0"})),
        lambda keep: replace(keep, entries=keep.entries * 2),
        lambda keep: replace(keep, entries=(replace(keep.entries[0], recipients=()),)),
        lambda keep: replace(keep, entries=(replace(keep.entries[0], message_id="other"),)),
        lambda keep: replace(keep, entries=(replace(keep.entries[0], id="other.0"),)),
        lambda keep: replace(keep, entries=(replace(keep.entries[0], due_at=float("inf")),)),
    ],
)
async def test_an_impossible_unit_is_refused_whole(store, break_it):
    (keep,), _ = keeping()
    with pytest.raises(StoreError):
        await store.commit((break_it(keep), Note(events=(an_event(),))))
    assert await store.message("m1") is None
    assert await store.outbox(limit=1) == []


async def test_what_is_missing_is_none(store):
    assert await store.message("none") is None
    assert await store.entry("none.0") is None
    assert await store.acquire("none.0") is None
    with pytest.raises(StoreError):
        await store.content("none")


# --- claim ---


async def test_claims_take_urgent_first_then_the_longest_due(store):
    for name, priority, due in [("m1", 0, -1), ("m2", 1, -1), ("m3", -1, -9), ("m4", 0, -5), ("m5", 1, -2)]:
        await store.commit(keeping(name, priority=priority, due_at=NOW + due)[0])
    assert await claimed_ids(store, limit=2) == ["m5.0", "m2.0"]
    assert await claimed_ids(store) == ["m4.0", "m1.0", "m3.0"]
    assert await claimed_ids(store) == []


async def test_only_what_is_due_is_claimed(store):
    await store.commit(keeping("m1", due_at=NOW + 60)[0])
    assert await claimed_ids(store) == []
    assert await store.next_due(after=NOW) == NOW + 60
    assert await claimed_ids(store, now=NOW + 60) == ["m1.0"]
    assert await store.next_due(after=NOW) is None


async def test_a_held_entry_is_claimed_for_its_warning_and_its_expiry_alone(store):
    unit, entry = keeping(state=EntryState.HELD, warn_at=NOW + 60, expires_at=NOW + DAY)
    await store.commit(unit)
    assert await claimed_ids(store, now=NOW + 59) == []
    assert await claimed_ids(store, now=NOW + 60) == ["m1.0"]
    await store.commit((Settle(entry=replace(entry, warn_at=None)),))
    assert await claimed_ids(store, now=NOW + 61) == []
    assert await store.next_due(after=NOW) == NOW + DAY
    assert await claimed_ids(store, now=NOW + DAY) == ["m1.0"]


@pytest.mark.parametrize("field", ["expires_at", "warn_at"])
async def test_a_deferred_entry_is_claimed_for_its_warning_and_its_expiry(store, field):
    await store.commit(keeping(**{"due_at": NOW + DAY, field: NOW + 5})[0])
    assert await claimed_ids(store, now=NOW + 4) == []
    assert await claimed_ids(store, now=NOW + 5) == ["m1.0"]


async def test_fresh_mail_under_its_keepers_lease_is_nobody_elses(harness, store):
    other = await harness.open()
    await store.commit(keeping(leased=True)[0])
    assert await claimed_ids(other) == await claimed_ids(store) == []
    assert await store.next_due(after=NOW - 1) is None


async def test_a_claim_passes_over_the_destinations_it_is_told_to(store):
    await store.commit(keeping("m1", destination="busy.example")[0])
    await store.commit(keeping("m2")[0])
    claimed = await store.claim(now=NOW, limit=9, skip=frozenset({"busy.example", "other.example"}))
    assert [each.entry.id for each in claimed] == ["m2.0"]
    assert await claimed_ids(store) == ["m1.0"]


async def test_a_backlog_of_a_passed_over_destination_hides_nothing(store):
    message = a_message(recipients=["a@example.org"])
    busy = tuple(an_entry(message, n, destination="busy.example", due_at=NOW - 9) for n in range(600))
    free = tuple(an_entry(message, n, destination=f"d{n % 3}.example", due_at=NOW - n) for n in range(600, 606))
    late = (an_entry(message, 700, due_at=NOW + 1),)
    await store.commit((Keep(message=message, content=BODY, entries=busy + free + late),))
    skip = frozenset({"busy.example", "d1.example"})
    claimed = [each.entry.id for each in await store.claim(now=NOW, limit=3, skip=skip)]
    assert claimed == ["m1.605", "m1.603", "m1.602"]


async def test_two_processes_never_hold_the_same_entry(harness, store):
    other = await harness.open()
    await asyncio.gather(*(s.commit(keeping(f"m{n}{i}")[0]) for i, s in enumerate((store, other)) for n in range(20)))
    parts = await asyncio.gather(*(claimed_ids(s, limit=7) for s in (store, other) * 3))
    taken = [entry_id for part in parts for entry_id in part]
    assert len(taken) == len(set(taken)) == 40


async def test_a_cancelled_claim_leaves_nothing_leased(store):
    await store.commit(keeping()[0])
    given_back = asyncio.Event()
    store.on_ready(given_back.set)
    claim = asyncio.ensure_future(store.claim(now=NOW, limit=1))
    await asyncio.sleep(0)
    claim.cancel()
    result = await asyncio.gather(claim, return_exceptions=True)
    if isinstance(result[0], asyncio.CancelledError):
        await given_back.wait()
        assert await claimed_ids(store) == ["m1.0"]
    else:
        assert [claimed.entry.id for claimed in result[0]] == ["m1.0"]


# --- settle ---


async def test_the_last_fate_ends_entry_message_and_body(store):
    unit, entry = keeping(leased=True)
    await store.commit(unit)
    await store.commit((Settle(entry=replace(entry, recipients=()), fates={0: DELIVERED}),))
    assert await store.entry("m1.0") is None
    assert await store.message("m1") is None
    stats = await store.stats()
    assert (stats.leased, stats.bytes, stats.oldest_created_at, stats.destinations) == (0, 0, None, ())


async def test_a_message_stays_until_its_last_entry_is_done(store):
    message = a_message(recipients=("a@example.org", "b@example.net"))
    entries = (an_entry(message, 0, numbers=[0]), an_entry(message, 1, numbers=[1]))
    ids = frozenset(entry.id for entry in entries)
    await store.commit((Keep(message=message, content=BODY, entries=entries, leased=ids),))
    await store.commit((Settle(entry=entries[0], fates={0: DELIVERED}),))
    assert await store.content("m1") == BODY
    await store.commit((Settle(entry=entries[1], fates={1: DELIVERED}),))
    assert await store.message("m1") is None


async def test_two_entries_of_a_message_may_end_in_one_unit(store):
    message = a_message(recipients=("a@example.org", "b@example.net"))
    entries = (an_entry(message, 0, numbers=[0]), an_entry(message, 1, numbers=[1]))
    await store.commit((Keep(message=message, content=BODY, entries=entries),))
    await store.commit(tuple(Settle(entry=e, fates={n: DELIVERED}, fence=False) for n, e in enumerate(entries)))
    assert await store.message("m1") is None


async def test_recipients_with_a_fate_leave_the_entry(store):
    message = a_message(recipients=("a@example.org", "b@example.org", "c@example.org"))
    entry = an_entry(message)
    await store.commit((Keep(message=message, content=BODY, entries=(entry,), leased=frozenset({entry.id})),))
    await store.commit((Settle(entry=replace(entry, attempts=1, due_at=NOW + 9), fates={1: DELIVERED}),))
    left = await store.entry("m1.0")
    assert [state.number for state in left.recipients] == [0, 2]
    assert (left.attempts, left.due_at) == (1, NOW + 9)
    assert await listed(store, recipient=Address.parse("b@example.org")) == []


async def test_settling_frees_the_lease_unless_told_to_keep_it(harness, store):
    unit, entry = keeping(leased=True)
    other = await harness.open()
    await store.commit(unit)
    await store.commit((Settle(entry=replace(entry, attempts=1), keep_lease=True),))
    assert await claimed_ids(other) == []
    await store.commit((Settle(entry=replace(entry, attempts=2)),))
    assert await claimed_ids(other) == ["m1.0"]


async def test_a_split_takes_recipients_over_in_one_commit(store):
    message = a_message(recipients=("a@example.org", "b@example.org"))
    entry = an_entry(message)
    await store.commit((Keep(message=message, content=BODY, entries=(entry,), leased=frozenset({entry.id})),))
    split = an_entry(message, 1, numbers=[1], destination="route:backup")
    await store.commit((Settle(entry=replace(entry, recipients=entry.recipients[:1]), split=(split,)),))
    assert await store.entry("m1.1") == split
    assert await claimed_ids(store) == ["m1.0", "m1.1"]
    await store.commit((Settle(entry=an_entry(message, 0, numbers=[0]), fates={0: DELIVERED}),))
    assert await store.content("m1") == BODY


async def test_a_split_may_take_all_recipients(store):
    unit, entry = keeping(leased=True)
    await store.commit(unit)
    split = an_entry(unit[0].message, 7)
    await store.commit((Settle(entry=replace(entry, recipients=()), split=(split,)),))
    assert await listed(store) == ["m1.7"]
    assert await store.content("m1") == BODY


async def test_a_fenced_change_fails_without_the_lease_and_takes_its_unit_with_it(harness, store):
    unit, entry = keeping()
    await store.commit(unit)
    with pytest.raises(StoreError, match="lease"):
        await store.commit((*keeping("m2")[0], Settle(entry=entry, fates={0: DELIVERED})))
    assert await listed(store) == ["m1.0"]
    other = await harness.open()
    assert await claimed_ids(other) == ["m1.0"]
    with pytest.raises(StoreError, match="lease"):
        await store.commit((Settle(entry=entry, fates={0: DELIVERED}),))
    await store.commit((Settle(entry=entry, fates={0: DELIVERED}, fence=False),))
    with pytest.raises(StoreError, match="no such entry"):
        await other.commit((Settle(entry=entry, fates={0: DELIVERED}),))


async def test_one_failing_unit_of_many_fails_alone(store):
    await store.commit(keeping("m0")[0])
    units = [keeping(f"m{n}", note=True)[0] for n in range(8)]
    results = await asyncio.gather(*(store.commit(unit) for unit in units), return_exceptions=True)
    assert [isinstance(result, StoreError) for result in results] == [True] + [False] * 7
    assert await listed(store, page=3) == [f"m{n}.0" for n in range(8)]
    assert (await store.stats()).bytes == 8 * len(BODY)
    assert {row.events[0].message_id for row in await store.outbox(limit=99)} == {f"m{n}" for n in range(1, 8)}


async def test_changing_an_entry_twice_in_a_unit_is_refused(store):
    unit, entry = keeping(leased=True)
    await store.commit(unit)
    with pytest.raises(StoreError, match="twice"):
        await store.commit((Settle(entry=entry), Settle(entry=entry, fates={0: DELIVERED})))
    assert await store.entry("m1.0") == entry


async def test_racing_settlements_of_one_entry_let_one_through(store):
    unit, entry = keeping(leased=True)
    await store.commit(unit)
    settle = (Settle(entry=entry, fates={0: DELIVERED}),)
    results = await asyncio.gather(*(store.commit(settle) for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["StoreError"] * 3


# --- leases ---


async def test_acquire_takes_what_nobody_holds_whatever_its_state(harness, store):
    unit, entry = keeping(state=EntryState.HELD, due_at=NOW + DAY)
    await store.commit(unit)
    claimed = await store.acquire("m1.0")
    assert claimed.entry == entry
    assert await store.acquire("m1.0") is None
    assert await (await harness.open()).acquire("m1.0") is None
    await store.commit((Settle(entry=replace(entry, state=EntryState.READY, due_at=NOW)),))
    assert await claimed_ids(store) == ["m1.0"]


async def test_release_gives_back_only_ones_own(harness, store):
    other = await harness.open()
    await store.commit((*keeping("m1")[0], *keeping("m2", leased=True)[0]))
    assert await claimed_ids(other) == ["m1.0"]
    await store.release(["m1.0", "m2.0", "none.0"])
    assert await claimed_ids(store) == ["m2.0"]


async def test_closing_gives_leases_back(harness, store):
    other = await harness.open()
    await store.commit(keeping(leased=True)[0])
    await harness.close(store)
    assert await claimed_ids(other) == ["m1.0"]


async def test_leases_of_the_dead_are_freed_and_of_the_living_are_not(harness, store):
    other = await harness.open()
    await store.commit(keeping("m1", leased=True)[0])
    await other.commit(keeping("m2", leased=True)[0])
    assert await other.reap() == 0
    await harness.die(store)
    assert await claimed_ids(other) == []
    assert await other.reap() == 1
    assert await claimed_ids(other) == ["m1.0"]


async def test_opening_frees_what_the_dead_held(harness, store):
    await store.commit(keeping(leased=True)[0])
    await harness.die(store)
    assert await claimed_ids(await harness.open()) == ["m1.0"]


async def test_readiness_is_announced_for_due_entries_that_are_free(harness, store):
    calls = []
    store.on_ready(lambda: calls.append(1))
    await store.commit(keeping("m1", leased=True)[0])
    await store.commit(keeping("m2", due_at=NOW + 60)[0])
    assert calls == []
    await store.commit(keeping("m3")[0])
    assert len(calls) == 1
    await store.release(["m1.0"])
    assert len(calls) == 2


# --- outbox, counters, figures, listing ---


async def test_the_outbox_keeps_commit_order_until_it_is_forgotten(store):
    for number in range(3):
        await store.commit((Note(events=(an_event("a", number=number), an_event("b"))),))
    rows = await store.outbox(limit=2)
    assert [row.events[0].facts["number"] for row in rows] == [0, 1]
    assert [event.kind for event in rows[0].events] == ["a", "b"]
    assert rows[0].seq < rows[1].seq
    assert (await store.stats()).outbox == 3
    await store.forget_outbox(rows[1].seq)
    (row,) = await store.outbox(limit=9)
    assert row.events[0].facts["number"] == 2
    await store.forget_outbox(row.seq)
    await store.commit((Note(events=(an_event("late"),)),))
    assert (await store.outbox(limit=9))[0].seq > row.seq


async def test_what_units_of_one_commit_tell_is_there_once_and_in_order_and_nothing_of_one_that_failed(store):
    await store.commit(keeping("m0")[0])

    async def life(name):
        unit, entry = keeping(name, leased=True, note=True)
        await store.commit(unit)
        await store.commit((Settle(entry=entry, fates={0: DELIVERED}), Note(events=(an_event("fate", name),))))

    async def refused():
        unit, _ = keeping("m0")
        with pytest.raises(StoreError):
            await store.commit((*unit, Note(events=(an_event("never", "m0"),))))

    names = [f"m{number}" for number in range(1, 13)]
    await asyncio.gather(*(life(name) for name in names[:6]), refused(), *(life(name) for name in names[6:]))
    rows = await store.outbox(limit=99)
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    told = [(event.message_id, event.kind) for row in rows for event in row.events]
    for name in names:
        assert [kind for message, kind in told if message == name] == ["accepted", "fate"]
    assert len(told) == 2 * len(names)


async def test_counters_sum_over_processes_within_their_window(harness, store):
    other = await harness.open()
    sums = await asyncio.gather(*(s.count("ehr", window=60, now=NOW) for s in (store, other) * 3))
    assert sorted(sums) == [1, 2, 3, 4, 5, 6]
    assert await store.count("ehr", window=60, now=NOW, add=0) == 6
    assert await store.count("lab", window=60, now=NOW, add=5) == 5
    assert await store.count("ehr", window=60, now=NOW + 60) == 1
    harness.clock.now = NOW + 60
    await store.checkpoint()
    assert await other.count("ehr", window=60, now=NOW) == 1
    assert await other.count("ehr", window=60, now=NOW + 60) == 2


async def test_figures(store):
    await store.commit(keeping("m1")[0])
    await store.commit(keeping("m2", due_at=NOW + 60)[0])
    await store.commit(keeping("m3", state=EntryState.HELD, destination="example.net")[0])
    await store.commit(keeping("m4", leased=True)[0])
    await store.commit((Note(events=(an_event(),)),))
    stats = await store.stats()
    assert (stats.ready, stats.deferred, stats.held, stats.leased) == (1, 1, 1, 1)
    assert (stats.oldest_created_at, stats.bytes, stats.outbox) == (NOW, 4 * len(BODY), 1)
    assert stats.destinations == (("example.org", 3), ("example.net", 1))


async def test_listing_filters_and_pages_in_id_order(store):
    await store.commit(keeping("m1")[0])
    await store.commit(keeping("m2", state=EntryState.HELD)[0])
    await store.commit(keeping("m3", destination="example.net", due_at=NOW + 60)[0])
    message = a_message("m30", recipients=("Ann@example.net", "x@[IPv6:2001:db8::1]"))
    await store.commit((Keep(message=message, content=BODY, entries=(an_entry(message),)),))
    assert await listed(store, page=1) == ["m1.0", "m2.0", "m3.0", "m30.0"]
    assert await listed(store, state=EntryState.HELD) == ["m2.0"]
    assert await listed(store, destination="example.net") == ["m3.0"]
    assert await listed(store, message_id="m3") == ["m3.0"]
    assert await listed(store, due_before=NOW) == []
    assert await listed(store, due_before=NOW + 1, page=1) == ["m1.0", "m2.0", "m30.0"]
    assert await listed(store, recipient=Address.parse("ann@EXAMPLE.net")) == ["m30.0"]


# --- limits and damage ---


async def test_the_byte_limit_refuses_new_mail_and_lets_old_mail_end(store):
    unit, entry = keeping("m1", content=b"x" * 9_000, leased=True)
    await store.commit(unit)
    with pytest.raises(StoreFullError):
        await store.commit(keeping("m2", content=b"x" * 1_001)[0])
    bounce = keeping("m3", content=b"x" * 1_001)[0]
    await store.commit((Settle(entry=entry, fates={0: DELIVERED}), *bounce))
    await store.commit(keeping("m2", content=b"x" * 1_001)[0])
    assert await listed(store) == ["m2.0", "m3.0"]


async def test_a_damaged_body_is_an_error_and_its_entry_can_be_held(harness, store):
    await store.commit(keeping()[0])
    await harness.damage("bodies", "m1")
    (claimed,) = await store.claim(now=NOW, limit=1)
    with pytest.raises(CorruptError):
        await store.content("m1")
    await store.commit((Settle(entry=replace(claimed.entry, state=EntryState.HELD, reason="damaged")),))
    assert await listed(store, state=EntryState.HELD) == ["m1.0"]


async def test_a_damaged_entry_is_set_aside_with_an_alert_and_stops_nobody_else(harness, store):
    await store.commit(keeping("m1", priority=1)[0])
    await store.commit(keeping("m2")[0])
    await harness.damage("details", "m1.0")
    assert [*await claimed_ids(store), *await claimed_ids(store)] == ["m2.0"]
    (row,) = await store.outbox(limit=9)
    assert (row.events[0].kind, row.events[0].facts["entry"]) == ("alert", "m1.0")
    stats = await store.stats()
    assert (stats.held, stats.leased, stats.ready, stats.deferred) == (1, 1, 0, 0)
    with pytest.raises(CorruptError):
        await store.acquire("m1.0")


@pytest.mark.parametrize(("table", "key"), [("details", "m1.0"), ("messages", "m1")])
async def test_an_entry_whose_row_cannot_be_found_is_set_aside_like_any_damaged_one(harness, store, table, key):
    await store.commit(keeping("m1", priority=1)[0])
    await store.commit(keeping("m2")[0])
    await harness.mislay(table, key)
    assert [*await claimed_ids(store), *await claimed_ids(store)] == ["m2.0"]
    (row,) = await store.outbox(limit=9)
    assert (row.events[0].kind, row.events[0].facts["entry"]) == ("alert", "m1.0")
    with pytest.raises(CorruptError):
        await store.acquire("m1.0")


async def test_a_damaged_entry_that_cannot_be_set_aside_now_keeps_nobody_waiting(harness, store, monkeypatch):
    await store.commit(keeping("m1", priority=1)[0])
    await store.commit(keeping("m2")[0])
    await harness.damage("details", "m1.0")
    if harness.kind != "memory":  # which is never away

        async def away(_entry_id):
            raise StoreUnavailableError("away")

        with monkeypatch.context() as once:
            once.setattr(store, "_set_aside", away)
            assert await claimed_ids(store) == ["m2.0"]
        assert list(await store.outbox(limit=9)) == []
        await store.release(["m2.0"])
    assert await claimed_ids(store) == ["m2.0"]
    (row,) = await store.outbox(limit=9)
    assert (row.events[0].kind, row.events[0].facts["entry"]) == ("alert", "m1.0")
