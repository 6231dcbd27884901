"""What is SQLite's own: durability, sealed files, damaged and foreign files, full disks, incarnations."""

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import resource
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from relay.core.change import Settle
from relay.core.errors import CorruptError, ProblemsError, StoreError, StoreFullError, StoreUnavailableError
from relay.core.fate import Fate, FateKind
from relay.core.ports import QueueFilter
from relay.store import DirectoryLock, SqliteStore, StoreOptions
from relay.store.sqlite import writer
from relay.store.sqlite.lives import GRACE, Lives
from relay.store.sqlite.lock import LifeLock
from relay.store.sqlite.schema import MIGRATIONS, check_sqlite, connect
from tests.support.queue import NOW, ManualClock, keeping
from tests.support.queue_process import build, content_of
from tests.support.vault import FakeVault

ROOT = Path(__file__).parents[3]
DELIVERED = Fate(kind=FateKind.DELIVERED, at=NOW)


@pytest.fixture
async def opened(tmp_path):
    store = build(tmp_path)
    await store.open("one")
    yield store
    await store.close()


def database(directory: Path) -> Path:
    return directory / "data" / "queue.db"


@pytest.fixture
def spawn(tmp_path):
    """Starts processes on the test's directory, and ends what is left of them."""
    with contextlib.ExitStack() as stack:

        def start(role: str, argument: str = "") -> subprocess.Popen:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.support.queue_process", role, tmp_path, argument],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def every_byte(directory: Path) -> bytes:
    return b"".join(path.read_bytes() + path.name.encode() for path in directory.rglob("*") if path.is_file())


# --- law 1 ---


async def test_the_process_that_archives_keeps_the_write_ahead_log_short(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_WAL_PAGES_EARLY", 200)
    worker, archiving = build(tmp_path), build(tmp_path)
    await worker.open("worker")
    await archiving.open("archiving")
    wal, sizes = database(tmp_path).with_name("queue.db-wal"), []
    for number in range(40):
        await worker.commit(keeping(f"m{number}", content=os.urandom(100_000), note=True)[0])
        sizes.append(wal.stat().st_size)
        await archiving.forget_outbox(number + 1)
    assert max(sizes) < 400 * 4096 < 40 * 100_000
    await archiving.close()
    await worker.close()


async def test_what_comes_in_one_turn_of_the_loop_is_one_commit_and_what_is_impossible_in_it_fails_alone(tmp_path):
    sizes = []
    store = SqliteStore(
        tmp_path / "data",
        tmp_path / "run",
        FakeVault(),
        StoreOptions(reserve_bytes=0),
        ManualClock(),
        observe_batch=sizes.append,
    )
    await store.open("one")
    sizes.clear()
    units = [keeping(f"m{number}")[0] for number in range(5)]
    keep = units[2][0]
    units[2] = (replace(keep, entries=()),)
    answers = await asyncio.gather(*(store.commit(unit) for unit in units), return_exceptions=True)
    kept = [entry.message_id async for entry in store.entries(QueueFilter())]
    await store.close()
    assert [type(answer) for answer in answers] == [type(None), type(None), StoreError, type(None), type(None)]
    assert kept == ["m0", "m1", "m3", "m4"]
    assert sizes[0] == 4


async def test_what_was_given_before_the_end_is_written_before_it(tmp_path):
    store = build(tmp_path)
    await store.open("one")
    writing = asyncio.ensure_future(store.commit(keeping("m1")[0]))
    await asyncio.sleep(0)
    await store.close()
    await writing
    again = build(tmp_path)
    await again.open("two")
    assert [entry.message_id async for entry in again.entries(QueueFilter())] == ["m1"]
    await again.close()


def test_the_settings_law_1_rests_on_are_in_force(tmp_path):
    path = tmp_path / "queue.db"
    path.touch()
    connection = connect(path)
    pragmas = {name: connection.pragma(name) for name in ("journal_mode", "synchronous", "mmap_size", "secure_delete")}
    connection.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "mmap_size": 0, "secure_delete": 1}


async def test_free_pages_can_be_given_back(tmp_path, opened):
    units = [keeping(f"m{number}", content=b"x" * 10_000, leased=True) for number in range(50)]
    await asyncio.gather(*(opened.commit(unit) for unit, _ in units))
    await opened.checkpoint()
    full = database(tmp_path).stat().st_size
    await asyncio.gather(*(opened.commit((Settle(entry=entry, fates={0: DELIVERED}),)) for _, entry in units))
    await opened.checkpoint()
    assert database(tmp_path).stat().st_size < full / 4


