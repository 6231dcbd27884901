"""The archiver: takes outbox rows in the order of their commits into the sealed, chained, signed audit trail.

It runs in one process. A row leaves the outbox only after it is on disk in a segment; a crash between the two is made
good at the next start, by its number and digest, without gap or repetition.
"""

import asyncio
import errno
import os
import syslog
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from relay.core.change import AuditEvent
from relay.core.errors import StoreError
from relay.core.ports import Clock, Metrics, QueueStore, Vault
from relay.observe.holds import Hold, is_held, load_holds, standing
from relay.observe.segment_files import day_of
from relay.observe.segments import SegmentLog, SyncError
from relay.protect.keyring import KeyRing

SIX_YEARS: Final = 6 * 366 * 86_400.0
"""Seconds; 45 CFR 164.316(b)(2)(i)."""

HeadSink = Callable[[dict[str, Any]], None]
"""Sends a signed head off the machine; blocks; raises OSError when it cannot."""

_EXPIRE: Final = 3600.0
"""Seconds between two looks for segments past their retention."""
_log = structlog.get_logger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiverOptions:
    """How the archiver works.

    Attributes:
        directory: where segments are kept.
        retention: seconds segments are kept.
        sign_interval: seconds between signed heads.
        batch: outbox rows a frame at most.
        idle: seconds to wait when the outbox was empty, and longest between tries after an error.
        linger: seconds to let rows gather while there are some, unless a batch is full: fewer, larger frames and syncs.
        heads_file: file signed heads are appended to, best on another machine's disk.
        heads_syslog: whether heads go to syslog (which may forward them).
    """

    directory: Path
    retention: float = SIX_YEARS
    sign_interval: float = 60.0
    batch: int = 100
    idle: float = 1.0
    linger: float = 0.5
    heads_file: Path | None = None
    heads_syslog: bool = False


def heads_to_file(path: Path) -> HeadSink:
    """Append each head as a JSON line, synced: the whole of it, or nothing where the disk is full."""

    def send(head: dict[str, Any]) -> None:
        line = orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if (written := os.write(descriptor, line)) < len(line):
                # The next head would follow on the same line, and the trail read as damaged for good.
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    return send


def heads_to_syslog(head: dict[str, Any]) -> None:
    """Write a head to the system log, facility ``authpriv``."""
    syslog.syslog(syslog.LOG_NOTICE | syslog.LOG_AUTHPRIV, f"postern audit head {orjson.dumps(head).decode()}")


class Archiver:
    """Moves the outbox into segments, signs heads, expires old segments.

    Args:
        store: whose outbox.
        vault: seals segments.
        ring: gives the key ring in use (it rotates while running).
        clock: unix seconds.
        options: see :class:`ArchiverOptions`.
        metrics: counts ``audit_segments`` by result, once a batch or head; ``None``: none.
        sinks: more places to send heads to.
    """

    def __init__(
        self,
        *,
        store: QueueStore,
        vault: Vault,
        ring: Callable[[], KeyRing],
        clock: Clock,
        options: ArchiverOptions,
        metrics: Metrics | None = None,
        sinks: Sequence[HeadSink] = (),
    ) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._metrics = metrics
        self._sinks = [*sinks]
        if options.heads_file is not None:
            self._sinks.append(heads_to_file(options.heads_file))
        if options.heads_syslog:
            self._sinks.append(heads_to_syslog)
        self._log = SegmentLog(options.directory, vault=vault, ring=ring, clock=clock)
        self._next_sign = 0.0
        self._next_expiry = 0.0
        self._vault = vault
        self._faults: tuple[str, ...] = ()

    @property
    def log(self) -> SegmentLog:
        """The segments."""
        return self._log

    async def open(self) -> None:
        """Take the directory and find where the chain stands.

        Raises:
            ProblemsError: another process writes there, or it cannot be used.
            CorruptError: what is on disk is less than what was signed, or damaged.
        """
        await asyncio.to_thread(self._log.open)
        self._next_sign = self._clock() + self._options.sign_interval
        self._next_expiry = self._clock()

    async def close(self) -> None:
        """Archive what is there, sign, and let go of the directory."""
        try:
            while await self.step():
                pass
            await self.sign()
        finally:
            await asyncio.to_thread(self._log.close)

    async def step(self) -> int:
        """Archive one batch; how many rows were taken out of the outbox.

        Raises:
            StoreError: the outbox or the segment could not be read or written; nothing is lost.
        """
        rows = await self._store.outbox(limit=self._options.batch)
        if not rows:
            return 0
        await asyncio.to_thread(self._log.append, rows)
        last = rows[-1].seq
        await self._store.forget_outbox(last)
        self._log.forgotten(last)
        self._count("ok")
        return len(rows)

    async def sign(self) -> dict[str, Any] | None:
        """Sign the head if there is something new, and send it off the machine; the head."""
        self._next_sign = self._clock() + self._options.sign_interval
        head = await asyncio.to_thread(self._log.sign)
        if head is None:
            return None
        self._count("ok")
        for sink in self._sinks:
            try:
                await asyncio.to_thread(sink, head)
            except OSError as error:
                # The head is in the segment all the same; the next one covers this one's records too.
                self._count("failed")
                _log.error("audit_head_not_sent", error=error.strerror or type(error).__name__)
        return head

    async def expire(self) -> tuple[str, ...]:
        """Remove segments past their retention that no legal hold keeps; which days.

        Raises:
            StoreError: a segment could not be written.
        """
        self._next_expiry = self._clock() + _EXPIRE
        directory = self._options.directory
        holds = await asyncio.to_thread(self._heed, directory)
        before = day_of(self._clock() - self._options.retention)
        removed = await asyncio.to_thread(self._log.expire, before, lambda day: is_held(holds, day))
        for day in removed:
            _log.warning("audit_segment_expired", day=day)
        return removed

    def _heed(self, directory: Path) -> tuple[Hold, ...]:
        """The legal holds that stand; what is new of them goes into the trail."""
        found = standing(self._log.state.holds, load_holds(directory), self._vault)
        for facts in found.news:
            self._log.note(AuditEvent(kind="operator", at=self._clock(), facts=facts))
        for what in found.faults:
            if what not in self._faults:
                self._log.note(AuditEvent(kind="alert", at=self._clock(), facts={"alert": "legal-hold", "why": what}))
                if self._metrics is not None:
                    self._metrics.count("postern_alerts_total", {"kind": "legal-hold"})
            _log.error("legal_hold", why=what)
        self._faults = found.faults
        return found.holds

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set. The outbox keeps what cannot be archived now.

        Raises:
            SyncError: the disk failed to confirm a write: end the process.
        """
        while not stop.is_set():
            wait = self._options.idle
            try:
                if taken := await self.step():
                    wait = self._options.linger if taken < self._options.batch else 0.0
                if self._is_due(self._next_sign, self._options.sign_interval):
                    await self.sign()
                if self._is_due(self._next_expiry, _EXPIRE):
                    await self.expire()
            except SyncError:
                raise
            except StoreError as error:
                self._count("failed")
                _log.error("audit_not_written", error=str(error))
            except Exception:  # noqa: BLE001 - told with its trace, and tried again
                # The outbox still has it all; a trail that silently ends would be found missing years later.
                self._count("failed")
                _log.exception("audit_failed_inside")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)

    def _is_due(self, at: float, every: float) -> bool:
        """Whether a time has come; one that lies further off than it can was set before the clock was set back."""
        now = self._clock()
        return not now < at <= now + every

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.count("audit_segments", {"result": result})
