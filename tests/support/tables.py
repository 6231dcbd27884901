"""The tables of a site's queue, read and changed behind its back, whichever store they are in."""

from pathlib import Path
from typing import Self

import apsw
import psycopg

from relay.config.store import is_postgres


class Tables:
    """One connection. Use as a context manager; ``?`` stands for a value with either store."""

    def __init__(self, directory: Path, store: str) -> None:
        """Say where.

        Args:
            directory: of the site.
            store: what its configuration says.
        """
        self._is_postgres = is_postgres(store)
        if self._is_postgres:
            self._connection = psycopg.connect(store, autocommit=True, options="-c search_path=postern")
        else:
            self._connection = apsw.Connection(str(directory / "data" / "queue" / "queue.db"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, query: str, *values: object) -> list[tuple]:
        """The rows of a statement."""
        if not self._is_postgres:
            return self._connection.execute(query, values).fetchall()
        cursor = self._connection.execute(query.replace("?", "%s"), values)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *values: object) -> object:
        """The only column of the only row."""
        ((value,),) = self.run(query, *values)
        return value
