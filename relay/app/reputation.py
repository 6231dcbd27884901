"""What a worker learns from refusals: the classifier, the suppression list, and the tasks that keep it."""

import asyncio
import contextlib

import structlog

from relay.app.base import CLOCK
from relay.config.settings import Settings
from relay.core.errors import StoreError
from relay.core.ports import Knowledge, Metrics, QueueStore, Vault
from relay.reputation.suppression import KeeperOptions, SuppressionKeeper, SuppressionList, SuppressionView

log = structlog.get_logger("worker")


class Standing:
    """One worker's view of the suppression list, and what adds to it."""

    def __init__(
        self, settings: Settings, store: QueueStore, knowledge: Knowledge, vault: Vault, metrics: Metrics
    ) -> None:
        listed = SuppressionList(knowledge, vault, CLOCK)
        self.view = SuppressionView(listed, CLOCK)
        self.keeper = SuppressionKeeper(
            listed, store, KeeperOptions(hard_bounce=settings.suppression.hard_bounce), CLOCK, metrics
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read the list once, then keep it current beside everything else."""
        try:
            await self.view.refresh()
        except StoreError as error:
            log.warning("the suppression list cannot be read yet", error=str(error))
        self._tasks = [asyncio.create_task(self.view.run()), asyncio.create_task(self.keeper.run())]

    async def stop(self) -> None:
        """Note what waits, then end."""
        await self.keeper.aclose()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
