"""Reading the audit trail: verify it whole, show records, export them for somebody else to check."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from relay.core.address import Address
from relay.core.errors import CorruptError, Problem, ProblemsError, SealError
from relay.core.ports import Vault
from relay.observe.holds import HOLDS_NAME, Hold, load_holds, standing, told
from relay.observe.segment_files import (
    STATE_NAME,
    DamageError,
    Place,
    State,
    load_state,
    read_places,
    segment_days,
    segment_path,
)
from relay.protect import chain
from relay.protect.chain import Link
from relay.protect.keyring import KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong in the trail.

    Attributes:
        where: the file, and the octet where known.
        what: what is wrong there.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What :func:`verify` found.

    Attributes:
        faults: everything that is wrong; empty when the trail is whole.
        segments, records, heads: how many were looked at.
        first, last: the days of the oldest and newest segment.
        link: where the chain stands at its end.
        unsigned: records after the last signed head.
    """

    faults: tuple[Fault, ...]
    segments: int
    records: int
    heads: int
    first: str
    last: str
    link: Link
    unsigned: int


def _is_being_written(damage: DamageError, frames: int) -> bool:
    """Whether the last segment may end there because a frame after these is written this moment."""
    return damage.what == "the file ends within a frame" and frames > 0


class _Verifier:
    def __init__(self, directory: Path, vault: Vault, keys: Mapping[str, bytes]) -> None:
        self.directory = directory
        self.vault = vault
        self.keys = keys
        self.faults: list[Fault] = []
        self.link: Link | None = None
        self.previous = ("", 0)
        self.records = self.heads = self.signed = 0
        self.signed_at: dict[int, str] = {}
        self.holds: dict[str, Hold] = {}

    def fault(self, where: str | Path, what: str) -> None:
        self.faults.append(Fault(where=str(where), what=what))

    def segment(self, path: Path, state: State | None, *, is_last: bool) -> None:
        number = end = 0
        try:
            for place in read_places(path, self.vault):
                number, end = place.number + 1, place.end
                self.place(path, place)
        except DamageError as damage:
            # Whether signed frames are missing, state says.
            if not (is_last and _is_being_written(damage, number)):
                self.fault(f"{path}, octet {damage.offset}", damage.what)
                self.link = None
        self.previous = (path.stem, number)
        if not number and not self.faults:
            self.fault(path, "the segment is empty")
        if state is not None and state.day == path.stem and end < state.size:
            self.fault(path, f"the segment ends at octet {end}; it had {state.size} when it was last signed")

    def place(self, path: Path, place: Place) -> None:
        where, frame = f"{path}, octet {place.start}", place.frame
        try:
            if frame.kind == "open":
                self.opened(where, path, place)
            elif place.number == 0:
                self.fault(where, "the segment has no beginning")
            elif frame.kind == "head":
                self.head(frame.facts)
            elif self.link is not None:
                self.link = chain.extend(self.link, frame)
                self.records += len(frame.records)
                self.holds = told(self.holds, frame.records)
                self.alerts(where, frame.records)
        except (SealError, ValueError, KeyError) as error:
            self.fault(where, str(error))
            self.link = None

    def opened(self, where: str, path: Path, place: Place) -> None:
        stood = chain.opened_at(place.frame)
        if place.number or place.frame.facts.get("day") != path.stem:
            self.fault(where, "the segment was written for another day or place")
        if self.link is not None and stood != self.link:
            missing = stood.count - self.link.count
            self.fault(where, f"does not continue the segment before: {missing} records are missing between them")
        elif self.link is not None and tuple(place.frame.facts["previous"]) != self.previous:
            self.fault(where, "a frame is missing at the end of the segment before")
        self.link = stood

    def head(self, head: Mapping[str, Any]) -> None:
        self.heads += 1
        chain.check_head(head, self.keys)
        if self.link is not None and (head["count"], head["hash"]) != (self.link.count, self.link.hash.hex()):
            raise SealError(f"the signed head does not match record {self.link.count}")
        self.signed = int(head["count"])
        self.signed_at[self.signed] = str(head["hash"])

    def elsewhere(self, path: Path, lines: list[bytes], base: int) -> None:
        """Compare with the heads that were sent off this machine: what was taken away with its state shows there."""
        for number, line in enumerate(lines, 1):
            try:
                head = orjson.loads(line)
                chain.check_head(head, self.keys)
                count = int(head["count"])
            except (SealError, ValueError, KeyError, AttributeError) as error:
                self.fault(f"{path}:{number}", str(error) if isinstance(error, SealError) else "is not a signed head")
                continue
            if count > base and self.signed_at.get(count) != head["hash"]:
                what = f"the trail has no such head after record {count}: records were removed or replaced since"
                self.fault(f"{path}:{number}", what)
                return  # all later ones would say the same

    def legal_holds(self, state: State | None) -> None:
        """Compare the holds of the file with what the trail told of them."""
        path = self.directory / HOLDS_NAME
        noted = {**(state.holds if state is not None else {}), **self.holds}
        try:
            faults = standing(noted, load_holds(self.directory), self.vault).faults
        except CorruptError as error:
            self.fault(path, str(error))
            return
        for what in faults:
            self.fault(path, what)

    def alerts(self, where: str, records: tuple[bytes, ...]) -> None:
        for item in map(orjson.loads, records):
            if item["kind"] == "alert" and item["seq"] == 0 and "from" in item["facts"]:
                facts = item["facts"]
                self.fault(where, f"outbox rows {facts['from']} to {facts['to']} never reached the trail")


