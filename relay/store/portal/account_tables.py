"""The tables of accounts, sessions, codes and limits: written once for both databases."""

from typing import Final

from relay.store.portal.database import Schema

SCHEMA: Final = Schema(
    module="accounts",
    steps=(
        (
            "CREATE TABLE limits(name TEXT PRIMARY KEY, used INTEGER NOT NULL, ends_at REAL NOT NULL)",
            "CREATE INDEX limits_end ON limits(ends_at)",
            "CREATE TABLE nonces(nonce TEXT PRIMARY KEY, ends_at REAL NOT NULL)",
            "CREATE INDEX nonces_end ON nonces(ends_at)",
            """CREATE TABLE challenges(
                visit TEXT NOT NULL,
                subject TEXT NOT NULL,
                tries INTEGER NOT NULL,
                made_at REAL NOT NULL,
                ends_at REAL NOT NULL,
                sealed BLOB NOT NULL,
                PRIMARY KEY(visit, subject)
            )""",
            "CREATE INDEX challenges_end ON challenges(ends_at)",
            """CREATE TABLE accounts(
                mailbox BLOB PRIMARY KEY,
                handle TEXT NOT NULL UNIQUE,
                version INTEGER NOT NULL,
                sealed BLOB NOT NULL
            )""",
            """CREATE TABLE sessions(
                key TEXT PRIMARY KEY,
                mailbox BLOB NOT NULL,
                device TEXT NOT NULL,
                seen_at REAL NOT NULL,
                ends_at REAL NOT NULL,
                sealed BLOB NOT NULL
            )""",
            "CREATE INDEX sessions_mailbox ON sessions(mailbox)",
            "CREATE INDEX sessions_end ON sessions(ends_at)",
            """CREATE TABLE devices(
                mailbox BLOB NOT NULL,
                token TEXT NOT NULL,
                id TEXT NOT NULL,
                last_seen REAL NOT NULL,
                sealed BLOB NOT NULL,
                PRIMARY KEY(mailbox, token)
            )""",
            "CREATE INDEX devices_seen ON devices(last_seen)",
            """CREATE TABLE shared_secrets(
                mailbox BLOB NOT NULL,
                scope TEXT NOT NULL,
                used INTEGER NOT NULL,
                sealed BLOB,
                PRIMARY KEY(mailbox, scope)
            )""",
            """CREATE TABLE pleas(
                token TEXT PRIMARY KEY,
                ends_at REAL NOT NULL,
                sealed BLOB NOT NULL
            )""",
            "CREATE INDEX pleas_end ON pleas(ends_at)",
        ),
    ),
)
"""Tokens are kept as digests, mailboxes and limits' keys under the portal's key ring, the rest sealed (law 7)."""

ENDING: Final = ("limits", "nonces", "challenges", "sessions", "pleas")
"""Tables whose rows end at ``ends_at``."""
