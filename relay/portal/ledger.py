"""What happens to a message in the portal, each as one transaction: its state, its audit event, its receipt.

Pages, sweeper, operators and workers all come here, so that every change is told in the same words to the same people,
and every recipient has one fate (law 5): notified, and then read, expired or recalled; or withdrawn when its notice
could not be delivered, which the sender is told by DSN.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import structlog

from relay.core.change import AuditEvent
from relay.core.fate import FateKind
from relay.core.ids import ENTROPY_BYTES, queue_id
from relay.core.portal import FINAL_STATES, Deposit, Deposits, DepositState, Post, PostKind
from relay.core.ports import Clock, Metrics
from relay.mail.notice import NoticeWriter

_log = structlog.get_logger("portal")
_FATES: Final = {
    DepositState.EXPIRED: FateKind.PORTAL_EXPIRED,
    DepositState.RECALLED: FateKind.RECALLED,
}


class Ledger:
    """Changes deposits.

    Every method that takes a deposit acts on what is stored now: the one given says which. A change that no longer
    fits, because somebody else was first, does nothing and says so.
    """

    def __init__(
        self,
        deposits: Deposits,
        writer: NoticeWriter,
        *,
        clock: Clock,
        entropy: Callable[[int], bytes],
        metrics: Metrics,
        page: Callable[[Deposit], str] | None = None,
    ) -> None:
        """Take what it works with.

        Args:
            deposits: the portal's store.
            writer: of receipts and reminders.
            clock: unix seconds.
            entropy: for the ids of posts.
            metrics: counts ``postern_portal_events_total``.
            page: the address of a deposit's page for its sender, which receipts name.
        """
        self._deposits = deposits
        self._writer = writer
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._page = page

    # --- its reader

    async def opened(self, deposit: Deposit) -> Deposit | None:
        """An authenticated person opened it by a POST; the deposit as it stands, ``None`` when it is gone.

        The first time its fate becomes ``read``, and the sender has a receipt if they want one.
        """
        now = self._clock()
        there = await self._deposits.find(deposit.id)
        if there is None or there.state in FINAL_STATES:
            return None
        if there.state is not DepositState.WAITING:
            return there
        opened = dataclasses.replace(there, state=DepositState.OPENED, opened_at=now)
        event = fate_event(opened, FateKind.READ, at=now, why="opened by an authenticated reader")
        if await self._change(
            opened, DepositState.WAITING, "opened", posts=self._receipt(opened, "opened"), event=event
        ):
            return opened
        return await self.opened(deposit)

    async def downloaded(self, deposit: Deposit, what: str) -> None:
        """A copy, or a file of it, left with its reader. ``what``: ``attachment``, ``eml`` or ``pdf``."""
        now = self._clock()
        event = portal_event(deposit, "downloaded", at=now, form=what)
        there = await self._deposits.find(deposit.id)
        if there is not None and there.downloaded_at is None and there.state not in FINAL_STATES:
            first = dataclasses.replace(there, downloaded_at=now)
            posts = self._receipt(first, "downloaded")
            if await self._change(first, there.state, "downloaded", posts=posts, event=event):
                return
        await self._deposits.hand_out(events=(event,))
        self._count("downloaded")

    async def answered(self, deposit: Deposit, post: Post) -> None:
        """Its reader replied or forwarded: the message goes out, and the trail says so."""
        what = "forwarded" if post.kind is PostKind.FORWARD else "replied"
        event = portal_event(deposit, what, at=self._clock(), post=post.id, recipients_count=len(post.recipients))
        there = await self._deposits.find(deposit.id)
        if there is not None and there.answered_at is None and there.state not in FINAL_STATES:
            first = dataclasses.replace(there, answered_at=self._clock())
            if await self._change(first, there.state, what, posts=(post,), event=event):
                return
        await self._deposits.hand_out(posts=(post,), events=(event,))
        self._count(what)

    async def not_me(self, deposit: Deposit, posts: Sequence[Post]) -> bool:
        """A person says that it is not meant for them: it is recalled, and ``posts`` tell the sender."""
        return await self._end(deposit, DepositState.RECALLED, "not-me", "the reader says: not meant for me", posts)

    # --- its sender, and operators

    async def recalled(self, deposit: Deposit, *, by: str, why: str, role: str = "operator") -> bool:
        """Taken back by its sender or a named operator, as ``role`` says; whether it was there to be taken back."""
        posts = self._receipt(deposit, "recalled")
        return await self._end(deposit, DepositState.RECALLED, "recalled", why, posts, {role: by})

    async def extended(self, deposit: Deposit, until: float, *, by: str, why: str, role: str = "operator") -> bool:
        """It may be read until then, and is reminded of again; whether it is still there."""
        there = await self._deposits.find(deposit.id)
        if there is None or there.state in FINAL_STATES:
            return False
        event = portal_event(there, "extended", at=self._clock(), until=until, why=why, **{role: by})
        return await self._change(
            dataclasses.replace(there, expires_at=until, reminded_at=None), there.state, "extended", event=event
        )

    async def resent(self, deposit: Deposit, *, by: str, why: str, role: str = "operator") -> bool:
        """Its notice goes out once more; whether it is still there."""
        there = await self._deposits.find(deposit.id)
        if there is None or there.state in FINAL_STATES:
            return False
        now = self._clock()
        post = self._post(PostKind.NOTICE, there, self._writer.again(there, now=now), now)
        event = portal_event(there, "resent", at=now, post=post.id, why=why, **{role: by})
        await self._deposits.hand_out(posts=(post,), events=(event,))
        self._count("resent")
        return True

    # --- the clock

    async def expired(self, deposit: Deposit) -> bool:
        """Its time is over."""
        now = self._clock()
        there = await self._deposits.find(deposit.id)
        if there is None or there.expires_at > now:
            return False
        posts = self._receipt(there, "expired") if there.state is DepositState.WAITING else ()
        return await self._end(there, DepositState.EXPIRED, "expired", "its time in the portal was over", posts)

    async def reminded(self, deposit: Deposit) -> bool:
        """It was not opened, and will be deleted soon: its reader is told.

        Not so when it was extended, or they were told, since the deposit was read.
        """
        now = self._clock()
        there = await self._deposits.find(deposit.id)
        if there is None or (there.expires_at, there.reminded_at) != (deposit.expires_at, deposit.reminded_at):
            return False
        post = self._post(PostKind.REMINDER, there, self._writer.reminder(there, now=now), now)
        event = portal_event(there, "reminded", at=now, post=post.id)
        reminded = dataclasses.replace(there, reminded_at=now)
        return await self._change(reminded, DepositState.WAITING, "reminded", posts=(post,), event=event)

    # --- its notice

    async def notified(self, message_id: str, number: int, *, told: bool = False) -> None:
        """A mail server took the notice: the sender has a receipt if they want one and were not ``told`` by a DSN."""
        there = await self._of(message_id, number)
        if there is None:
            return
        if there.notified_at is None and there.state not in FINAL_STATES:
            first = dataclasses.replace(there, notified_at=self._clock())
            if await self._change(
                first, there.state, "notified", posts=() if told else self._receipt(first, "notified")
            ):
                return
        if not told:
            await self._deposits.hand_out(posts=self._receipt(there, "notified"))
        self._count("notified")

    async def withdrawn(self, message_id: str, number: int) -> bool:
        """Its notice will not be delivered: the message is deleted, unread. Whether there was one to delete.

        The queue records the copy's fate, and tells the sender by DSN.
        """
        return await self._withdraw(message_id, number)

    async def came_back(self, message_id: str, number: int) -> bool:
        """As :meth:`withdrawn`, for a notice that a server took first: what was ``notified`` becomes ``bounced``.

        Whoever read the bounce tells the sender.
        """
        return await self._withdraw(message_id, number, fate=FateKind.BOUNCED)

    async def _withdraw(self, message_id: str, number: int, *, fate: FateKind | None = None) -> bool:
        there = await self._of(message_id, number)
        if there is None or there.state is not DepositState.WAITING:
            return False
        now = self._clock()
        events = [portal_event(there, "withdrawn", at=now)]
        if fate is not None:
            events.append(fate_event(there, fate, at=now, why="the notice came back after it was taken"))
        gone = dataclasses.replace(there, state=DepositState.WITHDRAWN)
        return await self._change(gone, DepositState.WAITING, "withdrawn", events=events)

    # --- inside

    async def _of(self, message_id: str, number: int) -> Deposit | None:
        return next((one for one in await self._deposits.of_message(message_id) if one.number == number), None)

    async def _end(
        self,
        deposit: Deposit,
        state: DepositState,
        what: str,
        why: str,
        posts: Sequence[Post],
        by: Mapping[str, str] = MappingProxyType({}),
    ) -> bool:
        """Into a final state. A message that was read keeps that fate: what ends is that it can be read again."""
        there = await self._deposits.find(deposit.id)
        if there is None or there.state in FINAL_STATES:
            return False
        now = self._clock()
        if there.state is DepositState.WAITING:
            event = fate_event(there, _FATES[state], at=now, why=why, **by)
        else:
            event = portal_event(there, what, at=now, why=why, **by)
        ended = dataclasses.replace(there, state=state)
        if await self._change(ended, there.state, what, posts=posts, event=event):
            return True
        return await self._end(deposit, state, what, why, posts, by)

    async def _change(
        self,
        deposit: Deposit,
        expected: DepositState,
        what: str,
        *,
        posts: Sequence[Post] = (),
        event: AuditEvent | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        every = (*([event] if event else ()), *events)
        if not await self._deposits.change(deposit, expected=expected, posts=posts, events=every):
            return False
        self._count(what)
        _log.info(what, deposit=deposit.id[:8], message_id=deposit.message_id, domain=deposit.mailbox.domain)
        return True

    def _count(self, what: str) -> None:
        self._metrics.count("postern_portal_events_total", {"event": what})

    def _receipt(self, deposit: Deposit, what: str) -> tuple[Post, ...]:
        now = self._clock()
        to = deposit.sender.address
        page = self._page(deposit) if self._page else ""
        content = self._writer.receipt(deposit, what, now=now, page=page) if deposit.receipts else None
        if content is None or to is None:
            return ()
        return (dataclasses.replace(self._post(PostKind.RECEIPT, deposit, content, now), recipients=(to,)),)

    def _post(self, kind: PostKind, deposit: Deposit, content: bytes, now: float) -> Post:
        return Post(
            id=queue_id(now, self._entropy(ENTROPY_BYTES)),
            kind=kind,
            recipients=(deposit.mailbox,),
            content=content,
            deposit_id=deposit.id,
            tenant=deposit.tenant,
            at=now,
        )


def portal_event(deposit: Deposit, what: str, *, at: float, **facts: Any) -> AuditEvent:
    """Something that happened to a message in the portal, for the audit trail."""
    whole = {"numbers": [deposit.number], "event": what, "deposit": deposit.id, "rule": deposit.rule, **facts}
    return AuditEvent(kind="portal", at=at, message_id=deposit.message_id, facts=whole)


def fate_event(deposit: Deposit, fate: FateKind, *, at: float, why: str, **facts: Any) -> AuditEvent:
    """What a recipient's copy came to in the portal."""
    whole = {
        "numbers": [deposit.number],
        "fate": fate.value,
        "why": why,
        "method": "portal",
        "deposit": deposit.id,
        "rule": deposit.rule,
        **facts,
    }
    return AuditEvent(kind="fate", at=at, message_id=deposit.message_id, facts=whole)
