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
        """The keys of a table's rows that can be reached from its front and its back, and that are keys still."""
        texts = self._texts(table, columns)
        found: set[tuple[Any, ...]] = set()
        for order, sign in (("ASC", ">"), ("DESC", "<")):
            for key in self._walk(table, texts, order, sign):
                if key in found:  # the two ways have met: nothing lies between
                    return _decoded(found, texts)
                found.add(key)
        return _decoded(found, texts)

    def names(self, table: str, column: str) -> set[Any]:
        """:meth:`keys` of a table with one key column."""
        return {key for (key,) in self.keys(table, column)}

    def _texts(self, table: str, columns: tuple[str, ...]) -> dict[str, bool]:
        """Whether each column holds text."""
        kinds = {row[1]: row[2] for row in self._connection.execute(f"PRAGMA table_info({table})").fetchall()}
        return {column: kinds[column] == "TEXT" for column in columns}

    def _walk(self, table: str, texts: dict[str, bool], order: str, sign: str) -> Iterator[tuple[Any, ...]]:
        """Keys in order, text as its octets: a changed bit may leave none, and the walk goes on behind it."""
        names, ordered = ", ".join(texts), ", ".join(f"{column} {order}" for column in texts)
        shown = ", ".join(f"CAST({column} AS BLOB)" if is_text else column for column, is_text in texts.items())
        bound = ", ".join("CAST(? AS TEXT)" if is_text else "?" for is_text in texts.values())
        where, after, step = "", tuple[Any, ...](), _STEP
        while True:
            query = f"SELECT {shown} FROM {table} {where} ORDER BY {ordered} LIMIT {step}"  # noqa: S608  our own names
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
            where, after = f"WHERE ({names}) {sign} ({bound})", page[-1]

    def row(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        """One row by its key; ``None`` when it is not there or cannot be read."""
        try:
            found: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
        except (*_DAMAGED, UnicodeDecodeError):
            return None
        return found


def of_message(ids: Iterable[str]) -> set[str]:
    """The message ids in entry ids, ``MESSAGE.N``."""
    return {entry_id.rpartition(".")[0] for entry_id in ids}


def _decoded(keys: Iterable[tuple[Any, ...]], texts: dict[str, bool]) -> set[tuple[Any, ...]]:
    """The keys, with their text as text. One that is none was another's: its row is told of by that name as lost."""
    found = set()
    for key in keys:
        parts = [_text(part) if is_text else part for part, is_text in zip(key, texts.values(), strict=True)]
        if None not in parts:
            found.add(tuple(parts))
    return found


def _text(octets: bytes | None) -> str | None:
    try:
        return None if octets is None else octets.decode()
    except UnicodeDecodeError:
        return None


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
