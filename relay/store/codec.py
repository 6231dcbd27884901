"""Domain objects to sealed bytes and back: the one place through which anything reaches a database (law 7).

A message's facts, an entry and a commit's audit events each become one JSON document, sealed whole. Rows keep in the
open only what the database must sort and select by: ids, destination domains, times, sizes. The sealed document is the
truth; the open columns are an index to it: a changed column can mislay an entry but never lower its floor.

Of a message's facts and of an entry what is usual is left out: a field that is not there has its default
(:func:`trim`). So most of them lie in their tables' leaves, and need no page of their own. The defaults are thus a part
of the form that lies on disks: a test holds them.
"""

import dataclasses
import functools
import json
import types
import typing
from base64 import b64encode
from collections.abc import Callable, Iterable
from enum import Enum
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final, TypeVar

import orjson
import structlog

from relay.core.address import Address
from relay.core.change import AuditEvent, Remember
from relay.core.decision import Treatment
from relay.core.entry import QueueEntry, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Recipient
from relay.core.errors import CorruptError, SealError
from relay.core.phi import Finding, PhiVerdict
from relay.core.ports import OutboxRow, Vault

_log = structlog.get_logger("store")

BODY = "body"
FACTS = "facts"
ENTRY = "entry"
OUTBOX = "outbox"
MEMO = "memo"

_TREATMENTS: Final = 256
"""Encoded treatments that are kept: a policy has few."""
_ENTRY_FIELDS: Final = tuple(field.name for field in dataclasses.fields(QueueEntry))
_entry_values: Final = attrgetter(*_ENTRY_FIELDS)

_T = TypeVar("_T")
_Decoder = Callable[[Any], Any]


