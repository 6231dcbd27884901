"""Audit segments on disk: one file a day, appended and synced, resumed after a crash without gap or repetition.

A small sealed state file says where the chain stood when it was last signed, so that only what came after is read at
start. A segment that is shorter than the state says was tampered with or restored from a backup: it is refused.
"""

import fcntl
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relay.config.keyfiles import sync_directory
from relay.core.change import AuditEvent
from relay.core.errors import CorruptError, Problem, ProblemsError, SealError, StoreError
from relay.core.ports import OutboxRow, Vault
from relay.observe.holds import told
from relay.observe.segment_files import (
    HINT,
    DamageError,
    Place,
    State,
    day_of,
    load_state,
    read_places,
    save_state,
    segment_days,
    segment_path,
)
from relay.protect import chain
from relay.protect.chain import SEGMENT_MAGIC, Frame, Link
from relay.protect.keyring import KeyRing


class SyncError(StoreError):
    """The disk did not confirm what was written: the process must end, for a second try may report false success."""


class SegmentLog:
    """The one writer of an audit directory. Everything here blocks: call it from a thread.

    Args:
        directory: made when missing (0700).
        vault: seals frames and mailboxes.
        ring: gives the key ring, whose newest audit key signs.
        clock: unix seconds.
    """

    def __init__(
        self, directory: Path, *, vault: Vault, ring: Callable[[], KeyRing], clock: Callable[[], float]
    ) -> None:
        self._directory = directory
        self._vault = vault
        self._ring = ring
        self._clock = clock
        self._state = State()
        self._file = -1
        self._lock = -1

    @property
    def state(self) -> State:
        """Where the chain stands."""
        return self._state

    # --- opening

    def open(self) -> None:
        """Take the directory, and find where the chain stands; a frame that a crash tore off at the end is cut away.

        Raises:
            ProblemsError: another process writes here, or the directory cannot be used.
            CorruptError: what is on disk is less than the state says, or damaged.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._directory / ".lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            what, hint = "another process writes the audit trail here", "give each instance a directory of its own"
            raise ProblemsError(Problem(where=str(self._directory), what=what, hint=hint)) from error
        except OSError as error:
            what = f"cannot be used: {error.strerror}"
            raise ProblemsError(Problem(where=str(self._directory), what=what)) from error
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the directory."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _recover(self) -> None:
        state = load_state(self._directory, self._vault)
        days = segment_days(self._directory)
        if state is None:
            state = State(base=self._first_link(days), day=days[0] if days else "")
            state = replace(state, link=state.base)
        elif state.day and not self._covers(state):
            path = segment_path(self._directory, state.day)
            raise CorruptError(f"{path}: is missing, or shorter than it was when last signed; {HINT}")
        self._state = state
        for day in days:
            if day >= state.day:
                self._replay(day, is_last=day == days[-1])
        if self._state.day:
            self._use(self._state.day, os.O_RDWR)
            # What a crash left in the page cache counts only once it is on disk.
            self._sync()

    def _covers(self, state: State) -> bool:
        path = segment_path(self._directory, state.day)
        return path.exists() and path.stat().st_size >= state.size

    def _first_link(self, days: Sequence[str]) -> Link:
        if not days:
            return Link()
        try:
            first = next(read_places(segment_path(self._directory, days[0]), self._vault), None)
        except DamageError as damage:
            if damage.torn and len(days) == 1:  # torn at its birth: nothing was ever synced, it is begun again
                return Link()
            raise
        if first is None or first.frame.kind != "open":
            raise CorruptError(f"{segment_path(self._directory, days[0])}: has no beginning; {HINT}")
        return chain.opened_at(first.frame)

    def _replay(self, day: str, *, is_last: bool) -> None:
        path = segment_path(self._directory, day)
        resumed = day == self._state.day and self._state.size > 0
        if not resumed:
            before = (self._state.day, self._state.frames) if self._state.day != day else self._state.previous
            self._state = replace(self._state, day=day, frames=0, size=0, previous=before)
        try:
            for place in read_places(path, self._vault, offset=self._state.size, number=self._state.frames):
                self._take(path, place)
        except DamageError as damage:
            if not (is_last and damage.torn):
                raise CorruptError(f"{damage}; {HINT}") from None
            size = damage.offset if self._state.frames else 0  # without its first frame it is begun again
            os.truncate(path, size)
            self._state = replace(self._state, size=size)

    def _take(self, path: Path, place: Place) -> None:
        frame = place.frame
        try:
            if frame.kind == "open" and chain.opened_at(frame) != self._state.link:
                raise SealError("the segment does not continue the one before")  # noqa: TRY301  # one place for both
            link = chain.extend(self._state.link, frame)
        except (SealError, ValueError, KeyError) as error:
            raise CorruptError(f"{path}, octet {place.start}: {error}; {HINT}") from None
        recent = dict(frame.facts["rows"]) if frame.kind == "records" else {}
        signed = frame.facts["count"] if frame.kind == "head" else self._state.signed
        self._state = replace(
            self._state, link=link, frames=place.number + 1, size=place.end, signed=signed,
            recent={**self._state.recent, **recent}, holds=told(self._state.holds, frame.records),
        )  # fmt: skip

    # --- writing

    def append(self, rows: Sequence[OutboxRow]) -> int:
        """Add rows that are not in the chain yet; when this returns they are on disk. How many rows were new.

        Many long rows become several frames, so that none grows longer than one that is read back.

        Raises:
            SyncError: the disk failed to confirm.
            StoreError: not all were added (disk full, and so on); those that were are known when they come again.
        """
        fresh = [row for row in rows if self._is_new(row)]
        if not fresh:
            return 0
        batch = [(row.seq, row.events, row.digest) for row in fresh]
        seq = self._state.link.seq
        if batch[0][0] <= seq:
            batch.insert(0, (0, (self._own("the outbox is numbered anew", {"last_seq": seq}),), ""))
        elif seq and batch[0][0] > seq + 1:
            missing = {"from": seq + 1, "to": batch[0][0] - 1}
            batch.insert(0, (0, (self._own("outbox rows are missing", missing),), ""))
        self._enter_day()
        link, frame = chain.append(self._state.link, batch, self._vault)
        if len(fresh) > 1 and sum(map(len, frame.records)) > chain.LONG_FRAME:
            half = len(fresh) // 2
            return self.append(fresh[:half]) + self.append(fresh[half:])
        self._write(frame, link)
        recent = {**self._state.recent, **dict(frame.facts["rows"])}
        self._state = replace(self._state, link=link, recent=recent)
        return len(fresh)

    def _is_new(self, row: OutboxRow) -> bool:
        if row.seq > self._state.link.seq:
            return True
        known = self._state.recent.get(row.seq)
        # Segments that an earlier version wrote have the digests of events.
        return known is None or (known != row.digest and known != chain.row_digest(row.events))

    def _own(self, alert: str, facts: dict[str, Any]) -> AuditEvent:
        return AuditEvent(kind="alert", at=self._clock(), facts={"alert": alert, **facts})

    def forgotten(self, upto_seq: int) -> None:
        """The outbox no longer has rows up to this one."""
        recent = {seq: digest for seq, digest in self._state.recent.items() if seq > upto_seq}
        self._state = replace(self._state, recent=recent)

    def note(self, event: AuditEvent) -> None:
        """Add an event of the archiver's own.

        Raises:
            StoreError: as :meth:`append`.
        """
        self._enter_day()
        link, frame = chain.append(self._state.link, [(0, (event,), "")], self._vault)
        self._write(frame, link)
        self._state = replace(self._state, link=link, holds=told(self._state.holds, frame.records))

    def sign(self) -> dict[str, Any] | None:
        """Sign the head and save the state; the head to send off the machine, ``None`` when nothing is new.

        Raises:
            StoreError: as :meth:`append`.
        """
        if self._state.link.count == self._state.signed:
            return None
        self._enter_day()
        head = chain.sign_head(self._state.link, now=self._clock(), day=self._state.day, ring=self._ring())
        self._write(Frame(kind="head", facts=head), self._state.link)
        self._state = replace(self._state, signed=self._state.link.count)
        self._save()
        return head

    def expire(self, before: str, is_held: Callable[[str], bool]) -> tuple[str, ...]:
        """Remove the oldest segments of days before ``before`` up to the first that is under legal hold; which.

        Raises:
            StoreError: as :meth:`append`.
        """
        removed: list[str] = []
        days = segment_days(self._directory)
        for day, following in itertools.pairwise(days):
            if day >= before or is_held(day):
                break
            self.note(AuditEvent(kind="audit", at=self._clock(), facts={"expired": day}))
            self._state = replace(self._state, base=self._first_link([following]))
            self._save()
            segment_path(self._directory, day).unlink()
            removed.append(day)
        if removed:
            sync_directory(self._directory)
        return tuple(removed)

    def _enter_day(self) -> None:
        """Go on to a new segment when the day has changed; a clock that was set back stays in the old one."""
        day = max(day_of(self._clock()), self._state.day)
        if day == self._state.day and self._state.size:
            return
        if day != self._state.day and self._file >= 0:
            self._save()
        state = self._state
        previous = (state.day, state.frames) if day != state.day else state.previous
        self._state = replace(state, day=day, frames=0, size=0, previous=previous)
        self._use(day, os.O_RDWR | os.O_CREAT)
        self._write(Frame(kind="open", facts=chain.open_facts(day, state.link, previous=previous)), state.link)
        sync_directory(self._directory)
        self._save()

    def _use(self, day: str, flags: int) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        try:
            self._file = os.open(segment_path(self._directory, day), flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{segment_path(self._directory, day)}: cannot be opened: {error.strerror}") from error

    def _write(self, frame: Frame, link: Link) -> None:
        state = self._state
        data = chain.seal_frame(frame, day=state.day, number=state.frames, vault=self._vault)
        if not state.size:
            data = SEGMENT_MAGIC + data
        try:
            os.ftruncate(self._file, state.size)  # what an earlier try left behind
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], state.size + written)
        except OSError as error:
            raise StoreError(f"the audit segment {state.day} cannot be written: {error.strerror}") from error
        self._sync()
        self._state = replace(state, frames=state.frames + 1, size=state.size + len(data), link=link)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            # What the page cache holds now may never reach the disk: it must not be found after a restart.
            os.ftruncate(self._file, self._state.size)
            raise SyncError(f"the audit segment cannot be synced: {error.strerror}") from error

    def _save(self) -> None:
        save_state(self._directory, self._state, self._vault)
