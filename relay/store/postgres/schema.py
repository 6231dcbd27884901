"""The schema, its numbered migrations, and the rule that lets old and new nodes work side by side.

Each migration names the oldest version of the code that can work on its result. Code that finds a newer schema goes on
as long as it is not older than that: so a migration only adds (a table, a column with a default, an index), every
statement names its columns, and what nobody reads any more is dropped by a later version, once no old node is left.
"""

from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from relay.core.errors import Problem, ProblemsError

_V1: Final = """
CREATE TABLE nodes(
    name text COLLATE "C" PRIMARY KEY,
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    draining boolean NOT NULL DEFAULT false,
    told_by text NOT NULL DEFAULT '',
    version text NOT NULL DEFAULT ''
);
CREATE TABLE incarnations(
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    node text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ends_at timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE messages(
    id text COLLATE "C" PRIMARY KEY,
    received_at double precision NOT NULL,
    size bigint NOT NULL,
    facts bytea NOT NULL
);
ALTER TABLE messages ALTER COLUMN facts SET STORAGE EXTERNAL;
CREATE TABLE bodies(
    message_id text COLLATE "C" PRIMARY KEY,
    sealed bytea NOT NULL
) WITH (toast_tuple_target = 8160);
ALTER TABLE bodies ALTER COLUMN sealed SET STORAGE EXTERNAL;

CREATE TABLE entries(
    id text COLLATE "C" PRIMARY KEY,
    message_id text COLLATE "C" NOT NULL,
    destination text COLLATE "C" NOT NULL,
    priority integer NOT NULL,
    held integer NOT NULL,
    due_at double precision NOT NULL,
    wake_at double precision NOT NULL,
    lease bigint,
    tokens bytea NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX entries_free ON entries(priority, wake_at, id) INCLUDE (destination, held) WHERE lease IS NULL;
CREATE INDEX entries_by_destination ON entries(priority, destination, wake_at, id) WHERE lease IS NULL;
CREATE INDEX entries_leased ON entries(lease, held) WHERE lease IS NOT NULL;
CREATE TABLE details(
    entry_id text COLLATE "C" PRIMARY KEY,
    sealed bytea NOT NULL
);
ALTER TABLE details ALTER COLUMN sealed SET STORAGE EXTERNAL;

CREATE TABLE outbox(
    place bigint PRIMARY KEY,
    node text COLLATE "C" NOT NULL,
    sealed bytea NOT NULL
);
ALTER TABLE outbox ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX outbox_of_node ON outbox(node, place);
CREATE TABLE outbox_heads(
    node text COLLATE "C" PRIMARY KEY,
    forgotten bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE places(
    id integer PRIMARY KEY CHECK (id = 1),
    base bigint NOT NULL
);
INSERT INTO places(id, base) VALUES(1, 0);

CREATE TABLE counters(
    name text COLLATE "C" NOT NULL,
    start double precision NOT NULL,
    ends double precision NOT NULL,
    total bigint NOT NULL,
    PRIMARY KEY(name, start, ends)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE tally(
    destination text COLLATE "C" NOT NULL,
    held integer NOT NULL,
    entries bigint NOT NULL,
    bytes bigint NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE TABLE commits(
    id bytea PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);
"""
_VACUUMED: Final = ("messages", "bodies", "entries", "details", "outbox")
_OFTEN: Final = "\n".join(
    f"ALTER TABLE {table} SET (autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0.02, "
    "autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.1, "
    "autovacuum_vacuum_cost_delay = 0);"
    for table in _VACUUMED
)
"""Rows of a queue live for seconds: dead ones are swept when there are many, at full speed, not at a fifth of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step.

    Attributes:
        statements: what leads from version N to N + 1; what has been released is never edited.
        oldest: the oldest version of the code that can work on the result.
    """

    statements: str
    oldest: int


_V2: Final = """
CREATE TABLE known(
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    until double precision NOT NULL,
    PRIMARY KEY(kind, name)
);
CREATE INDEX known_until ON known(until);
"""
"""What is known of other domains: public facts about their servers, so not sealed."""

_V3: Final = """
CREATE TABLE memos(
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    until double precision NOT NULL,
    sealed bytea NOT NULL
);
CREATE INDEX memos_until ON memos(until);
"""
"""What is remembered of mail that has left; numbered, so that their count costs nothing to read."""

MIGRATIONS: Final = (
    Migration(statements=_V1 + _OFTEN, oldest=1),
    Migration(statements=_V2, oldest=1),
    Migration(statements=_V3, oldest=1),
)
_LOCK: Final = 0x706F7374
"""Advisory lock under which one process at a time migrates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaState:
    """What is in the database.

    Attributes:
        version: 0 when there is nothing.
        oldest: the oldest version of the code that can work on it.
    """

    version: int
    oldest: int


async def read_state(connection: psycopg.AsyncConnection[Any]) -> SchemaState:
    """What version of the schema the search path leads to."""
    cursor = await connection.execute("SELECT to_regclass('schema_version') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return SchemaState(version=0, oldest=0)
    cursor = await connection.execute("SELECT version, oldest FROM schema_version")
    found = await cursor.fetchone()
    return SchemaState(version=found[0], oldest=found[1]) if found else SchemaState(version=0, oldest=0)


def check(state: SchemaState, where: str, known: int = len(MIGRATIONS)) -> None:
    """Refuse a schema that this code cannot work on.

    Raises:
        ProblemsError: it is too new.
    """
    if state.oldest > known:
        what = f"the schema (version {state.version}) needs a Postern that knows version {state.oldest}; "
        what += f"this one knows up to {known}"
        raise ProblemsError(Problem(where=where, what=what, hint="run the newer version on this node too"))


async def migrate(
    connection: psycopg.AsyncConnection[Any],
    schema: str,
    where: str,
    migrations: tuple[Migration, ...] = MIGRATIONS,
) -> SchemaState:
    """Bring the schema to the newest version that this code knows, each step in one transaction.

    Other nodes may work meanwhile; a step that does not get its locks within five seconds is undone, and can be tried
    again, rather than have everyone wait behind it.

    Raises:
        ProblemsError: the schema is too new, or this user may not create it.
        psycopg.Error: the database failed.
    """
    try:
        await _found(connection, schema)
        while True:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '5s'")
                await connection.execute("SET LOCAL synchronous_commit = on")
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                state = await read_state(connection)
                check(state, where, len(migrations))
                if state.version >= len(migrations):
                    return state
                step = migrations[state.version]
                await connection.execute(step.statements.encode())
                await connection.execute("DELETE FROM schema_version")
                await connection.execute(
                    "INSERT INTO schema_version(version, oldest) VALUES(%s, %s)", (state.version + 1, step.oldest)
                )
    except psycopg.errors.InsufficientPrivilege as error:
        what = f"this user may not make tables in the schema {schema}"
        hint = f"as its owner: CREATE SCHEMA {schema} AUTHORIZATION the_user"
        raise ProblemsError(Problem(where=where, what=what, hint=hint)) from error


async def _found(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    """Make the schema and the table of its version, should they not be there."""
    if (await read_state(connection)).version:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor = await connection.execute("SELECT to_regnamespace(%s) IS NULL", (schema,))
        missing = await cursor.fetchone()
        if missing is None or missing[0]:
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version(version integer NOT NULL, oldest integer NOT NULL)"
        )
