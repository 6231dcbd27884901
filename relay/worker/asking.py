"""What a next hop is asked of notices (RFC 3461), and what is done where it offers DSN and refuses the question."""

from dataclasses import replace
from typing import Final

from relay.core.outcome import RecipientResult, Stage, Transaction
from relay.core.ports import DeliverySession

_OF_PARAMETERS: Final = frozenset({501, 504, 553, 555})
"""What servers answer to a parameter that they do not take, though other causes may hide behind it."""


async def transact(session: DeliverySession, transaction: Transaction) -> tuple[list[RecipientResult], set[int]]:
    """Carry it out; who is refused as the parameters of DSN may be is tried once more without them.

    Some servers take less than RFC 3461 section 5.4 wants; mail is not lost for a question about notices.

    Returns:
        One result a recipient, and the numbers of those that DSN was used for.
    """
    results = list((await session.transact(transaction)).results)
    numbers = {number for number, _ in transaction.recipients}
    if not session.features.dsn:
        return results, set()
    again = _refused(transaction, results)
    if not again or not session.alive:
        return results, numbers
    results = [result for result in results if result.number not in again]
    results += (await session.transact(_unasked(transaction, again))).results
    return results, numbers - again


def _refused(transaction: Transaction, results: list[RecipientResult]) -> set[int]:
    """Who was refused where something was asked, by an answer that may be about that."""
    about_all = bool(transaction.envelope_id or transaction.ret)
    asking = {number for number, recipient in transaction.recipients if recipient.notify or recipient.original}
    refused = set()
    for result in results:
        failure = result.failure
        if failure is None or failure.reply is None or failure.reply.code not in _OF_PARAMETERS:
            continue
        if (failure.stage is Stage.MAIL and about_all) or (failure.stage is Stage.RCPT and result.number in asking):
            refused.add(result.number)
    return refused


def _unasked(transaction: Transaction, numbers: set[int]) -> Transaction:
    recipients = tuple(
        (number, replace(recipient, notify=frozenset(), original=""))
        for number, recipient in transaction.recipients
        if number in numbers
    )
    return replace(transaction, recipients=recipients, envelope_id="", ret="")
