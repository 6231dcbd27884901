"""Operators' work on the suppression list: every change audited with who and why, in a commit before it is made."""

from relay.admin.wire import (
    ControlError,
    SuppressAddRequest,
    SuppressDone,
    SuppressionRow,
    SuppressListRequest,
    SuppressListResult,
    SuppressRemoveRequest,
)
from relay.core.address import Address
from relay.core.change import AuditEvent, Note
from relay.core.errors import AddressError
from relay.core.ports import Clock, Metrics, QueueStore, Suppressions
from relay.core.suppression import FOREVER, Cause, Suppression
from relay.mail.scrub import scrub

_DAY = 86_400.0


class SuppressionDesk:
    """Looks at the list and changes it.

    Args:
        listed: the list.
        store: takes the audit events.
        clock: unix seconds.
        metrics: counts what is added.
    """

    def __init__(self, listed: Suppressions, store: QueueStore, clock: Clock, metrics: Metrics) -> None:
        self._list = listed
        self._store = store
        self._clock = clock
        self._metrics = metrics

    async def show(self, request: SuppressListRequest) -> SuppressListResult:
        """A page of the list, or all that is known of one mailbox."""
        if request.recipient:
            found, after = await self._list.find(_address(request.recipient)), ""
        else:
            found, after = await self._list.page(after=request.after, limit=request.limit)
        return SuppressListResult(rows=tuple(_row(item) for item in found), after=after)

    async def add(self, request: SuppressAddRequest, operator: str) -> SuppressDone:
        """Put mailboxes on the list. All are read before any is added."""
        now = self._clock()
        items = [
            Suppression(
                address=_address(one.address),
                tenant=one.tenant,
                stream=one.stream,
                cause=Cause(one.cause),
                evidence=one.evidence or request.reason,
                since=one.since or now,
                until=one.until or (now + one.days * _DAY if one.days else FOREVER),
                by=operator,
            )
            for one in request.items
        ]
        await self._audit("suppress-add", operator, request.reason, [str(item.address) for item in items], now)
        for item in items:
            await self._list.suppress(item)
            labels = {"cause": item.cause.value, "recipient_domain": item.address.domain}
            self._metrics.count("postern_suppressions_total", labels)
        return SuppressDone(done=len(items))

    async def remove(self, request: SuppressRemoveRequest, operator: str) -> SuppressDone:
        """Take a mailbox off the list: in one tenant and stream, or wherever it is on it."""
        now = self._clock()
        address = _address(request.address)
        await self._audit("suppress-remove", operator, request.reason, [str(address)], now)
        exempt = now + request.exempt_days * _DAY if request.exempt_days else 0.0
        places: set[tuple[str, str]] = {(request.tenant, request.stream)}
        if request.everywhere:
            places |= {(item.tenant, item.stream) for item in await self._list.find(address)}
        done = 0
        for tenant, stream in sorted(places):
            done += await self._list.lift(address, tenant=tenant, stream=stream, exempt_until=exempt)
        return SuppressDone(done=done)

    async def _audit(self, operation: str, operator: str, reason: str, recipients: list[str], now: float) -> None:
        facts = {"operation": operation, "operator": operator, "reason": scrub(reason), "recipients": recipients}
        await self._store.commit((Note(events=(AuditEvent(kind="operator", at=now, facts=facts),)),))


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise ControlError(f"{text[:100]!r} is not a mailbox: {error}") from error


def _row(item: Suppression) -> SuppressionRow:
    return SuppressionRow(
        address=str(item.address),
        tenant=item.tenant,
        stream=item.stream,
        cause=item.cause.value,
        evidence=item.evidence,
        since=item.since,
        until=item.until,
        by=item.by,
    )
