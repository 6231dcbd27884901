"""What every implementation of ``Deposits`` promises. A new one joins by adding its harness to ``PORTALS``."""

import asyncio
from dataclasses import replace

import pytest

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.errors import CorruptError, StoreError
from relay.core.portal import DepositFilter, DepositState, Post, PostKind
from relay.store.portal.database import Schema
from tests.support.portal import PORTAL_KINDS, PORTALS, a_deposit

NOW = 1_772_442_000.0
DAY = 86_400.0
CONTENT = b"Subject: Your result\r\n\r\nHbA1c 8.1 %\r\n"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=PORTAL_KINDS)
async def harness(request, tmp_path, clock):
    harness = PORTALS[request.param](tmp_path, clock)
    yield harness
    await harness.end()


@pytest.fixture
async def deposits(harness):
    return await harness.open()


def a_post(number: int = 0, **changes) -> Post:
    values = {
        "id": f"01J0000000000000000{number}",
        "kind": PostKind.CODE,
        "recipients": (Address.parse("pat@mail.example"),),
        "content": b"Subject: Your code\r\n\r\n123 456\r\n\xff",
        "deposit_id": "deposit-00000000000000",
        "tenant": "clinic",
        "at": NOW,
    }
    return Post(**(values | changes))


def an_event(kind: str = "portal") -> AuditEvent:
    return AuditEvent(kind=kind, at=NOW, message_id="01J00000000000000000", facts={"state": "opened", "n": 1})


async def read(deposits, deposit_id: str, **span) -> bytes:
    return b"".join([piece async for piece in deposits.content(deposit_id, **span)])


async def ids(deposits, *, limit=50, newest_first=True, **where) -> list[str]:
    found, after = [], ""
    while True:
        page, after = await deposits.page(DepositFilter(**where), after=after, limit=limit, newest_first=newest_first)
        assert len(page) <= limit
        found += [one.id for one in page]
        if not after:
            return found


# --- deposit ---


async def test_a_deposit_comes_back_whole_in_every_process(harness):
    deposits, other = await harness.open(), await harness.open()
    made = await deposits.deposit(a_deposit(), CONTENT)
    assert made == a_deposit(size=len(CONTENT))
    for one in (deposits, other):
        assert await one.find(made.id) == made
        assert await one.of_message(made.message_id) == [made]
        assert await read(one, made.id) == CONTENT
    assert await deposits.find("no such") is None
    assert list(await deposits.of_message("no such")) == []


async def test_a_second_deposit_for_the_same_recipient_gives_the_first(deposits):
    first = await deposits.deposit(a_deposit(), CONTENT)
    again = await deposits.deposit(a_deposit(id="another", subject="Else"), b"other", events=(an_event(),))
    assert again == first
    assert await deposits.find("another") is None
    assert await read(deposits, first.id) == CONTENT
    assert list(await deposits.take_outbox(owner="w1", lease=30, limit=10)) == []


async def test_deposits_made_at_once_for_one_recipient_are_one(harness):
    processes = [await harness.open() for _ in range(3)]
    made = await asyncio.gather(
        *(
            one.deposit(a_deposit(id=f"try-{number}-{turn}"), CONTENT)
            for turn in range(5)
            for number, one in enumerate(processes)
        )
    )
    assert len({one.id for one in made}) == 1


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 300_000])
async def test_any_range_of_the_content_can_be_read(deposits, size):
    content = bytes(number * 7 % 251 for number in range(size))
    made = await deposits.deposit(a_deposit(), content)
    assert made.size == size
    assert await read(deposits, made.id) == content
    for start, end in [(0, 1), (1, 65_536), (65_535, 65_537), (70_000, 200_001), (size, None), (5, 5), (0, size + 9)]:
        assert await read(deposits, made.id, start=start, end=end) == content[start:end]
    assert all(len(piece) <= 65_536 for piece in [piece async for piece in deposits.content(made.id)])


async def test_content_of_nothing_is_an_error(deposits):
    with pytest.raises(StoreError, match="no such message"):
        await read(deposits, "no such")


# --- pages ---


