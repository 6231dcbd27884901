"""What keeps guessers out, over the portal's database: limits, single use, mailed codes, shared secrets."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from relay.core.address import Address
from relay.core.errors import CorruptError, SealError
from relay.core.portal_accounts import UNTOLD, Account, Challenge, Limit, Redemption, SharedSecret, Told
from relay.core.ports import Vault
from relay.store.codec import dump, load
from relay.store.portal.database import Cursor, Database
from relay.store.portal.outbox import insert_item, seal_item
from relay.store.portal.tables import marks

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What of a challenge is sealed."""

    mailbox: Address | None
    code: str
    era: int = 0


class Guards:
    """The part of :class:`relay.core.portal_accounts.Accounts` that counts and compares."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    # --- sealing

    def _seal(self, purpose: str, context: str, value: object) -> bytes:
        return self._vault.seal(f"portal-{purpose}", context, dump(value))

    def _open(self, cls: type[_T], purpose: str, context: str, sealed: bytes) -> _T:
        try:
            return load(cls, self._vault.open(f"portal-{purpose}", context, sealed), f"a {purpose}")
        except SealError as error:
            raise CorruptError(f"a {purpose} of the portal cannot be opened: {error}") from error

    def _token(self, mailbox: Address) -> bytes:
        return self._vault.seal_address(mailbox.key)

    def _tokens(self, mailbox: Address) -> tuple[bytes, ...]:
        return self._vault.address_tokens(mailbox.key)

    def _told(self, told: Told) -> bytes | None:
        return seal_item(self._vault, told.posts, told.events) if told.posts or told.events else None

    def _account(self, row: tuple[Any, ...] | None) -> Account | None:
        if row is None:
            return None
        return replace(self._open(Account, "account", row[0], row[2]), version=row[1])

    def _locked(self, cursor: Cursor, mailbox: Address) -> Account | None:
        """The account of a mailbox; nobody else changes it before this transaction ends."""
        tokens = self._tokens(mailbox)
        sql = f"SELECT handle, version, sealed FROM accounts WHERE mailbox IN ({marks(tokens)}) FOR UPDATE"  # noqa: S608  marks
        return self._account(cursor.row(sql, *tokens))

    def _era(self, cursor: Cursor, mailbox: Address) -> int:
        account = self._locked(cursor, mailbox)
        return account.era if account else 0

    # --- limits

    async def allow(self, limits: Sequence[Limit], *, now: float) -> Limit | None:
        """Count one more under each of the limits, or under none: the first that is reached, else ``None``."""
        named = self._named(limits)
        return await self._database.transact(lambda cursor: _allow(cursor, named, now))

    def _named(self, limits: Sequence[Limit]) -> dict[str, Limit]:
        return {self._vault.digest(f"limit:{limit.name}:{limit.key}"): limit for limit in limits}

    async def use_once(self, nonce: str, *, until: float) -> bool:
        """Whether this is the first time that this is used; kept until then."""
        sql = "INSERT INTO nonces(nonce, ends_at) VALUES(?, ?) ON CONFLICT(nonce) DO NOTHING"
        return bool(await self._database.transact(lambda cursor: cursor.run(sql, nonce, until)))

    async def is_used(self, nonce: str) -> bool:
        """Whether it was used."""
        sql = "SELECT 1 FROM nonces WHERE nonce = ?"
        return await self._database.read(lambda cursor: cursor.row(sql, nonce)) is not None

    # --- codes

    async def challenge(
        self, challenge: Challenge, *, again_after: float, limits: Sequence[Limit] = (), told: Told = UNTOLD
    ) -> Limit | None:
        """Keep it in the place of an older one, unless that is too young; the limit that forbids it, if one does."""
        key, now = (challenge.visit, challenge.subject), challenge.made_at
        item, named = self._told(told), self._named(limits)

        def work(cursor: Cursor) -> Limit | None:
            sql = "SELECT made_at, ends_at FROM challenges WHERE visit = ? AND subject = ? FOR UPDATE"
            row = cursor.row(sql, *key)
            if row is not None and abs(now - row[0]) < again_after and row[1] > now:
                return None
            if reached := _allow(cursor, named, now):
                return reached
            if row is not None:
                cursor.run("DELETE FROM challenges WHERE visit = ? AND subject = ?", *key)
            era = self._era(cursor, challenge.mailbox) if challenge.mailbox else 0
            asked = _Asked(mailbox=challenge.mailbox, code=challenge.code, era=era)
            sealed = self._seal("code", "\0".join(key), asked)
            insert = (
                "INSERT INTO challenges(visit, subject, tries, made_at, ends_at, sealed) VALUES(?, ?, ?, ?, ?, ?)"
                " ON CONFLICT(visit, subject) DO NOTHING"
            )
            if cursor.run(insert, *key, challenge.tries, now, challenge.expires_at, sealed):
                insert_item(cursor, item)
            return None

        return await self._database.transact(work, tell=item is not None)

    async def redeem(self, visit: str, subject: str, code: str, *, now: float) -> Redemption:
        """Use up the code if it fits; a wrong answer takes one of its tries."""

        def work(cursor: Cursor) -> Redemption:
            sql = "SELECT tries, sealed FROM challenges WHERE visit = ? AND subject = ? AND ends_at > ? FOR UPDATE"
            row = cursor.row(sql, visit, subject, now)
            if row is None:
                return Redemption()
            asked = self._open(_Asked, "code", f"{visit}\0{subject}", row[1])
            fits = hmac.compare_digest(asked.code.encode(), code.encode("utf-8", "surrogatepass"))
            left = 0 if fits else row[0] - 1
            if left > 0:
                cursor.run("UPDATE challenges SET tries = ? WHERE visit = ? AND subject = ?", left, visit, subject)
            else:
                cursor.run("DELETE FROM challenges WHERE visit = ? AND subject = ?", visit, subject)
            if not fits or asked.mailbox is None or self._era(cursor, asked.mailbox) != asked.era:
                return Redemption(tries=left)
            return Redemption(mailbox=asked.mailbox)

        return await self._database.transact(work)

    # --- shared secrets

    async def set_shared(self, mailbox: Address, secret: SharedSecret, *, told: Told = UNTOLD) -> None:
        """Set it, in the place of an older one; all tries are left again."""
        tokens, item = self._tokens(mailbox), self._told(told)
        sealed = self._seal("shared", secret.scope, secret)

        def work(cursor: Cursor) -> None:
            _drop_shared(cursor, tokens[1:], secret.scope)
            sql = (
                "INSERT INTO shared_secrets(mailbox, scope, used, sealed) VALUES(?, ?, 0, ?)"
                " ON CONFLICT(mailbox, scope) DO UPDATE SET used = 0, sealed = excluded.sealed"
            )
            cursor.run(sql, tokens[0], secret.scope, sealed)
            insert_item(cursor, item)

        await self._database.transact(work, tell=item is not None)

    async def shared(self, mailbox: Address, scopes: Sequence[str]) -> SharedSecret | None:
        """The first of these that is set."""
        tokens = self._tokens(mailbox)
        sql = (
            f"SELECT scope, sealed FROM shared_secrets WHERE mailbox IN ({marks(tokens)})"  # noqa: S608  marks
            f" AND scope IN ({marks(scopes)}) AND sealed IS NOT NULL"
        )
        rows = await self._database.read(lambda cursor: cursor.rows(sql, *tokens, *scopes))
        found = dict(rows)
        for scope in scopes:
            if scope in found:
                return self._open(SharedSecret, "shared", scope, found[scope])
        return None

    async def try_shared(self, mailbox: Address, scope: str, *, most: int) -> bool:
        """Count a try before it is judged; whether there was one left."""
        tokens = self._tokens(mailbox)

        def work(cursor: Cursor) -> bool:
            mine = f"mailbox IN ({marks(tokens)}) AND scope = ?"
            found = f"SELECT used FROM shared_secrets WHERE {mine} FOR UPDATE"  # noqa: S608  marks
            row = cursor.row(found, *tokens, scope)
            if row is None:
                sql = (
                    "INSERT INTO shared_secrets(mailbox, scope, used, sealed) VALUES(?, ?, 0, NULL)"
                    " ON CONFLICT(mailbox, scope) DO NOTHING"
                )
                cursor.run(sql, tokens[0], scope)
                row = cursor.row(found, *tokens, scope)
            if row is None or row[0] >= most:
                return False
            cursor.run(f"UPDATE shared_secrets SET used = used + 1 WHERE {mine}", *tokens, scope)  # noqa: S608  marks
            return True

        return await self._database.transact(work)

    async def clear_shared(self, mailbox: Address, scope: str) -> None:
        """It was given rightly, or the clinic allows it: all tries are left again."""
        tokens = self._tokens(mailbox)
        sql = f"UPDATE shared_secrets SET used = 0 WHERE mailbox IN ({marks(tokens)}) AND scope = ?"  # noqa: S608  marks
        await self._database.transact(lambda cursor: cursor.run(sql, *tokens, scope))


def _allow(cursor: Cursor, named: Mapping[str, Limit], now: float) -> Limit | None:
    reached = set()
    for name in sorted(named):  # one order for all, so that two transactions never wait for each other
        limit = named[name]
        # One that ends later than any of now could was begun before the clock was set back; nodes' clocks may differ.
        latest = now + 2 * limit.window
        cursor.run("DELETE FROM limits WHERE name = ? AND (ends_at <= ? OR ends_at > ?)", name, now, latest)
        insert = "INSERT INTO limits(name, used, ends_at) VALUES(?, 0, ?) ON CONFLICT(name) DO NOTHING"
        cursor.run(insert, name, now + limit.window)
        row = cursor.row("SELECT used FROM limits WHERE name = ? FOR UPDATE", name)
        if row is None or row[0] >= limit.most:
            reached.add(name)
    for name, limit in named.items():
        if name in reached:
            # What is refused leaves no row: else whoever is refused could fill the disk.
            cursor.run(f"DELETE FROM limits WHERE used = 0 AND name IN ({marks(tuple(named))})", *named)  # noqa: S608  marks
            return limit
    for name in named:
        cursor.run("UPDATE limits SET used = used + 1 WHERE name = ?", name)
    return None


def _drop_shared(cursor: Cursor, tokens: Sequence[bytes], scope: str) -> None:
    if tokens:
        sql = f"DELETE FROM shared_secrets WHERE mailbox IN ({marks(tokens)}) AND scope = ?"  # noqa: S608  marks
        cursor.run(sql, *tokens, scope)
