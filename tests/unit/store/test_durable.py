"""Nobody is answered, and nothing outside the database is done, before the disk has what it rests on.

And nobody waits for the disk on another's behalf.
"""

import asyncio
import os
import queue
import threading

import apsw
import pytest

from relay.core.change import Settle
from relay.core.fate import Fate, FateKind
from relay.core.ports import QueueFilter
from relay.observe.keyuse import count_use
from relay.store import SqliteStore, StoreOptions
from relay.store.sqlite import anew, writer
from tests.support.queue import NOW, keeping
from tests.support.queue_process import build
from tests.support.vault import FakeVault

DELIVERED = Fate(kind=FateKind.DELIVERED, at=NOW)
DEADLINE = 60


class Disk:
    """Once it is held, each sync waits until it is let go."""

    def __init__(self, monkeypatch) -> None:
        self._real = os.fdatasync
        self._begun: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._held = False
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, descriptor: int) -> None:
        if self._held:
            go = threading.Event()
            self._begun.put(go)
            assert go.wait(DEADLINE), "nobody let this sync go on"
        self._real(descriptor)

    def hold(self) -> None:
        self._held = True

    async def sync_begun(self) -> threading.Event:
        """Wait for the next sync; it goes on when the event is set."""
        return await asyncio.to_thread(self._begun.get, timeout=DEADLINE)

    def let_go(self) -> None:
        """All that comes from now on passes."""
        self._held = False


@pytest.fixture
async def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.fixture
async def two(tmp_path, disk):
    """Two stores on one directory, as two processes have them."""
    stores = build(tmp_path), build(tmp_path)
    for number, store in enumerate(stores):
        await store.open(f"store-{number}")
    yield stores
    disk.let_go()
    for store in stores:
        await store.close()


async def names(store) -> list[str]:
    return [entry.message_id async for entry in store.entries(QueueFilter())]


async def test_a_commit_is_answered_after_its_sync_and_others_commit_meanwhile(two, disk):
    one, other = two
    disk.hold()
    first = asyncio.ensure_future(one.commit(keeping("m1")[0]))
    of_first = await disk.sync_begun()
    second = asyncio.ensure_future(other.commit(keeping("m2")[0]))
    of_second = await disk.sync_begun()  # so it is committed, though the first waits for the disk
    assert await names(one) == ["m1", "m2"]
    assert not first.done()
    assert not second.done()
    of_second.set()
    await second
    assert not first.done()
    of_first.set()
    await first


async def test_what_another_has_not_synced_is_on_the_disk_when_it_is_claimed(two, disk):
    one, other = two
    disk.hold()
    keeping_it = asyncio.ensure_future(one.commit(keeping("m1")[0]))
    of_keeping = await disk.sync_begun()
    claiming = asyncio.ensure_future(other.claim(now=NOW, limit=10))
    of_claiming = await disk.sync_begun()
    assert not claiming.done()
    of_claiming.set()
    assert [claimed.entry.message_id for claimed in await claiming] == ["m1"]
    assert not keeping_it.done()
    of_keeping.set()
    await keeping_it


async def test_what_is_refused_for_what_another_has_not_synced_is_refused_after_a_sync(two, disk):
    one, other = two
    disk.hold()
    first = asyncio.ensure_future(one.commit(keeping("m1")[0]))
    of_first = await disk.sync_begun()
    again = asyncio.ensure_future(other.commit(keeping("m1")[0]))
    of_again = await disk.sync_begun()
    assert not again.done()
    of_again.set()
    with pytest.raises(Exception, match="already in the queue"):
        await again
    of_first.set()
    await first


async def test_the_archiver_is_given_what_is_on_the_disk(two, disk):
    one, archiving = two
    disk.hold()
    keeping_it = asyncio.ensure_future(one.commit(keeping("m1", note=True)[0]))
    of_keeping = await disk.sync_begun()
    reading = asyncio.ensure_future(archiving.outbox(limit=10))
    of_reading = await disk.sync_begun()
    assert not reading.done()
    of_reading.set()
    (row,) = await reading
    assert [event.message_id for event in row.events] == ["m1"]
    of_keeping.set()
    await keeping_it


async def test_a_body_file_goes_when_it_is_on_the_disk_that_its_message_went(two, disk, tmp_path):
    one, _ = two
    unit, entry = keeping("m1", content=b"x" * 30_000, leased=True)
    await one.commit(unit)
    (body,) = (tmp_path / "data/bodies").iterdir()
    disk.hold()
    settling = asyncio.ensure_future(one.commit((Settle(entry=entry, fates={0: DELIVERED}),)))
    of_settling = await disk.sync_begun()
    assert await names(one) == []
    assert body.exists()
    of_settling.set()
    await settling
    assert not body.exists()


async def test_a_file_counts_as_left_behind_when_it_is_on_the_disk_that_nobody_names_it(two, disk):
    one, other = two
    unit, entry = keeping("m1", content=b"x" * 30_000, leased=True)
    await one.commit(unit)
    reader = other._reader
    name = reader.row("SELECT file FROM messages")[0]
    disk.hold()
    assert await reader.run(lambda: reader.is_file_named(name))
    settling = asyncio.ensure_future(one.commit((Settle(entry=entry, fates={0: DELIVERED}),)))
    of_settling = await disk.sync_begun()
    asking = asyncio.ensure_future(reader.run(lambda: reader.is_file_named(name)))
    of_asking = await disk.sync_begun()
    assert not asking.done()
    of_asking.set()
    assert not await asking
    of_settling.set()
    await settling


