"""What operators can do to the queue. Each change is one unit of work together with the audit event that names them."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from relay.admin import views
from relay.admin.changes import Outcome, decided_anew, fate_events, filters, released, stored
from relay.admin.portal import PortalDesk
from relay.admin.suppressions import SuppressionDesk
from relay.admin.tls import TlsDesk
from relay.admin.tls import answer as answer_tls
from relay.admin.wire import (
    MAX_CHANGED,
    ChangeRequest,
    ChangeResult,
    ControlError,
    Done,
    ListRequest,
    ListResult,
    Request,
    Result,
    Selection,
    ShowRequest,
    ShowResult,
    StatsRequest,
    StatsResult,
    SuppressAddRequest,
    SuppressListRequest,
    SuppressRemoveRequest,
    UnsealRequest,
    UnsealResult,
)
from relay.admin.wire_portal import PortalListRequest, PortalRequest
from relay.admin.wire_tls import TlsProbeRequest, TlsReportRequest, TlsReportsRequest
from relay.core.change import AuditEvent, Change, Note, Settle
from relay.core.decision import Action, MethodName, Treatment
from relay.core.entry import Claimed, EntryState, QueueEntry, RecipientState
from relay.core.envelope import Message, Origin
from relay.core.errors import CorruptError, StoreError, StoreFullError, StoreUnavailableError
from relay.core.fate import Fate, FateKind
from relay.core.ports import Clock, Metrics, QueueFilter, QueueStore, Suppressions
from relay.delivery.schedule import RetryOptions
from relay.mail.scrub import scrub

log = structlog.get_logger("operator")

_UNSEALED: Final = 8 * 1024 * 1024
"""Octets of content that one unseal shows."""
_AGAIN: Final = 1.0
"""Seconds until a lease that could not be given back is offered again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redecision:
    """What the running policy says of a recipient of a message that is in the queue already.

    Attributes:
        state: the recipient.
        treatment: decided now; its floor is raised to the one decided at acceptance when that is higher (law 2).
        destination: the next hop's key that follows from it.
        method: the first of its methods that is configured; ``None``: the first of all.
    """

    state: RecipientState
    treatment: Treatment
    destination: str
    method: MethodName | None = None


Redecide = Callable[[QueueEntry, Message, bytes], Awaitable[Sequence[Redecision]]]
"""Judges an entry's recipients anew: scans the content again and asks the policy in force."""

