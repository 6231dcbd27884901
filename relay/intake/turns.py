"""Fair shares for taking mail and delivering it: while delivery is behind, messages are taken one after the other.

Both run on one processor. Taking a message needs few steps, delivering it many: left alone, a worker that gets all the
mail it can take would take it several times faster than it delivers it, the queue would grow and every message would
wait for seconds. In turn, it takes mail as fast as one session gives it, and what is done besides is delivery.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from relay.core.envelope import ClientSession, Envelope
from relay.core.reply import Reply
from relay.intake.clients import Client
from relay.intake.listener import Accept

PATIENCE: Final = 1.0
"""Seconds that a message waits for its turn at the most."""


class InTurn:
    """Implements ``Accept`` before an acceptor: lets messages through at once, or in turn while delivery is behind.

    Args:
        accept: takes the message.
        behind: whether delivery is behind now; asked for each message.
        patience: seconds after which a message goes through all the same.
    """

    def __init__(self, accept: Accept, behind: Callable[[], bool], patience: float = PATIENCE) -> None:
        self._accept = accept
        self._behind = behind
        self._patience = patience
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(
        self, session: ClientSession, envelope: Envelope, content: bytes, *, client: Client | None = None
    ) -> Reply:
        """Answer the final dot, when it is this message's turn."""
        if self._under_way and self._behind():
            await self._turn()
        self._under_way += 1
        try:
            return await self._accept(session, envelope, content, client=client)
        finally:
            self._under_way -= 1
            self._next()

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self._patience, _come, turn)
        try:
            await turn
        finally:
            timer.cancel()

    def _next(self) -> None:
        """The next one's turn; everybody's, once delivery has caught up."""
        while self._waiting and (not self._under_way or not self._behind()):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                if self._behind():
                    return


def _come(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
