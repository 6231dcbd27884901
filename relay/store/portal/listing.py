"""Lists of the portal's messages: pages by time, and searches for a sender that open no more than they must."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from relay.core.errors import SealError
from relay.core.portal import Deposit, DepositFilter
from relay.core.ports import Vault
from relay.store.portal import tables
from relay.store.portal.database import Cursor

_log = structlog.get_logger("store")
_WHO: Final = "portal-who"
_SCANNED: Final = 5_000
"""Rows that one page of a search looks at."""
_CHUNK: Final = 500


def who_of(vault: Vault, deposit: Deposit) -> tuple[bytes | None, bytes]:
    """The columns ``sender`` and ``who`` of a deposit: for lists of what somebody sent, and for searches."""
    sender = deposit.sender.address
    sealed = vault.seal(_WHO, deposit.id, _searched(deposit).encode("utf-8", "surrogatepass"))
    return None if sender is None else vault.seal_address(sender.key), sealed


def _searched(deposit: Deposit) -> str:
    return f"{deposit.origin_from} {deposit.sender}".casefold()


class Listing:
    """Pages of deposits by time of deposit, under some conditions."""

    def __init__(
        self,
        where: DepositFilter,
        vault: Vault,
        open_rows: Callable[[Sequence[Any]], list[Deposit]],
        *,
        newest_first: bool,
    ) -> None:
        """Take what is asked for.

        Args:
            where: the conditions.
            vault: over the portal's own key ring.
            open_rows: opens rows of ``tables.ROW``, and leaves out what is damaged.
            newest_first: or the oldest.
        """
        self._vault, self._open_rows = vault, open_rows
        self._text = where.text.casefold()
        self._values: list[Any] = []
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        first = " AND ".join(self._clauses(where)) or "1 = 1"
        self._first = f"{first} ORDER BY d.deposited_at {order}, d.id {order} LIMIT ?"
        later = f"{first} AND (d.deposited_at, d.id) {beyond} ({tables.PLACE})"
        self._later = f"{later} ORDER BY d.deposited_at {order}, d.id {order} LIMIT ?"

    def page(self, cursor: Cursor, after: str, limit: int) -> tuple[list[Deposit], str]:
        """The next so many after the deposit ``after``, and where the next page begins; empty at the end."""
        if self._text:
            return self._search(cursor, after, limit)
        found: list[Deposit] = []
        while True:
            count = limit - len(found) + 1
            rows = self._rows(cursor, f"{tables.ROW} {tables.FROM}", after, count)
            for row in rows:
                if len(found) == limit:
                    return found, after
                after = row[0]
                found += self._open_rows([row])
            if len(rows) < count:
                return found, ""

    def _search(self, cursor: Cursor, after: str, limit: int) -> tuple[list[Deposit], str]:
        found: list[Deposit] = []
        for _ in range(_SCANNED // _CHUNK):
            rows = self._rows(cursor, "d.id, d.who FROM deposits d", after, _CHUNK)
            for deposit_id, who in rows:
                hit = self._hit(cursor, deposit_id, who)
                if hit and len(found) == limit:
                    return found, after
                after = deposit_id
                found += hit
            if len(rows) < _CHUNK:
                return found, ""
        return found, after

    def _hit(self, cursor: Cursor, deposit_id: str, who: bytes | None) -> list[Deposit]:
        """The deposit if it is one that is looked for. A row of an older version is opened whole."""
        try:
            if who is not None and self._text not in self._vault.open(_WHO, deposit_id, who).decode(
                "utf-8", "surrogatepass"
            ):
                return []
        except SealError as error:
            _log.error("deposit_damaged", deposit=deposit_id, detail=str(error))
            return []
        rows = cursor.rows(f"SELECT {tables.ROW} {tables.FROM} WHERE d.id = ?", deposit_id)
        return [deposit for deposit in self._open_rows(rows) if self._text in _searched(deposit)]

    def _rows(self, cursor: Cursor, what: str, after: str, count: int) -> list[tuple[Any, ...]]:
        if after:
            return cursor.rows(f"SELECT {what} WHERE {self._later}", *self._values, after, count)
        return cursor.rows(f"SELECT {what} WHERE {self._first}", *self._values, count)

    def _clauses(self, where: DepositFilter) -> list[str]:
        clauses: list[str] = []
        for address, column in ((where.mailbox, "mailbox"), (where.sender, "sender")):
            if address is not None:
                clauses.append(self._one_of(column, self._vault.address_tokens(address.key)))
        if where.states:
            clauses.append(self._one_of("state", sorted(state.value for state in where.states)))
        for value, clause in (
            (where.message_id, "d.message_id = ?"),
            (where.tenant, "d.tenant = ?"),
            (where.since, "d.deposited_at >= ?"),
            (where.until, "d.deposited_at < ?"),
        ):
            if value not in ("", None):
                clauses.append(clause)
                self._values.append(value)
        return clauses

    def _one_of(self, column: str, values: Sequence[Any]) -> str:
        self._values += values
        return f"d.{column} IN ({tables.marks(values)})"
