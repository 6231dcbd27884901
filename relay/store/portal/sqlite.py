"""The portal's database in a file of its own: SQLite with a write-ahead log, fsynced at every commit (law 1).

Two users share it when the portal runs under its own: the file and its companions belong to the directory's group, and
the directory says who comes near.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import apsw
import structlog

from relay.core.errors import Problem, ProblemsError, StoreError
from relay.store.portal.database import Link, Schema
from relay.store.sqlite.faults import Fatal, exit_at_once, is_fatal, translate
from relay.store.sqlite.lock import FileLock
from relay.store.sqlite.schema import check_sqlite, sync_directory
from relay.store.sqlite.space import Space

_log = structlog.get_logger("store")
_APPLICATION_ID: Final = 0x506F5270
_BUSY_MS: Final = 10_000
_SCRUB_BUSY_MS: Final = 500
"""Milliseconds that a clean-up waits for readers, for all writers wait for it."""
_SHARED: Final = 0o660
_GLANCE: Final = 0.1
"""Seconds between two looks at ``PRAGMA data_version``, which costs some microseconds."""
_FOR_UPDATE: Final = re.compile(r"\s+FOR UPDATE(?: OF \w+)?(?: SKIP LOCKED)?\b")


class SqliteLink:
    """One connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._texts: dict[str, str] = {}

    def run(self, sql: str, *bindings: Any) -> int:
        """Execute; how many rows it changed."""
        self.connection.execute(self._text(sql), bindings).fetchall()
        return self.connection.changes()

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Execute; all rows it gives."""
        return self.connection.execute(self._text(sql), bindings).fetchall()

    def row(self, sql: str, *bindings: Any) -> tuple[Any, ...] | None:
        """Execute; the first row, or ``None``."""
        found = self.rows(sql, *bindings)
        return found[0] if found else None

    def _text(self, sql: str) -> str:
        text = self._texts.get(sql)
        if text is None:
            text = self._texts[sql] = _FOR_UPDATE.sub("", sql)
        return text

    def close(self) -> None:
        """Close it."""
        self.connection.close()


class SqliteDriver:
    """Implements :class:`relay.store.portal.database.Driver` over ``portal.db`` in a directory."""

    def __init__(
        self, directory: Path, *, reserve: int = 0, fatal: Fatal = exit_at_once, vfs: str | None = None
    ) -> None:
        """Name the directory; nothing is touched yet.

        Args:
            directory: holds ``portal.db`` and ``portal.lock``.
            reserve: octets of the disk that messages and uploads leave free.
            fatal: called when what is on disk is no longer known.
            vfs: SQLite's virtual file system; tests put faults there.
        """
        self.path = directory / "portal.db"
        self._lock_path = directory / "portal.lock"
        self._space = Space(directory, reserve, time.monotonic)
        self._fatal = fatal
        self._vfs = vfs
        self._lock: FileLock | None = None
        self._watching: SqliteLink | None = None
        self._seen = -1
        self._ended = threading.Event()

    def prepare(self, schemas: Sequence[Schema]) -> None:
        """Make and migrate the tables.

        Raises:
            ProblemsError: the file is damaged, too new, or the directory cannot be used.
        """
        check_sqlite(apsw.sqlite_lib_version())
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in (self._lock_path, self.path):
                _create(path)
            self._lock = FileLock(self._lock_path)
            with self._lock.held():
                link = self.connect(writing=True)
                try:
                    _migrate(link, schemas, self.path)
                finally:
                    link.close()
        except (apsw.CorruptError, apsw.NotADBError) as error:
            what = f"the portal's database is damaged or is not one ({error}); nothing was changed or deleted"
            hint = "keep a copy of it, then restore a backup"
            raise ProblemsError(Problem(where=str(self.path), what=what, hint=hint)) from error
        except apsw.Error as error:
            raise ProblemsError(Problem(where=str(self.path), what=str(self.translate(error)))) from error
        except OSError as error:
            where = str(error.filename or self.path.parent)
            hint = "the portal's directory must be open to the user Postern runs as"
            raise ProblemsError(Problem(where=where, what=f"cannot be used: {error.strerror}", hint=hint)) from error

    def connect(self, *, writing: bool) -> SqliteLink:
        """Open a connection with the settings that laws 1 and 7 rest on."""
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._vfs)
        try:
            connection.set_busy_timeout(_BUSY_MS)
            for pragma in (
                "auto_vacuum=INCREMENTAL",
                "journal_mode=WAL",
                "synchronous=FULL",
                "mmap_size=0",
                "secure_delete=ON",
                "temp_store=MEMORY",
                "trusted_schema=OFF",
                f"query_only={int(not writing)}",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return SqliteLink(connection)

    def _check(self, connection: apsw.Connection) -> None:
        if connection.pragma("journal_mode") != "wal":
            what = "the file system does not carry a write-ahead log"
            hint = "put the portal's directory on a local file system"
            raise ProblemsError(Problem(where=str(self.path), what=what, hint=hint))
        if connection.pragma("application_id") not in (0, _APPLICATION_ID):
            raise apsw.NotADBError("another program's database")

    def turn(self) -> AbstractContextManager[None]:
        """Stand in line with the other processes; SQLite's own busy handler polls, and starves."""
        if self._lock is None:
            raise StoreError("the portal's store is not open")
        return self._lock.held()

    def begin(self, link: Link, *, writing: bool) -> None:
        """Begin a transaction."""
        link.run("BEGIN IMMEDIATE" if writing else "BEGIN")

    def commit(self, link: Link) -> Link:
        """Commit and fsync; a failed one ends the process where what is on disk is no longer known."""
        try:
            link.run("COMMIT")
        except BaseException as error:
            if is_fatal(error):
                self._fatal(error)
            if isinstance(link, SqliteLink) and link.connection.in_transaction:
                link.run("ROLLBACK")
            raise
        return link

    def require(self, size: int) -> None:
        """Leave the reserve free.

        Raises:
            StoreFullError: so many octets more would take of it.
        """
        self._space.require(size)

    def is_again(self, error: BaseException) -> bool:
        """Never: the busy handler has waited already."""
        del error
        return False

    def is_lost(self, error: BaseException) -> bool:
        """Never: a file does not go away."""
        del error
        return False

    def translate(self, error: BaseException) -> BaseException:
        """The store's error for SQLite's."""
        if is_fatal(error):
            self._fatal(error)
        return translate(error)

    def wait(self, seconds: float) -> bool:
        """Whether another connection has committed since the last call, or does so in this time."""
        if self._watching is None:
            self._watching = self.connect(writing=False)
        left = seconds
        while True:
            version = self._watching.connection.pragma("data_version")
            if version != self._seen:
                self._seen = version
                return True
            if left <= 0 or self._ended.wait(min(left, _GLANCE)):
                return False
            left -= _GLANCE

    def tell(self, link: Link) -> None:
        """Nothing to do: ``data_version`` tells."""

    def scrub(self) -> bool:
        """Copy the write-ahead log into the file, whose deleted rows are zeroes, cut it off, and give pages back."""
        link = self.connect(writing=True)
        try:
            link.connection.set_busy_timeout(_SCRUB_BUSY_MS)
            with self.turn():
                link.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                link.rows("PRAGMA incremental_vacuum(4096)")
        except apsw.BusyError:
            _log.info("portal_scrub_put_off", detail="somebody reads; the next round does it")
            return False
        finally:
            link.close()
        return True

    def end_wait(self) -> None:
        """Let :meth:`wait` return at once."""
        self._ended.set()

    def close(self) -> None:
        """Close what :meth:`wait` looks through, and the lock file."""
        if self._watching is not None:
            self._watching.close()
            self._watching = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _create(path: Path) -> None:
    """Make a file for the directory's group and nobody else, before SQLite would make it for its user alone."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, _SHARED)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def _migrate(link: SqliteLink, schemas: Sequence[Schema], path: Path) -> None:
    link.run("BEGIN IMMEDIATE")
    try:
        link.run(f"PRAGMA application_id={_APPLICATION_ID}")
        migrate(link, schemas, str(path), _local_types)
        link.run("COMMIT")
    finally:
        if link.connection.in_transaction:
            link.run("ROLLBACK")


def _local_types(statement: str) -> str:
    text = statement.replace("SERIAL KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
    return f"{text} STRICT" if text.lstrip().startswith("CREATE TABLE") else text


def migrate(link: Link, schemas: Sequence[Schema], where: str, types: Callable[[str], str]) -> None:
    """Bring every module's tables to the newest version; the caller is inside a transaction and alone.

    Raises:
        ProblemsError: a module's version is newer than this code knows.
    """
    link.run(types("CREATE TABLE IF NOT EXISTS modules(module TEXT PRIMARY KEY, version INTEGER NOT NULL)"))
    for schema in schemas:
        found = link.row("SELECT version FROM modules WHERE module = ?", schema.module)
        version = found[0] if found else 0
        if version > len(schema.steps):
            what = (
                f"{schema.module}: written by a newer Postern (version {version}; this one knows {len(schema.steps)})"
            )
            raise ProblemsError(Problem(where=where, what=what, hint="run the newer version"))
        for step in schema.steps[version:]:
            for statement in step:
                link.run(types(statement))
        link.run(
            "INSERT INTO modules(module, version) VALUES(?, ?) "
            "ON CONFLICT(module) DO UPDATE SET version = excluded.version",
            schema.module,
            len(schema.steps),
        )