async def test_pages_follow_time_and_select(deposits):
    pat, sam = Address.parse("Pat@Mail.example"), Address.parse("sam@mail.example")
    for number in range(7):
        await deposits.deposit(
            a_deposit(
                number,
                mailbox=sam if number % 3 == 0 else Address.parse("pat@mail.example"),
                deposited_at=NOW + number // 2,
                tenant="north" if number < 4 else "south",
                origin_from=f"Doctor Number{number} <d{number}@clinic.example>",
            ),
            CONTENT,
        )
    everything = [a_deposit(number).id for number in range(7)]
    assert await ids(deposits, limit=2, newest_first=False) == everything
    assert await ids(deposits, limit=3) == everything[::-1]
    assert await ids(deposits, mailbox=pat, newest_first=False, limit=1) == [everything[n] for n in (1, 2, 4, 5)]
    assert await ids(deposits, mailbox=sam, tenant="north") == [everything[3], everything[0]]
    assert await ids(deposits, since=NOW + 1, until=NOW + 2, newest_first=False) == everything[2:4]
    assert await ids(deposits, text="number5") == [everything[5]]
    assert await ids(deposits, text="CLINIC.EXAMPLE", limit=3, newest_first=False) == everything
    assert await ids(deposits, text="nobody") == []
    assert await ids(deposits, sender=Address.parse("doctor@CLINIC.example"), limit=3) == everything[::-1]
    assert await ids(deposits, sender=Address.parse("d5@clinic.example")) == []
    assert await ids(deposits, states=frozenset({DepositState.OPENED})) == []
    assert await ids(deposits, message_id="01J00000000000000000", limit=4) == everything[::-1]
    assert (await deposits.page(DepositFilter(), after="no such"))[0] == []


# --- change ---


async def test_what_another_did_meanwhile_is_kept(deposits):
    """A reader opens from a page that was made before an operator extended; the sweeper ends what was extended."""
    before = await deposits.deposit(a_deposit(), CONTENT)
    extended = replace(before, expires_at=before.expires_at + 7 * DAY)
    assert await deposits.change(extended, expected=DepositState.WAITING)
    expired = replace(before, state=DepositState.EXPIRED)
    assert not await deposits.change(expired, expected=DepositState.WAITING)
    opened = replace(before, state=DepositState.OPENED, opened_at=NOW + 5)
    assert await deposits.change(opened, expected=DepositState.WAITING)
    again = replace(before, state=DepositState.OPENED, opened_at=NOW + 9)
    assert await deposits.change(again, expected=DepositState.OPENED)
    there = await deposits.find(before.id)
    assert (there.expires_at, there.opened_at) == (extended.expires_at, NOW + 5)


async def test_a_change_holds_only_where_the_state_is_as_expected(harness):
    deposits, other = await harness.open(), await harness.open()
    made = await deposits.deposit(a_deposit(), CONTENT)
    opened = replace(made, state=DepositState.OPENED, opened_at=NOW + 5, subject="not stored")
    assert await other.change(opened, expected=DepositState.WAITING, posts=(a_post(),), events=(an_event(),))
    assert not await deposits.change(opened, expected=DepositState.WAITING, posts=(a_post(1),))
    assert await deposits.find(made.id) == replace(opened, subject=made.subject)
    (item,) = await deposits.take_outbox(owner="w1", lease=30, limit=10)
    assert (item.posts, item.events) == ((a_post(),), (an_event(),))
    assert not await deposits.change(a_deposit(id="no such"), expected=DepositState.WAITING)


async def test_of_two_that_race_one_wins(harness):
    processes = [await harness.open() for _ in range(3)]
    made = await processes[0].deposit(a_deposit(), CONTENT)
    opened = replace(made, state=DepositState.OPENED, opened_at=NOW)
    won = await asyncio.gather(
        *(one.change(opened, expected=DepositState.WAITING, events=(an_event(),)) for one in processes * 3)
    )
    assert sorted(won) == [False] * 8 + [True]
    assert len(await processes[0].take_outbox(owner="w1", lease=30, limit=10)) == 1


@pytest.mark.parametrize("state", [DepositState.EXPIRED, DepositState.RECALLED, DepositState.WITHDRAWN])
async def test_a_final_state_deletes_content_and_what_the_headers_said(deposits, state):
    made = await deposits.deposit(a_deposit(), CONTENT)
    other = await deposits.deposit(a_deposit(1), CONTENT)
    assert await deposits.change(replace(made, state=state), expected=DepositState.WAITING)
    left = await deposits.find(made.id)
    assert (left.state, left.mailbox, left.sender, left.size) == (state, made.mailbox, made.sender, made.size)
    assert (left.origin_from, left.origin_to, left.origin_cc, left.subject, left.date) == ("", (), (), "", "")
    with pytest.raises(StoreError, match="no such message"):
        await read(deposits, made.id)
    assert await read(deposits, other.id) == CONTENT
    again = await deposits.deposit(a_deposit(id="again"), CONTENT)
    assert again == left


