"""The audit chain: records bound by hashes, heads signed with Ed25519, frames sealed into daily segments.

A record is one JSON object in canonical form (keys sorted, no white space, UTF-8). Its hash is SHA-256 over the hash of
the record before it and its own bytes, so nothing can be changed, left out or put in without changing every hash after
it. A *head* is a signed statement "record I has hash H". Mailboxes stand in a record as their domain and an AES-SIV
token: whoever holds the key ring can open them, everybody else can still check the chain.

A segment file is a magic line and frames, each a length (4 bytes) and bytes sealed under the segment's day and the
frame's number. A frame's first line says what it is (``open``, ``records`` or ``head``).
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.errors import AddressError, SealError
from relay.core.ports import Vault
from relay.protect.keyring import KeyRing

SEGMENT_MAGIC: Final = b"PSEG1\n"
GENESIS: Final = bytes(32)
LONG_FRAME: Final = 16 << 20
"""Octets of records past which several outbox rows do not share a frame."""
MAX_FRAME: Final = 1 << 30
"""Octets of a sealed frame; a longer length is damage."""
_PURPOSE: Final = "audit"
_HEAD_PREFIX: Final = b"postern audit head 1\n"
_EXPORT_FORMAT: Final = "postern-audit-1"
_MAILBOXES: Final = frozenset({"sender", "recipients"})
_NUMBERS: Final = frozenset({int, float, bool, type(None)})
_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS

FrameKind: TypeAlias = Literal["open", "records", "head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a chain stands: how many records it has, the last one's hash, and the last outbox row in it."""

    count: int = 0
    hash: bytes = GENESIS
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of a segment.

    Attributes:
        kind: ``open`` (first of a segment), ``records`` or ``head``.
        facts: its first line.
        records: canonical records, for ``records``.
    """

    kind: FrameKind
    facts: dict[str, Any]
    records: tuple[bytes, ...] = field(default=(), repr=False)


# --- records --------------------------------------------------------------


def _mailbox(value: Any, vault: Vault) -> Any:
    """Replace mailboxes, however they are nested, by domain and token."""
    if isinstance(value, str):
        if not value:
            return value
        domain = value.rpartition("@")[2] if "@" in value else ""
        return {"domain": domain, "sealed": base64.b64encode(vault.seal_address(value)).decode("ascii")}
    if isinstance(value, dict):
        return {key: _mailbox(one, vault) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mailbox(one, vault) for one in value]
    return value


def seal_mailboxes(facts: Mapping[str, Any], vault: Vault) -> dict[str, Any]:
    """An event's facts with every mailbox (under ``sender`` and ``recipients``, at any depth) sealed."""
    return {
        key: value if type(value) in _NUMBERS else (_mailbox if key in _MAILBOXES else _below)(value, vault)
        for key, value in facts.items()
    }


def _below(value: Any, vault: Vault) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return seal_mailboxes(value, vault)
    if isinstance(value, (list, tuple)):
        return [_below(one, vault) for one in value]
    return value


def open_mailboxes(value: Any, vault: Vault) -> Any:
    """The reverse of :func:`seal_mailboxes`, for whoever may see mailboxes.

    Raises:
        SealError: a token that does not open.
    """
    if isinstance(value, dict):
        if value.keys() == {"domain", "sealed"}:
            return vault.open_address(base64.b64decode(value["sealed"]))
        return {key: open_mailboxes(one, vault) for key, one in value.items()}
    return [open_mailboxes(one, vault) for one in value] if isinstance(value, list) else value


def names_recipient(value: Any, mailbox: Address, vault: Vault) -> bool:
    """Whether a record's facts name this mailbox other than as a sender.

    Tokens are opened only where the domain, which stands beside them, is the mailbox's.

    Raises:
        SealError: a token that does not open.
    """
    if isinstance(value, list):
        return any(names_recipient(one, mailbox, vault) for one in value)
    if not isinstance(value, dict):
        return False
    if value.keys() == {"domain", "sealed"}:
        if value["domain"] != mailbox.domain:
            return False
        try:
            return Address.parse(vault.open_address(base64.b64decode(value["sealed"]))).key == mailbox.key
        except AddressError:
            return False
    return any(names_recipient(one, mailbox, vault) for key, one in value.items() if key != "sender")


def hide_mailboxes(value: Any) -> Any:
    """Records as they are shown by default: of a mailbox, the domain (law 4)."""
    if isinstance(value, dict):
        if value.keys() == {"domain", "sealed"}:
            return value["domain"]
        return {key: hide_mailboxes(one) for key, one in value.items()}
    return [hide_mailboxes(one) for one in value] if isinstance(value, list) else value


