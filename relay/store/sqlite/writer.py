"""The one thread of a process that writes: it commits what has gathered while the commit before was on its way.

The queue lock is held for the transaction alone; the disk is waited for after it (:mod:`relay.store.sqlite.durable`),
so that other processes commit meanwhile. A future resolves after that wait, for what failed too: its reason may be what
another process has committed and not synced yet.

What the event loop gives it in one turn is prepared together at the turn's end and handed over together: a thread that
was woken for the first of ten units would commit that one alone, and sealing goes faster where it was just done before.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import apsw
import structlog

from relay.core.errors import StoreError, StoreFullError
from relay.store.sqlite.durable import Log
from relay.store.sqlite.faults import Fatal, is_fatal, is_full, translate
from relay.store.sqlite.lock import FileLock
from relay.store.sqlite.tables import Tables
from relay.store.units import PreparedUnit

_T = TypeVar("_T")
_log = structlog.get_logger("store")
_WAL_PAGES: Final = 16384
"""64 MiB of WAL: past this a process that takes mail checkpoints by itself, should nobody else do it."""
_WAL_PAGES_EARLY: Final = 2048
"""8 MiB: past this the process that archives does. Writing over what a file has costs an fsync less than growing it."""


@dataclass(slots=True, eq=False)
class _Job:
    """One thing to do inside a transaction: a unit of work, or a call (which may come again after a roll-back)."""

    work: PreparedUnit | Callable[[Tables], Any]
    future: "asyncio.Future[Any]"
    value: Any = None
    error: BaseException | None = None

    @property
    def grows(self) -> bool:
        """Whether it needs room: on a full disk it fails first, so that what frees room can still be written."""
        return isinstance(self.work, PreparedUnit) and self.work.is_new_mail


@dataclass(slots=True, eq=False)
class _Unprepared:
    """A unit of work that is encoded and sealed when the turn of the loop is over."""

    prepare: Callable[[], PreparedUnit]
    future: "asyncio.Future[PreparedUnit]"

    def prepared(self) -> _Job | None:
        """The job; ``None`` when the unit is impossible, and its future says so."""
        try:
            unit = self.prepare()
        except Exception as error:  # noqa: BLE001 - it is for whoever waits
            if not self.future.done():
                self.future.set_exception(error)
            return None
        return _Job(unit, self.future, value=unit)


class GroupCommit:
    """Gathers jobs, commits them in one transaction, and resolves their futures once the WAL is fsynced.

    A batch runs without savepoints first; only when a job fails is the batch rolled back and run again with one
    savepoint a job, so that the failing ones fail alone and the usual case pays nothing for it.
    """

    def __init__(
        self,
        *,
        connection: apsw.Connection,
        tables: Tables,
        lock: FileLock,
        log: Log,
        fatal: Fatal,
        freed: Callable[[list[str]], None],
        max_batch: int,
        observe: Callable[[int], None],
    ) -> None:
        """Prepare the thread.

        Args:
            connection: the writing connection; after :meth:`start` the thread's alone.
            tables: what jobs are handed.
            lock: the queue lock, shared with other processes.
            log: the thread's own; closed by whoever opened it.
            fatal: called when what is on disk is no longer known.
            freed: called with the body files that a commit left without a row.
            max_batch: jobs from which on a transaction takes up no more. What one turn of the loop gave stays together
                up to this number, so that a transaction has less than twice as many.
            observe: called in the thread with each batch's size.
        """
        self._connection = connection
        self._tables = tables
        self._lock = lock
        self._log = log
        self._fatal = fatal
        self._freed = freed
        self._max_batch = max_batch
        self._observe = observe
        self._jobs: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._gathered: list[_Job | _Unprepared] = []
        self._wal_pages = 0
        self._wal_limit = _WAL_PAGES
        self._checkpointed = 0
        connection.execute("PRAGMA synchronous=NORMAL").fetchall()
        connection.set_wal_hook(self._on_wal)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._closed = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Callable[[Tables], _T]) -> "asyncio.Future[_T]":
        """Call ``work`` in the next transaction; the future resolves when that is on disk."""
        future: asyncio.Future[_T] = self._loop.create_future()
        self._gather_in_turn(_Job(work, future))
        return future

    def submit_unit(self, make: Callable[[], PreparedUnit]) -> "asyncio.Future[PreparedUnit]":
        """Make a unit when this turn of the loop is over, and write it in the next transaction.

        The future resolves to the unit when that is on disk; it takes the error when the unit cannot be made.
        """
        future: asyncio.Future[PreparedUnit] = self._loop.create_future()
        self._gather_in_turn(_Unprepared(make, future))
        return future

    def _gather_in_turn(self, job: _Job | _Unprepared) -> None:
        if self._closed:
            raise StoreError("the store is closed")
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(job)

    def _hand_over(self) -> None:
        """Prepare what came in this turn, then wake the thread once for all of it."""
        gathered, self._gathered = self._gathered, []
        made = [job.prepared() if isinstance(job, _Unprepared) else job for job in gathered]
        ready = [job for job in made if job is not None]
        for start in range(0, len(ready), self._max_batch):
            self._jobs.put(ready[start : start + self._max_batch])

    def checkpoint_early(self) -> None:
        """Take it on to keep the WAL short: for a process whose commits no mail waits for."""
        self._wal_limit = _WAL_PAGES_EARLY

    async def stop(self) -> None:
        """Finish what was submitted and end the thread."""
        self._closed = True
        self._hand_over()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _on_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _serve(self) -> None:
        while (batch := self._jobs.get()) is not None:
            last = self._commit(batch)
            self._observe(len(batch))
            self._loop.call_soon_threadsafe(_resolve, batch)
            self._contain_wal()
            if last:
                return

    def _gather(self, batch: list[_Job]) -> bool:
        """Take what has been waiting; whether the end was among it."""
        while len(batch) < self._max_batch:
            try:
                more = self._jobs.get_nowait()
            except queue.Empty:
                return False
            if more is None:
                return True
            batch += more
        return False

    def _commit(self, batch: list[_Job]) -> bool:
        """Commit the batch, and what came while the lock was waited for; whether the end was among it."""
        last = False
        try:
            try:
                with self._lock.held():
                    last = self._gather(batch)
                    self._commit_locked(batch)
            finally:
                self._log.sync()
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            self._end_all(batch, error)
            return last
        if self._tables.freed_files:
            self._freed(self._tables.freed_files)
        return last

    def _commit_locked(self, batch: list[_Job]) -> None:
        try:
            self._attempt(batch, careful=False)
        except Exception:  # noqa: BLE001 - the careful attempt meets it again and judges it
            self._attempt_carefully(batch)

    def _attempt_carefully(self, batch: list[_Job]) -> None:
        try:
            self._attempt(batch, careful=True)
        except Exception as error:
            frugal = [job for job in batch if not job.grows]
            if not is_full(error) or len(frugal) == len(batch):
                raise
            for job in batch:
                if job.grows:
                    job.error = StoreFullError("the disk is full")
            self._attempt(frugal, careful=True)

    def _attempt(self, batch: list[_Job], *, careful: bool) -> None:
        """One transaction over the batch; raises only when none of it was applied."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._tables.begin()
            if careful:
                for job in batch:
                    self._run_alone(job)
            else:
                self._run_together(batch)
            self._tables.flush()
            execute("COMMIT")
        except BaseException as error:
            self._tables.freed_files = []
            self._judge(error)
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _run_together(self, jobs: list[_Job]) -> None:
        """Units that follow one another are written as one."""
        units: list[PreparedUnit] = []
        for job in jobs:
            if isinstance(job.work, PreparedUnit):
                units.append(job.work)
            else:
                self._tables.apply(units)
                units = []
                job.value = job.work(self._tables)
        self._tables.apply(units)

    def _run_alone(self, job: _Job) -> None:
        execute = self._connection.execute
        mark = self._tables.mark()
        execute("SAVEPOINT job")
        try:
            self._run_together([job])
        except Exception as error:
            self._judge(error)
            # SQLite undoes the whole transaction for some errors, a full disk among them: then nothing can go on.
            if not self._connection.in_transaction or is_full(error):
                raise
            execute("ROLLBACK TO job")
            self._tables.rewind(mark)
            job.error = translate(error)
        execute("RELEASE job")

    def _judge(self, error: BaseException) -> None:
        """End the process when what is on disk is no longer known."""
        if is_fatal(error) and not self._is_quota(error):
            self._fatal(error)

    def _is_quota(self, error: BaseException) -> bool:
        """A write that hit a quota or a size limit is an I/O error to SQLite; nothing was lost by it."""
        write_failed = getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE
        return write_failed and is_full(OSError(self._connection.system_errno, ""))

    def _end_all(self, batch: list[_Job], error: BaseException) -> None:
        translated = StoreFullError("the disk is full") if self._is_quota(error) else translate(error)
        for job in batch:
            job.error = job.error or translated

    def _contain_wal(self) -> None:
        """Checkpoint when the WAL has grown long, so that whoever writes next begins it anew."""
        if self._wal_pages < self._checkpointed:  # it was begun anew
            self._checkpointed = 0
        if self._wal_pages - self._checkpointed < self._wal_limit:
            return
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            with self._lock.held():  # and what was written meanwhile, which is little: nobody waits for long
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            pass  # another process is at it
        except apsw.Error as error:
            self._judge(error)
            _log.warning("checkpoint_put_off", detail=str(error), pages=self._wal_pages)
        self._checkpointed = self._wal_pages


def _resolve(batch: list[_Job]) -> None:
    for job in batch:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.value)
