"""The one task of a process that writes: it commits what has gathered while the commit before was on its way.

Each transaction leaves a mark of its own. Should the connection be lost between COMMIT and its answer, or the answer
come with a warning (it took place here, and perhaps not on the standby), the mark tells what became of it: see
``outcome``. So an outcome is known, not guessed.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
import structlog

from relay.core.errors import StoreError, StoreUnavailableError
from relay.store.postgres.faults import is_again, is_away, translate
from relay.store.postgres.line import Connection, Line
from relay.store.postgres.outcome import Reservations, ask, new_mark, put_mark
from relay.store.postgres.tables import Batch, Space, write_sums
from relay.store.units import KeepRows, PreparedUnit

_T = TypeVar("_T")
Work: TypeAlias = Callable[[Connection, int], Awaitable[_T]]
"""Something to do inside a transaction with this incarnation's number; it may be called again after a roll-back."""

_log = structlog.get_logger("store")
_TRIES: Final = 4
_PATIENCE: Final = 1.0
"""Seconds that those behind a lost commit wait before they are told that the database is away."""


class _LostError(Exception):
    """COMMIT was sent, and no answer came, or one with a reservation."""


@dataclass(slots=True, eq=False)
class _Job:
    """One thing to do inside a transaction: a unit of work, or a call."""

    work: "PreparedUnit | Work[Any]"
    future: "asyncio.Future[Any]"
    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class _Attempt:
    """What one transaction over a batch has come to so far."""

    mark: bytes
    is_sent: bool = False
    tally: "Counter[tuple[str, int]] | None" = None
    bytes: int = 0


