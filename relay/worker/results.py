"""What one transaction told of the recipients of an entry: one result each, and whether a kept connection was stale."""

from collections.abc import Iterable
from typing import Final

from relay.core.entry import Claimed
from relay.core.outcome import Failure, RecipientResult, Stage, Trouble
from relay.core.ports import ConnectError

_CLOSING: Final = 421  # "closing transmission channel", RFC 5321 section 3.8


def one_each(claimed: Claimed, results: Iterable[RecipientResult]) -> tuple[RecipientResult, ...]:
    """Exactly one result a recipient (law 5): for one that none speaks of nothing positive was said; others are noise.

    Of several, a delivery counts: the peer has the copy.
    """
    found: dict[int, RecipientResult] = {}
    for result in results:
        if result.number not in found or result.delivered:
            found[result.number] = result
    numbers = (state.number for state in claimed.entry.recipients)
    return tuple(found.get(number) or RecipientResult(number=number) for number in numbers)


def last(error: ConnectError) -> Failure:
    """The failure to report of all that were met."""
    if error.failures:
        return error.failures[-1]
    return Failure(trouble=Trouble.NETWORK, stage=Stage.CONNECT, detail="no host could be tried")


def was_stale(results: Iterable[RecipientResult]) -> bool:
    """Whether a kept connection ended before it took anything: the peer closed it, or said 421, while it was idle."""
    return all(_ended_idle(result.failure) for result in results)


def _ended_idle(failure: Failure | None) -> bool:
    if failure is None or failure.stage is not Stage.MAIL:
        return False
    if failure.reply is not None:
        return failure.reply.code == _CLOSING
    return failure.trouble is Trouble.NETWORK
