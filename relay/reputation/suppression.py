"""The suppression list: kept sealed among what the store knows, looked up in memory, filled by hard bounces.

A row is named by the mailbox's token (AES-SIV, law 7) with tenant and stream, so that a look-up needs no open text. Its
last octet says the cause; the rest is sealed.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson
import structlog

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.entry import Claimed
from relay.core.errors import AddressError, SealError, StoreError
from relay.core.fate import Fate, FateKind
from relay.core.ports import Clock, Knowledge, Known, Metrics, Vault
from relay.core.reply import Reply
from relay.core.suppression import Cause, Suppression
from relay.delivery.bounce import BounceAction, Verdict
from relay.delivery.provider import Providers

log = structlog.get_logger("suppression")

_KIND: Final = "suppressed"
_ALLOWED: Final = "suppression-exempt"
_PURPOSE: Final = "suppression"
_PAGE: Final = 1000
_VERSIONED: Final = 7
"""Octets at a token's beginning that say its form and key version."""
_LETTERS: Final = {Cause.HARD_BOUNCE: b"b", Cause.COMPLAINT: b"c", Cause.OPERATOR: b"o"}
_STRONGER: Final = {Cause.HARD_BOUNCE: b"co", Cause.COMPLAINT: b"o", Cause.OPERATOR: b""}
"""What people asked for counts for more than what a server answered, and an operator's word for most."""
_REPLIES: Final = {
    b"b": Reply.of(550, "5.1.1", "This mailbox refused earlier mail for good and is suppressed; see postern suppress"),
    b"c": Reply.of(550, "5.7.1", "This recipient complained of earlier mail and is suppressed; see postern suppress"),
    b"o": Reply.of(550, "5.7.1", "This recipient is suppressed by an operator; see postern suppress"),
}


