"""Signs of life: they keep this process's leases, tell when these are no longer certain, and bring others' calls."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
import structlog

from relay import __version__
from relay.core.errors import StoreError
from relay.core.ports import Clock
from relay.store.postgres.line import Connection, Line, sever
from relay.store.postgres.options import PostgresOptions

_log = structlog.get_logger("store")
_CHANNEL: Final = "postern_ready"
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, as the database's does, and CLOCK_MONOTONIC does not (clock_gettime(2))."""
_CLOCKS_DIFFER: Final = 2.0
"""Seconds: more than any round trip makes of it."""
_ARRIVE: Final = """
    WITH node AS (
        INSERT INTO nodes(name, version) VALUES(%(node)s, %(version)s)
        ON CONFLICT(name) DO UPDATE SET seen_at = clock_timestamp(), version = excluded.version
        RETURNING draining
    ), life AS (
        INSERT INTO incarnations(name, node, ends_at)
        VALUES(%(name)s, %(node)s, clock_timestamp() + %(lease)s * interval '1 second')
        RETURNING number
    ) SELECT life.number, node.draining, extract(epoch FROM clock_timestamp())::float8 FROM life, node"""
_BEAT: Final = """
    WITH life AS (
        UPDATE incarnations SET ends_at = clock_timestamp() + %(lease)s * interval '1 second'
        WHERE number = %(number)s RETURNING node
    ), node AS (
        UPDATE nodes n SET seen_at = clock_timestamp() FROM life
        WHERE n.name = life.node AND n.seen_at < clock_timestamp() - interval '2 seconds'
    ) SELECT n.draining, (
        SELECT array_agg(DISTINCT i.node ORDER BY i.node) FROM incarnations i JOIN nodes o ON o.name = i.node
        WHERE i.ends_at >= clock_timestamp() AND NOT o.draining), extract(epoch FROM clock_timestamp())::float8
    FROM nodes n JOIN life ON n.name = life.node"""
_CALL: Final = f"SELECT pg_notify('{_CHANNEL}', ''), pg_backend_pid()"
"""With the number of the server process that calls: behind a pooler it is not the one that was given at login."""
_BASE: Final = """
    UPDATE places SET base = high.place / (1 << 20) - pg_current_xact_id()::text::int8 + 1
    FROM (SELECT max(place) AS place FROM outbox) high
    WHERE high.place / (1 << 20) - pg_current_xact_id()::text::int8 + 1 > base"""
"""Places in the outbox follow transaction numbers, which begin anew when a dump is restored: then they go on."""


def _now() -> float:
    return time.clock_gettime(_CLOCK)


