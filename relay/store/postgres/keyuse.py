"""Which key versions the database still needs."""

from collections import Counter
from typing import Final

import psycopg
from psycopg import sql

from relay.protect.sealing import sealed_version
from relay.store.postgres.faults import translate
from relay.store.postgres.line import connect
from relay.store.postgres.options import PostgresOptions

_COLUMNS: Final = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = %s AND data_type = 'bytea' ORDER BY 1, 2"""
_COUNT: Final = "SELECT substr({column}, 1, 7), count(*) FROM {table} GROUP BY 1"
"""Every sealed thing begins with what it is and the version of its key (relay/protect/sealing.py)."""


async def count_use(options: PostgresOptions) -> dict[int, int]:
    """Sealed objects a key version, over every column of every table of ours, as of one moment; nothing is opened.

    Raises:
        ProblemsError: the database cannot be used as it is set up.
        StoreError: it cannot be read now: then no version may be called unused.
    """
    counts: Counter[int] = Counter()
    try:
        async with await connect(options, "keys") as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor = connection.cursor(binary=True)
            columns = await (await cursor.execute(_COLUMNS, (options.schema,))).fetchall()
            for table, column in columns:
                query = sql.SQL(_COUNT).format(column=sql.Identifier(column), table=sql.Identifier(table))
                for prefix, number in await (await cursor.execute(query)).fetchall():
                    version = None if prefix is None else sealed_version(bytes(prefix))
                    if version is not None:
                        counts[version] += number
    except (psycopg.Error, OSError) as error:
        raise translate(error) from error
    return dict(counts)
