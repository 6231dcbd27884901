"""The portal's database in a schema of its own in PostgreSQL, for several nodes."""

import re
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import psycopg
import structlog
from psycopg import sql

from relay.core.errors import Problem, ProblemsError, StoreUnavailableError
from relay.store.portal.database import Link, Schema
from relay.store.portal.sqlite import migrate
from relay.store.postgres.faults import is_again, is_away, translate
from relay.store.postgres.line import address, place
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.outcome import Reservations

_log = structlog.get_logger("store")
_CHANNEL: Final = "postern_portal"
_MIGRATION_LOCK: Final = 0x506F7270
_SLICE: Final = 0.25
_PAUSE: Final = 0.1
_TYPES: Final = {
    "SERIAL KEY": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
}
_MARKS: Final = Schema(
    module="commits",
    steps=(("CREATE TABLE commits(writer TEXT PRIMARY KEY, mark TEXT NOT NULL, at REAL NOT NULL)",),),
)
"""The last commit of each process that wrote of late. A transaction's number would not do: where a standby took over,
it begins anew with those that it never got."""
_MARK: Final = (
    "INSERT INTO commits(writer, mark, at) SELECT ?, ?, extract(epoch FROM clock_timestamp())"
    " WHERE pg_current_xact_id_if_assigned() IS NOT NULL"
    " ON CONFLICT(writer) DO UPDATE SET mark = excluded.mark, at = excluded.at"
)
_ASK: Final = (
    "INSERT INTO commits(writer, mark, at) VALUES(?, '', extract(epoch FROM clock_timestamp()))"
    " ON CONFLICT(writer) DO UPDATE SET at = excluded.at RETURNING mark"
)
"""It waits for the end of a transaction of the same writer that is still under way."""
_OLD_MARKS: Final = "DELETE FROM commits WHERE at < extract(epoch FROM clock_timestamp()) - 86400"
_TYPE: Final = re.compile(r"\b(SERIAL KEY|INTEGER|REAL|BLOB)\b")


class PostgresLink:
    """One connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._texts: dict[str, bytes] = {}

    def run(self, sql: str, *bindings: Any) -> int:
        """Execute; how many rows it changed."""
        return self._execute(sql, bindings).rowcount

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Execute; all rows it gives."""
        return self._execute(sql, bindings).fetchall()

    def row(self, sql: str, *bindings: Any) -> tuple[Any, ...] | None:
        """Execute; the first row, or ``None``."""
        found: tuple[Any, ...] | None = self._execute(sql, bindings).fetchone()
        return found

    def _execute(self, sql: str, bindings: tuple[Any, ...]) -> psycopg.Cursor[Any]:
        text = self._texts.get(sql)
        if text is None:
            text = self._texts[sql] = sql.replace("%", "%%").replace("?", "%s").encode()
        return self.connection.execute(text, bindings)

    def close(self) -> None:
        """Close it."""
        self.connection.close()