async def test_when_a_deposit_ended_is_known_until_it_is_pruned(deposits, clock):
    made = await deposits.deposit(a_deposit(), CONTENT)
    assert await deposits.ended_at(made.id) is None
    assert await deposits.ended_at("never-there") is None
    clock.now += 60
    opened = replace(made, state=DepositState.OPENED, opened_at=clock.now)
    assert await deposits.change(opened, expected=DepositState.WAITING)
    assert await deposits.ended_at(made.id) is None
    assert await deposits.change(replace(opened, state=DepositState.RECALLED), expected=DepositState.OPENED)
    clock.now += DAY
    assert await deposits.ended_at(made.id) == NOW + 60
    assert await deposits.prune(before=NOW + 61, limit=10) == 1
    assert await deposits.ended_at(made.id) is None


async def test_what_ended_long_ago_is_pruned(deposits, clock):
    made = [await deposits.deposit(a_deposit(number), CONTENT) for number in range(3)]
    for one in made[:2]:
        clock.now += DAY
        assert await deposits.change(replace(one, state=DepositState.EXPIRED), expected=DepositState.WAITING)
    assert await deposits.prune(before=NOW + 2 * DAY, limit=10) == 1
    assert await ids(deposits, newest_first=False) == [made[1].id, made[2].id]
    assert await deposits.prune(before=NOW + 9 * DAY, limit=10) == 1
    assert await deposits.prune(before=NOW + 9 * DAY, limit=10) == 0


async def test_expired_and_unread_fall_due(deposits):
    ends = {0: NOW + 10 * DAY, 1: NOW + 2 * DAY, 2: NOW + 3 * DAY, 3: NOW - 1, 4: NOW - 2}
    made = [await deposits.deposit(a_deposit(number, expires_at=end), CONTENT) for number, end in ends.items()]
    opened = replace(made[2], state=DepositState.OPENED, opened_at=NOW)
    assert await deposits.change(opened, expected=DepositState.WAITING)
    assert await deposits.change(replace(made[4], state=DepositState.RECALLED), expected=DepositState.WAITING)
    assert [one.number for one in await deposits.due(now=NOW, remind_before=3 * DAY, limit=10)] == [3, 1]
    assert [one.number for one in await deposits.due(now=NOW, remind_before=3 * DAY, limit=1)] == [3]
    assert await deposits.change(replace(made[1], reminded_at=NOW), expected=DepositState.WAITING)
    assert [one.number for one in await deposits.due(now=NOW, remind_before=3 * DAY, limit=10)] == [3]
    assert [one.number for one in await deposits.due(now=NOW + 3 * DAY, remind_before=0, limit=10)] == [3, 1, 2]
    extended = replace(made[1], expires_at=NOW + 30 * DAY, reminded_at=None)
    assert await deposits.change(extended, expected=DepositState.WAITING)
    assert [one.number for one in await deposits.due(now=NOW + 27 * DAY, remind_before=3 * DAY, limit=10)] == [
        3,
        2,
        0,
        1,
    ]


async def test_figures_count(deposits):
    made = [await deposits.deposit(a_deposit(number, deposited_at=NOW + number), CONTENT) for number in range(3)]
    opened = replace(made[0], state=DepositState.OPENED)
    assert await deposits.change(opened, expected=DepositState.WAITING, events=(an_event(),))
    figures = await deposits.figures()
    assert dict(figures.by_state) == {DepositState.OPENED: 1, DepositState.WAITING: 2}
    assert (figures.outbox, figures.oldest_waiting_at) == (1, NOW + 1)


# --- outbox ---


async def test_the_outbox_keeps_order_and_is_taken_by_one_at_a_time(harness, clock):
    deposits, other = await harness.open(), await harness.open()
    await deposits.hand_out()
    for number in range(3):
        await deposits.hand_out(
            posts=(a_post(number), a_post(number + 3, content=b"")), events=(an_event(str(number)),)
        )
    taken = await deposits.take_outbox(owner="w1", lease=30, limit=2)
    assert [item.events[0].kind for item in taken] == ["0", "1"]
    assert taken[1].posts == (a_post(1), a_post(4, content=b""))
    assert [item.events[0].kind for item in await other.take_outbox(owner="w2", lease=30, limit=9)] == ["2"]
    assert [item.seq for item in await deposits.take_outbox(owner="w1", lease=30, limit=9)] == [i.seq for i in taken]
    await deposits.forget_outbox([taken[0].seq])
    clock.now += 31
    left = await other.take_outbox(owner="w2", lease=30, limit=9)
    assert [item.events[0].kind for item in left] == ["1", "2"]
    assert left[0].id == taken[1].id, "an item is known again whoever takes it"
    assert len({item.id for item in (*taken, *left)}) == 3
    await other.forget_outbox([item.seq for item in left])
    await other.forget_outbox([])
    assert list(await deposits.take_outbox(owner="w1", lease=30, limit=9)) == []


