"""What the admin process has of the portal: the operators' desk."""

import asyncio
from typing import Self

from relay.admin.portal import PortalDesk
from relay.app.base import CLOCK
from relay.app.portal_store import PortalStore, open_portal
from relay.config.settings import Settings
from relay.core.address import Address
from relay.core.portal import Deposit
from relay.core.portal_accounts import SharedSecret
from relay.core.ports import Metrics
from relay.portal.gate import deposit_scope
from relay.portal.passphrase import shared_hash
from relay.portal.recovery import approve_by_operator


class AdminPortal:
    """The portal as operators see it; where none is configured it is empty."""

    def __init__(self, store: PortalStore | None) -> None:
        self._store = store

    @classmethod
    async def open(cls, settings: Settings, metrics: Metrics) -> Self:
        """Open the portal's store, where there is one.

        Raises:
            PosternError: it cannot be used.
        """
        return cls(await open_portal(settings, metrics))

    @property
    def desk(self) -> PortalDesk | None:
        """Looks at messages in the portal, and changes them."""
        store = self._store
        if store is None:
            return None

        async def set_secret(deposit: Deposit, secret: str) -> None:
            verifier = await asyncio.to_thread(shared_hash, secret)
            shared = SharedSecret(scope=deposit_scope(deposit.id), verifier=verifier)
            await store.accounts.set_shared(deposit.mailbox, shared)

        async def approve(mailbox: Address, operator: str) -> bool:
            return await approve_by_operator(store.accounts, mailbox, by=operator, now=CLOCK())

        return PortalDesk(store.deposits, store.ledger, set_secret=set_secret, approve=approve, clock=CLOCK)

    async def close(self) -> None:
        """Let go of the portal's store."""
        if self._store is not None:
            await self._store.close()
