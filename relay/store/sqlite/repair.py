"""Mending a damaged queue: the damaged files are set aside whole, and a new file gets all that is sound in them.

What counts as sound is decided by the seals (law 7): a message's facts, its body and each of its entries open under
their own names, or they do not. Nothing is guessed below its protection, and nothing is let go in silence: an entry
that is known of and cannot be read becomes one that an operator must decide, and so does one whose body is gone.
"""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import apsw

from relay.core.change import AuditEvent, Note
from relay.core.decision import Action, Treatment
from relay.core.entry import EntryState, QueueEntry, RecipientState
from relay.core.envelope import Message
from relay.core.errors import CorruptError, Problem, ProblemsError
from relay.core.level import Level
from relay.core.ports import Known
from relay.store.codec import Codec
from relay.store.sqlite.bodies import BodyFiles
from relay.store.sqlite.faults import exit_at_once
from relay.store.sqlite.files import QUEUE_FILES, REPAIRING
from relay.store.sqlite.schema import connect, create_file, migrate, sync_directory
from relay.store.sqlite.tables import Tables
from relay.store.sqlite.wreck import Wreck, of_message
from relay.store.units import KeepRows, MemoRow, PreparedUnit, entry_row, prepare

_PAGE: Final = 200
_LIVES: Final = 30 * 86400.0
"""Seconds until an entry expires that had to be made anew: time enough for an operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that could not be carried over as it was.

    Attributes:
        name: the id of the message, entry or row; nothing else of it.
        what: what is wrong, and what became of it.
        lost: whether it is gone; else an operator can still decide it.
    """

    name: str
    what: str
    lost: bool = False


@dataclass(slots=True, kw_only=True)
class Repaired:
    """What came of a repair.

    Attributes:
        set_aside: where the damaged files are.
        messages, entries, outbox, known, memos: rows that were carried over.
        troubles: the rest.
    """

    set_aside: Path
    messages: int = 0
    entries: int = 0
    outbox: int = 0
    known: int = 0
    memos: int = 0
    troubles: list[Trouble]


def repair(directory: Path, codec: Codec, *, now: float, progress: Callable[[int], None] = lambda _: None) -> Repaired:
    """Make the queue in a directory whole again; nothing may work on it meanwhile.

    A repair that was broken off begins again with what was set aside; until it has ended no queue is opened there.

    Args:
        directory: holds ``queue.db`` and ``bodies``.
        codec: opens what is sealed.
        now: unix seconds.
        progress: told of the number of messages carried over so far.

    Raises:
        ProblemsError: there is no queue, or no room for the copy.
    """
    aside = _set_aside(directory, now)
    work = directory / "repairing"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    for name in QUEUE_FILES:
        if (aside / name).exists():
            shutil.copyfile(aside / name, work / name)
    wreck = Wreck(work / "queue.db")
    try:
        made = _Mending(wreck, work / "new.db", directory / "bodies", codec, now, aside).run(progress)
    finally:
        wreck.close()
    (work / "new.db").replace(directory / "queue.db")
    sync_directory(directory)
    (directory / REPAIRING).unlink()
    sync_directory(directory)
    shutil.rmtree(work)
    return made


def _set_aside(directory: Path, now: float) -> Path:
    """Move the damaged files away; where they are. The mark that this is under way is on disk before the first goes."""
    mark = directory / REPAIRING
    if mark.exists():
        aside = directory / mark.read_text(encoding="utf-8").strip()
    else:
        if not (directory / "queue.db").exists():
            raise ProblemsError(Problem(where=str(directory), what="there is no queue to repair"))
        aside = directory / time.strftime("damaged-%Y%m%dT%H%M%SZ", time.gmtime(now))
        aside.mkdir(mode=0o700)
        _write_synced(mark, aside.name)
    for name in QUEUE_FILES:
        if (directory / name).exists() and not (aside / name).exists():
            (directory / name).rename(aside / name)
    (directory / "queue.db-shm").unlink(missing_ok=True)
    _link_bodies(directory / "bodies", aside / "bodies")
    sync_directory(aside)
    sync_directory(directory)
    return aside


