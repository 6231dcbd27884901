"""What is remembered of a copy that left: made from what was delivered, and written as octets for the store."""

from collections.abc import Collection
from typing import Any, Final

import orjson

from relay.core.address import Address, ReversePath
from relay.core.change import Remember
from relay.core.entry import QueueEntry, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Origin, Recipient
from relay.core.errors import AddressError, CorruptError
from relay.core.returning import Dispatched

_FORM: Final = 1


def memo_prefix(entry_id: str) -> str:
    """What the names of all memos of one entry begin with."""
    return f"sent/{entry_id}/"


def memo_of(
    message: Message, entry: QueueEntry, delivered: Collection[int], *, host: str, now: float, lifetime: float
) -> Remember:
    """What to remember of the recipients that one transaction delivered.

    An entry may be delivered in pieces: each piece has a memo of its own, named by its first recipient.

    Args:
        message: as kept.
        entry: as it was claimed.
        delivered: recipients' numbers, one at least.
        host: the server that took them.
        now: unix seconds.
        lifetime: seconds for which it is kept.
    """
    numbers = sorted(delivered)
    recipients = {state.number: state.recipient for state in entry.recipients}
    session, envelope = message.session, message.envelope
    value = {
        "form": _FORM,
        "sender": str(envelope.reverse_path),
        "recipients": [_dump(number, recipients[number]) for number in numbers],
        "received_at": message.received_at,
        "sent_at": now,
        "client": session.client,
        "tenant": session.tenant,
        "stream": message.stream,
        "header_id": message.message_id,
        "envelope_id": envelope.envelope_id,
        "smtputf8": envelope.smtputf8,
        "host": host,
    }
    octets = orjson.dumps(value)
    return Remember(name=f"{memo_prefix(entry.id)}{numbers[0]}", value=octets, until=now + lifetime)


def _dump(number: int, recipient: Recipient) -> list[Any]:
    return [number, str(recipient.address), recipient.original, sorted(recipient.notify)]


def read_memo(memo: Remember) -> Dispatched:
    """What :func:`memo_of` wrote.

    Raises:
        CorruptError: it is not that.
    """
    form = 0
    try:
        fields: dict[str, Any] = orjson.loads(memo.value)
        form = fields.pop("form")
        _, entry_id, _ = memo.name.split("/")
        sender = fields.pop("sender")
        found = Dispatched(
            message_id=entry_id.rpartition(".")[0],
            entry_id=entry_id,
            sender=ReversePath(Address.parse(sender) if sender else None),
            recipients=tuple(_load(*row) for row in fields.pop("recipients")),
            **fields,
        )
    except (ValueError, KeyError, TypeError, AddressError) as error:
        raise CorruptError(f"{memo.name}: what was remembered cannot be read") from error
    if form != _FORM:
        raise CorruptError(f"{memo.name}: what was remembered is of a form that this version does not know")
    return found


def _load(number: int, address: str, original: str, notify: list[str]) -> RecipientState:
    recipient = Recipient(address=Address.parse(address), original=original, notify=frozenset(notify))
    return RecipientState(number=number, recipient=recipient)


def message_of(sent: Dispatched) -> Message:
    """The message again, as far as a notice about it needs it: without verdict, size and attachments."""
    return Message(
        id=sent.message_id,
        origin=Origin.CLIENT,
        received_at=sent.received_at,
        session=ClientSession(client=sent.client, tenant=sent.tenant),
        envelope=Envelope(
            reverse_path=sent.sender,
            recipients=tuple(state.recipient for state in sent.recipients),
            envelope_id=sent.envelope_id,
            smtputf8=sent.smtputf8,
        ),
        size=0,
        message_id=sent.header_id,
        stream=sent.stream,
    )