class SuppressionList:
    """The list itself. Implements :class:`relay.core.ports.Suppressions`."""

    def __init__(self, knowledge: Knowledge, vault: Vault, clock: Clock) -> None:
        self._knowledge = knowledge
        self._vault = vault
        self._clock = clock

    async def suppress(self, item: Suppression, *, events: tuple[AuditEvent, ...] = ()) -> None:
        """Add it, in the place of an older one for the same mailbox, tenant and stream; ``events`` in the same commit.

        Raises:
            StoreError: it cannot be kept now.
        """
        newest, *others = self.names(item.address, item.tenant, item.stream)
        known = Known(kind=_KIND, name=newest, value=self._seal(newest, item), until=item.until)
        await self._knowledge.learn(known, events=events)
        for name in others:  # only now: whatever ends this between leaves two rows, and never none
            await self._knowledge.forget(_KIND, name)

    async def lift(self, address: Address, *, tenant: str, stream: str, exempt_until: float = 0.0) -> bool:
        """Take it off; whether it was on. Until ``exempt_until`` bounces do not put it on again.

        Raises:
            StoreError: it cannot be changed now.
        """
        was_on = False
        names = self.names(address, tenant, stream)
        for name in names:
            was_on |= await self._knowledge.known(_KIND, name) is not None
            await self._knowledge.forget(_KIND, name)
        if exempt_until > self._clock():
            token = bytes.fromhex(names[0].partition("/")[0])
            await self._knowledge.learn(Known(kind=_ALLOWED, name=names[0], value=token, until=exempt_until))
        return was_on

    async def is_exempt(self, address: Address, *, tenant: str, stream: str) -> bool:
        """Whether an operator said that bounces do not suppress it."""
        scopes = {(tenant, stream), (tenant, ""), ("", stream), ("", "")}
        names = [name for scope in scopes for name in self.names(address, *scope)]
        return any([await self._knowledge.known(_ALLOWED, name) is not None for name in names])

    async def heeds(self, item: Suppression) -> bool:
        """Whether what was noticed, by a bounce or a complaint, is to be put on the list.

        Not while an operator exempted the mailbox, and not where a stronger cause suppresses it already and no shorter:
        the weaker one in its place would let mail through again sooner than a person wanted.

        Raises:
            StoreError: it cannot be read now.
        """
        if await self.is_exempt(item.address, tenant=item.tenant, stream=item.stream):
            return False
        names = self.names(item.address, item.tenant, item.stream)
        rows = [await self._knowledge.known(_KIND, name) for name in names]
        stronger = [row for row in rows if row is not None and row.value[-1:] in _STRONGER[item.cause]]
        return all(row.until < item.until for row in stronger)

    async def renew(self) -> int:
        """Seal again, under the newest key version, what is sealed under older ones; how many rows.

        So that a version can be retired: what it alone opens would be lost, and a suppression with it.

        Raises:
            StoreError: the list cannot be read or changed now.
        """
        newest = self._vault.seal_address("")[:_VERSIONED].hex()
        renewed = 0
        for kind in (_KIND, _ALLOWED):
            after = ""
            while rows := await self._knowledge.all_known(kind, after=after, limit=_PAGE):
                for row in rows:
                    renewed += not row.name.startswith(newest) and await self._renew(row)
                after = rows[-1].name
        return renewed

    async def _renew(self, row: Known) -> bool:
        if row.kind == _KIND:
            item = self._open(row)
            if item is not None:
                await self.suppress(item)
            return item is not None
        token, _, scope = row.name.partition("/")
        try:
            fresh = self._vault.seal_address(self._vault.open_address(bytes.fromhex(token)))
        except (SealError, ValueError) as error:
            log.error("an exemption cannot be read", row=row.name[:12], error=type(error).__name__)
            return False
        await self._knowledge.learn(replace(row, name=f"{fresh.hex()}/{scope}", value=fresh))
        await self._knowledge.forget(row.kind, row.name)
        return True

    async def page(self, *, after: str = "", limit: int = 200) -> tuple[Sequence[Suppression], str]:
        """Suppressions in the order of their names, and where the next page begins; empty at the end.

        Those that cannot be opened are logged and left out.
        """
        rows = await self._knowledge.all_known(_KIND, after=after, limit=limit)
        found = [item for row in rows if (item := self._open(row)) is not None]
        return found, rows[-1].name if len(rows) == limit else ""

    async def find(self, address: Address) -> Sequence[Suppression]:
        """All suppressions of one mailbox, whatever tenant and stream."""
        found: list[Suppression] = []
        after = ""
        while True:
            items, after = await self.page(after=after, limit=_PAGE)
            found += [item for item in items if item.address.key == address.key]
            if not after:
                return found

    async def index(self) -> dict[str, tuple[float, bytes]]:
        """Name to end and cause, of all."""
        found: dict[str, tuple[float, bytes]] = {}
        after = ""
        while True:
            rows = await self._knowledge.all_known(_KIND, after=after, limit=_PAGE)
            found |= {row.name: (row.until, row.value[-1:]) for row in rows}
            if len(rows) < _PAGE:
                return found
            after = rows[-1].name

    def names(self, address: Address, tenant: str, stream: str) -> list[str]:
        """The names under which it may be kept: the newest key version's first."""
        return [f"{token}/{tenant}/{stream}" for token in self.tokens(address)]

    def tokens(self, address: Address) -> list[str]:
        """What stands for a mailbox: the newest key version's first, in hex."""
        key = address.key.encode("utf-8", "backslashreplace").decode("utf-8")
        newest = self._vault.seal_address(key)
        older = (token for token in self._vault.address_tokens(key) if token != newest)
        return [newest.hex(), *(token.hex() for token in older)]

    def _seal(self, name: str, item: Suppression) -> bytes:
        plain = orjson.dumps(
            {
                "address": str(item.address),
                "tenant": item.tenant,
                "stream": item.stream,
                "cause": item.cause.value,
                "evidence": item.evidence[:1000],
                "since": item.since,
                "by": item.by,
            }
        )
        return self._vault.seal(_PURPOSE, name, plain) + _LETTERS[item.cause]

    def _open(self, row: Known) -> Suppression | None:
        try:
            fields = orjson.loads(self._vault.open(_PURPOSE, row.name, row.value[:-1]))
            address = Address.parse(fields.pop("address"))
            return Suppression(**{**fields, "cause": Cause(fields["cause"])}, address=address, until=row.until)
        except (SealError, AddressError, ValueError, KeyError, TypeError) as error:
            log.error("a suppression cannot be read", row=row.name[:12], error=type(error).__name__)
            return None