async def test_what_is_handed_out_is_told_to_those_who_wait(harness):
    deposits, other = await harness.open(), await harness.open()
    while await other.word(0.01):
        pass
    waiting = asyncio.ensure_future(other.word(60))
    await deposits.hand_out(posts=(a_post(),))
    assert await waiting
    waiting = asyncio.ensure_future(deposits.word(60))
    await deposits.hand_out(events=(an_event(),))
    assert await waiting


# --- what only databases can show ---


@pytest.fixture(params=PORTAL_KINDS[1:])
async def stored(request, tmp_path, clock):
    harness = PORTALS[request.param](tmp_path, clock)
    yield harness
    await harness.end()


async def test_everything_is_there_after_a_restart(stored):
    deposits = await stored.open()
    made = await deposits.deposit(a_deposit(), CONTENT, events=(an_event(),))
    await stored.opened[0].close()
    again = await stored.open()
    assert await again.find(made.id) == made
    assert await read(again, made.id) == CONTENT
    assert len(await again.take_outbox(owner="w1", lease=30, limit=10)) == 1


async def test_a_newer_schema_is_refused(stored):
    from relay.core.errors import ProblemsError

    await stored.database(Schema(module="extra", steps=(("CREATE TABLE extra(a REAL)",), ("DROP TABLE extra",))))
    with pytest.raises(ProblemsError, match="extra: written by a newer Postern"):
        await stored.database(Schema(module="extra", steps=(("CREATE TABLE extra(a REAL)",),)))


async def test_what_an_older_version_wrote_is_found_before_and_after_it_is_listed_anew(stored):
    older = await stored.open()
    made = [await older.deposit(a_deposit(number), CONTENT) for number in range(3)]
    await older.change(replace(made[2], state=DepositState.RECALLED), expected=DepositState.WAITING)

    def as_it_was(cursor):
        for statement in (
            "DROP INDEX deposits_sender",
            "DROP INDEX deposits_unlisted",
            "ALTER TABLE deposits DROP COLUMN sender",
            "ALTER TABLE deposits DROP COLUMN who",
            "UPDATE modules SET version = 1 WHERE module = 'deposits'",
        ):
            cursor.run(statement)

    await stored.opened[0].transact(as_it_was)
    await stored.opened[0].close()
    deposits = await stored.open()
    live = frozenset({DepositState.WAITING})
    doctor = Address.parse("doctor@clinic.example")
    assert await ids(deposits, text="ada example", states=live) == [made[1].id, made[0].id]
    assert await ids(deposits, sender=doctor) == []
    damage = "UPDATE deposits SET facts = (SELECT facts FROM deposits WHERE number = 0) WHERE number = 1"
    await stored.opened[1].transact(lambda cursor: cursor.run(damage))
    assert [await deposits.list_anew(limit=1) for _ in range(3)] == [1, 1, 0]
    assert await ids(deposits, text="ada example", states=live) == [made[0].id]
    assert await ids(deposits, text="nobody", states=live) == []
    assert await ids(deposits, sender=doctor) == [made[0].id]


async def test_a_job_that_fails_undoes_itself_alone(stored):
    database = await stored.database(Schema(module="extra", steps=(("CREATE TABLE extra(a TEXT PRIMARY KEY)",),)))

    def failing(cursor):
        cursor.run("INSERT INTO extra(a) VALUES(?)", "lost")
        cursor.run("INSERT INTO extra(a) VALUES(?)", "lost")

    def raising(cursor):
        cursor.run("INSERT INTO extra(a) VALUES(?)", "also lost")
        raise ValueError("of the caller's own")

    results = await asyncio.gather(
        database.transact(lambda cursor: cursor.run("INSERT INTO extra(a) VALUES(?)", "kept")),
        database.transact(failing),
        database.transact(raising),
        database.transact(lambda cursor: cursor.run("INSERT INTO extra(a) VALUES(?)", "kept too")),
        return_exceptions=True,
    )
    assert results[0] == results[3] == 1
    assert isinstance(results[1], StoreError)
    assert isinstance(results[2], ValueError)
    rows = await database.read(lambda cursor: cursor.rows("SELECT a FROM extra ORDER BY a"))
    assert rows == [("kept",), ("kept too",)]