@pytest.mark.parametrize(("role", "told"), [("lose", "kept lx1\n"), ("archive", "archiving\n")])
def test_after_a_failed_fsync_the_process_ends_at_once(spawn, role, told):
    process = spawn(role)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 74
    assert out == told
    assert err.count("storage_failed") == 1
    assert "Traceback" not in err
    assert "planted" not in err


async def recovered(directory: Path) -> dict[str, bytes]:
    store = build(directory)
    await store.open("reader")
    names = {entry.message_id: entry async for entry in store.entries(QueueFilter())}
    bodies = {name: await store.content(name) for name in names}
    claimed = await store.claim(now=NOW, limit=len(names) + 1)
    assert len(claimed) == len(names), "leases of the dead are free again"
    await store.close()
    named = {row[0] for row in _rows(directory, "SELECT file FROM messages WHERE file IS NOT NULL")}
    assert {path.name for path in (directory / "data" / "bodies").iterdir()} == named, "no file is left behind"
    return bodies


def _rows(directory: Path, sql: str) -> list:
    connection = apsw.Connection(str(database(directory)))
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


@pytest.mark.parametrize("seed", range(5))
async def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path, spawn, seed):
    kept, settling = set(), set()
    for life in range(2):
        process = spawn("keep", f"s{seed}life{life}")
        for _ in range(random.Random(seed * 7 + life).randrange(5, 250)):
            note(process.stdout.readline(), kept, settling)
        process.kill()
        for line in process.stdout:  # not communicate(): that would skip what readline() has buffered
            note(line, kept, settling)
    bodies = await recovered(tmp_path)
    assert kept - settling <= bodies.keys()
    assert all(bodies[name] == content_of(name) for name in bodies)


def note(line: str, kept: set[str], settling: set[str]) -> None:
    if line.endswith("\n"):
        word, name = line.split()
        {"kept": kept, "settling": settling}[word].add(name)


def test_two_processes_never_claim_the_same_entry(tmp_path, spawn):
    async def prepare():
        store = build(tmp_path)
        await store.open("first")
        await asyncio.gather(*(store.commit(keeping(f"m{number}")[0]) for number in range(60)))
        await store.close()

    asyncio.run(prepare())
    processes = [spawn("claim") for _ in range(2)]
    claimed = []
    for process in processes:
        for line in iter(process.stdout.readline, "done\n"):
            claimed.append(line.split()[1])  # noqa: PERF401 - iter() with a sentinel reads better as a loop
    for process in processes:
        process.communicate()
    assert len(claimed) == len(set(claimed)) == 60


# --- law 7 ---


async def test_no_file_holds_anything_readable(tmp_path, opened):
    await opened.commit(keeping("m1", note=True)[0])
    await opened.commit(keeping("m2", content=b"planted-body " * 5_000)[0])
    await opened.count("planted-account", window=60, now=NOW)
    data = every_byte(tmp_path)
    assert b"m2.0" in data
    assert b"planted" not in data
    await opened.checkpoint()
    assert b"planted" not in every_byte(tmp_path)


async def test_files_are_private(tmp_path, opened):
    await opened.commit(keeping(content=b"x" * 30_000)[0])
    for path in (tmp_path / "data").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# --- large bodies ---


async def test_a_large_body_is_a_file_that_goes_with_its_message(tmp_path, opened):
    unit, entry = keeping(content=b"x" * 30_000, leased=True)
    await opened.commit(unit)
    (file,) = (tmp_path / "data" / "bodies").iterdir()
    with pytest.raises(StoreError):
        await opened.commit(unit)
    assert list((tmp_path / "data" / "bodies").iterdir()) == [file]
    await opened.commit((Settle(entry=entry, fates={0: DELIVERED}),))
    assert not file.exists()


async def test_files_of_the_dead_are_swept_and_of_the_living_are_not(tmp_path, opened):
    bodies = tmp_path / "data" / "bodies"
    await opened.commit(keeping(content=b"x" * 30_000)[0])
    (kept,) = bodies.iterdir()
    dead = build(tmp_path)
    await dead.open("dead")
    in_flight, left_behind = bodies / f"{opened._opened.number}-999", bodies / f"{dead._opened.number}-1.part"
    await dead.close()
    in_flight.touch()
    left_behind.touch()
    other = build(tmp_path)
    await other.open("other")
    assert set(bodies.iterdir()) == {kept, in_flight}
    await other.close()


# --- bad files ---


async def refusal(directory: Path) -> str:
    with pytest.raises(ProblemsError) as caught:
        await build(directory).open("refused")
    (problem,) = caught.value.problems
    assert problem.where
    return str(problem)


