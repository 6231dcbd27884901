"""Checking a whole store, and copying it into another of whatever kind: sealed things stay sealed on the way."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from relay.core.errors import CorruptError, StoreError
from relay.core.ports import Known
from relay.store.codec import Codec
from relay.store.units import EntryRow, KeepRows, MemoRow, PreparedUnit

PAGE: Final = 200
_SHOWN: Final = 20


class Shelf(Protocol):
    """A store at rest, row by row. Reading sees one moment; ``KeepRows`` hold their bodies, and lease nothing."""

    async def messages(self, after: str, limit: int) -> list[KeepRows]:
        """The next messages in id order, each with its entries."""

    async def outbox(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The next outbox rows in order, with what they are ordered by."""

    async def known(self, after: tuple[str, str], limit: int) -> list[Known]:
        """The next things known of other domains, by kind and name."""

    async def memos(self, after: int, limit: int) -> list[tuple[int, MemoRow]]:
        """The next memos in order, each with its number."""

    async def strays(self) -> dict[str, int]:
        """Rows that belong to nothing, by what they are."""

    async def put(self, units: Sequence[PreparedUnit], known: Sequence[Known]) -> None:
        """Write in one transaction."""

    async def close(self) -> None:
        """Let go of it."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What is in a store: numbers, and a digest over every id and every sealed octet."""

    messages: int = 0
    entries: int = 0
    outbox: int = 0
    known: int = 0
    memos: int = 0
    bytes: int = 0
    digest: str = ""


@dataclass(slots=True)
class _Counting:
    tally: Tally = field(default_factory=Tally)
    hash: Any = field(default_factory=hashlib.sha256)

    def add(self, *parts: object) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "backslashreplace")
            self.hash.update(len(data).to_bytes(8, "big") + data)

    def message(self, kept: KeepRows) -> None:
        self.tally.messages += 1
        self.tally.entries += len(kept.entries)
        self.tally.bytes += kept.size
        self.add(kept.message_id, float(kept.received_at), kept.size, kept.facts, kept.body or b"")
        for row in kept.entries:
            self.entry(row)

    def entry(self, row: EntryRow) -> None:
        times = (float(row.due_at), float(row.wake_at))
        self.add(row.id, row.destination, row.priority, row.held, *times, bytes(row.tokens), row.sealed)


async def _messages(shelf: Shelf) -> AsyncIterator[list[KeepRows]]:
    after = ""
    while page := await shelf.messages(after, PAGE):
        yield page
        after = page[-1].message_id


async def _outbox(shelf: Shelf) -> AsyncIterator[list[tuple[int, bytes]]]:
    after = -1
    while page := await shelf.outbox(after, PAGE):
        yield page
        after = page[-1][0]


async def _known(shelf: Shelf) -> AsyncIterator[list[Known]]:
    after = ("", "")
    while page := await shelf.known(after, PAGE):
        yield page
        after = (page[-1].kind, page[-1].name)


async def _memos(shelf: Shelf) -> AsyncIterator[list[MemoRow]]:
    after = -1
    while page := await shelf.memos(after, PAGE):
        yield [row for _, row in page]
        after = page[-1][0]


async def take_stock(shelf: Shelf) -> Tally:
    """Count and digest everything."""
    counting = _Counting()
    async for messages in _messages(shelf):
        for kept in messages:
            counting.message(kept)
    async for rows in _outbox(shelf):
        for _, sealed in rows:
            counting.tally.outbox += 1
            counting.add(sealed)
    async for facts in _known(shelf):
        for one in facts:
            counting.tally.known += 1
            counting.add(one.kind, one.name, one.value, float(one.until))
    async for memos in _memos(shelf):
        for memo in memos:
            counting.tally.memos += 1
            counting.add(memo.name, float(memo.until), memo.sealed)
    counting.tally.digest = counting.hash.hexdigest()
    return counting.tally