class Codec:
    """Seals and opens what the store keeps.

    Every ``open_*`` method raises :class:`CorruptError` for what does not authenticate or does not parse, with a text
    that names the row and repeats nothing of it.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._treatments: dict[int, tuple[Treatment, orjson.Fragment]] = {}

    def seal_body(self, message_id: str, content: bytes) -> bytes:
        """The content, sealed under its message's id."""
        return self._vault.seal(BODY, message_id, content)

    def open_body(self, message_id: str, sealed: bytes) -> bytes:
        """The content."""
        return self._open(BODY, message_id, sealed)

    def seal_message(self, message: Message) -> bytes:
        """Session, envelope, verdict and attachments in one; attachments' names are never stored (core.envelope)."""
        if message.attachments:
            nameless = tuple(dataclasses.replace(attachment, name="") for attachment in message.attachments)
            message = dataclasses.replace(message, attachments=nameless)
        return self._vault.seal(FACTS, message.id, trim(dump(message), _USUAL_FACTS))

    def open_message(self, message_id: str, sealed: bytes) -> Message:
        """The message whose id this is."""
        return load(Message, self._open(FACTS, message_id, sealed), message_id)

    def seal_entry(self, entry: QueueEntry) -> bytes:
        """The entry whole: its treatment, recipients and reason must not be read nor altered on disk."""
        return self._vault.seal(ENTRY, entry.id, self._entry(entry))

    def _entry(self, entry: QueueEntry) -> bytes:
        """An entry without what is usual, its treatment encoded once: a policy gives the same to many."""
        treatment = entry.treatment
        known = self._treatments.get(id(treatment))
        if known is None:
            if len(self._treatments) >= _TREATMENTS:
                self._treatments.clear()
            # The treatment is held too, so that its id stays its own.
            known = self._treatments[id(treatment)] = (treatment, orjson.Fragment(dump(_unusual(treatment))))
        fields = dict(zip(_ENTRY_FIELDS, _entry_values(entry), strict=True))
        fields["treatment"] = known[1]
        try:
            encoded = orjson.dumps(fields, default=_plain_set)
        except orjson.JSONEncodeError:
            encoded = dump(entry)
        return trim(encoded, _USUAL_ENTRY)

    def open_entry(self, entry_id: str, sealed: bytes) -> QueueEntry:
        """The entry whose id this is."""
        return load(QueueEntry, self._open(ENTRY, entry_id, sealed), entry_id)

    def seal_events(self, events: tuple[AuditEvent, ...]) -> bytes:
        """One outbox row."""
        return self.seal_encoded_events(dump(events))

    def seal_encoded_events(self, encoded: bytes) -> bytes:
        """One outbox row of events that :func:`dump` encoded."""
        return self._vault.seal(OUTBOX, "", encoded)

    def open_events(self, seq: int, sealed: bytes) -> tuple[AuditEvent, ...]:
        """The events of outbox row ``seq``."""
        decoded: tuple[AuditEvent, ...] = _load(
            _tuple_decoder(AuditEvent), self._open(OUTBOX, "", sealed), f"outbox row {seq}"
        )
        return decoded

    def open_row(self, seq: int, sealed: bytes) -> OutboxRow:
        """An outbox row; in place of one that does not open an alert that carries it as it is, in base64.

        One damaged row must neither stop the audit trail nor be lost to it: whoever has its key can still open it. When
        it was written is not known (``at`` is 0), so that the same row always gives the same event.
        """
        digest = sha256(sealed).hexdigest()[:32]
        try:
            return OutboxRow(seq=seq, events=self.open_events(seq, sealed), digest=digest)
        except CorruptError as error:
            _log.error("outbox_row_damaged", row=seq, detail=str(error))
            facts = {"alert": "outbox-row-damaged", "row": seq, "sealed": b64encode(sealed).decode("ascii")}
            return OutboxRow(seq=seq, events=(AuditEvent(kind="alert", at=0.0, facts=facts),), digest=digest)

    def seal_memo(self, memo: Remember) -> bytes:
        """What is to be remembered, sealed under its name."""
        return self._vault.seal(MEMO, memo.name, memo.value)

    def open_memos(self, rows: Iterable[tuple[str, float, bytes]]) -> list[Remember]:
        """What is remembered, of name, end and sealed value each; what does not open is logged and left out."""
        found = []
        for name, until, sealed in rows:
            try:
                found.append(Remember(name=name, value=self._open(MEMO, name, sealed), until=until))
            except CorruptError as error:
                _log.error("memo_damaged", memo=name, detail=str(error))
        return found

    def token(self, address: Address) -> bytes:
        """What a row holds so that a mailbox can be found without being readable; case is folded."""
        return self._vault.seal_address(_lookup_text(address))

    def tokens(self, address: Address) -> tuple[bytes, ...]:
        """:meth:`token` under every key version in the ring."""
        return self._vault.address_tokens(_lookup_text(address))

    def counter(self, name: str) -> str:
        """A counter's name as stored: it may hold an account or an IP address."""
        return self._vault.digest(f"counter:{name}")

    def _open(self, purpose: str, context: str, sealed: bytes) -> bytes:
        try:
            return self._vault.open(purpose, context, sealed)
        except SealError as error:
            raise CorruptError(f"the {purpose} of {context or 'a row'} cannot be opened: {error}") from error


def _lookup_text(address: Address) -> str:
    """The look-up key as text that UTF-8 can carry (RFC 6531 allows no lone surrogates, a broken client sends them)."""
    return address.key.encode("utf-8", "backslashreplace").decode("utf-8")


# --- JSON ---------------------------------------------------------------


def dump(value: object) -> bytes:
    """JSON of a dataclass or a tuple of them.

    orjson refuses lone surrogates and integers over 64 bits; the standard library writes both, and :func:`load` reads
    what either wrote: such an integer as the nearest number of floating point. What Postern counts is far below it, and
    what strangers count is bounded where it is read.
    """
    try:
        return orjson.dumps(value, default=_plain_set)
    except orjson.JSONEncodeError:
        return json.dumps(value, default=_plain, separators=(",", ":")).encode("ascii")