def _link_bodies(bodies: Path, kept: Path) -> None:
    """Files whose rows are lost would be swept away at the next start; with what is set aside they stay."""
    kept.mkdir(mode=0o700, exist_ok=True)
    for file in bodies.iterdir() if bodies.exists() else ():
        if not (kept / file.name).exists():
            os.link(file, kept / file.name)


def _write_synced(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


class _Mending:
    def __init__(self, wreck: Wreck, target: Path, bodies: Path, codec: Codec, now: float, aside: Path) -> None:
        self._wreck = wreck
        self._codec = codec
        self._now = now
        self._bodies = BodyFiles(bodies, 0, exit_at_once)
        self._body_names = {path.name for path in bodies.iterdir()} if bodies.exists() else set()
        self._made = Repaired(set_aside=aside, troubles=[])
        create_file(target)
        self._new = connect(target)
        migrate(self._new)
        self._tables = Tables(self._new, 0, None)

    def run(self, progress: Callable[[int], None]) -> Repaired:
        try:
            self._number_on()
            for units in self._messages():
                self._write(units)
                progress(self._made.messages)
            self._outbox()
            self._known()
            self._memos()
            self._write([prepare((Note(events=(self._event(),)),), self._codec)])
            self._new.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._new.close()
        return self._made

    def _write(self, units: Sequence[PreparedUnit]) -> None:
        with self._new:
            self._tables.begin()
            self._tables.apply(units)
            self._tables.flush()

    def _trouble(self, name: str, what: str, *, lost: bool = False) -> None:
        self._made.troubles.append(Trouble(name=name, what=what, lost=lost))

    def _number_on(self) -> None:
        """Numbers of processes and of audit rows are never used twice, also over a repair."""
        used = [int(number) for name in self._body_names if (number := name.partition("-")[0]).isdecimal()]
        for table in ("incarnations", "outbox", "memos"):
            found = self._wreck.row("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
            last = max([found[0] if found else 0, *(used if table == "incarnations" else [])])
            self._new.execute("INSERT INTO sqlite_sequence VALUES(?, ?)", (table, last))

    # --- messages --------------------------------------------------------

    def _messages(self) -> Iterator[list[PreparedUnit]]:
        entries = self._wreck.names("entries", "id") | self._wreck.names("details", "entry_id")
        by_message = defaultdict(set)
        for entry_id in entries:
            by_message[entry_id.rpartition(".")[0]].add(entry_id)
        names = self._wreck.names("messages", "id") | self._wreck.names("bodies", "message_id") | of_message(entries)
        units: list[PreparedUnit] = []
        for name in sorted(names):
            kept = self._message(name, by_message[name])
            if kept is not None:
                self._made.messages += 1
                self._made.entries += len(kept.entries)
                unit = PreparedUnit(steps=(kept,), outbox=None, wakes_at=0.0, size=kept.size, is_new_mail=True)
                units.append(unit)
            if len(units) == _PAGE:
                yield units
                units = []
        yield units

    def _message(self, name: str, entry_ids: set[str]) -> KeepRows | None:
        try:
            row = self._row("SELECT received_at, size, file, facts FROM messages WHERE id = ?", name)
            message = self._codec.open_message(name, row[3])
        except CorruptError as error:
            self._trouble(name, f"the envelope is lost, and the message with it: {error}", lost=True)
            return None
        received_at, size, file, facts = row
        body, fault = self._body(name, file, size)
        entries = self._entries(message, entry_ids)
        if fault:
            self._trouble(name, f"the body is lost ({fault}): held; bounce it, so that its sender hears of it")
            entries = [_held(entry, f"its body was lost: {fault}") for entry in entries]
        rows = tuple(entry_row(entry, name, self._codec) for entry in entries)
        return KeepRows(name, received_at, size, file, facts, body, rows, frozenset())

    def _row(self, query: str, name: str) -> tuple[Any, ...]:
        row = self._wreck.row(query, name)
        if row is None:
            raise CorruptError("its row cannot be read")
        return row

    def _body(self, name: str, file: str | None, size: int) -> tuple[bytes | None, str]:
        """The sealed body for its row (``None``: it is in its file, or gone), and what is wrong with it."""
        try:
            if file is not None:
                sealed = self._bodies.read(file)
            else:
                sealed = self._row("SELECT sealed FROM bodies WHERE message_id = ?", name)[0]
            found = len(self._codec.open_body(name, sealed))
        except CorruptError as error:
            return None, str(error)
        if found != size:
            return None, f"it has {found} octets, not {size}"
        return (None if file is not None else sealed), ""

    def _entries(self, message: Message, ids: set[str]) -> list[QueueEntry]:
        """The message's entries; for recipients whose entry is known of and cannot be read, new ones that are held."""
        found: list[QueueEntry] = []
        lost = []
        for entry_id in sorted(ids):
            try:
                sealed = self._row("SELECT sealed FROM details WHERE entry_id = ?", entry_id)[0]
                found.append(self._codec.open_entry(entry_id, sealed))
            except CorruptError:
                lost.append(entry_id)
        if lost or not found:
            found += self._anew(message, found, lost)
        return found

    def _anew(self, message: Message, found: list[QueueEntry], lost: list[str]) -> Iterator[QueueEntry]:
        covered = {state.number for entry in found for state in entry.recipients}
        by_domain = defaultdict(list)
        for number, recipient in enumerate(message.envelope.recipients):
            if number not in covered:
                by_domain[recipient.address.domain].append(RecipientState(number=number, recipient=recipient))
        numbers = [name.rpartition(".")[2] for name in (*lost, *(entry.id for entry in found))]
        start = max([int(number) for number in numbers if number.isdecimal()], default=-1) + 1
        what = "an entry was lost: its recipients are held, and may have their copy already; redecide or remove it"
        for number, (domain, states) in enumerate(sorted(by_domain.items()), start=start):
            entry_id = f"{message.id}.{number}"
            self._trouble(entry_id, what)
            yield QueueEntry(
                id=entry_id,
                message_id=message.id,
                destination=domain,
                treatment=Treatment(action=Action.HOLD, tls=Level.AUTHENTICATED, floor=Level.AUTHENTICATED),
                method=Treatment().methods[0],
                recipients=tuple(states),
                state=EntryState.HELD,
                created_at=self._now,
                due_at=self._now,
                expires_at=self._now + _LIVES,
                reason="its entry was lost when the queue file was damaged; it may have been delivered",
            )

    # --- the rest --------------------------------------------------------

    def _outbox(self) -> None:
        for seq in sorted(self._wreck.names("outbox", "seq")):
            row = self._wreck.row("SELECT sealed FROM outbox WHERE seq = ?", seq)
            if row is None:
                self._trouble(f"audit row {seq}", "cannot be read: the audit trail lacks it", lost=True)
                continue
            self._new.execute("INSERT INTO outbox(seq, sealed) VALUES(?, ?)", (seq, row[0]))
            self._made.outbox += 1

    def _known(self) -> None:
        for kind, name in sorted(self._wreck.keys("known", "kind", "name")):
            row = self._wreck.row("SELECT value, until FROM known WHERE kind = ? AND name = ?", kind, name)
            if row is not None:
                self._tables.learn(Known(kind=kind, name=name, value=row[0], until=row[1]))
                self._made.known += 1

    def _memos(self) -> None:
        for seq in sorted(self._wreck.names("memos", "seq")):
            row = self._wreck.row("SELECT name, until, sealed FROM memos WHERE seq = ?", seq)
            if row is not None and self._codec.open_memos([MemoRow(*row)]):
                self._new.execute("INSERT INTO memos VALUES(?, ?, ?, ?)", (seq, *row))
                self._made.memos += 1

    def _event(self) -> AuditEvent:
        made = self._made
        facts = {
            "alert": "queue-repaired",
            "set_aside": made.set_aside.name,
            "messages": made.messages,
            "entries": made.entries,
            "lost": [trouble.name for trouble in made.troubles if trouble.lost],
            "held": [trouble.name for trouble in made.troubles if not trouble.lost],
        }
        return AuditEvent(kind="alert", at=self._now, facts=facts)


def _held(entry: QueueEntry, reason: str) -> QueueEntry:
    return replace(entry, state=EntryState.HELD, reason=reason)