async def copy(source: Shelf, target: Shelf, *, progress: Callable[[int], None] = lambda _: None) -> Tally:
    """Copy everything into an empty store, and compare; what was copied. Leases and counters stay behind.

    Raises:
        StoreError: the target is not empty, or holds something else afterwards than the source.
    """
    before = await take_stock(target)
    if before.messages or before.outbox or before.known or before.memos:
        raise StoreError("the store to copy into is not empty: nothing was copied")
    done = 0
    async for messages in _messages(source):
        await target.put([_unit(kept) for kept in messages], ())
        done += len(messages)
        progress(done)
    async for rows in _outbox(source):
        await target.put([_outbox_unit(sealed) for _, sealed in rows], ())
    async for facts in _known(source):
        await target.put((), facts)
    async for memos in _memos(source):
        await target.put([_memo_unit(memos)], ())
    there, here = await take_stock(source), await take_stock(target)
    if there != here:
        raise StoreError(f"the copy differs from the original: {there} is not {here}; do not use it")
    return here


def _unit(kept: KeepRows) -> PreparedUnit:
    return PreparedUnit(steps=(kept,), outbox=None, wakes_at=float("inf"), size=kept.size, is_new_mail=True)


def _outbox_unit(sealed: bytes) -> PreparedUnit:
    return PreparedUnit(steps=(), outbox=sealed, wakes_at=float("inf"), size=0, is_new_mail=False)


def _memo_unit(memos: Sequence[MemoRow]) -> PreparedUnit:
    return PreparedUnit(steps=(), outbox=None, wakes_at=float("inf"), size=0, is_new_mail=False, memos=tuple(memos))


async def check(shelf: Shelf, codec: Codec) -> tuple[Tally, list[str]]:
    """Open everything that is sealed, and see that all belongs together; what is there, and what is wrong."""
    wrong: list[str] = []
    counting = _Counting()
    async for messages in _messages(shelf):
        for kept in messages:
            counting.message(kept)
            wrong += _faults(kept, codec)
    async for rows in _outbox(shelf):
        for number, sealed in rows:
            counting.tally.outbox += 1
            wrong += _fault(lambda number=number, sealed=sealed: codec.open_events(number, sealed))  # type: ignore[misc]  # bound now
    async for facts in _known(shelf):
        counting.tally.known += len(facts)
    async for memos in _memos(shelf):
        counting.tally.memos += len(memos)
        left_out = len(memos) - len(codec.open_memos(memos))
        wrong += [f"{left_out} memos cannot be opened"] if left_out else []
    wrong += [f"{count} {what}" for what, count in (await shelf.strays()).items() if count]
    left = len(wrong) - _SHOWN
    return counting.tally, wrong if left <= 0 else [*wrong[:_SHOWN], f"and {left} more"]


def _faults(kept: KeepRows, codec: Codec) -> list[str]:
    wrong = _fault(lambda: codec.open_message(kept.message_id, kept.facts))
    if not kept.entries:
        wrong.append(f"{kept.message_id}: no entry is left of it")
    if kept.body is None:
        wrong.append(f"{kept.message_id}: the body is missing")
    else:
        body = kept.body
        wrong += _fault(lambda: _sized(codec.open_body(kept.message_id, body), kept))
    for row in kept.entries:
        wrong += _fault(lambda row=row: _indexed(row, codec))  # type: ignore[misc]  # bound now
    return wrong


def _sized(content: bytes, kept: KeepRows) -> None:
    if len(content) != kept.size:
        raise CorruptError(f"{kept.message_id}: the body has {len(content)} octets, not {kept.size}")


def _indexed(row: EntryRow, codec: Codec) -> None:
    entry = codec.open_entry(row.id, row.sealed)
    if (entry.destination, entry.message_id, entry.due_at) != (row.destination, row.message_id, row.due_at):
        raise CorruptError(f"{row.id}: what it is selected by differs from what is sealed")


def _fault(look: Callable[[], object]) -> list[str]:
    try:
        look()
    except CorruptError as error:
        return [str(error)]
    return []
