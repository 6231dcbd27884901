"""A process that works on a queue until it is told to stop or killed; started by tests of the store.

``python -m tests.support.queue_process ROLE DIRECTORY [ARGUMENT]``; it reports on standard output, a line at a time.
"""

import asyncio
import errno
import os
import resource
import sys
import time
from pathlib import Path

import structlog

from relay.core.change import Settle
from relay.core.errors import StoreError
from relay.core.fate import Fate, FateKind
from relay.store import SqliteStore, StoreOptions
from tests.support.queue import NOW, keeping
from tests.support.vault import FakeVault


def build(directory: Path, **options) -> SqliteStore:
    """The store that every role and every test of it opens."""
    settings = StoreOptions(**{"reserve_bytes": 0, "large_body": 20_000} | options)
    return SqliteStore(directory / "data", directory / "run", FakeVault(), settings, lambda: NOW)


def tell(*words: object) -> None:
    print(*words, flush=True)


def name_of_life() -> str:
    return f"process-{time.monotonic_ns()}"


def content_of(name: str) -> bytes:
    """Some bodies are in rows, some in files."""
    return name.encode() * (4_000 if int(name.rpartition("x")[2]) % 5 == 0 else 100)


async def keep(directory: Path, prefix: str) -> None:
    """Keep mail without end, from several tasks, and settle every third; tell of each only once it is committed."""
    store = build(directory)
    await store.open(name_of_life())

    async def one(lane: int) -> None:
        for number in range(lane, 1_000_000, 8):
            name = f"{prefix}x{number}"
            unit, entry = keeping(name, content=content_of(name), leased=True, note=True)
            await store.commit(unit)
            tell("kept", name)
            if number % 3 == 0:
                tell("settling", name)
                await store.commit((Settle(entry=entry, fates={0: Fate(kind=FateKind.DELIVERED, at=NOW)}),))

    await asyncio.gather(*(one(lane) for lane in range(8)))


async def claim(directory: Path, _argument: str) -> None:
    """Claim until nothing is left, telling each id; then wait for the end of input with the leases in hand."""
    store = build(directory)
    await store.open(name_of_life())
    while claimed := await store.claim(now=NOW, limit=3):
        for each in claimed:
            tell("claimed", each.entry.id)
    tell("done")
    await asyncio.to_thread(sys.stdin.read)
    await store.close()


async def fill(directory: Path, limit: str) -> None:
    """Keep mail under a limit on file size until refused, then settle the first: the process must live on."""
    store = build(directory)
    await store.open(name_of_life())
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    for number in range(10_000):
        name = f"fx{number}"
        try:
            await store.commit(keeping(name, content=content_of(name))[0])
        except StoreError as error:
            tell("refused", type(error).__name__)
            break
        tell("kept", name)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.commit(keeping("fx99999")[0])
    tell("kept", "fx99999")
    await store.close()


def break_the_disk() -> None:
    """From now on it confirms nothing."""

    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    os.fdatasync = failing


async def lose_the_disk(directory: Path, _argument: str) -> None:
    """Keep one message, then let fsync fail: the process must end at the next commit."""
    store = build(directory)
    await store.open(name_of_life())
    await store.commit(keeping("lx1")[0])
    tell("kept", "lx1")
    break_the_disk()
    await store.commit(keeping("lx2")[0])
    tell("kept", "lx2")


async def lose_it_while_archiving(directory: Path, _argument: str) -> None:
    """The same, before what is to be archived is handed out."""
    store = build(directory)
    await store.open(name_of_life())
    await store.commit(keeping("lx1", note=True)[0])
    break_the_disk()
    tell("archiving")
    await store.outbox(limit=10)
    tell("archived")


ROLES = {"keep": keep, "claim": claim, "fill": fill, "lose": lose_the_disk, "archive": lose_it_while_archiving}

if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(ROLES[sys.argv[1]](Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""))
