"""What a worker has of the portal: the method, the hand-over of its mail, and whom to tell how notices ended."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Self

from relay.app import options
from relay.app.base import CLOCK
from relay.app.queue import incarnation
from relay.config.settings import Settings
from relay.core.decision import MethodName
from relay.core.level import Level
from relay.core.ports import Method, Metrics, QueueStore
from relay.delivery.routing import RouteTable

if TYPE_CHECKING:
    from relay.app.portal_store import PortalStore
    from relay.portal.ledger import Ledger


class WorkerPortal:
    """The portal as one worker sees it; where none is configured it is empty, and does nothing."""

    def __init__(self, store: "PortalStore | None", methods: Mapping[MethodName, Method], metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self.methods = methods

    @classmethod
    async def open(cls, settings: Settings, metrics: Metrics) -> Self:
        """Open the portal's store, where there is one.

        Raises:
            PosternError: it cannot be used.
        """
        if settings.portal is None:
            return cls(None, {}, metrics)
        from relay.app.portal_store import open_portal, portal_method  # noqa: PLC0415  costs a worker without it time

        store = await open_portal(settings, settings.portal, metrics)
        return cls(store, {MethodName.PORTAL: portal_method(store, metrics)}, metrics)

    @property
    def ledger(self) -> "Ledger | None":
        """Told how notices ended."""
        return None if self._store is None else self._store.ledger

    @property
    def came_back(self) -> Callable[[str, int], Awaitable[object]] | None:
        """Told of notices that were taken and came back later."""
        return None if self._store is None else self._store.ledger.came_back

    def tasks(
        self, settings: Settings, queue: QueueStore, routes: Callable[[], RouteTable], name: str
    ) -> list[asyncio.Task[None]]:
        """The task that takes the portal's mail and events into the queue."""
        if self._store is None:
            return []
        from relay.worker.handover import Handover, HandoverOptions  # noqa: PLC0415  as above

        portal = self._store.settings
        handover = Handover(
            deposits=self._store.deposits,
            queue=queue,
            routes=routes,
            retry=options.retry_options(settings),
            options=HandoverOptions(
                owner=incarnation(settings, name),
                floor=Level.from_word(portal.notice_tls.value),
                special_floor=Level.from_word(portal.special_notice_tls.value),
                code_life=portal.code_life,
            ),
            clock=CLOCK,
            metrics=self._metrics,
        )
        return [asyncio.create_task(handover.run())]

    async def close(self) -> None:
        """Let go of the portal's store."""
        if self._store is not None:
            await self._store.close()