class GroupCommit:
    """Gathers jobs, commits them in one transaction, and resolves their futures once PostgreSQL has answered COMMIT.

    A batch runs without savepoints first; only when a job fails is it undone and run again with one savepoint a job, so
    that the failing ones fail alone and the usual case pays nothing for it.
    """

    def __init__(
        self,
        *,
        line: Line,
        node: str,
        lease: Callable[[], int | None],
        give_back: Callable[[list[str]], None],
        max_bytes: int | None,
        max_batch: int,
        settle: float,
        observe: Callable[[int], None],
    ) -> None:
        """Prepare the task.

        Args:
            line: the writing connection.
            node: whose outbox it writes.
            lease: this incarnation's number; ``None`` while it is not registered, or may have been given up.
            give_back: called with entries that a commit leased although its caller was told that it failed.
            max_bytes: octets of content the queue may hold.
            max_batch: jobs in one transaction at the most.
            settle: seconds to find out about a commit whose answer was lost, before callers are told.
            observe: called with each batch's size.
        """
        self._line = line
        self._node = node
        self._lease = lease
        self._give_back = give_back
        self._space = Space(max_bytes)
        self._max_batch = max_batch
        self._settle = settle
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._ready = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._stuck = ""

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def submit(self, work: "Work[_T]") -> "asyncio.Future[_T]":
        """Call ``work`` in the next transaction; the future resolves when that is committed."""
        return self._enqueue(work)

    def submit_unit(self, unit: PreparedUnit) -> "asyncio.Future[None]":
        """Write a unit in the next transaction; the future resolves when that is committed."""
        return self._enqueue(unit)

    def _enqueue(self, work: "PreparedUnit | Work[Any]") -> "asyncio.Future[Any]":
        if self._closed:
            raise StoreError("the store is closed")
        self.require_way()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.append(_Job(work, future))
        self._ready.set()
        return future

    def require_way(self) -> None:
        """Make sure that commits are not known to get stuck.

        Raises:
            StoreUnavailableError: they are, although the database may answer otherwise.
        """
        if self._stuck:
            raise StoreUnavailableError(self._stuck)

    async def stop(self) -> None:
        """Finish what was submitted and end the task."""
        self._closed = True
        self._ready.set()
        if self._task is not None:
            await self._task

    async def _serve(self) -> None:
        while self._jobs or not self._closed:
            if not self._jobs:
                self._ready.clear()
                await self._ready.wait()
                continue
            batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._max_batch))]
            try:
                await self._commit(batch)
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                _fail(batch, error)
            self._observe(len(batch))
            _resolve(batch)

    # --- one batch ---

    async def _commit(self, batch: list[_Job]) -> None:
        careful = False
        for number in range(_TRIES):
            attempt = _Attempt(new_mark())
            connection = await self._line.get()
            try:
                await self._attempt(connection, batch, attempt, careful=careful)
            except _LostError:
                self._line.drop(connection)
                try:
                    await self._find_out(batch, attempt)
                finally:
                    self._stuck = ""
                return
            except (psycopg.Error, OSError, StoreError) as error:
                if is_away(error) or connection.closed:
                    self._line.drop(connection)
                passing = is_again(error) or is_away(error)
                if number == _TRIES - 1 or isinstance(error, StoreUnavailableError):
                    raise
                if len(batch) == 1 and not passing:
                    raise
                careful = careful or not passing
            else:
                self._space.add(attempt.bytes)
                return

    async def _attempt(self, connection: Connection, batch: list[_Job], attempt: _Attempt, *, careful: bool) -> None:
        """One transaction over the batch; raises only when none of it was applied, or when that is not known."""
        lease = self._lease()
        if lease is None:
            raise StoreUnavailableError("this process's signs of life do not reach the database")
        with self._line.limit(connection):
            await self._space.refresh(connection, asyncio.get_running_loop().time())
            try:
                if careful:
                    await self._one_by_one(connection, batch, attempt, lease)
                else:
                    await self._together(connection, batch, attempt, lease)
                await self._finish(connection, attempt)
            except BaseException as error:
                await self._undo(connection, attempt, error)
                raise

    async def _together(self, connection: Connection, batch: list[_Job], attempt: _Attempt, lease: int) -> None:
        units = [job.work for job in batch if isinstance(job.work, PreparedUnit)]
        self._space.require(units, 0)
        work = Batch(connection, lease, self._node)
        async with connection.pipeline():
            await connection.execute("BEGIN")
            await put_mark(connection, attempt.mark)
            if units:
                await work.send(units)
        await work.check()
        for job in batch:
            if not isinstance(job.work, PreparedUnit):
                job.value = await job.work(connection, lease)
        attempt.tally, attempt.bytes = work.tally, work.bytes

    async def _one_by_one(self, connection: Connection, batch: list[_Job], attempt: _Attempt, lease: int) -> None:
        await connection.execute("BEGIN")
        await put_mark(connection, attempt.mark)
        attempt.tally, place = Counter(), 0
        for job in batch:
            job.error = None
            work = Batch(connection, lease, self._node, place)
            await connection.execute("SAVEPOINT job")
            try:
                if isinstance(job.work, PreparedUnit):
                    self._space.require([job.work], attempt.bytes)
                    async with connection.pipeline():
                        await work.send([job.work])
                    await work.check()
                else:
                    job.value = await job.work(connection, lease)
            except (psycopg.Error, StoreError) as error:
                if is_away(error) or is_again(error) or connection.closed:
                    raise
                await connection.execute("ROLLBACK TO job")
                job.error = translate(error)
            else:
                attempt.tally.update(work.tally)
                attempt.bytes += work.bytes
                place = work.place
            await connection.execute("RELEASE job")

    @staticmethod
    async def _finish(connection: Connection, attempt: _Attempt) -> None:
        with Reservations(connection) as heard:
            async with connection.pipeline():
                await write_sums(connection, attempt.tally or Counter(), attempt.bytes)
                attempt.is_sent = True
                committed = await connection.execute("COMMIT")
        if committed.statusmessage != "COMMIT":
            raise StoreError("the database undid the transaction instead of committing it")
        if heard.any:
            _log.error("commit_not_confirmed", warning=heard.any)
            raise _LostError

    @staticmethod
    async def _undo(connection: Connection, attempt: _Attempt, error: BaseException) -> None:
        """Roll back, where there still is a connection to do it on."""
        if isinstance(error, _LostError):
            return
        if connection.closed or is_away(error):
            if attempt.is_sent:
                raise _LostError from error
            return
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            await connection.execute("ROLLBACK")

    # --- a commit whose answer was lost ---

    async def _find_out(self, batch: list[_Job], attempt: _Attempt) -> None:
        """Learn whether a transaction was committed.

        Clients that wait for their 250 are told after a while that it failed: a second copy at worst. What an attempt
        or a claim waits for goes on waiting: it must not be done twice.
        """
        asking = asyncio.ensure_future(ask(self._line, attempt.mark))
        await asyncio.wait([asking], timeout=_PATIENCE)
        if not asking.done():
            self._stuck = self._line.why_away or "commits are not confirmed: a standby may be away"
            self._shed()
            await asyncio.wait([asking], timeout=self._settle)
        told: list[_Job] = []
        if not asking.done():
            told = [job for job in batch if isinstance(job.work, PreparedUnit) and job.work.is_new_mail]
            _log.error("commit_unresolved", units=len(batch), refused=len(told), waited=self._settle)
            _fail(told, StoreUnavailableError("the database was lost in a commit and does not come back"))
            _resolve(told)
        applied = await asking
        _log.warning("commit_resolved", applied=applied, units=len(batch))
        if not applied:
            _fail(batch, StoreUnavailableError("the database was lost before the commit; nothing was applied"))
            return
        self._space.add(attempt.bytes)
        orphans = _leased(told)
        if orphans:
            self._give_back(orphans)

    def _shed(self) -> None:
        """Tell those that have not been begun, at once."""
        waiting = list(self._jobs)
        self._jobs.clear()
        _fail(waiting, StoreUnavailableError(self._stuck))
        _resolve(waiting)


def _leased(jobs: list[_Job]) -> list[str]:
    """The entries that these jobs keep under this process's lease."""
    units = [job.work for job in jobs if isinstance(job.work, PreparedUnit)]
    steps = [step for unit in units for step in unit.steps if isinstance(step, KeepRows)]
    return [entry_id for step in steps for entry_id in step.leased]


def _fail(batch: list[_Job], error: BaseException) -> None:
    translated = translate(error)
    for job in batch:
        job.error = job.error or translated


def _resolve(batch: list[_Job]) -> None:
    for job in batch:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.value)
