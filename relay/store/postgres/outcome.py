"""What became of a commit: known from a mark that each transaction leaves, never guessed.

After a lost connection a new one inserts the same mark: PostgreSQL lets that wait for the other transaction's end,
refuses it when that was committed, and when it was not, the mark that now stands keeps it from ever being committed.

A transaction that is found committed here may still be missing on a synchronous standby: when the wait for it was cut
short (by an operator, a shutdown, a crash) PostgreSQL keeps the commit, with a warning at most. So it counts only once
a later commit on the same server was confirmed without reservation, for a standby has the log up to what it confirms.
"""

import asyncio
import os
from types import TracebackType
from typing import Any, Final, Self

import psycopg
import structlog

from relay.core.errors import StoreError, StoreUnavailableError
from relay.store.postgres.line import Connection, Line

_log = structlog.get_logger("store")
_MARK: Final = "INSERT INTO commits(id) VALUES(%b::bytea)"
_FREE: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE usename = current_user AND pid <> pg_backend_pid() AND wait_event = 'SyncRep'
      AND application_name = current_setting('application_name')"""
"""Ends what this process's earlier connections left behind: a server process that waits for a standby does not notice
that its client has gone."""
_AGAIN: Final = 0.05
_AFTER_FAULT: Final = 1.0


def new_mark() -> bytes:
    """A mark that no other transaction has."""
    return os.urandom(16)


async def put_mark(connection: Connection, mark: bytes) -> None:
    """Write a transaction's mark, in it."""
    await connection.execute(_MARK, (mark,))


class Reservations:
    """Hears the server's warnings while a commit is answered. Use as a context manager.

    They are told by their severity, not by their text, which is in the server's language. A commit warns of nothing
    but a wait for standbys that was given up ("has already committed locally, but might not have been replicated").

    Attributes:
        any: the code of the last warning; empty when there was none.
    """

    def __init__(self, connection: psycopg.BaseConnection[Any]) -> None:
        self._connection = connection
        self.any = ""

    def __enter__(self) -> Self:
        self._connection.add_notice_handler(self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.remove_notice_handler(self._hear)

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self.any = notice.sqlstate or "WARNING"


async def ask(line: Line, mark: bytes) -> bool:
    """Whether the transaction with this mark was committed for good; waits until the database can say."""
    while True:
        try:
            async with line.use() as connection:
                await connection.execute(_FREE)
                return await _is_applied(connection, mark)
        except StoreUnavailableError:
            await asyncio.sleep(_AGAIN)
        except StoreError as error:
            _log.error("commit_question_failed", detail=str(error))
            await asyncio.sleep(_AFTER_FAULT)


async def _is_applied(connection: Connection, mark: bytes) -> bool:
    await connection.execute("SELECT set_config('lock_timeout', '0', false)")
    try:
        await put_mark(connection, mark)
    except psycopg.errors.UniqueViolation:
        await _confirm(connection)
        return True
    finally:
        if not connection.closed:
            await connection.execute("SELECT set_config('lock_timeout', '10s', false)")
    return False


async def _confirm(connection: Connection) -> None:
    """Commit something, and with it be sure of all that was committed on this server before.

    Raises:
        StoreUnavailableError: a standby that must have it did not say so.
    """
    with Reservations(connection) as heard:
        await put_mark(connection, new_mark())
    if heard.any:
        raise StoreUnavailableError("a standby does not confirm commits")
