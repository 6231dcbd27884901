"""How the last reload ended, and which supervisor to ask for one: what it and ``postern reload`` tell each other.

The supervisor holds a record lock (``F_SETLK``, fcntl(2)) as long as it hears SIGHUP. Whoever asks learns from the
kernel which process that is (``F_GETLK``): no file can name a stranger, and of a supervisor that died nothing is left.
"""

import contextlib
import errno
import fcntl
import os
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson
import structlog

from relay.core.errors import PosternError, Problem, ProblemsError

log = structlog.get_logger("supervisor")

_LOCK: Final = "reload.lock"
_RECORD: Final = "reload.json"
_FLOCK: Final = struct.Struct("hhqqi4x")
"""``struct flock`` of 64-bit Linux, fcntl(2): type, whence, start, length, pid."""
_LOOK: Final = 0.1
"""Seconds between looks at the record."""


class Result(StrEnum):
    """How a reload ended."""

    RELOADED = "reloaded"
    REFUSED = "refused"
    """What was changed is wrong: what ran before runs on."""
    FAILED = "failed"
    """It is not known to be wrong, yet it could not be taken up: what ran before runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one reload ended.

    Attributes:
        result: whether it was taken up.
        version: of the policy in force after it; empty when nothing was taken up.
        problems: why it was not taken up; of one that was, what does not run since.
    """

    result: Result
    version: str = ""
    problems: tuple[Problem, ...] = ()

    @property
    def is_taken_up(self) -> bool:
        """Whether what was changed is in force."""
        return self.result is Result.RELOADED

    @property
    def is_refused(self) -> bool:
        """Whether what was changed is wrong."""
        return self.result is Result.REFUSED

    @classmethod
    def of(cls, error: Exception) -> Self:
        """A reload that ended with this error, whose text is told only if it is fit to be shown."""
        if isinstance(error, ProblemsError):
            return cls(result=Result.REFUSED, problems=error.problems)
        what = str(error) if isinstance(error, PosternError) else "it failed inside"
        if isinstance(error, TimeoutError):
            what = "the new workers were not ready in time, the old ones stay"
        return cls(result=Result.FAILED, problems=(Problem(where="reload", what=what, hint="the log says more"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the supervisor says of its last reload that ended.

    Attributes:
        attempt: its number since the supervisor started, from 1.
        began: when it began, by CLOCK_MONOTONIC, which all processes of a machine share: nothing was read before.
        at: when it ended, in unix seconds.
        outcome: how.
    """

    attempt: int
    began: float
    at: float
    outcome: Outcome

    def plain(self) -> dict[str, Any]:
        """As it stands in the file, and in what ``--json`` prints."""
        return {
            "attempt": self.attempt,
            "began": self.began,
            "at": self.at,
            "result": self.outcome.result.value,
            "version": self.outcome.version,
            "problems": [
                {"where": one.where, "what": one.what, "hint": one.hint} for one in self.outcome.problems
            ],
        }  # fmt: skip


class Reloads:
    """The supervisor's side. Enter it once SIGHUP is heard, leave it before it is not any more.

    Args:
        run_dir: where the lock and the record lie.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._descriptor = -1
        self._attempt = 0
        self._began = 0.0

    def __enter__(self) -> Self:
        path = self._run_dir / _LOCK
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self._run_dir / _RECORD).unlink(missing_ok=True)
        except OSError as error:
            self.__exit__(None, None, None)
            what, hint = f"cannot be locked: {error.strerror}", "check run_dir"
            if error.errno in {errno.EACCES, errno.EAGAIN}:  # fcntl(2): somebody holds it
                what, hint = "another Postern uses this run_dir", "stop it first, or give this one a run_dir of its own"
            raise ProblemsError(Problem(where=str(path), what=what, hint=hint)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def begin(self) -> None:
        """A reload begins, and has read nothing yet."""
        self._attempt += 1
        self._began = time.monotonic()

    def end(self, outcome: Outcome) -> None:
        """Tell how it ended. A record that cannot be written leaves whoever waits for it with the log."""
        record = Record(attempt=self._attempt, began=self._began, at=time.time(), outcome=outcome)
        draft = self._run_dir / f".{_RECORD}"
        try:
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123  a mode
                file.write(orjson.dumps(record.plain(), option=orjson.OPT_APPEND_NEWLINE))
            draft.replace(self._run_dir / _RECORD)
        except OSError as error:
            log.warning("how the reload ended cannot be written", problem=f"{draft}: {error.strerror}")


class NotRunningError(PosternError):
    """No supervisor runs there."""


class NoAnswerError(PosternError):
    """The supervisor was asked, and how that ended is not known."""


def supervisor_of(run_dir: Path) -> int:
    """The process that supervises there, as the kernel knows it; 0: none that can be seen from here.

    Not for the supervisor itself: a process that closes a file gives up all record locks that it has on it.

    Raises:
        OSError: the lock cannot be read.
    """
    try:
        descriptor = os.open(run_dir / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return 0 if kind == fcntl.F_UNLCK else pid


def last(run_dir: Path) -> Record | None:
    """What the supervisor said last, if it has said anything.

    Raises:
        OSError: it cannot be read.
    """
    try:
        said = orjson.loads((run_dir / _RECORD).read_bytes())
    except FileNotFoundError:
        return None
    problems = tuple(Problem(**one) for one in said["problems"])
    outcome = Outcome(result=Result(said["result"]), version=said["version"], problems=problems)
    return Record(attempt=said["attempt"], began=said["began"], at=said["at"], outcome=outcome)


def ask(run_dir: Path, timeout: float, *, pause: Callable[[float], object] = time.sleep) -> Record:
    """Have the supervisor reload, and wait until a reload that began after this call has ended.

    One that was under way has perhaps read what was there before; signals that come meanwhile make one more after it.

    Args:
        run_dir: the supervisor's.
        timeout: seconds to wait at most.
        pause: how to wait between looks.

    Raises:
        NotRunningError: nobody supervises there.
        NoAnswerError: it ended meanwhile, or has said nothing in time.
        OSError: the lock or the record cannot be read, or the process is not ours to signal.
    """
    asked = time.monotonic()
    pid = supervisor_of(run_dir)
    if not pid:
        raise NotRunningError(f"Postern does not run here ({run_dir})")
    with contextlib.suppress(ProcessLookupError):  # it has just ended, which is told below
        os.kill(pid, signal.SIGHUP)
    while True:
        holder = supervisor_of(run_dir)  # before the record: of one that says how it went and ends, both is seen
        record = last(run_dir)
        if record is not None and record.began >= asked:
            return record
        if holder != pid:
            raise NoAnswerError(f"Postern ended before it had reloaded ({run_dir}): look into the log")
        left = asked + timeout - time.monotonic()
        if left <= 0:
            raise NoAnswerError(f"no answer within {timeout:g} s: look into the log")
        pause(min(_LOOK, left))
