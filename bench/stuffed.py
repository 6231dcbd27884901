"""A queue that already holds a great many deferred entries, written into SQLite without passing through Postern.

What is sealed is a single octet: nobody opens an entry before it is due, and none of these is due for a day.
"""

import os
import time
from pathlib import Path
from typing import Final

import apsw

from relay.demo.site import Site
from relay.protect.keyring import KeyRing
from relay.protect.sealing import RingVault
from relay.store import SqliteStore, StoreOptions

DESTINATIONS: Final = 500
_NUMBERS: Final = "WITH RECURSIVE n(v) AS (SELECT ?1 UNION ALL SELECT v + 1 FROM n WHERE v < ?2)"
_ID: Final = "printf('w%019d', v)"
_DESTINATION: Final = f"'d' || (v % {DESTINATIONS}) || '.example'"
_STEP: Final = 100_000


async def empty(directory: Path, run: Path) -> None:
    """Make the queue file with its tables."""
    vault = RingVault(KeyRing.create(now=time.time(), random=os.urandom), os.urandom)
    store = SqliteStore(directory, run, vault, StoreOptions(reserve_bytes=0), time.time)
    await store.open("bench")
    await store.close()


def fill(database: Path, first: int, last: int, due: float) -> None:
    """Add the entries ``first`` to ``last``, due from ``due`` on, one a millisecond."""
    connection = apsw.Connection(str(database))
    connection.execute("PRAGMA synchronous=OFF")
    for start in range(first, last + 1, _STEP):
        span = (start, min(start + _STEP - 1, last))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            f"{_NUMBERS} INSERT INTO messages SELECT {_ID}, ?3 - v, 4096, NULL, x'00' FROM n", (*span, due)
        )
        connection.execute(f"{_NUMBERS} INSERT INTO bodies SELECT {_ID}, zeroblob(64) FROM n", span)
        connection.execute(
            f"{_NUMBERS} INSERT INTO entries SELECT {_ID} || '.0', {_ID}, {_DESTINATION}, 0, 0, "
            "?3 + v / 1000.0, ?3 + v / 1000.0, NULL, randomblob(40) FROM n",
            (*span, due),
        )
        connection.execute(f"{_NUMBERS} INSERT INTO details SELECT {_ID} || '.0', x'00' FROM n", span)
        connection.execute(
            f"{_NUMBERS} INSERT INTO tally SELECT {_DESTINATION}, 0, count(*) FROM n GROUP BY 1 "
            "ON CONFLICT(destination, held) DO UPDATE SET entries = entries + excluded.entries",
            span,
        )
        connection.execute("UPDATE totals SET bytes = bytes + ?", (4096 * (span[1] - span[0] + 1),))
        connection.execute("COMMIT")
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()


async def stuff(site: Site, count: int) -> None:
    """Put so many entries into a site that has not been started yet."""
    data = site.directory / "data" / "queue"
    await empty(data, site.directory / "run")
    fill(data / "queue.db", 1, count, time.time() + 86_400)
