"""The queue file's schema, its migrations, and how a connection to it is opened."""

import os
from pathlib import Path
from typing import Final

import apsw

from relay.core.errors import Problem, ProblemsError
from relay.store.sqlite.faults import damaged

MINIMUM_SQLITE: Final = (3, 51, 3)
"""Earlier ones can corrupt a WAL that several processes reset at once."""
_APPLICATION_ID: Final = 0x506F7374
BUSY_MS: Final = 10_000

_V1: Final = """
CREATE TABLE incarnations(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE messages(
    id TEXT PRIMARY KEY,
    received_at REAL NOT NULL,
    size INTEGER NOT NULL,
    file TEXT,
    facts BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_file ON messages(file) WHERE file IS NOT NULL;

CREATE TABLE bodies(
    message_id TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE entries(
    id TEXT PRIMARY KEY,
    message_id TEXT NOT NULL,
    destination TEXT NOT NULL,
    priority INTEGER NOT NULL,
    held INTEGER NOT NULL,
    due_at REAL NOT NULL,
    wake_at REAL NOT NULL,
    lease INTEGER,
    tokens BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_free ON entries(priority, wake_at, id, destination, held) WHERE lease IS NULL;
CREATE INDEX entries_by_destination ON entries(priority, destination, wake_at, id) WHERE lease IS NULL;
CREATE INDEX entries_leased ON entries(lease, held) WHERE lease IS NOT NULL;

CREATE TABLE details(
    entry_id TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE counters(
    name TEXT NOT NULL,
    start REAL NOT NULL,
    ends REAL NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY(name, start, ends)
) STRICT, WITHOUT ROWID;

CREATE TABLE tally(
    destination TEXT NOT NULL,
    held INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    PRIMARY KEY(destination, held)
) STRICT, WITHOUT ROWID;

CREATE TABLE totals(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES(1, 0);
"""

_V2: Final = """
CREATE TABLE known(
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY(kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX known_until ON known(until);
"""
"""What is known of other domains: public facts about their servers, so not sealed."""

_V3: Final = """
CREATE TABLE memos(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    until REAL NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX memos_until ON memos(until);
"""
"""What is remembered of mail that has left; numbered, so that their count costs nothing to read."""

_V4: Final = "CREATE INDEX entries_held ON entries(id) WHERE held = 1;"
"""What an operator asks for most; few entries are held, so that it costs the others nothing."""

MIGRATIONS: Final = (_V1, _V2, _V3, _V4)
"""Statements that lead from version N to N + 1; what has been released is never edited, only added to."""


def sqlite_version(text: str) -> tuple[int, ...]:
    """``3.54.1.0`` as numbers."""
    return tuple(int(part) for part in text.split("."))


class NewerError(ProblemsError):
    """The file is sound, and of a version that this code does not know."""


def check_sqlite(version: str) -> None:
    """Refuse a SQLite that may corrupt the queue.

    Raises:
        ProblemsError: it is older than :data:`MINIMUM_SQLITE`.
    """
    if sqlite_version(version) < MINIMUM_SQLITE:
        raise ProblemsError(
            Problem(
                where=f"SQLite {version}",
                what="is older than 3.51.3 and can corrupt a queue that several processes write",
                hint="install the apsw that requirements.lock names: it brings its own SQLite",
            )
        )


def create_file(path: Path) -> None:
    """Make the file before SQLite does, so that it and its WAL are private from the first byte."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a new or renamed name in the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect(path: Path, *, read_only: bool = False, vfs: str | None = None) -> apsw.Connection:
    """Open a connection with the settings that law 1 and law 7 rest on.

    Raises:
        ProblemsError: the file is damaged or is not a queue.
        NewerError: it is of a newer version.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs, statementcachesize=200)
    try:
        connection.set_busy_timeout(BUSY_MS)
        # auto_vacuum takes effect only before the first table; later it is read from the file.
        for pragma in (
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            "synchronous=FULL",
            "mmap_size=0",
            "secure_delete=ON",
            "temp_store=MEMORY",
            "cache_size=-16384",
            "wal_autocheckpoint=0",
            "trusted_schema=OFF",
            f"query_only={int(read_only)}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        _check_mode(connection.pragma("journal_mode"), path)
        _check_identity(connection, path)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        connection.close()
        raise damaged(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check_mode(mode: str, path: Path) -> None:
    if mode != "wal":
        raise ProblemsError(
            Problem(
                where=str(path),
                what=f"the file system does not carry a write-ahead log (SQLite fell back to {mode!r})",
                hint="put the data directory on a local file system",
            )
        )


def _check_identity(connection: apsw.Connection, path: Path) -> None:
    owner = connection.pragma("application_id")
    version = connection.pragma("user_version")
    if owner not in (0, _APPLICATION_ID) or (owner == 0 and connection.pragma("schema_version")):
        raise damaged(path, apsw.NotADBError("another program's database"))
    if version > len(MIGRATIONS):
        raise NewerError(
            Problem(
                where=str(path),
                what=f"was written by a newer Postern (schema {version}; this one knows up to {len(MIGRATIONS)})",
                hint="run the newer version, or drain the queue with it before going back",
            )
        )


def migrate(connection: apsw.Connection) -> None:
    """Bring the file to the newest schema, each step in one transaction; the caller holds the queue lock."""
    while (version := connection.pragma("user_version")) < len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(MIGRATIONS[version])
            connection.execute(f"PRAGMA user_version={version + 1}")
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