class PostgresDriver:
    """Implements :class:`relay.store.portal.database.Driver` over a schema in PostgreSQL.

    Uses of :class:`PostgresOptions` ``dsn``, ``node``, ``password``, ``schema`` and the times ``connect``,
    ``statement`` and ``settle``.
    """

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._where = place(options.dsn)
        self._writer = secrets.token_hex(16)
        self._listening: psycopg.Connection[Any] | None = None
        self._ended = threading.Event()

    def prepare(self, schemas: Sequence[Schema]) -> None:
        """Make and migrate the tables.

        Raises:
            ProblemsError: the database refuses, or the tables are too new.
            StoreUnavailableError: it cannot be reached.
        """
        try:
            link = self.connect(writing=True)
            try:
                with link.connection.transaction():
                    link.rows("SELECT pg_advisory_xact_lock(?)", _MIGRATION_LOCK)
                    self._found(link)
                    migrate(link, (*schemas, _MARKS), self._where, _local_types)
                    link.run(_OLD_MARKS)
            finally:
                link.close()
        except psycopg.errors.InsufficientPrivilege as error:
            what = f"this user may not make tables in the schema {self._options.schema}"
            hint = f"as its owner: CREATE SCHEMA {self._options.schema} AUTHORIZATION the_user"
            raise ProblemsError(Problem(where=self._where, what=what, hint=hint)) from error
        except psycopg.Error as error:
            raise translate(error) from error

    def _found(self, link: PostgresLink) -> None:
        found = link.row("SELECT to_regnamespace(?) IS NULL", self._options.schema)
        if found is None or found[0]:
            name = sql.Identifier(self._options.schema)
            link.connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))

    def connect(self, *, writing: bool) -> PostgresLink:
        """Open a connection with the settings that law 1 rests on.

        Raises:
            psycopg.Error: it cannot be reached now.
        """
        options = self._options
        who = f"postern {options.node} portal {'writing' if writing else 'reading'}"
        connection = psycopg.connect(address(options, who), autocommit=True)
        try:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(options.schema)))
            connection.execute("SET client_min_messages TO warning")
            connection.execute("SET idle_in_transaction_session_timeout TO '30s'")
            connection.execute("SET lock_timeout TO '10s'")
            connection.execute(sql.SQL("SET statement_timeout TO {}").format(round(options.statement * 1000)))
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
            )
        except BaseException:
            connection.close()
            raise
        return PostgresLink(connection)

    def turn(self) -> AbstractContextManager[None]:
        """PostgreSQL lets all write at once."""
        return nullcontext()

    def begin(self, link: Link, *, writing: bool) -> None:
        """Begin a transaction."""
        link.run("BEGIN" if writing else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self, link: Link) -> Link:
        """Commit; when its answer is lost, or has a reservation, ask over a new connection what became of it.

        Raises:
            StoreUnavailableError: that cannot be learnt in time.
        """
        mark = secrets.token_hex(16)
        is_marked = link.run(_MARK, self._writer, mark)  # where nothing was written there is nothing to ask about
        try:
            with _reservations(link) as heard:
                link.run("COMMIT")
        except psycopg.Error as error:
            if not is_marked or not self.is_lost(error):
                raise
            link.close()
            return self._find_out(mark, error)
        if heard.any and is_marked:
            link.close()
            return self._find_out(mark, psycopg.OperationalError("a standby did not confirm the commit"))
        return link

    def _find_out(self, mark: str, error: psycopg.Error) -> PostgresLink:
        """A connection to go on with if the transaction was committed; raises ``error`` if it was not.

        Asking commits something too: once that is confirmed, so is all that was committed before on the same server.
        """
        ends = time.monotonic() + self._options.settle
        while time.monotonic() < ends and not self._ended.is_set():
            try:
                link = self.connect(writing=True)
            except psycopg.Error as away:
                _log.warning("portal_commit_unresolved", detail=str(translate(away)))
            else:
                found = self._is_last(link, mark)
                if found:
                    return link
                link.close()
                if found is not None:
                    raise error
            self._ended.wait(_PAUSE)
        raise StoreUnavailableError("the database was lost in a commit; whether it took place is not known") from error

    def _is_last(self, link: PostgresLink, mark: str) -> bool | None:
        """Whether this process's last commit has this mark; ``None``: it cannot be said now."""
        try:
            with _reservations(link) as heard:
                last = link.row(_ASK, self._writer)
        except psycopg.Error as error:
            _log.warning("portal_commit_unresolved", detail=str(translate(error)))
            return None
        return None if heard.any else last == (mark,)

    def require(self, size: int) -> None:
        """Nothing: how full its disk is the server alone knows, and it says so when it is."""
        del size

    def is_again(self, error: BaseException) -> bool:
        """Deadlock, serialisation failure, lock timeout."""
        return is_again(error)

    def is_lost(self, error: BaseException) -> bool:
        """Whether the server or the connection to it is away."""
        return isinstance(error, psycopg.Error) and is_away(error)

    def translate(self, error: BaseException) -> BaseException:
        """The store's error for PostgreSQL's."""
        return translate(error)

    def wait(self, seconds: float) -> bool:
        """Whether another process told of something in this time."""
        if self._listening is None:
            self._listening = self.connect(writing=False).connection
            self._listening.execute(f"LISTEN {_CHANNEL}")
            return True
        left = seconds
        try:
            while left > 0 and not self._ended.is_set():
                for _ in self._listening.notifies(timeout=min(left, _SLICE), stop_after=1):
                    return True
                left -= _SLICE
        except psycopg.Error:
            self._listening.close()
            self._listening = None
            raise
        return False

    def tell(self, link: Link) -> None:
        """Tell those who wait, once this transaction is committed."""
        link.run(f"NOTIFY {_CHANNEL}")

    def scrub(self) -> bool:
        """Let PostgreSQL use the place of deleted rows again; its log and its backups keep them until their time."""
        link = self.connect(writing=True)
        try:
            link.run("VACUUM (TRUNCATE) data_keys, pieces, deposits")
        finally:
            link.close()
        return True

    def end_wait(self) -> None:
        """Let :meth:`wait` return within its slice."""
        self._ended.set()

    def close(self) -> None:
        """Close the connection that listens."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None


def _reservations(link: Link) -> Reservations:
    if not isinstance(link, PostgresLink):
        raise TypeError("a connection of another kind of database")
    return Reservations(link.connection)


def _local_types(statement: str) -> str:
    return _TYPE.sub(lambda found: _TYPES[found[0]], statement)
