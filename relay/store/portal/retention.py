"""Accounts that nobody uses are deleted: no sign-in for so long, and no message that could still be read.

When an account was last used is noted once a day: from its sessions and devices, and from messages that live. So the
note outlasts devices, which are forgotten sooner. Rows name a mailbox under the version of the ring that was newest
when they were written. Those of one mailbox need not look alike: each account is opened, and asked for under all.
"""

from collections.abc import Sequence
from typing import Any, Final

import structlog

from relay.core.change import AuditEvent
from relay.core.errors import CorruptError
from relay.core.portal_accounts import Account, Told
from relay.store.portal.database import Cursor, Schema
from relay.store.portal.guards import Guards
from relay.store.portal.outbox import insert_item
from relay.store.portal.tables import LIVE, marks

_log = structlog.get_logger("store")
_DAY: Final = 86_400.0
_THEIRS: Final = ("sessions", "devices", "shared_secrets", "accounts")

SCHEMA: Final = Schema(
    module="retention",
    steps=(
        (
            "CREATE TABLE account_use(handle TEXT PRIMARY KEY, used_at REAL NOT NULL, checked_at REAL NOT NULL)",
            "CREATE INDEX account_use_checked ON account_use(checked_at)",
        ),
    ),
)
_UNKNOWN: Final = (
    "SELECT a.handle, a.version, a.sealed, NULL FROM accounts a WHERE NOT EXISTS"
    " (SELECT 1 FROM account_use u WHERE u.handle = a.handle) LIMIT ?"
)
_DUE: Final = (
    "SELECT a.handle, a.version, a.sealed, u.used_at FROM account_use u JOIN accounts a ON a.handle = u.handle"
    " WHERE u.checked_at < ? ORDER BY u.checked_at LIMIT ?"
)
_NOTE: Final = (
    "INSERT INTO account_use(handle, used_at, checked_at) VALUES(?, ?, ?)"
    " ON CONFLICT(handle) DO UPDATE SET used_at = excluded.used_at, checked_at = excluded.checked_at"
)


class Retention(Guards):
    """Deletes accounts that are not used, over a database opened with :data:`SCHEMA`, accounts and deposits."""

    async def sweep(self, *, now: float, keep: float, limit: int) -> int:
        """Note when accounts were used, and delete those that were not for ``keep`` seconds; how many were looked at.

        An account that was never looked at counts as used now: time begins with the version that counts it.
        """

        def work(cursor: Cursor) -> int:
            rows = cursor.rows(_UNKNOWN, limit) or cursor.rows(_DUE, now - _DAY, limit)
            for row in rows:
                self._judge(cursor, row, now, keep)
            return len(rows)

        return await self._database.transact(work, tell=True)

    def _judge(self, cursor: Cursor, row: Sequence[Any], now: float, keep: float) -> None:
        handle, _, _, used_at = row
        try:
            account = self._account(tuple(row[:3]))
        except CorruptError as error:
            _log.error("account_damaged", detail=str(error))
            account = None
        if used_at is None or account is None:
            cursor.run(_NOTE, handle, now if used_at is None else used_at, now)
            return
        tokens = self._tokens(account.mailbox)
        used = max(used_at, _last_use(cursor, tokens, now))
        if used > now - keep:
            cursor.run(_NOTE, handle, used, now)
            return
        self._delete(cursor, account, tokens, now, used)

    def _delete(self, cursor: Cursor, account: Account, tokens: Sequence[bytes], now: float, used: float) -> None:
        for table in _THEIRS:
            cursor.run(f"DELETE FROM {table} WHERE mailbox IN ({marks(tokens)})", *tokens)  # noqa: S608  marks
        cursor.run("DELETE FROM account_use WHERE handle = ?", account.handle)
        facts = {"event": "account-deleted", "recipients": [str(account.mailbox)], "last_used": used}
        insert_item(cursor, self._told(Told(events=(AuditEvent(kind="portal", at=now, facts=facts),))))
        _log.info("portal_account_deleted", domain=account.mailbox.domain)


def _last_use(cursor: Cursor, tokens: Sequence[bytes], now: float) -> float:
    """When somebody signed in last, as far as is still known; now where a message waits for them."""
    mine = f"mailbox IN ({marks(tokens)})"
    live = f"SELECT 1 FROM deposits WHERE {mine} AND state IN ({marks(LIVE)}) LIMIT 1"  # noqa: S608  marks
    if cursor.row(live, *tokens, *LIVE):
        return now
    session = cursor.row(f"SELECT max(seen_at) FROM sessions WHERE {mine}", *tokens)  # noqa: S608  marks
    device = cursor.row(f"SELECT max(last_seen) FROM devices WHERE {mine}", *tokens)  # noqa: S608  marks
    return max(float(row[0]) for row in (session, device, (0.0,)) if row and row[0] is not None)