async def test_a_damaged_file_is_one_clear_error_and_stays_as_it_is(tmp_path):
    store = build(tmp_path)
    await store.open("one")
    await store.close()
    damaged = random.Random(1).randbytes(8192)
    database(tmp_path).write_bytes(damaged)
    assert "damaged" in await refusal(tmp_path)
    assert database(tmp_path).read_bytes() == damaged


async def test_damage_met_while_running_is_an_error_with_what_to_do(tmp_path):
    store = build(tmp_path)
    await store.open("one")
    await asyncio.gather(*(store.commit(keeping(f"m{n}")[0]) for n in range(50)))
    await store.checkpoint()
    await store.close()
    pages = bytearray(database(tmp_path).read_bytes())
    pages[4096 * 3 :] = random.Random(1).randbytes(len(pages) - 4096 * 3)
    database(tmp_path).write_bytes(pages)
    with pytest.raises((StoreError, ProblemsError), match="damaged"):
        await build(tmp_path).open("two")


async def test_a_key_that_is_no_text_any_more_is_an_error_with_what_to_do(tmp_path, opened):
    await opened.commit(keeping()[0])
    with apsw.Connection(str(database(tmp_path))) as connection:
        connection.execute("UPDATE entries SET destination = CAST(x'e5' AS TEXT)")
    connection.close()
    with pytest.raises(CorruptError, match="queue repair"):
        await opened.claim(now=NOW, limit=1)
    with pytest.raises(CorruptError, match="queue repair"):
        await opened._reader.run(lambda: opened._reader.rows("SELECT destination FROM entries"))


async def test_another_programs_database_is_refused(tmp_path):
    database(tmp_path).parent.mkdir()
    connection = apsw.Connection(str(database(tmp_path)))
    connection.execute("CREATE TABLE theirs(x)")
    connection.close()
    assert "not one" in await refusal(tmp_path)


async def test_a_newer_schema_is_refused(tmp_path, opened):
    await opened.commit(keeping()[0])
    connection = apsw.Connection(str(database(tmp_path)))
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    assert "newer Postern" in await refusal(tmp_path)
    assert await opened.entry("m1.0") is not None


async def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "data").write_text("a file")
    assert str(tmp_path) in await refusal(tmp_path)


@pytest.mark.parametrize(("version", "fine"), [("3.51.2", False), ("3.51.3", True), ("3.54.1.0", True), ("3.9", False)])
def test_an_old_sqlite_is_refused(version, fine):
    if fine:
        check_sqlite(version)
    else:
        with pytest.raises(ProblemsError, match=r"3\.51\.3"):
            check_sqlite(version)


# --- no room ---


async def test_new_mail_is_refused_while_the_reserve_remains_and_old_mail_ends(tmp_path, opened):
    unit, entry = keeping(leased=True)
    await opened.commit(unit)
    opened._space._reserve = 2**62
    with pytest.raises(StoreFullError, match="reserve"):
        await opened.commit(keeping("m2")[0])
    await opened.commit((Settle(entry=entry, fates={0: DELIVERED}),))
    assert await opened.entry("m1.0") is None


class FullDisk(apsw.VFS):
    """A disk that has room until told otherwise."""

    def __init__(self) -> None:
        super().__init__("full", "")
        self.full = False

    def xOpen(self, name, flags):  # noqa: N802 - apsw's name
        return _FullFile(self, name, flags)


class _FullFile(apsw.VFSFile):
    def __init__(self, vfs, name, flags) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs

    def xWrite(self, data, offset):  # noqa: N802 - apsw's name
        if self._vfs.full:
            raise apsw.FullError("no room")
        super().xWrite(data, offset)


async def test_a_disk_that_fills_refuses_and_loses_nothing(tmp_path):
    vfs = FullDisk()
    store = SqliteStore(
        tmp_path / "data", tmp_path / "run", FakeVault(), StoreOptions(reserve_bytes=0), ManualClock(), vfs="full"
    )
    await store.open("one")
    unit, entry = keeping(leased=True)
    await store.commit(unit)
    vfs.full = True
    with pytest.raises(StoreFullError):
        await store.commit(keeping("m2")[0])
    with pytest.raises(StoreFullError):
        await store.commit((Settle(entry=entry, fates={0: DELIVERED}),))
    assert await store.entry("m1.0") == entry
    vfs.full = False
    await store.commit((Settle(entry=replace(entry, attempts=1)), *keeping("m2")[0]))
    assert [each.id async for each in store.entries(QueueFilter())] == ["m1.0", "m2.0"]
    await store.close()


