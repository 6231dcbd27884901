"""The deposits' tables: written once for both databases."""

from collections.abc import Sequence
from typing import Any, Final

from relay.core.portal import FINAL_STATES, DepositState
from relay.store.portal.database import Schema

FINAL: Final = tuple(sorted(state.value for state in FINAL_STATES))
LIVE: Final = tuple(sorted(state.value for state in DepositState if state not in FINAL_STATES))
_LIVE_SQL: Final = ", ".join(f"'{state}'" for state in LIVE)

SCHEMA: Final = Schema(
    module="deposits",
    steps=(
        (
            """CREATE TABLE deposits(
                id TEXT PRIMARY KEY,
                message_id TEXT NOT NULL,
                number INTEGER NOT NULL,
                mailbox BLOB NOT NULL,
                tenant TEXT NOT NULL,
                state TEXT NOT NULL,
                reminded INTEGER NOT NULL,
                deposited_at REAL NOT NULL,
                expires_at REAL NOT NULL,
                ended_at REAL,
                facts BLOB NOT NULL,
                headers BLOB,
                UNIQUE(message_id, number)
            )""",
            "CREATE INDEX deposits_mailbox ON deposits(mailbox, deposited_at, id)",
            "CREATE INDEX deposits_time ON deposits(deposited_at, id)",
            "CREATE INDEX deposits_state ON deposits(state, deposited_at)",
            f"CREATE INDEX deposits_due ON deposits(expires_at, id) WHERE state IN ({_LIVE_SQL})",
            "CREATE INDEX deposits_ended ON deposits(ended_at) WHERE ended_at IS NOT NULL",
            "CREATE TABLE data_keys(deposit_id TEXT PRIMARY KEY, sealed BLOB NOT NULL)",
            """CREATE TABLE pieces(
                deposit_id TEXT NOT NULL,
                number INTEGER NOT NULL,
                sealed BLOB NOT NULL,
                PRIMARY KEY(deposit_id, number)
            )""",
            """CREATE TABLE outbox(
                seq SERIAL KEY,
                sealed BLOB NOT NULL,
                owner TEXT,
                held_until REAL NOT NULL
            )""",
        ),
        (
            "ALTER TABLE deposits ADD COLUMN sender BLOB",
            "ALTER TABLE deposits ADD COLUMN who BLOB",
            "CREATE INDEX deposits_sender ON deposits(sender, deposited_at, id)",
            f"CREATE INDEX deposits_unlisted ON deposits(id) WHERE who IS NULL AND state IN ({_LIVE_SQL})",
        ),
    ),
)
"""The row's sealed facts are the truth; the open columns are an index to them (as in :mod:`relay.store.codec`).

``sender`` is the envelope's sender as ``mailbox`` is sealed; ``who`` what a search looks at, sealed by itself, so that
one need not open all of a row. Both are empty in rows of an older version until they are listed anew.
"""

ROW: Final = "d.id, d.facts, d.headers, k.sealed"
FROM: Final = "FROM deposits d LEFT JOIN data_keys k ON k.deposit_id = d.id"

INSERT: Final = (
    "INSERT INTO deposits(id, message_id, number, mailbox, tenant, state, reminded, deposited_at, expires_at, facts,"
    " headers, sender, who) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(message_id, number) DO NOTHING"
)
UPDATE: Final = "UPDATE deposits SET facts = ?, state = ?, reminded = ?, expires_at = ? WHERE id = ?"
DUE: Final = (
    f"SELECT {ROW} {FROM} WHERE d.state IN ({_LIVE_SQL})"
    " AND (d.expires_at <= ? OR (d.state = 'waiting' AND d.reminded = 0 AND d.expires_at <= ?))"
    " ORDER BY d.expires_at, d.id LIMIT ?"
)
UNLISTED: Final = (
    f"SELECT {ROW} {FROM} WHERE d.who IS NULL AND d.state IN ({_LIVE_SQL}) ORDER BY d.id LIMIT ? FOR UPDATE OF d"
)
TAKE: Final = (
    "SELECT seq, sealed FROM outbox WHERE owner IS NULL OR owner = ? OR held_until <= ? ORDER BY seq LIMIT ?"
    " FOR UPDATE SKIP LOCKED"
)
LEASE: Final = "UPDATE outbox SET owner = ?, held_until = ? WHERE seq IN ({})"
FORGET: Final = "DELETE FROM outbox WHERE seq IN ({})"
PLACE: Final = "SELECT deposited_at, id FROM deposits WHERE id = ?"


def marks(values: Sequence[Any]) -> str:
    """``?, ?, ?``: one for each."""
    return ", ".join("?" * len(values))
