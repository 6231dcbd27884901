"""Operators' work on messages in the portal: every change is in the audit trail with who and why."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from relay.admin.wire import ChangeResult
from relay.admin.wire_base import ControlError, Done
from relay.admin.wire_portal import (
    PortalApproveRequest,
    PortalExtendRequest,
    PortalListRequest,
    PortalListResult,
    PortalRecallRequest,
    PortalRequest,
    PortalResendRequest,
    PortalRow,
    PortalSecretRequest,
    PortalSignOutRequest,
    PortalTenantSecretRequest,
)
from relay.core.address import Address
from relay.core.change import AuditEvent, Change, Settle
from relay.core.decision import MethodName
from relay.core.entry import Claimed
from relay.core.errors import AddressError
from relay.core.portal import FINAL_STATES, Deposit, DepositFilter, Deposits, DepositState
from relay.core.ports import Clock
from relay.mail.scrub import scrub

_DAY = 86_400.0


class Book(Protocol):
    """Changes deposits, each with its event."""

    async def recalled(self, deposit: Deposit, *, by: str, why: str) -> bool:
        """Take it back; whether it was there."""

    async def extended(self, deposit: Deposit, until: float, *, by: str, why: str) -> bool:
        """Let it be read until then; whether it is there."""

    async def resent(self, deposit: Deposit, *, by: str, why: str) -> bool:
        """Send its notice once more; whether it is there."""

    async def withdrawn(self, message_id: str, number: int) -> bool:
        """Its notice will not be delivered: delete it, unread; whether it was there."""


class PortalDesk:
    """Looks at messages in the portal, and changes them.

    Args:
        deposits: the portal's store.
        book: changes deposits.
        hash_secret: the verifier of a shared secret; raises ValueError where it may not be one.
        set_secret: keeps a deposit's verifier.
        set_tenant_secret: keeps a verifier for all that a tenant sends a mailbox.
        approve: shows a mailbox its older messages again, in the name of an operator; whether any were hidden.
        sign_out: ends all sessions of a mailbox, in the name of an operator; how many there were.
        clock: unix seconds.
    """

    def __init__(
        self,
        deposits: Deposits,
        book: Book,
        *,
        hash_secret: Callable[[str], Awaitable[str]],
        set_secret: Callable[[Deposit, str], Awaitable[None]],
        set_tenant_secret: Callable[[Address, str, str], Awaitable[None]],
        approve: Callable[[Address, str], Awaitable[bool]],
        sign_out: Callable[[Address, str], Awaitable[int]],
        clock: Clock,
    ) -> None:
        self._deposits = deposits
        self._book = book
        self._hash_secret = hash_secret
        self._set_secret = set_secret
        self._set_tenant_secret = set_tenant_secret
        self._approve = approve
        self._sign_out = sign_out
        self._clock = clock

    async def answer(self, request: PortalRequest, operator: str) -> PortalListResult | ChangeResult:
        """Do what is asked.

        Raises:
            ControlError: nothing has such an id, or a mailbox or secret that is none.
            StoreError: the portal's store is away.
        """
        if isinstance(request, PortalListRequest):
            return await self._list(request)
        # What it is written into is kept for years, and shown (law 4).
        request = request.model_copy(update={"reason": scrub(request.reason)})
        if isinstance(request, PortalApproveRequest):
            return await self._approved(request, operator)
        if isinstance(request, PortalSignOutRequest):
            return await self._signed_out(request, operator)
        if isinstance(request, PortalTenantSecretRequest):
            return await self._tenant_secret(request, operator)
        done, refused = [], []
        for deposit in await self._named(request.ids):
            outcome = await self._change(request, deposit, operator)
            if outcome:
                done.append(Done(id=deposit.id, outcome=outcome))
            else:
                refused.append(Done(id=deposit.id, outcome=f"it is {deposit.state.value}"))
        return ChangeResult(done=tuple(done), refused=tuple(refused))

    async def leave(self, claimed: Claimed, changes: Sequence[Change]) -> None:
        """An operator changed an entry whose notice is on its way: who gets none any more has no message here either.

        Raises:
            StoreError: the portal's store is away; nothing was changed.
        """
        entry = claimed.entry
        if entry.method is not MethodName.PORTAL:
            return
        left = [one for change in changes if isinstance(change, Settle) for one in (change.entry, *change.split)]
        kept = {state.number for one in left if one.method is MethodName.PORTAL for state in one.recipients}
        for state in entry.recipients:
            if state.number not in kept:
                await self._book.withdrawn(entry.message_id, state.number)

    async def _list(self, request: PortalListRequest) -> PortalListResult:
        where = DepositFilter(
            mailbox=_address(request.mailbox) if request.mailbox else None,
            message_id=request.message,
            tenant=request.tenant,
            states=frozenset(map(DepositState, request.states)),
        )
        found, after = await self._deposits.page(where, after=request.after, limit=request.limit)
        return PortalListResult(rows=tuple(map(_row, found)), after=after)

    async def _named(self, ids: Sequence[str]) -> list[Deposit]:
        """The deposits that are meant, each once."""
        found: dict[str, Deposit] = {}
        for name in ids:
            one = await self._deposits.find(name)
            many = [one] if one is not None else await self._deposits.of_message(name)
            if not many:
                raise ControlError(f"{name} is neither a message in the portal nor one of the queue's that went there")
            found |= {deposit.id: deposit for deposit in many}
        return list(found.values())

    async def _change(
        self,
        request: PortalRecallRequest | PortalExtendRequest | PortalResendRequest | PortalSecretRequest,
        deposit: Deposit,
        operator: str,
    ) -> str:
        """What was done; empty when it could not be."""
        if isinstance(request, PortalRecallRequest):
            return "recalled" if await self._book.recalled(deposit, by=operator, why=request.reason) else ""
        if isinstance(request, PortalExtendRequest):
            until = self._clock() + request.days * _DAY
            extended = await self._book.extended(deposit, until, by=operator, why=request.reason)
            return "extended" if extended else ""
        if isinstance(request, PortalResendRequest):
            return "sent again" if await self._book.resent(deposit, by=operator, why=request.reason) else ""
        if deposit.state in FINAL_STATES:
            return ""
        verifier = await self._verifier(request.secret)
        await self._audit("portal-secret", operator, request.reason, deposit.message_id, deposit.id)
        await self._set_secret(deposit, verifier)
        return "secret set"

    async def _tenant_secret(self, request: PortalTenantSecretRequest, operator: str) -> ChangeResult:
        mailbox = _address(request.mailbox)
        verifier = await self._verifier(request.secret)
        await self._audit("portal-secret", operator, request.reason, "", "", str(mailbox), tenant=request.tenant)
        await self._set_tenant_secret(mailbox, request.tenant, verifier)
        return ChangeResult(done=(Done(id=str(mailbox), outcome=f"secret set for what {request.tenant} sends"),))

    async def _verifier(self, secret: str) -> str:
        """Judged before anything is written down: a secret that is refused must not read as set."""
        try:
            return await self._hash_secret(secret)
        except ValueError as error:
            raise ControlError(str(error)) from error

    async def _approved(self, request: PortalApproveRequest, operator: str) -> ChangeResult:
        mailbox = _address(request.mailbox)
        await self._audit("portal-approve", operator, request.reason, "", "", str(mailbox))
        shown = await self._approve(mailbox, operator)
        done = Done(id=str(mailbox), outcome="older messages show again" if shown else "nothing was hidden")
        return ChangeResult(done=(done,))

    async def _signed_out(self, request: PortalSignOutRequest, operator: str) -> ChangeResult:
        mailbox = _address(request.mailbox)
        await self._audit("portal-sign-out", operator, request.reason, "", "", str(mailbox))
        ended = await self._sign_out(mailbox, operator)
        return ChangeResult(done=(Done(id=str(mailbox), outcome=f"{ended} session{'s' * (ended != 1)} ended"),))

    async def _audit(
        self,
        operation: str,
        operator: str,
        reason: str,
        message_id: str,
        deposit: str,
        mailbox: str = "",
        **facts: str,
    ) -> None:
        facts |= {"operation": operation, "operator": operator, "reason": reason, "deposit": deposit}
        named = {"recipients": [mailbox]} if mailbox else {}
        event = AuditEvent(kind="operator", at=self._clock(), message_id=message_id, facts=facts | named)
        await self._deposits.hand_out(events=(event,))


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise ControlError(f"{text[:100]!r} is not a mailbox: {error}") from error


def _row(deposit: Deposit) -> PortalRow:
    return PortalRow(
        id=deposit.id,
        message_id=deposit.message_id,
        number=deposit.number,
        mailbox=str(deposit.mailbox),
        tenant=deposit.tenant,
        state=deposit.state.value,
        deposited_at=deposit.deposited_at,
        expires_at=deposit.expires_at,
        opened_at=deposit.opened_at,
        reason=deposit.reason,
        rule=deposit.rule,
        secret=deposit.secret.value,
        size=deposit.size,
    )
