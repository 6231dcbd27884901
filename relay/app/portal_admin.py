"""What the admin process has of the portal: the operators' desk, and its figures."""

import asyncio
from typing import TYPE_CHECKING, Self

from relay.admin.portal import PortalDesk
from relay.app.base import CLOCK
from relay.config.settings import Settings
from relay.core.address import Address
from relay.core.portal import Deposit, DepositState
from relay.core.portal_accounts import SharedSecret
from relay.core.ports import Metrics

if TYPE_CHECKING:
    from relay.app.portal_store import PortalStore


class AdminPortal:
    """The portal as operators see it; where none is configured it is empty."""

    def __init__(self, store: "PortalStore | None", metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    @classmethod
    async def open(cls, settings: Settings, metrics: Metrics) -> Self:
        """Open the portal's store, where there is one.

        Raises:
            PosternError: it cannot be used.
        """
        if settings.portal is None:
            return cls(None, metrics)
        from relay.app.portal_store import open_portal  # noqa: PLC0415  costs a process without it time

        return cls(await open_portal(settings, settings.portal, metrics), metrics)

    @property
    def desk(self) -> PortalDesk | None:
        """Looks at messages in the portal, and changes them."""
        store = self._store
        if store is None:
            return None
        from relay.portal.gate import deposit_scope, tenant_scope  # noqa: PLC0415  as above
        from relay.portal.passphrase import shared_hash  # noqa: PLC0415  as above
        from relay.portal.recovery import approve_by_operator, sign_out_by_operator  # noqa: PLC0415  as above

        async def hash_secret(secret: str) -> str:
            return await asyncio.to_thread(shared_hash, secret)

        async def set_secret(deposit: Deposit, verifier: str) -> None:
            shared = SharedSecret(scope=deposit_scope(deposit.id), verifier=verifier)
            await store.accounts.set_shared(deposit.mailbox, shared)

        async def set_tenant_secret(mailbox: Address, tenant: str, verifier: str) -> None:
            await store.accounts.set_shared(mailbox, SharedSecret(scope=tenant_scope(tenant), verifier=verifier))

        async def approve(mailbox: Address, operator: str) -> bool:
            return await approve_by_operator(store.accounts, mailbox, by=operator, now=CLOCK())

        async def sign_out(mailbox: Address, operator: str) -> int:
            return await sign_out_by_operator(store.accounts, mailbox, by=operator, now=CLOCK())

        return PortalDesk(
            store.deposits,
            store.ledger,
            hash_secret=hash_secret,
            set_secret=set_secret,
            set_tenant_secret=set_tenant_secret,
            approve=approve,
            sign_out=sign_out,
            clock=CLOCK,
        )

    async def measure(self) -> None:
        """Set the gauges of what waits in the portal.

        Raises:
            StoreError: its store is away.
        """
        if self._store is None:
            return
        figures = await self._store.deposits.figures()
        counts = dict(figures.by_state)
        for state in DepositState:
            self._metrics.set("postern_portal_deposits", counts.get(state, 0), {"state": state.value})
        self._metrics.set("postern_portal_outbox_items", figures.outbox)
        oldest = figures.oldest_waiting_at
        self._metrics.set("postern_portal_oldest_waiting_seconds", max(0.0, CLOCK() - oldest) if oldest else 0.0)

    async def close(self) -> None:
        """Let go of the portal's store."""
        if self._store is not None:
            await self._store.close()