def encode_record(number: int, seq: int, event: AuditEvent, vault: Vault) -> bytes:
    """An event as canonical record ``number`` (from 1), which came from outbox row ``seq`` (0: the archiver's own)."""
    record = {
        "at": event.at,
        "facts": seal_mailboxes(event.facts, vault),
        "kind": event.kind,
        "message_id": event.message_id,
        "number": number,
        "seq": seq,
    }
    return _canonical(record)


def _canonical(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=_CANONICAL)
    except orjson.JSONEncodeError:
        # Lone surrogates, which a broken client can send: replaced, for a record must always be written.
        text = json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace")
        return orjson.dumps(json.loads(text), option=_CANONICAL)


def row_digest(events: Sequence[AuditEvent]) -> str:
    """What tells two outbox rows with one number apart (a queue that was made anew counts from 1 again)."""
    plain = _canonical([[event.kind, event.at, event.message_id, event.facts] for event in events])
    return hashlib.sha256(plain).hexdigest()[:32]


def link(previous: bytes, record: bytes) -> bytes:
    """The hash of a record that follows the one with hash ``previous``."""
    return hashlib.sha256(previous + record).digest()


def append(at: Link, rows: Iterable[tuple[int, Sequence[AuditEvent], str]], vault: Vault) -> tuple[Link, Frame]:
    """The chain with the events of some outbox rows added, and the frame to write for it.

    Args:
        at: where the chain stands.
        rows: number (0: the archiver's own), events and digest of each; without a digest it is made of the events.
        vault: seals mailboxes.
    """
    count, previous, seq = at.count, at.hash, at.seq
    records: list[bytes] = []
    digests: list[tuple[int, str]] = []
    for row_seq, events, digest in rows:
        for event in events:
            count += 1
            record = encode_record(count, row_seq, event, vault)
            previous = link(previous, record)
            records.append(record)
        if row_seq:
            digests.append((row_seq, digest or row_digest(events)))
            seq = row_seq
    facts = {"first": at.count + 1, "count": len(records), "hash": previous.hex(), "rows": digests}
    return Link(count=count, hash=previous, seq=seq), Frame(kind="records", facts=facts, records=tuple(records))


def extend(at: Link, frame: Frame) -> Link:
    """Check a frame read back against the chain so far, and return where the chain stands after it.

    Raises:
        SealError: a record is missing, out of order or changed.
    """
    if frame.kind != "records":
        return at
    if frame.facts.get("first") != at.count + 1 or frame.facts.get("count") != len(frame.records):
        raise SealError(f"records do not follow number {at.count}: some are missing or out of order")
    previous = at.hash
    for number, record in enumerate(frame.records, at.count + 1):
        if orjson.loads(record)["number"] != number:
            raise SealError(f"record {number} is missing or out of order")
        previous = link(previous, record)
    if previous.hex() != frame.facts.get("hash"):
        raise SealError(f"the hashes of records {at.count + 1} to {at.count + len(frame.records)} do not match")
    rows = frame.facts["rows"]
    return Link(count=at.count + len(frame.records), hash=previous, seq=rows[-1][0] if rows else at.seq)


# --- heads ------------------------------------------------------------------


def public_keys(ring: KeyRing) -> dict[str, bytes]:
    """Every audit key of a ring: id to 32 raw public bytes."""
    publics = (Ed25519PrivateKey.from_private_bytes(key.secret).public_key() for key in ring.audit_keys)
    return {key_id(public.public_bytes_raw()): public.public_bytes_raw() for public in publics}


