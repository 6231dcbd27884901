"""One connection to the database that comes back by itself, and never keeps anybody waiting while it is away."""

import asyncio
import contextlib
import os
import random
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, TypeAlias

import psycopg
import structlog
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from relay.core.errors import Problem, ProblemsError, StoreError, StoreUnavailableError
from relay.store.postgres.faults import is_away, translate
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.pooler import require_own_session

Connection: TypeAlias = psycopg.AsyncConnection[Any]
Prepare: TypeAlias = Callable[[Connection], Awaitable[None]]

_log = structlog.get_logger("store")
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_PATIENCE: Final = 1.0
"""Seconds that a caller waits for the first try after a connection was lost; while the database is away, none."""
_WEAK: Final = ("off", "local")
_REFUSED: Final = re.compile(
    r"authentication failed|no password supplied|does not exist|no pg_hba\.conf entry|certificate verify failed"
)
"""What waiting does not mend. libpq gives the server's words alone; in another language they mean a longer wait."""


def place(dsn: str) -> str:
    """Where the database is, for people: host, port and name, without user and password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "store"
    host, port = parts.get("host") or parts.get("hostaddr") or "local socket", parts.get("port") or "5432"
    return f"postgresql {host}:{port}/{parts.get('dbname') or parts.get('user') or ''}"


def address(options: PostgresOptions, who: str) -> str:
    """The connection string: to a server that takes writes, with deadlines, and the password as it is now.

    Raises:
        psycopg.ProgrammingError: the configured URI cannot be read.
    """
    more: dict[str, Any] = {
        "connect_timeout": max(2, round(options.connect)),
        "application_name": who[:63],
        "target_session_attrs": "read-write",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(options.statement * 1000),
    }
    password = options.password()
    if password is not None:
        more["password"] = password
    return make_conninfo(options.dsn, **more)


async def connect(options: PostgresOptions, role: str) -> Connection:
    """Open a connection with the settings that law 1 rests on.

    Raises:
        ProblemsError: the database is there and cannot be used as it is set up.
        psycopg.Error: it cannot be reached now.
    """
    where = place(options.dsn)
    who = f"postern {options.node[:32]} {role} {os.getpid()}"

    async def login() -> Connection:
        return await psycopg.AsyncConnection.connect(address(options, who), autocommit=True)

    try:
        connection = await login()
    except psycopg.ProgrammingError as error:
        raise ProblemsError(Problem(where=where, what="the connection URI cannot be read")) from error
    try:
        await require_own_session(connection, login, where, patience=options.connect)
        await _set_up(connection, options, where)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _set_up(connection: Connection, options: PostgresOptions, where: str) -> None:
    cursor = await connection.execute(
        "SELECT current_setting('fsync'), current_setting('synchronous_commit'), "
        "current_setting('transaction_read_only'), current_setting('server_version_num')::int"
    )
    row = await cursor.fetchone()
    fsync, synchronous, read_only, version = row or ("on", "on", "off", 0)
    if version < 140_000:
        raise ProblemsError(Problem(where=where, what="is older than PostgreSQL 14", hint="use a newer server"))
    if fsync != "on":
        what = "runs with fsync = off: a power cut would lose mail that was answered 250"
        raise ProblemsError(Problem(where=where, what=what, hint="set fsync = on in postgresql.conf"))
    if read_only == "on":
        raise psycopg.OperationalError("the server is a standby")
    await connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(options.schema)))
    await connection.execute("SET client_min_messages TO warning")
    await connection.execute("SET idle_in_transaction_session_timeout TO '30s'")
    await connection.execute("SET lock_timeout TO '10s'")
    await connection.execute("SET jit TO off")
    if synchronous in _WEAK:
        # What is stricter (remote_write, remote_apply) is the operator's to choose; less than this breaks law 1.
        await connection.execute("SET synchronous_commit TO on")


def sever(connection: Connection) -> None:
    """End the connection under whoever waits on it: they get an error at once.

    A cancelled wait would first ask the server to cancel, over a network that may be the very thing that hangs.
    """
    with contextlib.suppress(OSError, psycopg.Error):
        twin = socket.socket(fileno=os.dup(connection.pgconn.socket))
        with twin:
            twin.shutdown(socket.SHUT_RDWR)


class Line:
    """A connection for one purpose.

    While it is away, :meth:`get` fails at once: a background task tries again with growing pauses.
    """

    def __init__(self, options: PostgresOptions, role: str, prepare: Prepare | None = None) -> None:
        """Say what for; nothing is opened yet.

        Args:
            options: where the database is.
            role: shown in ``pg_stat_activity``.
            prepare: run on each new connection before anybody gets it.
        """
        self._options = options
        self._role = role
        self._prepare = prepare
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._away: str | None = None
        self._closed = False

    @property
    def is_up(self) -> bool:
        """Whether there is a connection that is not known to be broken."""
        return self._connection is not None and not self._connection.closed

    @property
    def why_away(self) -> str | None:
        """Why there has been no connection for a while; ``None`` when there is one, or was a moment ago."""
        return self._away

    async def open(self) -> None:
        """Connect for the first time; an unreachable database is tried again in the background.

        Raises:
            ProblemsError: it is there and cannot be used.
        """
        try:
            await self._connect()
        except (psycopg.Error, OSError, StoreError) as error:
            if _REFUSED.search(str(error)):
                raise self._refused(error) from error
            self._note(error)
            self._begin()

    def _refused(self, error: BaseException) -> ProblemsError:
        return ProblemsError(
            Problem(
                where=place(self._options.dsn),
                what=f"refused the connection: {str(error).strip().splitlines()[-1]}",
                hint="see user and database in store:, and the password in store_password_file or PGPASSFILE",
            )
        )

    async def get(self) -> Connection:
        """The connection.

        Raises:
            StoreUnavailableError: there is none now.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if self._connection is not None and not self._connection.closed:
            return self._connection
        task = self._begin()
        if self._away is None:
            await asyncio.wait([task], timeout=_PATIENCE)
            if self._connection is not None:
                return self._connection
        raise StoreUnavailableError(self._away or "the database does not answer")

    def _begin(self) -> "asyncio.Task[None]":
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._keep_trying())
        return self._connecting

    async def _keep_trying(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed:
            try:
                await self._connect()
            except (psycopg.Error, OSError, StoreError, ProblemsError) as error:
                self._note(error)
            else:
                return
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - spreads the nodes' tries
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _connect(self) -> None:
        connection = await connect(self._options, self._role)
        try:
            if self._prepare is not None:
                await self._prepare(connection)
        except BaseException:
            await connection.close()
            raise
        if self._closed:
            await connection.close()
            return
        self._connection = connection
        if self._away is not None:
            _log.info("database_back", line=self._role)
        self._away = None

    def _note(self, error: BaseException) -> None:
        text = str(translate(error))
        if self._away is None:
            _log.error("database_away", line=self._role, detail=text)
        self._away = text

    def drop(self, connection: Connection) -> None:
        """Give up a connection that failed, and begin to look for another."""
        sever(connection)
        connection.pgconn.finish()
        if connection is self._connection:
            self._connection = None
            if not self._closed:
                self._begin()

    @contextlib.contextmanager
    def limit(self, connection: Connection, seconds: float | None = None) -> Iterator[None]:
        """Sever the connection should the work on it take longer than ``seconds``."""
        timer = asyncio.get_running_loop().call_later(seconds or self._options.statement, sever, connection)
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.asynccontextmanager
    async def use(self, seconds: float | None = None) -> AsyncIterator[Connection]:
        """The connection for a piece of work, which it loses when the work takes longer than ``seconds``.

        Raises:
            StoreError: in place of the database's errors.
        """
        connection = await self.get()
        try:
            with self.limit(connection, seconds):
                yield connection
        except (psycopg.Error, OSError) as error:
            if is_away(error) or connection.closed:
                self.drop(connection)
            raise translate(error) from error

    async def close(self) -> None:
        """Close for good."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