class SuppressionView:
    """What intake asks at each RCPT: the index in memory, at most ``interval`` seconds old.

    Reading it anew takes no more than a fiftieth of the time: a long list is read less often.
    """

    def __init__(self, listed: SuppressionList, clock: Clock, *, interval: float = 5.0) -> None:
        self._list = listed
        self._clock = clock
        self._interval = interval
        self._index: dict[str, tuple[float, bytes]] = {}

    def __len__(self) -> int:
        return len(self._index)

    async def refresh(self) -> None:
        """Read the list.

        Raises:
            StoreError: it cannot be read now; what was known goes on holding.
        """
        self._index = await self._list.index()

    async def run(self) -> None:
        """Read it again and again until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.refresh()
            except StoreError as error:
                log.warning("the suppression list cannot be read, the last one holds", error=str(error))
            except Exception:
                log.exception("the suppression list cannot be read, the last one holds: an error of our own")
            await asyncio.sleep(max(self._interval, 50 * (loop.time() - began)))

    def refusal(self, address: Address, tenant: str, stream: str) -> Reply | None:
        """Why this recipient is refused; ``None`` when it is not."""
        if not self._index:
            return None
        now = self._clock()
        for token in self._list.tokens(address):
            for scope in (f"{tenant}/{stream}", f"{tenant}/", f"/{stream}", "/"):
                until, letter = self._index.get(f"{token}/{scope}", (0.0, b""))
                if until > now:
                    return _REPLIES.get(letter, _REPLIES[b"o"])
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperOptions:
    """What suppresses by itself.

    Attributes:
        hard_bounce: seconds for which a mailbox is suppressed that refused mail for good; 0: never.
        waiting: bounces that may wait to be noted.
    """

    hard_bounce: float = 90 * 86_400.0
    waiting: int = 10_000


class SuppressionKeeper:
    """Puts mailboxes on the list that refused mail for good. Runs beside delivery and never holds it up."""

    def __init__(
        self,
        listed: SuppressionList,
        options: KeeperOptions,
        clock: Clock,
        metrics: Metrics,
        providers: Providers | None = None,
    ) -> None:
        self._list = listed
        self._options = options
        self._clock = clock
        self._metrics = metrics
        self._providers = providers or Providers({}, {})
        self._waiting: asyncio.Queue[tuple[Suppression, AuditEvent, str]] = asyncio.Queue(options.waiting)

    def heed(self, claimed: Claimed, number: int, fate: Fate, verdict: Verdict) -> None:
        """Note a refusal, if it is one that suppresses. What finds no room is counted: the next bounce tells again."""
        if not (self._options.hard_bounce and verdict.action is BounceAction.SUPPRESS and verdict.permanent):
            return
        recipient = next((one.recipient for one in claimed.entry.recipients if one.number == number), None)
        if recipient is None or fate.kind is not FateKind.BOUNCED:
            return
        now = self._clock()
        item = Suppression(
            address=recipient.address,
            tenant=claimed.message.session.tenant,
            cause=Cause.HARD_BOUNCE,
            evidence=f"{fate.reply or fate.why} ({verdict.klass.value}, rule {verdict.rule}, {claimed.message.id})",
            since=now,
            until=now + self._options.hard_bounce,
        )
        event = suppression_event(item, now, message_id=claimed.message.id)
        try:
            self._waiting.put_nowait((item, event, self._providers.of(item.address.domain, verdict.host)))
        except asyncio.QueueFull:
            self._metrics.count("postern_alerts_total", {"kind": "suppression-lost"})

    async def run(self) -> None:
        """Note what waits, until cancelled."""
        while True:
            item, event, provider = await self._waiting.get()
            try:
                await self._note(item, event, provider)
            except StoreError as error:
                log.warning("a bounce could not be noted for suppression", error=str(error))
                self._metrics.count("postern_alerts_total", {"kind": "suppression-lost"})
            except Exception:  # the next bounce must be noted all the same
                log.exception("a bounce could not be noted for suppression: an error of our own")
                self._metrics.count("postern_alerts_total", {"kind": "suppression-lost"})
            finally:
                self._waiting.task_done()

    async def aclose(self, deadline: float = 5.0) -> None:
        """Let :meth:`run` finish what waits, within ``deadline`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), deadline)

    async def _note(self, item: Suppression, event: AuditEvent, provider: str) -> None:
        if not await self._list.heeds(item):
            return
        await self._list.suppress(item, events=(event,))
        labels = {"cause": item.cause.value, "recipient_domain": item.address.domain}
        self._metrics.count("postern_suppressions_total", labels)
        labels = {"cause": item.cause.value, "provider": provider}
        self._metrics.count("postern_provider_suppressions_total", labels)
        log.info("suppressed", message_id=event.message_id, domain=item.address.domain, cause=item.cause.value)


def suppression_event(item: Suppression, now: float, *, message_id: str = "") -> AuditEvent:
    """What the audit trail shows of a suppression."""
    facts = {
        "recipients": [str(item.address)],
        "tenant": item.tenant,
        "stream": item.stream,
        "cause": item.cause.value,
        "evidence": item.evidence,
        "until": item.until,
        "by": item.by,
    }
    return AuditEvent(kind="suppressed", at=now, message_id=message_id, facts=facts)