def verify(directory: Path, *, vault: Vault, keys: Mapping[str, bytes], heads: Path | None = None) -> Report:
    """Check the whole trail: every frame, link, head and segment, and that nothing signed is missing at its end.

    Legal holds too: none that the trail told of may be gone or changed without a release.

    A directory without any trail is a fault: who takes everything away must not be told that it is whole.

    Args:
        directory: the audit directory; the archiver may be writing to it.
        vault: opens the segments.
        keys: public audit keys by id (:func:`relay.protect.chain.public_keys`).
        heads: a file of signed heads kept elsewhere, one a line, which the trail must hold. Those of records that
            have expired are passed over.
    """
    found = _Verifier(directory, vault, keys)
    # A head is sent off after it is written: those read before the trail must be in it.
    sent = _sent(found, heads) if heads is not None else []
    # The state is read first: what is written meanwhile only makes the trail longer than it says.
    state = _state(found)
    days = segment_days(directory)
    if state is None and not days:
        found.fault(directory, "no audit trail is here: nothing was recorded yet, or all of it was taken away")
    if state is not None and days:
        # Segments that expired are before the base; whatever is missing after it was taken away.
        first = _beginning(found, days[0])
        if first is not None and first.count > state.base.count:
            found.fault(directory, f"records {state.base.count + 1} to {first.count} are missing at the beginning")
    for day in days:
        found.segment(segment_path(directory, day), state, is_last=day == days[-1])
    if state is not None and state.day and state.day not in days:
        found.fault(segment_path(directory, state.day), "the segment is missing")
    if state is not None and found.link is not None and found.link.count < state.link.count:
        found.fault(directory, f"records {found.link.count + 1} to {state.link.count} are missing at the end")
    if heads is not None:
        found.elsewhere(heads, sent, state.base.count if state else 0)
    found.legal_holds(state)
    link = found.link or Link()
    return Report(
        faults=tuple(found.faults),
        segments=len(days),
        records=found.records,
        heads=found.heads,
        first=days[0] if days else "",
        last=days[-1] if days else "",
        link=link,
        unsigned=max(link.count - found.signed, 0),
    )