class Pulse:
    """Registers this process, beats, and listens.

    A lease in the database lasts ``lease`` seconds past the last beat by the database's clock; this process trusts it
    for ``hold`` seconds past the moment it *sent* that beat, by its own monotonic clock, which goes on while the
    machine sleeps. So however the clocks stand, this process stops first. One that was given up registers anew and
    holds nothing.
    """

    def __init__(
        self, options: PostgresOptions, clock: Clock, *, wake: Callable[[], None], is_own: Callable[[int], bool]
    ) -> None:
        """Prepare.

        Args:
            options: names and times.
            clock: this machine's, to be compared with the database's.
            wake: called when another process told that something is due.
            is_own: whether a server process of this number works for us: our own calls need not wake us.
        """
        self._options = options
        self._clock = clock
        self._is_own = is_own
        self._wake = wake
        self._line = Line(options, "pulse", self._arrive)
        self._name = ""
        self._trusted_until = float("-inf")
        self._held: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._listening: Connection | None = None
        self.number: int | None = None
        self.draining = False
        self.on_draining: list[Callable[[bool], None]] = []
        self.serving: tuple[str, ...] = ()
        self.on_serving: list[Callable[[], None]] = []
        self.behind = 0.0
        """Seconds by which this machine's clock is behind the database's; 0 where nobody wants to know."""

    async def open(self, incarnation: str) -> None:
        """Register under a name unique to this process's life; when the database is away, as soon as it is back.

        Raises:
            ProblemsError: the database cannot be used.
        """
        self._name = incarnation
        await self._line.open()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop beating."""
        self._stopping = True
        if self._listening is not None:
            sever(self._listening)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._line.close()

    # --- leases ---

    @property
    def is_trusted(self) -> bool:
        """Whether leases of this process are certain to hold now."""
        return _now() < self._trusted_until

    def took(self, *entry_ids: str) -> None:
        """These are under this process's lease."""
        self._held.update(entry_ids)

    def gave(self, *entry_ids: str) -> None:
        """These are no longer."""
        self._held.difference_update(entry_ids)

    def holds(self, entry_id: str) -> bool:
        """Whether it is certain that nobody else can have this entry."""
        return entry_id in self._held and self.is_trusted

    # --- beating ---

    async def _arrive(self, connection: Connection) -> None:
        """On each new connection: listen, and register unless still registered."""
        await connection.execute(f"LISTEN {_CHANNEL}")
        # A sign of life that a crash undoes only ends early, and must not wait for a standby that is away.
        await connection.execute("SET synchronous_commit TO off")
        if self.number is None or not await self._beat(connection):
            await self._register(connection)

    async def _register(self, connection: Connection) -> None:
        if self.number is not None:
            _log.error("leases_lost", entries=len(self._held), why="no sign of life reached the database in time")
        self._held.clear()
        now = _now()
        await connection.execute(_BASE)
        values = {"node": self._options.node, "name": self._name, "lease": self._options.lease, "version": __version__}
        cursor = await connection.execute(_ARRIVE, values)
        row = await cursor.fetchone()
        if row is None:
            raise StoreError("the database did not register this process")
        self.number, draining, there = row
        self._compare(there)
        if abs(self.behind) > _CLOCKS_DIFFER:
            _log.warning("clock_differs", seconds=round(-self.behind, 1), hint="synchronise the machines' clocks")
        self._trusted_until = now + self._options.hold
        self._tell(draining)
        await self._beat(connection)  # who else serves is known before the first delivery

    async def _beat(self, connection: Connection) -> bool:
        """Give a sign of life; whether this process is still known."""
        now = _now()
        cursor = await connection.execute(_BEAT, {"number": self.number, "lease": self._options.lease})
        row = await cursor.fetchone()
        if row is None:
            return False
        self._trusted_until = now + self._options.hold
        self._tell(row[0])
        self._count(tuple(row[1] or ()))
        self._compare(row[2])
        return True

    def _compare(self, there: float) -> None:
        if self._options.by_database_clock:
            self.behind = there - self._clock()

    def _count(self, serving: tuple[str, ...]) -> None:
        if serving != self.serving:
            self.serving = serving
            for hear in self.on_serving:
                hear()

    def _tell(self, draining: Any) -> None:
        if bool(draining) != self.draining:
            self.draining = bool(draining)
            for hear in self.on_draining:
                hear(self.draining)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            try:
                async with self._line.use(self._options.beat * 2) as connection:
                    self._listening = connection
                    if not await self._beat(connection):
                        await self._register(connection)
                connection = await self._line.get()
                due = loop.time() + self._options.beat
                async for told in connection.notifies(timeout=self._options.beat):
                    if not self._is_own(told.pid):
                        self._wake()
                    if loop.time() >= due:
                        break
            except StoreError:
                await asyncio.sleep(min(self._options.beat, 0.5))
            except (psycopg.Error, OSError):
                if self._listening is not None:
                    self._line.drop(self._listening)
            finally:
                self._listening = None


class Herald:
    """Tells other processes that something is due: at most every ``pause`` seconds, never inside a commit.

    ``NOTIFY`` takes a lock over the whole database at commit, which would put all accepting transactions in a row.
    """

    def __init__(self, line: Line, pause: float) -> None:
        self._line = line
        self._pause = pause
        self._next = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._pid = 0

    def is_own(self, pid: int) -> bool:
        """Whether this one called."""
        return pid == self._pid

    def tell(self) -> None:
        """Something has become due; a hint that may be lost, for everybody polls."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next - loop.time()))
        self._next = loop.time() + self._pause
        try:
            async with self._line.use() as connection:
                self._pid = connection.info.backend_pid  # the call may be heard before its answer is
                cursor = await connection.execute(_CALL)
                row = await cursor.fetchone()
                self._pid = row[1] if row else 0
        except StoreError as error:
            _log.debug("wake_up_not_told", detail=str(error))

    async def close(self) -> None:
        """Stop telling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
