"""What PostgreSQL's errors mean for the queue."""

from typing import Final

import psycopg

from relay.core.errors import (
    CorruptError,
    ProblemsError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)

_AGAIN: Final = ("40001", "40P01", "55P03")
"""Serialisation failure, deadlock, lock timeout: the transaction is undone and may be tried once more."""
_AWAY: Final = ("08", "25006", "53", "57", "58")
"""Connection lost, read-only (a standby, or a primary that was demoted), out of resources, shut down, I/O error."""
_FULL: Final = "53100"


def sqlstate(error: BaseException) -> str:
    """The five characters of SQL's error code; empty when the server did not answer at all."""
    return getattr(error, "sqlstate", None) or ""


def is_again(error: BaseException) -> bool:
    """Whether the same transaction may go through when it is tried again."""
    return sqlstate(error) in _AGAIN


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be used now, or not over this connection."""
    code = sqlstate(error)
    if not code:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError | TimeoutError)
    return code != _FULL and code.startswith(_AWAY)


def translate(error: BaseException) -> BaseException:
    """The store's error for a database's; its text shows the kind of error alone, never a row's content."""
    code = sqlstate(error)
    match error:
        case StoreError() | ProblemsError():
            return error
        case _ if code == _FULL:
            return StoreFullError("the database's disk is full")
        case _ if is_away(error) or is_again(error):
            return StoreUnavailableError(f"the database cannot be used now: {_what(error)}")
        case psycopg.errors.UniqueViolation():
            return StoreError("an id is already in the queue")
        case psycopg.errors.DataCorrupted() | psycopg.errors.IndexCorrupted():
            return CorruptError(f"the database is damaged ({code}); stop Postern and see PostgreSQL's log")
        case psycopg.Error():
            return StoreError(f"the database refused: {_what(error)}")
    return error


def _what(error: BaseException) -> str:
    code = sqlstate(error)
    first = str(error).strip().partition("\n")[0]
    # A server's text for bad data may quote it; connection errors and state have nothing of a row.
    if code and not code.startswith((*_AWAY, "28", "3D")):
        return f"{type(error).__name__} ({code})"
    return f"{first or type(error).__name__}{f' ({code})' if code else ''}"