def _plain_set(value: object) -> object:
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return _plain_set(value)


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _unusual(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that have not their defaults."""
    found = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {field.name: given for field, given in found if given != _default(field)}


def _usual(cls: Any, first: str, last: str) -> tuple[bytes, bytes]:
    """How fields from one to another stand in JSON when all have their defaults, with what follows; that alone."""
    fields = dataclasses.fields(cls)
    names = [field.name for field in fields]
    begin, end = names.index(first), names.index(last) + 1
    run = b"".join(b',"%b":%b' % (field.name.encode(), dump(_default(field))) for field in fields[begin:end])
    after = b',"%b":' % names[end].encode() if end < len(names) else b"}"
    return run + after, after


_Runs = tuple[tuple[bytes, bytes], ...]
_USUAL_RECIPIENT: Final = _usual(Recipient, "original", "notify")
_USUAL_FACTS: Final[_Runs] = (
    _USUAL_RECIPIENT,
    _usual(ClientSession, "identity", "identity"),
    _usual(ClientSession, "tls_version", "esmtp"),
    _usual(Envelope, "body_8bit", "ret"),
    _usual(Finding, "sensitive", "more"),
    _usual(PhiVerdict, "truncated", "truncated"),
    _usual(Message, "attachments", "stream"),
)
_USUAL_ENTRY: Final[_Runs] = (
    _USUAL_RECIPIENT,
    _usual(RecipientState, "fate", "fate"),
    _usual(QueueEntry, "attempts", "tls_failures"),
    _usual(QueueEntry, "fallback", "fallback"),
)


def trim(encoded: bytes, runs: _Runs) -> bytes:
    """Take the usual runs of fields out of what :func:`dump` gave.

    A run begins with a comma and a quotation mark. Within a string of JSON that mark would have a backslash before it,
    and the mark that ends one is followed by no name: so a run is found only where these fields are.
    """
    for run, after in runs:
        encoded = encoded.replace(run, after)
    return encoded


def load(cls: type[_T], data: bytes, name: str) -> _T:
    """Build ``cls`` from what :func:`dump` made of it; ``name`` says in the error what was being read.

    Raises:
        CorruptError: not JSON, or not of this shape. A field this version does not know is refused too: it may be a
            protection that a newer version decided (law 3).
    """
    hint: Any = cls
    decoded: _T = _load(_decoder(hint), data, name)
    return decoded


def _load(decoder: _Decoder | None, data: bytes, name: str) -> Any:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _load_slowly(data, name)
    try:
        return decoder(value) if decoder else value
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CorruptError(f"{name} is not of a form this version knows") from error


def _load_slowly(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise CorruptError(f"{name} is not JSON") from error


@functools.cache
def _decoder(hint: Any) -> _Decoder | None:
    """How to build a value of this type from JSON; ``None``: JSON has it already."""
    if typing.get_origin(hint) is None and isinstance(hint, type):
        if issubclass(hint, Enum):
            return hint._value2member_map_.__getitem__
        return _dataclass_decoder(hint) if dataclasses.is_dataclass(hint) else None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _optional_decoder(_decoder(next(a for a in arguments if a is not types.NoneType)))
    if origin is tuple and arguments[1:] == (...,):
        return _tuple_decoder(arguments[0])
    if origin is frozenset:
        return frozenset
    return None


def _optional_decoder(inner: _Decoder | None) -> _Decoder | None:
    return None if inner is None else lambda value: None if value is None else inner(value)


@functools.cache
def _tuple_decoder(item: Any) -> _Decoder:
    inner = _decoder(item)
    return tuple if inner is None else lambda value: tuple(map(inner, value))


def _dataclass_decoder(cls: Any) -> _Decoder:
    hints = typing.get_type_hints(cls)
    converted = [(f.name, convert) for f in dataclasses.fields(cls) if (convert := _decoder(hints[f.name]))]

    def build(value: dict[str, Any]) -> Any:
        for name, convert in converted:
            if name in value:
                value[name] = convert(value[name])
        return cls(**value)

    return build
