"""Which key versions are still needed: counts what is sealed under each, wherever it lies in the data directories."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import apsw

from relay.core.errors import StoreError
from relay.protect.chain import SEGMENT_MAGIC
from relay.protect.sealing import sealed_version

_SQLITE: Final = b"SQLite format 3\0"
_PREFIX: Final = 7


def count_use(directories: Iterable[Path], *, without: Path | None = None) -> dict[int, int]:
    """Sealed objects a key version, over databases, body files and audit segments; nothing is opened or decrypted.

    Every column of every table is looked at, so that a table added later is counted too. What lies below ``without``
    is sealed under another ring.

    Raises:
        StoreError: something cannot be read: then no version may be called unused.
    """
    counts: Counter[int] = Counter()
    seen: set[Path] = set()
    for directory in directories:
        try:
            for path in sorted(directory.rglob("*")):
                if without is not None and without in path.parents:
                    continue
                if path.is_file() and not path.is_symlink() and path.resolve() not in seen:
                    seen.add(path.resolve())
                    _count_file(path, counts)
        except (OSError, apsw.Error) as error:
            raise StoreError(f"{directory}: cannot be read through: {error}") from error
    return dict(counts)


def _count_file(path: Path, counts: Counter[int]) -> None:
    with path.open("rb") as file:
        beginning = file.read(len(_SQLITE))
        if beginning.startswith(SEGMENT_MAGIC):
            file.seek(len(SEGMENT_MAGIC))
            while len(head := file.read(4 + _PREFIX)) == 4 + _PREFIX:
                _add(counts, head[4:])
                file.seek(int.from_bytes(head[:4], "big") - _PREFIX, 1)
            return
    if beginning == _SQLITE:
        _count_database(path, counts)
    else:
        _add(counts, beginning)


def _count_database(path: Path, counts: Counter[int]) -> None:
    database = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        database.set_busy_timeout(5000)
        tables = [str(name) for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            columns = [str(row[1]) for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]
            for column in columns:
                name = _quoted(column)
                query = f"SELECT substr({name}, 1, {_PREFIX}), count(*) FROM {_quoted(table)} WHERE typeof({name}) = 'blob' GROUP BY 1"  # noqa: E501, S608  # names come from the schema and are quoted
                for prefix, number in database.execute(query):
                    _add(counts, bytes(prefix), int(number))
        _wait_for_the_disk(path.with_name(f"{path.name}-wal"))
    finally:
        database.close()


def _wait_for_the_disk(log: Path) -> None:
    """What was counted may be committed and not synced: a power cut must not bring back what was not counted."""
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # nobody has the database open, and its file holds it all
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _add(counts: Counter[int], beginning: bytes, number: int = 1) -> None:
    version = sealed_version(beginning[:_PREFIX])
    if version is not None:
        counts[version] += number