def _sent(found: _Verifier, path: Path) -> list[bytes]:
    """The heads of a file; a last line without its end is being written this moment."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        found.fault(path, f"the heads kept there cannot be read: {error.strerror}")
        return []


def _state(found: _Verifier) -> State | None:
    path = found.directory / STATE_NAME
    try:
        state = load_state(found.directory, found.vault)
    except CorruptError as error:
        found.fault(path, str(error))
        return None
    if state is None and segment_days(found.directory):
        found.fault(path, "is missing: records at the end may be missing too")
    return state


def _beginning(found: _Verifier, day: str) -> Link | None:
    try:
        place = next(read_places(segment_path(found.directory, day), found.vault), None)
        return chain.opened_at(place.frame) if place and place.frame.kind == "open" else None
    except DamageError:
        return None  # the walk over all segments reports it


# --- showing and exporting --------------------------------------------------


def _places(directory: Path, days: tuple[str, ...], vault: Vault) -> Iterator[tuple[Path, Place]]:
    """The frames of some days, each with its file; of the newest up to the frame that is written this moment."""
    newest = segment_days(directory)[-1:]
    for day in days:
        path, frames = segment_path(directory, day), 0
        try:
            for place in read_places(path, vault):
                yield path, place
                frames += 1
        except DamageError as damage:
            if (day,) != newest or not _is_being_written(damage, frames):
                raise


def _records(directory: Path, days: tuple[str, ...], vault: Vault) -> Iterator[bytes]:
    for _, place in _places(directory, days, vault):
        yield from place.frame.records


def show(
    directory: Path,
    *,
    vault: Vault,
    message_id: str = "",
    since: float | None = None,
    until: float | None = None,
    recipient: Address | None = None,
    mailboxes: bool = False,
) -> Iterator[dict[str, Any]]:
    """Records as read, oldest first; of mailboxes only the domain unless ``mailboxes``.

    Args:
        directory: the audit directory.
        vault: opens the segments.
        message_id: only this message's.
        since: only what happened from then on, unix seconds.
        until: only what happened before.
        recipient: only of messages to this mailbox, and what else names it.
        mailboxes: show whole addresses.

    Raises:
        DamageError: a segment cannot be read on; what stood before has been given.
        SealError: a mailbox does not open.
    """
    theirs: set[str] = set()
    for record in _records(directory, segment_days(directory), vault):
        item = orjson.loads(record)
        if message_id and item["message_id"] != message_id:
            continue
        if recipient is not None and item["message_id"] not in theirs:
            if not chain.names_recipient(item["facts"], recipient, vault):
                continue
            if item["message_id"]:
                theirs.add(item["message_id"])
        if (since is not None and item["at"] < since) or (until is not None and item["at"] >= until):
            continue
        item["facts"] = chain.open_mailboxes(item["facts"], vault) if mailboxes else chain.hide_mailboxes(item["facts"])
        yield item


def export(directory: Path, *, vault: Vault, ring: KeyRing, first: str, last: str, now: float) -> Iterator[bytes]:
    """The records of some days as JSON lines that anybody can check (:func:`relay.protect.chain.check_export`).

    Raises:
        ProblemsError: no segment lies in these days.
        CorruptError: the trail is damaged there: nothing false is signed.
    """
    days = tuple(day for day in segment_days(directory) if first <= day <= last)
    if not days:
        raise ProblemsError(Problem(where=str(directory), what=f"there is no segment from {first} to {last}"))
    start, link = None, Link()
    for path, place in _places(directory, days, vault):
        try:
            if place.frame.kind == "open":
                stood = chain.opened_at(place.frame)
                if start is not None and stood != link:
                    raise SealError("does not continue the segment before")  # noqa: TRY301  # one place for both
                start, link = start or stood, stood
            link = chain.extend(link, place.frame)
        except (SealError, ValueError, KeyError) as error:
            raise CorruptError(f"{path}, octet {place.start}: {error}") from None
    records = itertools.islice(_records(directory, days, vault), link.count - (start or Link()).count)
    yield from chain.export_lines(start or Link(), records, now=now, days=(days[0], days[-1]), ring=ring)