Notify = Callable[[Message, bytes | None, QueueEntry, str, float], Sequence[Change]]
"""Changes that keep the failure DSN for an entry's recipients: message, content, entry, public reason, now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who asks, as the kernel says (SO_PEERCRED, unix(7))."""

    name: str
    uid: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What operations work with.

    Attributes:
        store: an open store, registered under an incarnation of this process.
        clock: unix seconds.
        metrics: counts actions and alerts.
        redecide: judges anew.
        notify: makes the DSN of a bounce.
        tls: knows other domains' mail servers; ``None``: nobody does.
        suppressions: the suppression list; ``None``: there is none.
        portal: messages in the portal; ``None``: there is no portal.
        retry: how long a copy lasts whose rule says nothing else.
    """

    store: QueueStore
    clock: Clock
    metrics: Metrics
    redecide: Redecide
    notify: Notify
    tls: TlsDesk | None = None
    suppressions: Suppressions | None = None
    portal: PortalDesk | None = None
    retry: RetryOptions = field(default_factory=RetryOptions)


_READS: Final = (
    ListRequest
    | ShowRequest
    | StatsRequest
    | TlsReportRequest
    | TlsReportsRequest
    | SuppressListRequest
    | PortalListRequest
)
"""What changes nothing, and is not logged."""


class Operations:
    """All operations over one store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._returning: set[asyncio.Task[None]] = set()

    async def run(self, request: Request, operator: Operator) -> Result:
        """Do what is asked.

        Raises:
            ControlError: nothing matches, or the request makes no sense for what it names.
            StoreError: the store cannot do it now.
        """
        result = await self._dispatch(request, operator)
        if not isinstance(request, _READS):
            log.warning("operator action", operation=request.op, operator=operator.name, uid=operator.uid)
        return result

    async def _dispatch(self, request: Request, operator: Operator) -> Result:
        if isinstance(request, ListRequest):
            return await self._list(request)
        if isinstance(request, ShowRequest):
            return await self._show(request)
        if isinstance(request, StatsRequest):
            return await self._stats()
        if isinstance(request, TlsReportRequest | TlsProbeRequest | TlsReportsRequest):
            if self._parts.tls is None:
                raise ControlError("this Postern looks at no mail servers")
            return await answer_tls(self._parts.tls, request)
        if isinstance(request, UnsealRequest):
            return await self._unseal(request, operator)
        if isinstance(request, SuppressListRequest | SuppressAddRequest | SuppressRemoveRequest):
            return await self._suppress(request, operator)
        if isinstance(request, PortalRequest):
            if self._parts.portal is None:
                raise ControlError("this Postern has no portal")
            return await self._parts.portal.answer(request, operator.name)
        return await self._change(request, operator)

    async def _suppress(
        self, request: SuppressListRequest | SuppressAddRequest | SuppressRemoveRequest, operator: Operator
    ) -> Result:
        parts = self._parts
        if parts.suppressions is None:
            raise ControlError("this Postern keeps no suppression list")
        desk = SuppressionDesk(parts.suppressions, parts.store, parts.clock, parts.metrics)
        if isinstance(request, SuppressListRequest):
            return await desk.show(request)
        if isinstance(request, SuppressAddRequest):
            return await desk.add(request, operator.name)
        return await desk.remove(request, operator.name)

    # --- looking ------------------------------------------------------

    async def _list(self, request: ListRequest) -> ListResult:
        found, more = await self._select(request.where, request.limit)
        now = self._parts.clock()
        return ListResult(entries=tuple(views.entry(entry, now) for entry in found), more=more)

    async def _show(self, request: ShowRequest) -> ShowResult:
        message_id = request.id.partition(".")[0]
        message = await self._parts.store.message(message_id)
        if message is None:
            hint = f"if it has ended, postern audit show --message {message_id} tells how"
            raise ControlError(f"{request.id} is not in the queue: {hint}")
        entries = [entry async for entry in self._entries(Selection(ids=(request.id,)))]
        now = self._parts.clock()
        return ShowResult(
            message=views.message(message),
            entries=tuple(views.entry(entry, now) for entry in entries),
            recipients=tuple(view for entry in entries for view in views.recipients(entry)),
        )

    async def _stats(self) -> StatsResult:
        return views.stats(await self._parts.store.stats(), self._parts.clock())

    async def _unseal(self, request: UnsealRequest, operator: Operator) -> UnsealResult:
        message_id = request.id.partition(".")[0]
        held = [entry async for entry in self._entries(Selection(ids=(message_id,))) if entry.state is EntryState.HELD]
        if not held:
            raise ControlError(f"{message_id} is not held: only a held message can be unsealed")
        content = await self._parts.store.content(message_id)
        now = self._parts.clock()
        facts = self._facts("unseal", operator, request.reason)
        events = (
            AuditEvent(kind="operator", at=now, message_id=message_id, facts=facts),
            AuditEvent(kind="alert", at=now, message_id=message_id, facts={**facts, "alert": "unsealed"}),
        )
        await self._parts.store.commit((Note(events=events),))  # on disk before anything is shown
        self._parts.metrics.count("postern_alerts_total", {"kind": "unsealed"})
        log.error("alert", alert="unsealed", message_id=message_id, operator=operator.name)
        return UnsealResult(
            id=message_id,
            content=base64.b64encode(content[:_UNSEALED]).decode("ascii"),
            size=len(content),
            truncated=len(content) > _UNSEALED,
        )

    # --- changing -----------------------------------------------------

    async def _change(self, request: ChangeRequest, operator: Operator) -> ChangeResult:
        if request.where.is_empty:
            raise ControlError(f"{request.op} needs ids or a filter: it does not act on the whole queue")
        if request.op == "remove" and len(request.reason.strip()) < 3:
            raise ControlError(
                "remove needs a reason of 3 characters at least: it is the message's fate in the audit trail"
            )
        selected, more = await self._select(request.where, MAX_CHANGED)
        if not selected:
            raise ControlError("nothing in the queue matches")
        done, refused = [], []
        for entry in selected:
            try:
                outcome = await self._change_one(entry.id, request, operator)
                done.append(Done(id=entry.id, outcome=outcome))
            except (ControlError, StoreError) as error:
                refused.append(Done(id=entry.id, outcome=str(error)))
        return ChangeResult(done=tuple(done), refused=tuple(refused), more=more)

    async def _change_one(self, entry_id: str, request: ChangeRequest, operator: Operator) -> str:
        """Lease, change, commit; the lease is given back whatever happens."""
        store = self._parts.store
        claimed = await store.acquire(entry_id)
        if claimed is None:
            raise ControlError("it is gone, or a worker has it in hand now: try again")
        try:
            made = await self._make(claimed, request, operator)
            facts = self._facts(request.op, operator, request.reason) | {"entry": entry_id, "outcome": made.outcome}
            note = AuditEvent(kind="operator", at=self._parts.clock(), message_id=claimed.message.id, facts=facts)
            if self._parts.portal is not None:
                await self._parts.portal.leave(claimed, made.changes)
            await store.commit((*made.changes, Note(events=(note, *fate_events(claimed, made)))))
        except BaseException:
            await self._give_back(entry_id)
            raise
        return made.outcome

    async def _give_back(self, entry_id: str) -> None:
        """Free the lease; while the store is away later, for nobody else would as long as we live."""
        try:
            await self._parts.store.release([entry_id])
        except (StoreUnavailableError, StoreFullError) as error:
            log.warning("a lease is given back later", entry=entry_id, error=str(error))
            task = asyncio.get_running_loop().create_task(self._give_back_later(entry_id))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _give_back_later(self, entry_id: str) -> None:
        with contextlib.suppress(StoreError):  # closed: then it is free
            while True:
                await asyncio.sleep(_AGAIN)
                try:
                    return await self._parts.store.release([entry_id])
                except (StoreUnavailableError, StoreFullError):
                    continue

    async def _make(self, claimed: Claimed, request: ChangeRequest, operator: Operator) -> Outcome:
        entry, now = claimed.entry, self._parts.clock()
        told = f" by {operator.name}" + (f": {scrub(request.reason)}" if request.reason else "")
        if request.op == "hold":
            if entry.state is EntryState.HELD:
                raise ControlError("it is held already")
            return stored(replace(entry, state=EntryState.HELD, reason=f"held{told}"), "held")
        if request.op == "release":
            return stored(released(entry, now, f"released{told}"), "ready")
        if request.op == "retry":
            if entry.state is EntryState.HELD:
                raise ControlError("it is held: release it")
            return stored(replace(entry, due_at=now, reason=f"retried{told}"), "ready")
        if request.op == "remove":
            return self._end(entry, Fate(kind=FateKind.REMOVED, at=now, why=f"removed{told}"))
        if request.op == "bounce":
            fate = Fate(kind=FateKind.BOUNCED, at=now, why=f"bounced{told}")
            public = "the administrator of the sending system returned the message"
            return self._end(entry, fate, await self._notice(claimed, entry, public, now))
        return await self._redecide(claimed, now, told)

    def _end(self, entry: QueueEntry, fate: Fate, more: Sequence[Change] = ()) -> Outcome:
        fates = {state.number: fate for state in entry.recipients}
        return Outcome((Settle(entry=replace(entry, recipients=()), fates=fates), *more), fate.kind.value)

    async def _notice(self, claimed: Claimed, entry: QueueEntry, public: str, now: float) -> Sequence[Change]:
        try:
            content = await self._parts.store.content(claimed.message.id)
        except CorruptError:  # the DSN then has no headers of the original; the sender is told all the same
            content = None
        return self._parts.notify(claimed.message, content, entry, public, now)

    # --- deciding anew ------------------------------------------------

    async def _redecide(self, claimed: Claimed, now: float, told: str) -> Outcome:
        entry = claimed.entry
        if claimed.message.origin is not Origin.CLIENT:
            raise ControlError("it is a notice of our own: no policy decides it")
        content = await self._parts.store.content(claimed.message.id)
        decided = await self._parts.redecide(entry, claimed.message, content)
        if {item.state.number for item in decided} != {state.number for state in entry.recipients}:
            raise ControlError("the policy did not decide every recipient: nothing was changed")
        groups: dict[tuple[Treatment, str, MethodName | None], list[RecipientState]] = {}
        for item in decided:
            floor = max(item.treatment.floor, entry.treatment.floor)
            key = (replace(item.treatment, floor=floor), item.destination, item.method)
            groups.setdefault(key, []).append(item.state)
        number = await self._last_number(entry.message_id)
        parts: list[QueueEntry] = []
        fates: dict[int, Fate] = {}
        notices: list[Change] = []
        for (treatment, destination, chosen), states in groups.items():
            part = replace(
                decided_anew(entry, treatment, self._parts.retry, now, told),
                destination=destination,
                method=chosen or next(iter(treatment.methods), entry.method),
                recipients=tuple(states),
            )
            if treatment.action is Action.REJECT:
                fate = Fate(kind=FateKind.REJECTED, at=now, why=f"rejected by rule {treatment.rule}, redecided{told}")
                fates |= {state.number: fate for state in states}
                notices += await self._notice(claimed, part, treatment.reason or "not allowed by policy", now)
            else:
                parts.append(part)
        named = [
            part if index == 0 else replace(part, id=f"{entry.message_id}.{number + index}")
            for index, part in enumerate(parts)
        ]
        left = named[0] if named else replace(entry, recipients=())
        outcome = ", ".join(f"{part.state.value} by rule {part.treatment.rule}" for part in named)
        outcome = ", ".join(filter(None, (outcome, f"{len(fates)} rejected" if fates else "")))
        anew = {item.state.number: item.treatment for item in decided}
        return Outcome((Settle(entry=left, fates=fates, split=tuple(named[1:])), *notices), outcome, anew)

    async def _last_number(self, message_id: str) -> int:
        """The highest N of the message's entries ``MESSAGE.N``."""
        highest = 0
        async for entry in self._parts.store.entries(QueueFilter(message_id=message_id)):
            highest = max(highest, int(entry.id.rpartition(".")[2]))
        return highest

    # --- selecting ----------------------------------------------------

    async def _select(self, where: Selection, limit: int) -> tuple[list[QueueEntry], bool]:
        found: list[QueueEntry] = []
        async for entry in self._entries(where):
            if len(found) == limit:
                return found, True
            found.append(entry)
        return found, False

    async def _entries(self, where: Selection) -> AsyncIterator[QueueEntry]:
        wanted = {identity for identity in where.ids if "." in identity}
        whole = {identity for identity in where.ids if "." not in identity}
        now = self._parts.clock()
        for one in filters(where):
            async for entry in self._parts.store.entries(one):
                named = not where.ids or entry.id in wanted or entry.message_id in whole
                if named and where.state in (None, views.state(entry, now)):
                    yield entry

    def _facts(self, operation: str, operator: Operator, reason: str) -> dict[str, Any]:
        return {"operation": operation, "operator": operator.name, "uid": operator.uid, "reason": scrub(reason)}
