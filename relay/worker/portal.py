"""What a worker does for copies that go to the portal: send the notice as ours, and tell the portal how it ended."""

import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol

import structlog

from relay.core.decision import MethodName
from relay.core.entry import Claimed, RecipientState
from relay.core.errors import StoreFullError, StoreUnavailableError
from relay.core.fate import Fate, FateKind

_log = structlog.get_logger("portal")
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries while the portal's store is away; the last one repeats for what was taken."""
_ELSEWHERE = frozenset({FateKind.RECALLED, FateKind.PORTAL_EXPIRED, FateKind.DELIVERED})
"""Ends that are the portal's own, or none of its affair."""


class Portal(Protocol):
    """What the portal is told of a notice. Doing it again does no harm but a second receipt."""

    async def notified(self, message_id: str, number: int, *, told: bool = False) -> None:
        """A server took it; ``told``: the sender is told of that by a DSN."""

    async def withdrawn(self, message_id: str, number: int) -> bool:
        """It could not be delivered, or was taken out: the message in the portal is deleted."""


class Endings:
    """Tells the portal of ends before they are recorded in the queue: a crash between leaves an entry to try again.

    Args:
        portal: who is told; ``None`` where there is no portal.
        pause: waits for seconds.
    """

    def __init__(self, portal: Portal | None, pause: Callable[[float], Awaitable[None]]) -> None:
        self._portal = portal
        self._pause = pause

    async def tell(self, claimed: Claimed, fates: Mapping[int, Fate]) -> bool:
        """Tell of every recipient that ends; ``False``: the portal's store is away, and the entry must wait its turn.

        Where a server took the notice it waits for as long as this process lives: tried again, the recipient has it
        twice. Such are few, for with the store away no other notice is sent.
        """
        if self._portal is None or claimed.entry.method is not MethodName.PORTAL:
            return True
        told = {number: fate for number, fate in fates.items() if fate.kind not in _ELSEWHERE}
        is_taken = any(fate.kind is FateKind.NOTIFIED for fate in told.values())
        for number, fate in told.items():
            pauses = itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])) if is_taken else iter(_PAUSES)
            if not await self._tell(self._portal, claimed, number, pauses, taken=fate.kind is FateKind.NOTIFIED):
                return False
        return True

    async def _tell(
        self, portal: Portal, claimed: Claimed, number: int, pauses: Iterator[float], *, taken: bool
    ) -> bool:
        message_id = claimed.message.id
        told = any(one.number == number and one.recipient.wants("SUCCESS") for one in claimed.entry.recipients)
        while True:
            try:
                if taken:
                    await portal.notified(message_id, number, told=told)
                else:
                    await portal.withdrawn(message_id, number)
            except (StoreUnavailableError, StoreFullError) as error:
                _log.warning("waits for the portal's store", message_id=message_id, error=str(error))
                pause = next(pauses, None)
                if pause is None:
                    return False
                await self._pause(pause)
            else:
                return True


def ours(claimed: Claimed) -> Claimed:
    """The entry as a message of ours in its place is sent: signed for our own author, and no success reported.

    That a server took a notice is no success of the message: its sender is told by us that it was handed on, and by
    receipts of the portal what became of it (RFC 3461 section 5.2.4).
    """
    entry = claimed.entry
    recipients = tuple(map(_unreported, entry.recipients))
    treatment = dataclasses.replace(entry.treatment, sign_as="")
    return dataclasses.replace(claimed, entry=dataclasses.replace(entry, recipients=recipients, treatment=treatment))


def _unreported(state: RecipientState) -> RecipientState:
    recipient = state.recipient
    if not recipient.wants("SUCCESS"):
        return state
    notify = recipient.notify - {"SUCCESS"} or frozenset({"NEVER"})
    return dataclasses.replace(state, recipient=dataclasses.replace(recipient, notify=notify))
