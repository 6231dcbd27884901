"""Accounts, sessions, codes and limits over the portal's database. Whatever must hold at once is one transaction."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from relay.core.address import Address
from relay.core.portal_accounts import UNTOLD, Account, Device, Plea, Session, Told
from relay.core.ports import Vault
from relay.store.portal.account_tables import ENDING
from relay.store.portal.database import Cursor, Database
from relay.store.portal.guards import Guards
from relay.store.portal.outbox import insert_item
from relay.store.portal.tables import marks

_DEVICE_LIFE: Final = 400 * 86400.0
"""Seconds after which a device that was not seen is deleted; browsers drop its cookie by then (RFC 6265bis)."""
_MOST_SESSIONS: Final = 20
"""Of one mailbox, and devices: who signs in once more ends the one that was unused for longest."""
_SWEPT: Final = 1000


class StoredAccounts(Guards):
    """Implements :class:`relay.core.portal_accounts.Accounts` over a database opened with both modules' tables."""

    def __init__(self, database: Database, vault: Vault, *, device_life: float = _DEVICE_LIFE) -> None:
        """Take what it works with.

        Args:
            database: opened with the schemas of deposits and accounts.
            vault: over the portal's own key ring.
            device_life: seconds after which a device that was not seen is forgotten.
        """
        super().__init__(database, vault)
        self._device_life = device_life

    # --- accounts

    async def account(self, mailbox: Address) -> Account | None:
        """The account of a mailbox."""
        tokens = self._tokens(mailbox)
        sql = f"SELECT handle, version, sealed FROM accounts WHERE mailbox IN ({marks(tokens)})"  # noqa: S608  marks
        return self._account(await self._database.read(lambda cursor: cursor.row(sql, *tokens)))

    async def account_of(self, handle: str) -> Account | None:
        """The account with this WebAuthn user handle."""
        sql = "SELECT handle, version, sealed FROM accounts WHERE handle = ?"
        return self._account(await self._database.read(lambda cursor: cursor.row(sql, handle)))

    async def save(self, account: Account, *, told: Told = UNTOLD, end_sessions: str | None = None) -> Account | None:
        """Store it if nobody has changed it since it was read: with its new version, or ``None``."""
        era = account.era if end_sessions is None else account.era + 1
        saved = replace(account, version=account.version + 1, era=era)
        item = self._told(told)

        def work(cursor: Cursor) -> bool:
            if not self._store(cursor, saved):
                return False
            if end_sessions is not None:
                self._end_others(cursor, account.mailbox, end_sessions)
            insert_item(cursor, item)
            return True

        return saved if await self._database.transact(work, tell=item is not None) else None

    def _store(self, cursor: Cursor, saved: Account) -> bool:
        tokens, sealed = self._tokens(saved.mailbox), self._seal("account", saved.handle, saved)
        if saved.version > 1:
            mine = f"mailbox IN ({marks(tokens)}) AND version = ?"
            sql = f"UPDATE accounts SET mailbox = ?, version = ?, sealed = ? WHERE {mine}"  # noqa: S608  marks
            return bool(cursor.run(sql, tokens[0], saved.version, sealed, *tokens, saved.version - 1))
        if cursor.row(f"SELECT 1 FROM accounts WHERE mailbox IN ({marks(tokens)})", *tokens):  # noqa: S608  marks
            return False
        sql = (
            "INSERT INTO accounts(mailbox, handle, version, sealed) VALUES(?, ?, 1, ?) ON CONFLICT(mailbox) DO NOTHING"
        )
        return bool(cursor.run(sql, tokens[0], saved.handle, sealed))

    def _end_others(self, cursor: Cursor, mailbox: Address, kept: str) -> None:
        tokens = self._tokens(mailbox)
        mine = f"mailbox IN ({marks(tokens)})"
        row = cursor.row("SELECT device FROM sessions WHERE key = ?", kept)
        cursor.run(f"DELETE FROM sessions WHERE {mine} AND key <> ?", *tokens, kept)  # noqa: S608  marks
        cursor.run(f"DELETE FROM devices WHERE {mine} AND id <> ?", *tokens, row[0] if row else "")  # noqa: S608

    # --- sessions and devices

    async def start(
        self,
        session: Session,
        *,
        device: Device | None = None,
        replaces: str = "",
        told: Told = UNTOLD,
        era: int | None = None,
    ) -> bool:
        """Keep a new session, and the device; the session ``replaces`` ends. Whether the era is the account's still."""
        token, item = self._token(session.mailbox), self._told(told)
        sealed = self._seal("session", session.key, session)

        def work(cursor: Cursor) -> bool:
            if era is not None and self._era(cursor, session.mailbox) != era:
                return False
            if replaces:
                cursor.run("DELETE FROM sessions WHERE key = ?", replaces)
            if device is not None:
                self._keep_device(cursor, session.mailbox, device)
            sql = "INSERT INTO sessions(key, mailbox, device, seen_at, ends_at, sealed) VALUES(?, ?, ?, ?, ?, ?)"
            cursor.run(sql, session.key, token, session.device, session.seen_at, session.expires_at, sealed)
            self._bound(cursor, session.mailbox)
            insert_item(cursor, item)
            return True

        return await self._database.transact(work, tell=item is not None)

    def _bound(self, cursor: Cursor, mailbox: Address) -> None:
        tokens = self._tokens(mailbox)
        for table, key, used in (("sessions", "key", "seen_at"), ("devices", "token", "last_seen")):
            mine = f"mailbox IN ({marks(tokens)})"
            kept = f"SELECT {key} FROM {table} WHERE {mine} ORDER BY {used} DESC, {key} LIMIT {_MOST_SESSIONS}"  # noqa: S608
            cursor.run(f"DELETE FROM {table} WHERE {mine} AND {key} NOT IN ({kept})", *tokens, *tokens)  # noqa: S608

    def _keep_device(self, cursor: Cursor, mailbox: Address, device: Device) -> None:
        tokens = self._tokens(mailbox)
        older = tokens[1:]
        if older:
            mine = f"mailbox IN ({marks(older)})"
            cursor.run(f"DELETE FROM devices WHERE {mine} AND token = ?", *older, device.token)  # noqa: S608  marks
        sealed = self._seal("device", device.token, device)
        sql = (
            "INSERT INTO devices(mailbox, token, id, last_seen, sealed) VALUES(?, ?, ?, ?, ?)"
            " ON CONFLICT(mailbox, token) DO UPDATE SET id = excluded.id, last_seen = excluded.last_seen,"
            " sealed = excluded.sealed"
        )
        cursor.run(sql, tokens[0], device.token, device.id, device.last_seen, sealed)

    async def session(self, key: str, *, now: float) -> Session | None:
        """The session, unless its end has come."""
        sql = "SELECT seen_at, sealed FROM sessions WHERE key = ? AND ends_at > ?"
        row = await self._database.read(lambda cursor: cursor.row(sql, key, now))
        return None if row is None else replace(self._open(Session, "session", key, row[1]), seen_at=row[0])

    async def seen(self, key: str, *, at: float) -> None:
        """It was used."""
        sql = "UPDATE sessions SET seen_at = ? WHERE key = ? AND seen_at < ?"
        await self._database.transact(lambda cursor: cursor.run(sql, at, key, at))

    async def grant(self, key: str, scope: str) -> None:
        """Its owner gave the shared secret of this scope."""

        def work(cursor: Cursor) -> None:
            row = cursor.row("SELECT sealed FROM sessions WHERE key = ? FOR UPDATE", key)
            if row is not None:
                session = self._open(Session, "session", key, row[0])
                session = replace(session, grants=session.grants | {scope})
                cursor.run("UPDATE sessions SET sealed = ? WHERE key = ?", self._seal("session", key, session), key)

        await self._database.transact(work)

    async def end(self, key: str) -> None:
        """End it."""
        await self._database.transact(lambda cursor: cursor.run("DELETE FROM sessions WHERE key = ?", key))

    async def end_all(self, mailbox: Address, *, told: Told = UNTOLD) -> int:
        """End all sessions of a mailbox, forget its devices and begin a new era; how many sessions there were."""
        tokens, item = self._tokens(mailbox), self._told(told)

        def work(cursor: Cursor) -> int:
            account = self._locked(cursor, mailbox)
            if account is not None:
                self._store(cursor, replace(account, version=account.version + 1, era=account.era + 1))
            mine = f"mailbox IN ({marks(tokens)})"
            ended = cursor.run(f"DELETE FROM sessions WHERE {mine}", *tokens)  # noqa: S608  marks
            cursor.run(f"DELETE FROM devices WHERE {mine}", *tokens)  # noqa: S608  marks
            insert_item(cursor, item)
            return ended

        return await self._database.transact(work, tell=item is not None)

    async def devices(self, mailbox: Address) -> Sequence[Device]:
        """All known devices of a mailbox, last seen first."""
        tokens = self._tokens(mailbox)
        sql = f"SELECT token, sealed FROM devices WHERE mailbox IN ({marks(tokens)}) ORDER BY last_seen DESC, id"  # noqa: S608  marks
        rows = await self._database.read(lambda cursor: cursor.rows(sql, *tokens))
        return [self._open(Device, "device", token, sealed) for token, sealed in rows]

    async def device(self, mailbox: Address, token: str) -> Device | None:
        """The device with this token, if it is this mailbox's."""
        tokens = self._tokens(mailbox)
        sql = f"SELECT sealed FROM devices WHERE mailbox IN ({marks(tokens)}) AND token = ?"  # noqa: S608  marks
        row = await self._database.read(lambda cursor: cursor.row(sql, *tokens, token))
        return None if row is None else self._open(Device, "device", token, row[0])

    async def forget_device(self, mailbox: Address, device_id: str, *, told: Told = UNTOLD) -> bool:
        """Forget the device and end its sessions; whether there was one."""
        tokens, item = self._tokens(mailbox), self._told(told)

        def work(cursor: Cursor) -> bool:
            mine = f"mailbox IN ({marks(tokens)})"
            there = cursor.run(f"DELETE FROM devices WHERE {mine} AND id = ?", *tokens, device_id)  # noqa: S608  marks
            cursor.run(f"DELETE FROM sessions WHERE {mine} AND device = ?", *tokens, device_id)  # noqa: S608  marks
            if there:
                insert_item(cursor, item)
            return bool(there)

        return await self._database.transact(work, tell=item is not None)

    # --- recovery

    async def plead(self, pleas: Sequence[Plea], *, told: Told = UNTOLD) -> None:
        """Keep what senders are asked."""
        item = self._told(told)
        rows = [(plea.token, plea.expires_at, self._seal("plea", plea.token, plea)) for plea in pleas]

        def work(cursor: Cursor) -> None:
            for row in rows:
                cursor.run("INSERT INTO pleas(token, ends_at, sealed) VALUES(?, ?, ?)", *row)
            insert_item(cursor, item)

        await self._database.transact(work, tell=item is not None)

    async def plea(self, token: str, *, now: float) -> Plea | None:
        """What the sender with this link is asked."""
        sql = "SELECT sealed FROM pleas WHERE token = ? AND ends_at > ?"
        row = await self._database.read(lambda cursor: cursor.row(sql, token, now))
        return None if row is None else self._open(Plea, "plea", token, row[0])

    async def answer(self, token: str, *, now: float, told: Told = UNTOLD) -> bool:
        """The sender approves: their older messages show again, and the plea is used up."""
        item = self._told(told)

        def work(cursor: Cursor) -> bool:
            row = cursor.row("SELECT sealed FROM pleas WHERE token = ? AND ends_at > ? FOR UPDATE", token, now)
            if row is None:
                return False
            cursor.run("DELETE FROM pleas WHERE token = ?", token)
            if not self._show(cursor, self._open(Plea, "plea", token, row[0])):
                return False
            insert_item(cursor, item)
            return True

        return await self._database.transact(work, tell=item is not None)

    def _show(self, cursor: Cursor, plea: Plea) -> bool:
        account = self._locked(cursor, plea.mailbox)
        if account is None or account.hidden_before != plea.hidden_before:
            return False
        shown = tuple(sorted({*account.shown_from, plea.sender}))
        return self._store(cursor, replace(account, shown_from=shown, version=account.version + 1))

    # --- housekeeping

    async def sweep(self, *, now: float) -> int:
        """Delete what is past its time; how many rows, at the most some thousand."""

        def work(cursor: Cursor) -> int:
            count = sum(_sweep(cursor, table, "ends_at", now) for table in ENDING)
            return count + _sweep(cursor, "devices", "last_seen", now - self._device_life)

        return await self._database.transact(work)


_KEYS: Final = {
    "limits": "name",
    "nonces": "nonce",
    "challenges": "visit",
    "sessions": "key",
    "pleas": "token",
    "devices": "token",
}


def _sweep(cursor: Cursor, table: str, column: str, before: float) -> int:
    key = _KEYS[table]
    old = f"SELECT {key} FROM {table} WHERE {column} <= ? LIMIT {_SWEPT}"  # noqa: S608  names of our own
    return cursor.run(f"DELETE FROM {table} WHERE {key} IN ({old}) AND {column} <= ?", before, before)  # noqa: S608
