"""One way to write SQL for the portal's tables, over SQLite and over PostgreSQL.

A table's module gives a :class:`Schema` and functions of a :class:`Cursor`; it is written once. The SQL is the subset
that both know: ``?`` for values, ``INSERT ... ON CONFLICT``, ``RETURNING``, keyset pages, ``FOR UPDATE`` (which SQLite,
whose writers stand in one line, has no need of). Column types are ``TEXT``, ``REAL``, ``INTEGER`` and ``BLOB``, and
``SERIAL KEY`` for a number that the database gives.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from relay.core.errors import StoreError, StoreUnavailableError
from relay.store.portal.driver import Cursor, Driver, Link, Schema

__all__ = ["Cursor", "Database", "Driver", "Link", "Schema"]

_T = TypeVar("_T")
_log = structlog.get_logger("store")
_TRIES: Final = 4
_BATCH: Final = 64


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[Cursor], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    value: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        self.loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


class Database:
    """The portal's database: one thread that writes in group commits, a few that read."""

    def __init__(self, driver: Driver, *, readers: int = 4) -> None:
        """Open nothing yet.

        Args:
            driver: the kind of database.
            readers: threads that read, each with a connection of its own.
        """
        self._driver = driver
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(max_workers=readers, thread_name_prefix="portal-reader")
        self._watcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="portal-watcher")
        self._local = threading.local()
        self._links: list[Link] = []
        self._links_lock = threading.Lock()
        self._writing: Link | None = None
        self._thread = threading.Thread(target=self._serve, name="portal-writer", daemon=True)
        self._unprepared: tuple[Schema, ...] = ()
        self._preparing = threading.Lock()
        self._word = asyncio.Event()
        self._pending: asyncio.Future[bool] | None = None
        self._closed = False

    async def open(self, *schemas: Schema) -> None:
        """Make or migrate the tables of these modules, and start.

        While the database is away nobody waits for it: whatever is asked of it fails, until it is there and prepared.

        Raises:
            ProblemsError: the database cannot be used.
        """
        self._unprepared = schemas
        try:
            await asyncio.get_running_loop().run_in_executor(self._readers, self._prepare)
        except StoreUnavailableError as error:
            _log.error("portal_database_away", detail=str(error))
        except BaseException:
            self._closed = True
            self._readers.shutdown(wait=False)
            self._watcher.shutdown(wait=False)
            raise
        self._thread.start()

    def _prepare(self) -> None:
        """Make or migrate the tables, once; from whichever thread comes first."""
        with self._preparing:
            if self._unprepared:
                self._driver.prepare(self._unprepared)
                self._unprepared = ()

    async def close(self) -> None:
        """Finish what was submitted, and close every connection."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._driver.end_wait()
        await asyncio.to_thread(self._watcher.shutdown)
        self._driver.close()
        for link in self._links:
            link.close()

    # --- writing ---

    async def transact(self, work: Callable[[Cursor], _T], *, tell: bool = False) -> _T:
        """Run ``work`` in a transaction; when this returns it is on disk.

        ``work`` must have no other effect than on its cursor: it may be called again after a roll-back. What it raises
        undoes it alone. ``tell``: wake those who wait in :meth:`word`, in every process.

        Raises:
            StoreUnavailableError: the database is away; whether the commit took place may then be unknown.
            StoreError: it refused.
        """
        if self._closed:
            raise StoreError("the portal's store is closed")
        loop = asyncio.get_running_loop()
        job = _Job(self._telling(work) if tell else work, loop.create_future(), loop)
        self._jobs.put(job)
        value: _T = await job.future
        if tell:
            self._word.set()
        return value

    def require(self, size: int) -> None:
        """Inside a transaction: undo it unless there is room for so many octets more.

        For messages and uploads, which can be refused. What is small, and may be urgent, needs no room in the reserve.

        Raises:
            StoreFullError: there is not.
        """
        self._driver.require(size)

    def _telling(self, work: Callable[[Cursor], _T]) -> Callable[[Cursor], _T]:
        def told(cursor: Cursor) -> _T:
            value = work(cursor)
            if self._writing is not None:
                self._driver.tell(self._writing)
            return value

        return told

    def _serve(self) -> None:
        ended = False
        while not ended and (job := self._jobs.get()) is not None:
            batch, ended = self._gather(job)
            try:
                self._commit(batch)
            except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                for one in batch:
                    one.error = one.error or self._driver.translate(error)
            for one in batch:
                one.resolve()
        if self._writing is not None:
            self._writing.close()

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """Take what waits; whether the end was among it."""
        batch = [first]
        while len(batch) < _BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _commit(self, batch: list[_Job]) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self._prepare()
                with self._driver.turn():
                    self._attempt(batch)
            except Exception as error:
                lost = self._driver.is_lost(error)
                if lost and self._writing is not None:
                    self._writing.close()
                    self._writing = None
                if isinstance(error, StoreError) or not left or not (lost or self._driver.is_again(error)):
                    raise
            else:
                return

    def _attempt(self, batch: list[_Job]) -> None:
        """One transaction over the batch; raises when none of it was applied, or when that is not known."""
        link = self._writing = self._writing or self._driver.connect(writing=True)
        self._driver.begin(link, writing=True)
        try:
            for job in batch:
                self._run(link, job)
        except BaseException:
            if not self._undo(link):
                self._writing = None
            raise
        self._writing = self._driver.commit(link)

    def _run(self, link: Link, job: _Job) -> None:
        job.error = None
        link.run("SAVEPOINT job")
        try:
            job.value = job.work(link)
        except Exception as error:
            if self._driver.is_lost(error) or self._driver.is_again(error):
                raise
            try:
                link.run("ROLLBACK TO SAVEPOINT job")
            except Exception:  # noqa: BLE001 - a full disk undoes the whole transaction: its error is the one to tell
                raise error from None
            job.error = self._driver.translate(error)
        link.run("RELEASE SAVEPOINT job")

    @staticmethod
    def _undo(link: Link) -> bool:
        """Roll back; whether the connection can be used on."""
        try:
            link.run("ROLLBACK")
        except Exception:  # noqa: BLE001 - the error that led here is the one to tell; a new connection follows
            link.close()
            return False
        return True

    # --- reading ---

    async def read(self, work: Callable[[Cursor], _T]) -> _T:
        """Run ``work`` in a thread over one state of the database; it must not write.

        Raises:
            StoreUnavailableError: the database is away.
        """
        if self._closed:
            raise StoreError("the portal's store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Callable[[Cursor], _T]) -> _T:
        for left in reversed(range(2)):
            try:
                return self._read_once(work)
            except Exception as error:
                if left and self._driver.is_lost(error):
                    continue
                translated = self._driver.translate(error)
                if translated is error:
                    raise
                raise translated from error
        raise StoreUnavailableError("the portal's store does not answer")

    def _read_once(self, work: Callable[[Cursor], _T]) -> _T:
        self._prepare()
        with self._reading() as link:
            self._driver.begin(link, writing=False)
            try:
                return work(link)
            finally:
                link.run("ROLLBACK")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Link]:
        link: Link | None = getattr(self._local, "link", None)
        if link is None:
            link = self._local.link = self._driver.connect(writing=False)
            with self._links_lock:
                self._links.append(link)
        try:
            yield link
        except Exception as error:
            if self._driver.is_lost(error):
                self._local.link = None
                with self._links_lock:
                    self._links.remove(link)
                link.close()
            raise

    async def scrub(self) -> bool:
        """As :meth:`Driver.scrub`; a ``StoreError`` says that it could not be done now, and nothing is lost."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._guarded, self._driver.scrub)

    def _guarded(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except Exception as error:
            translated = self._driver.translate(error)
            if translated is error:
                raise
            raise translated from error

    # --- news ---

    async def word(self, seconds: float) -> bool:
        """Wait until somebody, in this process or another, has written what is to be taken; at the most so long.

        A hint: it may say so without cause, and what waited before is not told again.
        """
        if self._pending is None or self._pending.done():
            self._pending = asyncio.get_running_loop().run_in_executor(self._watcher, self._watch, seconds)
            self._pending.add_done_callback(self._heard)
        pending = self._pending
        await self._word.wait()
        self._word.clear()
        return not pending.done() or pending.result()

    def _heard(self, watched: "asyncio.Future[bool]") -> None:
        # Asked here, so that an error nobody waits for any more is not reported as forgotten.
        if not watched.cancelled():
            watched.exception()
        self._word.set()

    def _watch(self, seconds: float) -> bool:
        if self._closed:
            return False
        return self._guarded(lambda: self._driver.wait(seconds))