def key_id(public: bytes) -> str:
    """16 hex digits that name a public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def sign_head(at: Link, *, now: float, day: str, ring: KeyRing, **more: Any) -> dict[str, Any]:
    """A signed head: what may be sent off the machine; it says nothing about any message. ``more`` is signed too."""
    private = Ed25519PrivateKey.from_private_bytes(ring.audit_key.secret)
    head = {
        "at": round(now, 3),
        "count": at.count,
        "day": day,
        "hash": at.hash.hex(),
        "key": key_id(private.public_key().public_bytes_raw()),
        "ring": ring.id,
        "seq": at.seq,
        **more,
    }
    signature = private.sign(_HEAD_PREFIX + orjson.dumps(head, option=_CANONICAL))
    return {**head, "signature": base64.b64encode(signature).decode("ascii")}


def check_head(head: Mapping[str, Any], keys: Mapping[str, bytes]) -> None:
    """Check a head's signature against the public keys.

    Raises:
        SealError: an unknown key or a wrong signature.
    """
    public = keys.get(str(head.get("key")))
    if public is None:
        raise SealError(f"a head is signed with a key that is not known ({head.get('key')})")
    unsigned = {key: value for key, value in head.items() if key != "signature"}
    try:
        signature = base64.b64decode(str(head.get("signature")), validate=True)
        signed = _HEAD_PREFIX + orjson.dumps(unsigned, option=_CANONICAL)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise SealError(f"the signature of the head at record {head.get('count')} is wrong") from None


# --- frames -----------------------------------------------------------------


def open_facts(day: str, at: Link, *, previous: tuple[str, int] = ("", 0)) -> dict[str, Any]:
    """The first frame of a segment: its day, where the chain stood, and the segment before it (day and frames)."""
    return {"day": day, "count": at.count, "hash": at.hash.hex(), "seq": at.seq, "previous": previous}


def opened_at(frame: Frame) -> Link:
    """Where the chain stood before the segment that begins with this frame."""
    facts = frame.facts
    return Link(count=int(facts["count"]), hash=bytes.fromhex(facts["hash"]), seq=int(facts["seq"]))


def seal_frame(frame: Frame, *, day: str, number: int, vault: Vault) -> bytes:
    """The bytes to append to a segment, length included."""
    first = orjson.dumps({"kind": frame.kind, **frame.facts}, option=_CANONICAL)
    sealed = vault.seal(_PURPOSE, f"{day}/{number}", b"\n".join((first, *frame.records)))
    return len(sealed).to_bytes(4, "big") + sealed


def open_frame(sealed: bytes, *, day: str, number: int, vault: Vault) -> Frame:
    """A frame without its length.

    Raises:
        SealError: changed, of another place, or not a frame.
    """
    first, *records = vault.open(_PURPOSE, f"{day}/{number}", sealed).split(b"\n")
    facts = orjson.loads(first)
    kind = facts.pop("kind")
    if kind not in {"open", "records", "head"}:
        raise SealError("a frame of an unknown kind: written by a later version")
    return Frame(kind=kind, facts=facts, records=tuple(records))


# --- exports ----------------------------------------------------------------


def export_lines(
    start: Link, records: Iterable[bytes], *, now: float, days: tuple[str, str], ring: KeyRing
) -> Iterator[bytes]:
    """JSON lines a third party can check without any secret: start, records, signed head with its public key.

    The head of an export repeats its first line under the signature: else whoever cuts records away at the beginning
    could count the hash that the rest begins with, and at the end put another signed head of the trail.
    """
    at = start
    opening = {
        "type": "start",
        "format": _EXPORT_FORMAT,
        "from": days[0],
        "to": days[1],
        "count": at.count,
        "hash": at.hash.hex(),
        "seq": at.seq,
    }
    yield orjson.dumps(opening, option=_CANONICAL)
    for record in records:
        at = Link(count=at.count + 1, hash=link(at.hash, record), seq=orjson.loads(record)["seq"] or at.seq)
        yield record
    head = sign_head(at, now=now, day=days[1], ring=ring, export=opening)
    public = base64.b64encode(public_keys(ring)[head["key"]]).decode("ascii")
    yield orjson.dumps({"type": "head", "head": head, "public_key": public}, option=_CANONICAL)


def check_export(lines: Iterable[bytes]) -> Link:
    """Check an export from its bytes alone: every link, and under the public key it carries where it begins and ends.

    That the key is the installation's must be known from elsewhere (``postern keys status`` prints its id).

    Raises:
        SealError: with the line at fault.
    """
    opening: Mapping[str, Any] = {}
    at, closed = Link(), False
    for number, line in enumerate(lines, 1):
        try:
            item = orjson.loads(line)
            if closed:
                raise SealError("something follows the head")  # noqa: TRY301  one place names the line
            if not opening:
                opening, at = item, _check_opening(item)
            elif item.get("type") == "head":
                _check_final(item, opening, at)
                closed = True
            else:
                at = _check_record(item, line.rstrip(b"\n"), at)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SealError(f"line {number}: not a line of an audit export") from None
        except SealError as error:
            raise SealError(f"line {number}: {error}") from None
    if not closed:
        raise SealError("the export ends before its signed head")
    return at


def _check_opening(item: Mapping[str, Any]) -> Link:
    if item["format"] != _EXPORT_FORMAT:
        raise SealError("an export of another version of Postern: check it with that one")
    return Link(count=int(item["count"]), hash=bytes.fromhex(item["hash"]), seq=int(item["seq"]))


def _check_record(item: Mapping[str, Any], line: bytes, at: Link) -> Link:
    if item["number"] != at.count + 1:
        raise SealError(f"record {at.count + 1} is missing or out of order")
    return Link(count=at.count + 1, hash=link(at.hash, line), seq=item["seq"] or at.seq)


def _check_final(item: Mapping[str, Any], opening: Mapping[str, Any], at: Link) -> None:
    public = base64.b64decode(item["public_key"], validate=True)
    head = item["head"]
    check_head(head, {key_id(public): public})
    if head.get("export") != opening:
        raise SealError("the signed head is not this export's: records were removed at its beginning or its end")
    if (head["count"], head["hash"]) != (at.count, at.hash.hex()):
        raise SealError(f"the signed head does not match record {at.count}: records were changed, removed or added")
