"""An outbox item as stored: posts and events in one sealed object, contents behind a head that says their lengths."""

import dataclasses
import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from relay.core.change import AuditEvent
from relay.core.errors import CorruptError, SealError
from relay.core.portal import OutboxItem, Post
from relay.core.ports import Vault
from relay.store.codec import dump, load
from relay.store.portal.database import Cursor

_log = structlog.get_logger("store")
_PURPOSE: Final = "portal-outbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    posts: tuple[Post, ...]
    lengths: tuple[int, ...]
    events: tuple[AuditEvent, ...]


def seal_item(vault: Vault, posts: Sequence[Post], events: Sequence[AuditEvent]) -> bytes:
    """One item: 4 octets of the head's length, the head, the contents."""
    bare = tuple({**_fields(post), "content": ""} for post in posts)
    head = dump({"posts": bare, "lengths": [len(post.content) for post in posts], "events": list(events)})
    return vault.seal(_PURPOSE, "", b"".join((len(head).to_bytes(4, "big"), head, *(post.content for post in posts))))


def _fields(post: Post) -> dict[str, object]:
    return {field.name: getattr(post, field.name) for field in dataclasses.fields(post)}


def open_item(vault: Vault, seq: int, sealed: bytes) -> OutboxItem:
    """What :func:`seal_item` sealed; in place of one that does not open an alert that carries it as it is, in base64.

    One damaged item must neither stop the others nor be lost: whoever has its key can still open it.
    """
    try:
        return _open_item(vault, seq, sealed)
    except CorruptError as error:
        _log.error("portal_outbox_damaged", row=seq, detail=str(error))
        facts = {"alert": "portal-outbox-damaged", "row": seq, "sealed": b64encode(sealed).decode("ascii")}
        return OutboxItem(seq=seq, id=_name(sealed), events=(AuditEvent(kind="alert", at=0.0, facts=facts),))


def _open_item(vault: Vault, seq: int, sealed: bytes) -> OutboxItem:
    name = f"portal outbox row {seq}"
    try:
        plain = vault.open(_PURPOSE, "", sealed)
    except SealError as error:
        raise CorruptError(f"{name} cannot be opened: {error}") from error
    start = 4 + int.from_bytes(plain[:4], "big")
    head = load(_Head, plain[4:start], name)
    posts = []
    for post, length in zip(head.posts, head.lengths, strict=True):
        posts.append(dataclasses.replace(post, content=plain[start : start + length]))
        start += length
    return OutboxItem(seq=seq, id=_name(sealed), posts=tuple(posts), events=head.events)


def _name(sealed: bytes) -> str:
    """What an item is known by: no two are sealed alike, for each has a nonce of its own."""
    return hashlib.sha256(sealed).hexdigest()[:32]


def insert_item(cursor: Cursor, item: bytes | None) -> None:
    """Write a sealed item into the outbox, in the transaction of the change that it tells of; nothing for ``None``."""
    if item is not None:
        cursor.run("INSERT INTO outbox(sealed, owner, held_until) VALUES(?, NULL, 0)", item)
