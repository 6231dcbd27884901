"""Sending in the clear: the only way to it is :func:`send_in_the_clear` (law 2)."""

from collections.abc import Awaitable, Callable
from typing import Final

from relay.core.level import Level
from relay.core.outcome import Transaction, TransactionResult
from relay.core.ports import Metrics

CLEAR_TOTAL: Final = "postern_clear_deliveries_total"


async def send_in_the_clear(
    exchange: Callable[[Transaction], Awaitable[TransactionResult]],
    transaction: Transaction,
    metrics: Metrics | None,
) -> TransactionResult:
    """Run a transaction over a connection without TLS, and count each copy before it leaves.

    Raises:
        AssertionError: the transaction's floor is above ``CLEAR``. The callers never let it come to that; should one
            ever, nothing is sent.
    """
    if transaction.floor is not Level.CLEAR:
        raise AssertionError("a copy whose floor is above clear was about to be sent in the clear")
    if metrics is not None:
        for _, recipient in transaction.recipients:
            metrics.count(CLEAR_TOTAL, {"recipient_domain": recipient.address.domain})
    return await exchange(transaction)