async def test_nothing_can_be_written_while_reading(stored):
    database = await stored.database()
    with pytest.raises(StoreError):
        await database.read(lambda cursor: cursor.run("DELETE FROM deposits"))


async def test_a_damaged_piece_is_never_shown(stored):
    deposits = await stored.open()
    made = await deposits.deposit(a_deposit(), bytes(200_000))
    database = stored.opened[0]
    swap = "UPDATE pieces SET sealed = (SELECT sealed FROM pieces WHERE number = 0) WHERE number = 1"
    await database.transact(lambda cursor: cursor.run(swap))
    with pytest.raises(CorruptError):
        await read(deposits, made.id)
    await database.transact(lambda cursor: cursor.run("DELETE FROM pieces WHERE number = 3"))
    with pytest.raises(CorruptError, match="lacks pieces"):
        await read(deposits, made.id)


async def test_a_damaged_deposit_hides_itself_alone(stored):
    deposits = await stored.open()
    made = [await deposits.deposit(a_deposit(number), CONTENT) for number in range(3)]
    swap = "UPDATE deposits SET facts = (SELECT facts FROM deposits WHERE number = 0) WHERE number = 1"
    await stored.opened[0].transact(lambda cursor: cursor.run(swap))
    assert await ids(deposits, newest_first=False) == [made[0].id, made[2].id]
    with pytest.raises(CorruptError):
        await deposits.find(made[1].id)


@pytest.mark.law
async def test_nothing_readable_is_at_rest(stored):
    deposits = await stored.open()
    made = await deposits.deposit(a_deposit(), CONTENT * 40, events=(an_event(),))
    await deposits.hand_out(posts=(a_post(content=b"Subject: Re: result\r\n\r\nsecret words\r\n"),))
    at_rest = stored.at_rest()
    assert made.id.encode() in at_rest, "the files that hold the deposit were looked at"
    for plain in (b"HbA1c", b"Your result", b"pat@", b"doctor@", b"Ada Example", b"secret words", b"Re: result"):
        assert plain not in at_rest


@pytest.mark.law
async def test_a_shredded_key_leaves_the_disk(tmp_path, clock):
    stored = PORTALS["sqlite"](tmp_path, clock)
    deposits = await stored.open()
    made = await deposits.deposit(a_deposit(), CONTENT * 40)
    sql = "SELECT k.sealed, p.sealed FROM data_keys k JOIN pieces p ON p.deposit_id = k.deposit_id"
    ((key, piece),) = await stored.opened[0].read(lambda cursor: cursor.rows(sql))
    assert key in stored.at_rest()
    assert await deposits.change(replace(made, state=DepositState.RECALLED), expected=DepositState.WAITING)
    await deposits.scrub()
    left = stored.at_rest()
    assert key not in left
    assert piece not in left
    await stored.end()


async def test_scrubbing_leaves_what_lives(stored):
    deposits = await stored.open()
    made = await deposits.deposit(a_deposit(), CONTENT)
    await deposits.scrub()
    assert await read(deposits, made.id) == CONTENT


@pytest.mark.peers
async def test_a_database_that_is_away_at_the_start_is_taken_up_when_it_comes(tmp_path, clock):
    """Mail must not wait for the portal's database: a worker opens, and what needs it fails until it is there."""
    import os

    from relay.core.errors import StoreUnavailableError
    from relay.protect.sealing import RingVault
    from relay.store.portal.database import Database
    from relay.store.portal.deposits import StoredDeposits
    from relay.store.portal.postgres import PostgresDriver
    from relay.store.portal.tables import SCHEMA
    from relay.store.postgres.options import PostgresOptions
    from tests.support.portal import portal_ring
    from tests.support.postgres import Cluster

    cluster = Cluster().make()
    try:
        database = Database(PostgresDriver(PostgresOptions(dsn=cluster.dsn, node="n1", schema="portal")))
        await database.open(SCHEMA)
        deposits = StoredDeposits(database, RingVault(portal_ring(), os.urandom), clock, os.urandom)
        with pytest.raises(StoreUnavailableError):
            await deposits.deposit(a_deposit(), CONTENT)
        with pytest.raises(StoreUnavailableError):
            await deposits.find("any")
        cluster.start()
        made = await deposits.deposit(a_deposit(), CONTENT)
        assert await read(deposits, made.id) == CONTENT
        cluster.kill()
        with pytest.raises(StoreUnavailableError):
            await deposits.find(made.id)
        cluster.start()
        assert await deposits.find(made.id) == made
        assert await deposits.deposit(a_deposit(1), CONTENT)
        await database.close()
    finally:
        cluster.remove()
