"""Takes what the portal hands out into the queue: its mail as messages of ours, its events into the audit trail.

Nothing is lost: an item is deleted from the portal's outbox only when the queue has it on disk. Nothing comes twice:
the same transaction remembers the item's id, so that a worker that was killed before the item was deleted, or another
in its place, knows it again, whatever has become of its messages meanwhile. Of what people wrote it remembers each
message's id as well: two presses of one button may have handed out the same answer twice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay.core.address import NULL_SENDER, Address
from relay.core.change import AuditEvent, Change, Keep, Note, Remember
from relay.core.decision import MethodName, Otherwise, Treatment
from relay.core.entry import EntryState, QueueEntry, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Origin, Recipient
from relay.core.errors import StoreError, StoreFullError, StoreUnavailableError
from relay.core.level import Level
from relay.core.portal import Deposits, OutboxItem, Post, PostKind
from relay.core.ports import Clock, Metrics, QueueStore
from relay.delivery import schedule
from relay.delivery.routing import RouteTable
from relay.delivery.schedule import RetryOptions

log = structlog.get_logger("portal")

_CODES: Final = frozenset({PostKind.CODE, PostKind.SENDER_CODE})
_ORIGINS: Final = {
    PostKind.SENDER_CODE: Origin.RECEIPT,
    PostKind.RECEIPT: Origin.RECEIPT,
    PostKind.REPLY: Origin.REPLY,
    PostKind.FORWARD: Origin.REPLY,
}
"""What may tell of patients or senders has the floor of our own notices; the rest says no more than the notice did."""
_WRITTEN: Final = frozenset({PostKind.REPLY, PostKind.FORWARD})
_BATCH: Final = 32
_HANDED: Final = "portal-handed/"
_REMEMBERED: Final = 3 * 86_400.0
"""Seconds in which an item that was handed on is known again: longer than the portal's store is ever away."""
_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverOptions:
    """How the outbox is taken.

    Attributes:
        owner: this worker's life, for leases.
        floor, special_floor: levels that codes and reminders need, as the notices before them.
        code_life: seconds after which a code is of no use to anybody.
        lease: seconds that an item is this worker's.
        poll: seconds between looks where nobody wakes us.
    """

    owner: str
    floor: Level = Level.CLEAR
    special_floor: Level = Level.ENCRYPTED
    code_life: float = 600.0
    lease: float = 60.0
    poll: float = 5.0


