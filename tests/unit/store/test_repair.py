"""A queue with damaged pages: what is sound is carried over, what is not is told of, and none of it in silence."""

import random
import re
import shutil
import sqlite3
import struct
from contextlib import closing

import pytest

from relay.core.entry import EntryState
from relay.core.errors import CorruptError, ProblemsError
from relay.core.level import Level
from relay.core.ports import Known, QueueFilter
from relay.store import SqliteStore, StoreOptions
from relay.store.codec import Codec
from relay.store.sqlite.repair import repair
from tests.support.queue import NOW, keeping
from tests.support.queue_process import build, content_of
from tests.support.vault import FakeVault

NAMES = [f"m{number:03}x{number}" for number in range(60)]
KNOWN = [Known(kind="mta-sts", name=f"d{number}.example", value=b"v" * 40, until=NOW + 99) for number in range(40)]
SEED = 7


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A queue at rest with bodies in rows and in files, and everything else that a queue holds."""
    import asyncio

    directory = tmp_path_factory.mktemp("sound")

    async def fill():
        store = build(directory)
        await store.open("filler")
        for name in NAMES:
            await store.commit(keeping(name, content=content_of(name), note=True)[0])
        for one in KNOWN:
            await store.learn(one)
        await store.checkpoint()
        await store.close()

    asyncio.run(fill())
    return directory


@pytest.fixture
def damaged(sound, tmp_path):
    """A copy to do harm to: the test gives the pages and what comes in their place."""

    def make(*pages, fill=None):
        target = tmp_path / "-".join(map(str, pages)) if pages else tmp_path / "none"
        shutil.copytree(sound, target)
        file = target / "data" / "queue.db"
        size = page_size(file)
        with file.open("r+b") as handle:
            for page in pages:
                handle.seek((page - 1) * size)
                handle.write(fill or random.Random(f"{SEED}{page}").randbytes(size))
        return target

    return make


def page_size(file):
    return struct.unpack_from(">H", file.read_bytes()[:18], 16)[0]


def pages(directory):
    file = directory / "data" / "queue.db"
    return file.stat().st_size // page_size(file)


def mend(directory):
    return repair(directory / "data", Codec(FakeVault()), now=NOW)


async def look(directory):
    """Message id to (entries, content or ``None``) of a queue that was repaired, through the store itself."""
    store = SqliteStore(
        directory / "data",
        directory / "run",
        FakeVault(),
        StoreOptions(reserve_bytes=0, large_body=20_000),
        lambda: NOW,
    )
    await store.open("looker")
    found = {}
    try:
        async for entry in store.entries(QueueFilter()):
            try:
                content = await store.content(entry.message_id)
            except CorruptError:
                content = None
            found[entry.message_id] = (entry, content)
        outbox = await store.outbox(limit=1000)
        known = await store.all_known("mta-sts")
    finally:
        await store.close()
    return found, outbox, known


async def check(directory, made):
    """Every message is there as it was, or named among the troubles; every audit row, too."""
    found, outbox, _ = await look(directory)
    named = {trouble.name.partition(".")[0]: trouble for trouble in made.troubles}
    for name in NAMES:
        if name in found:
            entry, content = found[name]
            if name in named:
                assert entry.state is EntryState.HELD
                assert not named[name].lost
            else:
                assert content == content_of(name)
                assert entry.state is EntryState.READY
        else:
            assert named[name].lost, f"{name} went in silence"
    assert len(outbox) == made.outbox + 1
    assert all(event.kind == "accepted" for row in outbox[:-1] for event in row.events)
    assert outbox[-1].events[-1].facts["alert"] == "queue-repaired"
    assert made.messages == len(found)
    return found


async def test_a_whole_queue_is_carried_over_as_it_is(damaged):
    directory = damaged()
    made = mend(directory)
    assert not made.troubles
    assert (made.messages, made.entries, made.known) == (len(NAMES), len(NAMES), len(KNOWN))
    found = await check(directory, made)
    assert all(entry.id == f"{name}.0" for name, (entry, _) in found.items())
    assert sorted(path.name for path in (directory / "data").iterdir()) == [
        "bodies", "damaged-" + made.set_aside.name.partition("-")[2], "queue.db", "queue.lock"
    ]  # fmt: skip


async def test_no_damaged_page_makes_a_message_go_in_silence(damaged, sound):
    """The first page with the header, and every third after it."""
    kept = []
    for page in range(1, pages(sound) + 1, 3):
        directory = damaged(page)
        made = mend(directory)
        await check(directory, made)
        kept.append(made.messages)
        shutil.rmtree(directory)
    assert min(kept) >= len(NAMES) // 2
    assert sorted(kept)[len(kept) // 2] == len(NAMES), "most pages cost no message"


@pytest.mark.parametrize("fill", [b"\0" * 4096, b"\xff" * 4096], ids=["zeros", "ones"])
async def test_several_damaged_pages_at_once(damaged, sound, fill):
    chance = random.Random(SEED)
    for _ in range(6):
        directory = damaged(*sorted(chance.sample(range(1, pages(sound) + 1), 5)), fill=fill[: page_size_of(sound)])
        await check(directory, mend(directory))
        shutil.rmtree(directory)


def page_size_of(directory):
    return page_size(directory / "data" / "queue.db")


def sequences(directory):
    with closing(sqlite3.connect(directory / "data" / "queue.db")) as connection:
        return dict(connection.execute("SELECT * FROM sqlite_sequence"))


def sql(directory, *statements):
    with sqlite3.connect(directory / "data" / "queue.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("seed", range(6))
async def test_no_changed_bit_in_a_key_ends_a_repair_or_makes_a_message_go_in_silence(damaged, seed):
    directory, rng = damaged(), random.Random(seed)
    file = directory / "data" / "queue.db"
    octets = bytearray(file.read_bytes())
    for found in rng.sample(list(re.finditer(rb"m0\d\dx\d+(\.0)?|mta-sts|d\d+\.example", octets)), 6):
        octets[rng.randrange(*found.span())] ^= 1 << rng.randrange(8)
    file.write_bytes(octets)
    await check(directory, mend(directory))


async def test_an_entry_that_is_lost_is_held_for_an_operator_under_the_highest_floor(damaged):
    directory = damaged()
    sql(directory, f"DELETE FROM details WHERE entry_id = '{NAMES[3]}.0'")
    made = mend(directory)
    (trouble,) = made.troubles
    assert trouble.name == f"{NAMES[3]}.1"
    assert "redecide" in trouble.what
    entry = (await check(directory, made))[NAMES[3]][0]
    assert (entry.state, entry.treatment.floor, len(entry.recipients)) == (EntryState.HELD, Level.AUTHENTICATED, 1)


@pytest.mark.parametrize("name", [NAMES[5], NAMES[6]], ids=["in a file", "in a row"])
async def test_a_body_that_is_lost_holds_its_entries(damaged, name):
    directory = damaged()
    sql(directory, f"UPDATE bodies SET sealed = zeroblob(9) WHERE message_id = '{name}'")
    for file in (directory / "data" / "bodies").iterdir():
        if name.encode() in FakeVault().open("body", name, file.read_bytes()) if same(file, name) else False:
            file.write_bytes(b"gone")
    made = mend(directory)
    assert [trouble.name for trouble in made.troubles] == [name]
    entry, content = (await check(directory, made))[name]
    assert content is None
    assert "body was lost" in entry.reason


def same(file, name):
    try:
        FakeVault().open("body", name, file.read_bytes())
    except Exception:  # noqa: BLE001  another message's
        return False
    return True


def test_a_repair_that_was_broken_off_begins_again_and_nothing_runs_meanwhile(damaged, monkeypatch):
    import asyncio

    directory = damaged(4)
    monkeypatch.setattr("relay.store.sqlite.repair.Wreck", None)  # ends in the middle, as by a power cut
    with pytest.raises(TypeError):
        mend(directory)
    monkeypatch.undo()
    with pytest.raises(ProblemsError, match="repair` again"):
        asyncio.run(build(directory).open("too early"))
    made = mend(directory)
    asyncio.run(check(directory, made))


def test_a_queue_that_is_not_there_is_one_clear_error(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ProblemsError, match="no queue to repair"):
        mend(tmp_path)


async def test_numbers_go_on_where_they_were(damaged):
    directory = damaged()
    before = sequences(directory)
    mend(directory)
    after = sequences(directory)
    for table, number in before.items():
        assert after[table] >= number
