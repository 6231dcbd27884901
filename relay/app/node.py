"""A worker's part in its node's life: it serves, or, while the node is drained, it waits."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from relay.app.queue import Store, node_is_draining
from relay.core.errors import PosternError
from relay.store import SqliteStore

log = structlog.get_logger("node")


class NodeSwitch:
    """Turns serving on and off as operators drain and resume this node; without nodes it is always on.

    Args:
        store: knows what operators told this node.
        serve: begins to listen and to deliver.
        cease: ends both, finishing or giving back what is in hand.
        again: seconds until a failed turn is tried again.
    """

    def __init__(
        self,
        store: Store,
        serve: Callable[[], Awaitable[None]],
        cease: Callable[[], Awaitable[None]],
        *,
        again: float = 5.0,
    ) -> None:
        self._store = store
        self._serve = serve
        self._cease = cease
        self._again = again
        self._turning = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self.is_on = False

    @property
    def _is_wanted(self) -> bool:
        return not self._stopping.is_set() and not node_is_draining(self._store)

    async def start(self) -> None:
        """Serve, unless this node is drained; follow what operators say from now on.

        Raises:
            PosternError: what serving needs cannot be used.
        """
        if not isinstance(self._store, SqliteStore):
            self._store.on_draining(self._heard)
        await self._turn()

    async def stop(self) -> None:
        """Cease for good."""
        self._stopping.set()
        await self._turn()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _heard(self, draining: bool) -> None:  # noqa: FBT001 - the store's signature
        log.warning("node_draining" if draining else "node_resumed")
        task = asyncio.get_running_loop().create_task(self._follow())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self) -> None:
        """Turn as told; a node that cannot serve now tries again until it can or is told otherwise."""
        while True:
            try:
                return await self._turn()
            except PosternError as error:
                log.error("node_cannot_serve", problems=str(error), again_in=self._again)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self._end(), self._again)

    async def _end(self) -> None:
        await self._stopping.wait()

    async def _turn(self) -> None:
        async with self._turning:
            while self._is_wanted != self.is_on:
                await (self._cease() if self.is_on else self._serve())
                self.is_on = not self.is_on  # only now: a turn that failed is none