class Handover:
    """Moves items from the portal's outbox into the queue.

    Args:
        deposits: the portal's store.
        queue: where mail and events go.
        routes: the fixed next hops.
        retry: how long mail is tried.
        options: leases and floors.
        clock: unix seconds.
        metrics: counts.
        pause: waits for seconds while a store is away.
    """

    def __init__(
        self,
        *,
        deposits: Deposits,
        queue: QueueStore,
        routes: Callable[[], RouteTable],
        retry: RetryOptions,
        options: HandoverOptions,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._deposits = deposits
        self._queue = queue
        self._routes = routes
        self._retry = retry
        self._options = options
        self._clock = clock
        self._metrics = metrics

    async def run(self) -> None:
        """Hand on until cancelled; a store that is away pauses it, and nothing is lost."""
        while True:
            try:
                if not await self.once():
                    await self._deposits.word(self._options.poll)
            except StoreError as error:
                log.warning("the portal's mail waits", error=str(error))
                await asyncio.sleep(_PAUSE)
            except Exception:
                self._metrics.count("postern_alerts_total", {"kind": "portal-handover-failed"})
                log.exception("the portal's mail waits: an error of our own")
                await asyncio.sleep(_PAUSE)

    async def once(self) -> int:
        """Hand on what waits now; how many items.

        Raises:
            StoreError: one of the stores is away or full; what was not handed on waits.
        """
        options = self._options
        items = await self._deposits.take_outbox(owner=options.owner, lease=options.lease, limit=_BATCH)
        return sum([await self._taken(item) for item in items])

    async def _taken(self, item: OutboxItem) -> bool:
        """Hand one on; one that cannot be, for a fault of ours, is alerted and waits, and holds up none behind it."""
        try:
            await self._hand_on(item)
        except (StoreUnavailableError, StoreFullError):
            raise
        except Exception:
            self._metrics.count("postern_alerts_total", {"kind": "portal-handover-failed"})
            log.exception("an item of the portal's mail waits: an error of our own", item=item.seq)
            return False
        await self._deposits.forget_outbox([item.seq])
        return True

    async def _hand_on(self, item: OutboxItem) -> None:
        if await self._is_known(item.id):
            log.info("handed on before", item=item.seq)
            return
        posts = [post for post in item.posts if post.kind not in _WRITTEN or not await self._is_known(post.id)]
        names = [item.id, *(post.id for post in posts if post.kind in _WRITTEN)]
        until = self._clock() + _REMEMBERED
        unit: list[Change] = [Remember(name=f"{_HANDED}{name}", until=until) for name in names]
        for post in posts:
            unit += await self._kept(post)
        unit.append(Note(events=item.events))
        try:
            await self._queue.commit(tuple(unit))
        except (StoreUnavailableError, StoreFullError):
            raise
        except StoreError:
            if not await self._is_kept(item):
                raise
            log.info("handed on before", item=item.seq)
            return
        for post in posts:
            self._metrics.count("postern_portal_posts_total", {"kind": post.kind.value})
            log.info("handed on", kind=post.kind.value, message_id=post.id, deposit=post.deposit_id)

    async def _is_known(self, name: str) -> bool:
        return bool(await self._queue.recall(f"{_HANDED}{name}", limit=1))

    async def _is_kept(self, item: OutboxItem) -> bool:
        """Whether the queue has a message of this item: then it has all of it, for it was one transaction."""
        for post in item.posts:
            if await self._queue.message(post.id) is not None:
                return True
        return False

    async def _kept(self, post: Post) -> tuple[Change, ...]:
        now, origin = self._clock(), _ORIGINS.get(post.kind, Origin.PORTAL)
        session = ClientSession(tenant=post.tenant)
        recipients = tuple(Recipient(address=address) for address in post.recipients)
        message = Message(
            id=post.id,
            origin=origin,
            received_at=now,
            session=session,
            envelope=Envelope(
                reverse_path=NULL_SENDER,
                recipients=recipients,
                smtputf8=not all(address.is_ascii for address in post.recipients),
            ),
            size=len(post.content),
        )
        floor = await self._floor(post)
        entries = tuple(
            self._entry(post, origin, number, recipient, floor, now) for number, recipient in enumerate(recipients)
        )
        event = AuditEvent(
            kind="notice",
            at=now,
            message_id=post.id,
            facts={"origin": origin.value, "kind": post.kind.value, "deposit": post.deposit_id},
        )
        return (Keep(message=message, content=post.content, entries=entries), Note(events=(event,)))

    def _entry(
        self, post: Post, origin: Origin, number: int, recipient: Recipient, floor: Level | None, now: float
    ) -> QueueEntry:
        destination = self._routes().destination(recipient.address)
        treatment = Treatment(
            methods=(MethodName.TLS,),
            floor=self._strict(recipient.address) if floor is None else floor,
            rule=f"{origin.value}:{post.kind.value}",
            otherwise=Otherwise.DEFER,
            priority=1 if post.kind in _CODES else 0,
            expire_after=self._options.code_life if post.kind in _CODES else None,
        )
        return QueueEntry(
            id=f"{post.id}.{number + 1}",
            message_id=post.id,
            destination=destination,
            treatment=treatment,
            method=MethodName.TLS,
            recipients=(RecipientState(number=number, recipient=recipient),),
            state=EntryState.READY,
            created_at=now,
            due_at=now,
            expires_at=schedule.expires_at(treatment, self._retry, accepted_at=now),
        )

    async def _floor(self, post: Post) -> Level | None:
        """The level of codes and notices; ``None`` for what needs a verified connection or an internal route."""
        if post.kind in _ORIGINS:
            return None
        if not post.deposit_id:
            return self._options.floor
        deposit = await self._deposits.find(post.deposit_id)
        if deposit is None:  # it is gone: it may have been of a special kind (law 3)
            return max(self._options.floor, self._options.special_floor)
        return self._options.special_floor if deposit.special else self._options.floor

    def _strict(self, address: Address) -> Level:
        routes = self._routes()
        route = routes.route_of(routes.destination(address))
        return Level.CLEAR if route is not None and route.internal else Level.VERIFIED