def test_a_limit_on_file_size_refuses_and_the_process_lives_on(tmp_path, spawn):
    process = spawn("fill", "300000")
    out, err = process.communicate(timeout=60)
    *kept, refused, last = out.splitlines()
    assert (process.returncode, refused, last) == (0, "refused StoreFullError", "kept fx99999"), err
    bodies = asyncio.run(recovered(tmp_path))
    assert bodies.keys() == {line.split()[1] for line in (*kept, last)}


# --- locks ---


def test_two_instances_on_one_directory_are_one_clear_error(tmp_path):
    with DirectoryLock(tmp_path), pytest.raises(ProblemsError, match=f"process {os.getpid()}"):
        DirectoryLock(tmp_path).acquire()
    with DirectoryLock(tmp_path):
        pass


def test_a_directory_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ProblemsError, match="cannot be opened"):
        DirectoryLock(tmp_path / "none").acquire()


@pytest.mark.parametrize("call", ["flock", "pwrite", "ftruncate"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.ENOLCK])
def test_a_lock_that_cannot_be_taken_is_one_clear_error_and_is_not_held(tmp_path, monkeypatch, call, number):
    def fail(*_arguments):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl if call == "flock" else os, call, fail)
        with pytest.raises(ProblemsError) as caught:
            DirectoryLock(tmp_path).acquire()
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'postern.lock'}: ")
    assert os.strerror(number) in told
    assert ("free some room" in told) == (number == errno.ENOSPC)
    with DirectoryLock(tmp_path):
        assert (tmp_path / "postern.lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_is_taken_on_a_disk_that_filled_up_meanwhile(tmp_path, monkeypatch):
    """The words of the one before are written over: they are not given back to a disk that has no room for others."""
    (tmp_path / "postern.lock").write_text("1234567890123\n")
    wrote = []
    monkeypatch.setattr(os, "pwrite", lambda *one, it=os.pwrite: wrote.append(os.fstat(one[0]).st_size) or it(*one))
    with DirectoryLock(tmp_path):
        assert (tmp_path / "postern.lock").read_text() == f"{os.getpid()}\n"
    assert wrote == [14]


async def test_a_name_of_life_is_used_by_one_process(tmp_path, opened):
    with pytest.raises(ProblemsError, match="lives under this name"):
        await build(tmp_path).open("one")
    assert await opened.reap() == 0


async def test_a_cleaned_run_directory_frees_no_lease_of_the_living(tmp_path, opened):
    other = build(tmp_path)
    await other.open("two")
    try:
        await opened.commit(keeping(leased=True)[0])
        shutil.rmtree(tmp_path / "run")
        assert await other.reap() == 0
        assert await opened.reap() == 0
        assert (tmp_path / "run/incarnations/one").exists(), "made anew by its owner"
        assert await other.reap() == 0
    finally:
        await other.close()


def test_a_lock_file_that_stays_away_was_of_the_dead(tmp_path):
    now = 0.0
    lives = Lives(tmp_path.joinpath, lambda: now)
    assert lives.dead([(1, "one")]) == []
    now = GRACE - 1
    assert lives.dead([(1, "one"), (2, "two")]) == []
    now = GRACE
    assert lives.dead([(1, "one"), (2, "two")]) == [(1, None)]
    LifeLock(tmp_path / "two").close(remove=False)
    [(number, lock)] = lives.dead([(2, "two")])
    assert number == 2
    lock.close()


def test_a_life_lock_knows_that_its_file_was_replaced(tmp_path):
    path = tmp_path / "run" / "one"
    path.parent.mkdir()
    lock = LifeLock(path)
    assert not lock.renew()
    path.unlink()
    path.touch()
    assert lock.renew()
    assert LifeLock.of_the_dead(path) is None
    path.unlink()
    other = LifeLock(path)
    with pytest.raises(BlockingIOError):
        lock.renew()
    other.close()
    lock.close()


async def test_a_body_that_cannot_be_opened_for_want_of_descriptors_is_not_damaged(tmp_path, opened):
    content = b"a body of its own file\r\n" * 2000
    await opened.commit(keeping(content=content)[0])
    with no_more_files(), pytest.raises(StoreUnavailableError, match="Too many open files"):
        await opened.content("m1")
    assert await opened.content("m1") == content


@contextlib.contextmanager
def no_more_files():
    """This process may open no further file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_closed_store_refuses(tmp_path):
    store = build(tmp_path)
    await store.open("one")
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.commit(keeping()[0])
    with pytest.raises(StoreError, match="closed"):
        await store.entry("m1.0")