async def test_a_key_counts_as_unused_when_that_is_on_the_disk(two, disk, tmp_path):
    disk.hold()
    counting = asyncio.ensure_future(asyncio.to_thread(count_use, [tmp_path / "data"]))
    of_counting = await disk.sync_begun()
    assert not counting.done()
    of_counting.set()
    assert await counting == {}


class NotingFiles(apsw.VFS):
    """Notes, in order, when the log is synced and when the database is written or synced."""

    def __init__(self) -> None:
        super().__init__("noting", "")
        self.notes: list[tuple[str, str]] = []

    def xOpen(self, name, flags):  # noqa: N802 - apsw's name
        is_log = str(name.filename() if isinstance(name, apsw.URIFilename) else name).endswith("-wal")
        return _NotingFile(self.notes, "log" if is_log else "database", name, flags)


class _NotingFile(apsw.VFSFile):
    def __init__(self, notes, which, name, flags) -> None:
        super().__init__("", name, flags)
        self._notes, self._which = notes, which

    def xSync(self, flags):  # noqa: N802 - apsw's name
        super().xSync(flags)
        self._notes.append(("sync", self._which))

    def xWrite(self, data, offset):  # noqa: N802 - apsw's name
        super().xWrite(data, offset)
        self._notes.append(("write", self._which))


async def test_a_checkpoint_syncs_the_log_before_it_copies_it_and_the_database_after(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_WAL_PAGES_EARLY", 1)
    files = NotingFiles()
    options = StoreOptions(reserve_bytes=0)
    store = SqliteStore(tmp_path / "data", tmp_path / "run", FakeVault(), options, lambda: NOW, vfs="noting")
    await store.open("one")
    await store.commit(keeping("m1", content=b"x" * 10_000)[0])
    files.notes.clear()
    await store.commit(keeping("m2", content=b"x" * 10_000)[0])
    assert ("sync", "log") not in files.notes, "SQLite does not wait for the disk under the lock"
    files.notes.clear()
    await store.forget_outbox(0)  # from here on this process checkpoints
    await store.forget_outbox(0)  # its thread takes this up when it has
    first = files.notes.index(("write", "database"))
    last = len(files.notes) - 1 - files.notes[::-1].index(("write", "database"))
    assert ("sync", "log") in files.notes[:first]
    assert ("write", "log") not in files.notes[files.notes.index(("sync", "log")) : last]
    assert ("sync", "database") in files.notes[last:]
    files.notes.clear()
    await store.commit(keeping("m3")[0])
    assert files.notes[:2] == [("write", "log"), ("sync", "log")], "the head of a log begun anew, before what follows"
    await store.close()


def checkpoint(database):
    """Frames in the log, and those of them that are in the database."""
    looking = apsw.Connection(str(database))
    looking.pragma("user_version")
    told = looking.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    looking.close()
    return told


async def test_whoever_opens_the_queue_begins_the_log_anew(tmp_path):
    one, other = build(tmp_path), build(tmp_path)
    await one.open("one")
    for number in range(20):
        await one.commit(keeping(f"m{number}", content=b"x" * 10_000)[0])
    before, _ = checkpoint(tmp_path / "data/queue.db")
    await other.open("other")
    await one.commit(keeping("m20")[0])
    after, _ = checkpoint(tmp_path / "data/queue.db")
    assert after < before / 2
    assert len(await names(other)) == 21
    await other.close()
    await one.close()


async def test_whoever_reads_for_long_keeps_nobody_from_opening_or_committing(tmp_path, monkeypatch):
    one, other = build(tmp_path), build(tmp_path)
    await one.open("one")
    database = tmp_path / "data/queue.db"
    reading = apsw.Connection(str(database))
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM messages").fetchall()
    await one.commit(keeping("m1", content=b"x" * 10_000)[0])
    loop, waits, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    written = bytearray()

    def pause(_seconds):
        loop.call_soon_threadsafe(waits.set)
        assert go_on.wait(DEADLINE)
        monkeypatch.setattr(anew, "_READERS", 0)

    def write(descriptor, octets, at, real=os.pwrite):
        assert at == len(written)
        written.extend(octets)
        return real(descriptor, octets, at)

    monkeypatch.setattr(anew, "sleep", pause)
    monkeypatch.setattr(anew, "_PIECE", 5000)
    monkeypatch.setattr(os, "pwrite", write)
    opening = asyncio.ensure_future(other.open("other"))
    async with asyncio.timeout(DEADLINE):
        await waits.wait()
        await one.commit(keeping("m2")[0])
    frames, _ = checkpoint(database)
    go_on.set()
    async with asyncio.timeout(DEADLINE):
        await opening
    log = database.with_name("queue.db-wal").read_bytes()
    assert len(written) == 32 + frames * (24 + 4096), "all that is in the log is dirty again, and synced"
    assert log.startswith(written)
    reading.close()
    assert await names(other) == ["m1", "m2"]
    await other.close()
    await one.close()
