"""What SQLite's errors mean for the queue, and the end of the process where no answer can be trusted (law 1)."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

import apsw
import structlog

from relay.core.errors import (
    CorruptError,
    Problem,
    ProblemsError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)

EXIT_STORAGE: Final = 74
"""Exit status after a failed write or fsync (EX_IOERR of sysexits.h)."""

Fatal: TypeAlias = Callable[[BaseException], NoReturn]

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def exit_at_once(error: BaseException) -> NoReturn:
    """Log one line and leave without another instruction of clean-up.

    After a failed fsync the kernel may have dropped the dirty pages and marked them clean: a second fsync would report
    a success that is none. Only a fresh start, which reads what the disk really holds, can be trusted.
    """
    structlog.get_logger("store").critical(
        "storage_failed", error=type(error).__name__, detail=str(error), action="exit", status=EXIT_STORAGE
    )
    os._exit(EXIT_STORAGE)


def is_full(error: BaseException) -> bool:
    """Whether the write failed for want of room, which a retry after clearing up may mend."""
    if isinstance(error, apsw.FullError):
        return True
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def is_fatal(error: BaseException) -> bool:
    """Whether what is on disk is no longer known."""
    return isinstance(error, apsw.IOError) or (isinstance(error, OSError) and error.errno not in _NO_ROOM)


def translate(error: BaseException) -> BaseException:
    """The store's error for a database's."""
    match error:
        case StoreError() | ProblemsError():
            return error
        case _ if is_full(error):
            return StoreFullError("the disk is full")
        case apsw.CorruptError() | apsw.NotADBError() | UnicodeDecodeError():
            return CorruptError(f"the queue file is damaged ({error}); stop Postern and run `postern queue repair`")
        case apsw.BusyError() | apsw.LockedError() | apsw.CantOpenError() | apsw.ReadOnlyError():
            return StoreUnavailableError(f"the queue file cannot be used now: {error}")
        case apsw.ConstraintError():
            return StoreError("an id is already in the queue")
        case apsw.Error():
            return StoreError(f"the queue file refused: {error}")
    return error


def damaged(path: Path, error: BaseException) -> ProblemsError:
    """The one error at start-up for a queue file that cannot be read."""
    return ProblemsError(
        Problem(
            where=str(path),
            what=f"the queue file is damaged or is not one ({error}); nothing was changed or deleted",
            hint="run `postern queue repair`: it sets the file aside and carries over all that is sound in it",
        )
    )
