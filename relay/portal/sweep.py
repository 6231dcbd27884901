"""What the portal does by the clock: messages expire, readers are reminded, what ended long ago is forgotten."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay.core.portal import Deposits, DepositState
from relay.core.ports import Clock
from relay.portal.ledger import Ledger

_log = structlog.get_logger("portal")
_PAGE: Final = 200
_MOST: Final = 50
"""Pages of one round: what is left waits for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """When.

    Attributes:
        remind_before: seconds before its end that an unread message's reader is reminded; 0: never.
        keep_records: seconds that what became of a deleted message is listed.
    """

    remind_before: float = 3 * 86_400.0
    keep_records: float = 90 * 86_400.0


class Sweeper:
    """Looks for what is due.

    Args:
        deposits: the portal's store.
        ledger: changes deposits.
        forget: deletes what accounts, sessions and counters leave behind.
        options: when.
        clock: unix seconds.
    """

    def __init__(
        self,
        deposits: Deposits,
        ledger: Ledger,
        *,
        forget: Callable[[], Awaitable[object]],
        options: SweepOptions,
        clock: Clock,
    ) -> None:
        self._deposits = deposits
        self._ledger = ledger
        self._forget = forget
        self._options = options
        self._clock = clock

    async def sweep(self) -> None:
        """One round.

        Raises:
            StoreError: the store is away; the next round goes on.
        """
        await self._due()
        await self._prune()
        await self._forget()
        await self._deposits.scrub()  # for what readers, senders and operators ended since the last round as well

    async def _due(self) -> None:
        """Expire and remind."""
        for _ in range(_MOST):
            now = self._clock()
            due = await self._deposits.due(now=now, remind_before=self._options.remind_before, limit=_PAGE)
            moved = 0
            for deposit in due:
                if deposit.expires_at <= now:
                    done = await self._ledger.expired(deposit)
                else:
                    done = deposit.state is DepositState.WAITING and await self._ledger.reminded(deposit)
                moved += done
            if len(due) < _PAGE or not moved:
                return

    async def _prune(self) -> None:
        before, gone = self._clock() - self._options.keep_records, 0
        for _ in range(_MOST):
            pruned = await self._deposits.prune(before=before, limit=_PAGE)
            gone += pruned
            if pruned < _PAGE:
                break
        if gone:
            _log.info("records of ended messages deleted", count=gone)
