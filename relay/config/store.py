"""The setting ``store``: where the queue is, told without a password."""

import re
import socket
from typing import Final

SQLITE: Final = "sqlite"
_SCHEMES: Final = ("postgresql://", "postgres://")
_INLINE: Final = "holds the password itself|put it into a file, write store_password: FILE, and take it out here"


def is_postgres(store: str) -> bool:
    """Whether the queue is in PostgreSQL."""
    return store.startswith(_SCHEMES)


def store_url(value: str) -> str:
    """``sqlite``, or a libpq connection URI without a password.

    Raises:
        ValueError: anything else.
    """
    if value == SQLITE:
        return value
    if not is_postgres(value):
        hint = "write sqlite, or postgresql://USER@HOST/DATABASE"
        raise ValueError(f"is not a store|{hint}")
    import psycopg  # noqa: PLC0415 - heavy, and most installations have no use for it
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - as above

    try:
        parts = conninfo_to_dict(value)
    except psycopg.ProgrammingError:
        hint = "write postgresql://USER@HOST:5432/DATABASE?sslmode=verify-full"
        raise ValueError(f"is not a connection URI that PostgreSQL knows|{hint}") from None
    if parts.get("password") or parts.get("sslpassword"):
        raise ValueError(_INLINE)
    if not parts.get("dbname"):
        raise ValueError("names no database|write postgresql://USER@HOST/DATABASE")
    return value


def node_name() -> str:
    """The machine's host name without its domain, as a name; ``node`` when nothing of it can be used."""
    first = socket.gethostname().partition(".")[0].lower()
    return re.sub(r"[^a-z0-9_-]", "-", first).strip("-_")[:63].strip("-_") or "node"
