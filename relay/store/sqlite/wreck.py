"""Reading a damaged queue file: each row that can still be reached, by whatever way leads to it.

A damaged page of a B-tree hides the rows on it, and what lies below it. What lies before is reached from the front,
what lies behind from the back, and what lies between two damaged pages by asking for keys that other tables know: a
message's id is in four of them. Every value is sealed, so that what is read is either what was written or known to be
damaged.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw

from relay.core.errors import ProblemsError
from relay.store.sqlite.schema import connect, create_file, migrate

_DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError)
_STEP: Final = 200
"""Rows asked for at once, until a page is met that cannot be read."""

# Offsets in the header of a database file, <https://www.sqlite.org/fileformat2.html#the_database_header>.
_PAGE_SIZE: Final = 16
_CHANGES: Final = 24
_PAGES: Final = 28
_FREE_PAGES: Final = 32
_VALID_FOR: Final = 92


class Wreck:
    """A copy of a damaged queue file. Its directory is used up: nothing in it is the original.

    Args:
        path: the copy; its WAL, if there was one, lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self.header_was_damaged = False
        try:
            self._connection = connect(path)
        except ProblemsError:
            _give_header(path)
            self.header_was_damaged = True
            self._connection = connect(path)

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    def keys(self, table: str, *columns: str) -> set[tuple[Any, ...]]:
        """The keys of a table's rows that can be reached from its front and its back."""
        found: set[tuple[Any, ...]] = set()
        for order, sign in (("ASC", ">"), ("DESC", "<")):
            for key in self._walk(table, columns, order, sign):
                if key in found:  # the two ways have met: nothing lies between
                    return found
                found.add(key)
        return found

    def names(self, table: str, column: str) -> set[Any]:
        """:meth:`keys` of a table with one key column."""
        return {key for (key,) in self.keys(table, column)}

    def _walk(self, table: str, columns: tuple[str, ...], order: str, sign: str) -> Iterator[tuple[Any, ...]]:
        names, ordered = ", ".join(columns), ", ".join(f"{column} {order}" for column in columns)
        further = f"WHERE ({names}) {sign} ({', '.join('?' * len(columns))})"
        where, after, step = "", tuple[Any, ...](), _STEP
        while True:
            query = f"SELECT {names} FROM {table} {where} ORDER BY {ordered} LIMIT {step}"  # noqa: S608  our own names
            try:
                page = self._connection.execute(query, after).fetchall()
            except _DAMAGED:
                if step == 1:
                    return
                step = 1
                continue
            yield from page
            if len(page) < step:
                return
            where, after = further, page[-1]

    def row(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        """One row by its key; ``None`` when it is not there or cannot be read."""
        try:
            found: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
        except _DAMAGED:
            return None
        return found


def of_message(ids: Iterable[str]) -> set[str]:
    """The message ids in entry ids, ``MESSAGE.N``."""
    return {entry_id.rpartition(".")[0] for entry_id in ids}


def _give_header(path: Path) -> None:
    """Put a sound first page in the place of one that cannot be read.

    The schema has one history (``schema.MIGRATIONS``), and in a file with ``auto_vacuum`` the roots of all tables come
    first, in the order in which they were made: so the first page of any queue fits every other one.
    """
    fresh = path.with_name("fresh.db")
    create_file(fresh)
    connection = connect(fresh)
    migrate(connection)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    page = bytearray(fresh.read_bytes()[: struct.unpack_from(">H", fresh.read_bytes(), _PAGE_SIZE)[0]])
    struct.pack_into(">I", page, _PAGES, max(path.stat().st_size // len(page), 1))
    struct.pack_into(">II", page, _FREE_PAGES, 0, 0)
    struct.pack_into(">I", page, _VALID_FOR, struct.unpack_from(">I", page, _CHANGES)[0])
    with path.open("r+b") as file:
        file.write(page)
