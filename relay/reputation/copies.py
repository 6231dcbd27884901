"""What a returned message is about: the copy that a signed return address names, as it is remembered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from relay.core.address import Address
from relay.core.change import Remember
from relay.core.entry import QueueEntry, RecipientState
from relay.core.envelope import Message
from relay.core.errors import AddressError, CorruptError
from relay.core.ports import QueueStore
from relay.core.returning import Dispatched
from relay.delivery.dispatched import memo_prefix, read_memo
from relay.protect.returnpath import ReturnPath

log = structlog.get_logger("returns")

_MARK: Final = "!"
_LIFETIME: Final = 86_400.0
"""How long it is remembered what came back to a copy that is still in the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy that left.

    Attributes:
        sent: what is remembered; its recipients are those that the return address stands for.
        told: what came back before: ``NUMBER-WHAT``.
        until: unix seconds until which it is remembered.
    """

    sent: Dispatched
    told: frozenset[str]
    until: float

    @property
    def is_ones_own(self) -> bool:
        """Whether its return address was shown to one recipient alone, so that nobody else could speak for them."""
        return len(self.sent.recipients) == 1

    def is_told(self, number: int, what: str) -> bool:
        """Whether this came back before for this recipient."""
        return f"{number}-{what}" in self.told

    def mark(self, number: int, what: str) -> Remember:
        """The change that notes that it came back."""
        return Remember(name=f"{memo_prefix(self.sent.entry_id)}{_MARK}{number}-{what}", until=self.until)

    def recipient(self, named: str) -> tuple[RecipientState | None, bool]:
        """The recipient that a report names, and whether it is named itself.

        Where the copy went to one recipient alone it is that one, whatever mailbox a forwarding system names.
        """
        try:
            key = Address.parse(named).key
        except AddressError:
            key = ""
        for state in self.sent.recipients:
            if key and key in (state.recipient.address.key, _original(state)):
                return state, True
        return (self.sent.recipients[0], False) if self.is_ones_own else (None, False)


def _original(state: RecipientState) -> str:
    """The mailbox in ORCPT, in lower case; empty when there is none."""
    return state.recipient.original.partition(";")[2].lower().replace("+2b", "+").replace("+3d", "=")


class Copies:
    """Looks copies up, in what is remembered and in the queue."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store

    async def find(self, path: ReturnPath, *, now: float) -> Copy | None:
        """The copy behind a return address; ``None`` when it is remembered no more.

        A copy that a server took and whose delivery is not on disk yet is still in the queue: its bounce can be quicker
        than our own record.

        Raises:
            StoreError: the store cannot be read now.
        """
        for _ in range(2):
            found = await self._remembered(path)
            if found is not None:
                return found
            entry = await self._store.entry(path.entry_id)
            message = await self._store.message(entry.message_id) if entry is not None else None
            if entry is not None and message is not None:
                return _chosen(_in_queue(entry, message), frozenset(), now + _LIFETIME, path.number)
        return None

    async def _remembered(self, path: ReturnPath) -> Copy | None:
        prefix = memo_prefix(path.entry_id)
        memos = await self._store.recall(prefix)
        pieces = _pieces([memo for memo in memos if not memo.name.startswith(f"{prefix}{_MARK}")])
        if not pieces:
            return None
        told = frozenset(memo.name.removeprefix(f"{prefix}{_MARK}") for memo in memos)
        states = {state.number: state for piece in pieces for state in piece.recipients}
        whole = replace(pieces[0], recipients=tuple(states[number] for number in sorted(states)))
        return _chosen(whole, told, max(memo.until for memo in memos), path.number)


def _pieces(memos: Sequence[Remember]) -> list[Dispatched]:
    found = []
    for memo in memos:
        try:
            found.append(read_memo(memo))
        except CorruptError as error:
            log.error("a memo cannot be read", error=str(error))
    return found


def _in_queue(entry: QueueEntry, message: Message) -> Dispatched:
    return Dispatched(
        message_id=message.id,
        entry_id=entry.id,
        sender=message.envelope.reverse_path,
        recipients=entry.recipients,
        received_at=message.received_at,
        sent_at=message.received_at,
        client=message.session.client,
        tenant=message.session.tenant,
        stream=message.stream,
        header_id=message.message_id,
        envelope_id=message.envelope.envelope_id,
        smtputf8=message.envelope.smtputf8,
    )


def _chosen(sent: Dispatched, told: frozenset[str], until: float, number: int | None) -> Copy | None:
    """The copy with the recipients that the address stands for; ``None`` when it stands for none of them."""
    if number is not None:
        sent = replace(sent, recipients=tuple(state for state in sent.recipients if state.number == number))
    return Copy(sent=sent, told=told, until=until) if sent.recipients else None
