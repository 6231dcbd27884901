"""The files of a queue: where they are, how they are opened for one process's life, and the checkpoint."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from relay.core.errors import Problem, ProblemsError
from relay.store.sqlite.anew import begin_anew
from relay.store.sqlite.durable import Log
from relay.store.sqlite.faults import Fatal, damaged, is_fatal, is_full, translate
from relay.store.sqlite.lock import FileLock, LifeLock
from relay.store.sqlite.schema import BUSY_MS, check_sqlite, connect, create_file, migrate

QUEUE_FILES: Final = ("queue.db-wal", "queue.db")
"""What a queue is made of beside its bodies, in the order in which it is taken apart."""
REPAIRING: Final = "repair-under-way"
"""While this file is there no queue is opened: it would be a new, empty one."""
_WAL_LIMIT: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedQueue:
    """What one process holds of a queue.

    Attributes:
        number: the incarnation's number, never used twice.
        life: held while the process lives.
        lock: the queue lock.
        writing, reading: connections.
        synced: the log, for the thread that writes with the one and for that which reads with the other.
    """

    number: int
    life: LifeLock
    lock: FileLock
    writing: apsw.Connection
    reading: apsw.Connection
    synced: tuple[Log, Log]

    def close(self, *, remove: bool = True) -> None:
        """Close everything, the mark of life last and, unless told otherwise, removed; other threads have ended."""
        self.reading.close()
        self.writing.close()
        for log in self.synced:
            log.close()
        self.lock.close()
        self.life.close(remove=remove)


class QueueFiles:
    """Paths of a queue, and what is done to the files as such."""

    def __init__(self, directory: Path, run_dir: Path, fatal: Fatal, vfs: str | None) -> None:
        self.database = directory / "queue.db"
        self.bodies = directory / "bodies"
        self._wal = directory / "queue.db-wal"
        self._lock_path = directory / "queue.lock"
        self._lives = run_dir / "incarnations"
        self._fatal = fatal
        self._vfs = vfs

    def life_path(self, incarnation: str) -> Path:
        """The file whose lock says that this incarnation lives."""
        return self._lives / incarnation

    def open(self, incarnation: str) -> OpenedQueue:
        """Create or open everything and register the incarnation.

        Raises:
            ProblemsError: the file is damaged, too new, or the directory cannot be used.
        """
        check_sqlite(apsw.sqlite_lib_version())
        if (self.database.parent / REPAIRING).exists():
            what, hint = "a repair of the queue was broken off", "run `postern queue repair` again"
            raise ProblemsError(Problem(where=str(self.database.parent), what=what, hint=hint))
        try:
            return self._open(incarnation)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise damaged(self.database, error) from error
        except apsw.Error as error:
            if is_fatal(error):
                self._fatal(error)
            hint = "free some room there" if is_full(error) else ""
            raise ProblemsError(Problem(where=str(self.database), what=str(translate(error)), hint=hint)) from error
        except BlockingIOError as error:
            raise ProblemsError(
                Problem(
                    where=str(self.life_path(incarnation)),
                    what="another process lives under this name",
                    hint="each process needs a name of its own: node, process id, start time and a random part",
                )
            ) from error
        except OSError as error:
            raise ProblemsError(
                Problem(
                    where=str(error.filename or self.database.parent),
                    what=f"cannot be used: {error.strerror}",
                    hint="the data and run directories must belong to the user Postern runs as",
                )
            ) from error

    def _open(self, incarnation: str) -> OpenedQueue:
        for directory in (self.database.parent, self.bodies, self._lives):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as undo:
            life = LifeLock(self.life_path(incarnation))
            undo.callback(life.close)
            lock = FileLock(self._lock_path)
            undo.callback(lock.close)
            with lock.held():
                create_file(self.database)
                writing = connect(self.database, vfs=self._vfs)
                undo.callback(writing.close)
                migrate(writing)
                number = self._register(writing, incarnation)
                synced = (self._log(undo), self._log(undo))
                reading = connect(self.database, read_only=True, vfs=self._vfs)
                undo.callback(reading.close)
            begin_anew(writing, lock, self._wal)
            writing.set_busy_timeout(BUSY_MS)
            undo.pop_all()
        return OpenedQueue(number=number, life=life, lock=lock, writing=writing, reading=reading, synced=synced)

    def _log(self, undo: ExitStack) -> Log:
        log = Log(self._wal, self._fatal)
        undo.callback(log.close)
        return log

    @staticmethod
    def _register(connection: apsw.Connection, incarnation: str) -> int:
        connection.execute("INSERT INTO incarnations(name) VALUES(?)", (incarnation,))
        return connection.last_insert_rowid()

    def checkpoint(self) -> None:
        """Copy the WAL into the database; cut it off under the queue lock once it has grown long.

        Raises:
            StoreError: it could not be done now; nothing is lost.
        """
        lock = FileLock(self._lock_path)
        try:
            connection = connect(self.database, vfs=self._vfs)
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                if self._wal.stat().st_size > _WAL_LIMIT:
                    with lock.held():
                        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                connection.close()
        except apsw.BusyError:
            return  # a reader or another checkpoint is at it: the next round finds less to do
        except apsw.Error as error:
            if is_fatal(error):
                self._fatal(error)
            raise translate(error) from error
        finally:
            lock.close()
