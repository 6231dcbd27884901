"""Whether something stands between us and the server, and whether it leaves us a server session of our own.

We set a session's parameters, listen, and prepare statements: all of that is a server session's. A pooler that hands a
server session to another client after each transaction (PgBouncer: ``pool_mode = transaction`` or ``statement``) would
give our settings to others, ``synchronous_commit`` among them, and our wake-ups to nobody: so it is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg

from relay.core.errors import Problem, ProblemsError

_PID: Final = "SELECT pg_backend_pid()"
_TRIES: Final = 3
"""Sessions that were idle for longest or shortest are handed out first: one look may meet another one by chance."""


async def backend_pid(connection: psycopg.AsyncConnection[Any]) -> int:
    """The number of the server process that works for us now."""
    cursor = await connection.execute(_PID)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def require_own_session(
    connection: psycopg.AsyncConnection[Any],
    another: Callable[[], Awaitable[psycopg.AsyncConnection[Any]]],
    where: str,
    *,
    patience: float,
) -> None:
    """Make sure that a server session is ours for as long as the connection lasts.

    Args:
        connection: outside a transaction.
        another: opens a second one in the same way.
        where: for people.
        patience: seconds to wait for a second server session.

    Raises:
        ProblemsError: it is not, or the pooler has no second one for us.
    """
    if await backend_pid(connection) == connection.info.backend_pid:
        return  # the number that the server itself gave at login: nobody is in between
    try:
        async with asyncio.timeout(patience):
            async with await another() as other:
                for _ in range(_TRIES):
                    if await _is_shared(connection, other):
                        what = "is behind a pooler that gives a server session away after each transaction"
                        hint = "PgBouncer: pool_mode = session; or connect to the server itself"
                        raise ProblemsError(Problem(where=where, what=what, hint=hint))
    except TimeoutError:
        what = f"is behind a pooler that has no second server session for us in {patience:g} s"
        hint = "three for each process: raise default_pool_size"
        raise ProblemsError(Problem(where=where, what=what, hint=hint)) from None


async def _is_shared(connection: psycopg.AsyncConnection[Any], other: psycopg.AsyncConnection[Any]) -> bool:
    """Whether a second client's transaction gets the session that we had a moment ago, or leaves us another one."""
    before = await backend_pid(connection)
    try:
        async with other.transaction():
            theirs = await backend_pid(other)
            return theirs == before or await backend_pid(connection) != before
    except psycopg.errors.ProtocolViolation:
        return True  # "transaction blocks not allowed in statement pooling mode"
