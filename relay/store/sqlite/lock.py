"""Locks held by living processes. The kernel drops a flock when its holder dies, however it dies: no clock needed."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from relay.core.errors import Problem, ProblemsError

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class FileLock:
    """An exclusive flock that a thread takes for a short time; waiters queue in the kernel and are woken in order."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, _FLAGS, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock, and give it back at the end."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class LifeLock:
    """A flock on a file of its own that is held as long as this process lives."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            BlockingIOError: another process holds it.
        """
        self.path = path
        self._descriptor = os.open(path, _FLAGS, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise

    @classmethod
    def of_the_dead(cls, path: Path) -> Self | None:
        """The lock of a process that is no more, taken over; ``None`` while its holder lives.

        Of a file that is not there nothing can be said: ask :meth:`Path.exists` first.
        """
        try:
            return cls(path)
        except BlockingIOError:
            return None

    def renew(self) -> bool:
        """Lock a new file if somebody removed or replaced this one's, as cleaners of run directories do; whether so.

        Raises:
            BlockingIOError: another process took the name meanwhile.
        """
        if _is_open_as(self._descriptor, self.path):
            return False
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        anew = LifeLock(self.path)
        os.close(self._descriptor)
        self._descriptor = anew._descriptor
        return True

    def close(self, *, remove: bool = True) -> None:
        """Give the lock up and, unless told otherwise, remove its file first."""
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _is_open_as(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class DirectoryLock:
    """One Postern a data directory: the supervisor (or ``postern demo``) holds ``postern.lock`` in it while it runs.

    Use as a context manager, or call :meth:`acquire` and :meth:`release`.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "postern.lock"
        self._descriptor = -1

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ProblemsError: another Postern holds it, or the directory cannot be written.
        """
        try:
            descriptor = os.open(self._path, _FLAGS, 0o600)
        except OSError as error:
            raise self._unusable(error, "opened") from error
        try:
            self._claim(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _claim(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            told = f"{os.getpid()}\n".encode("ascii")
            os.pwrite(descriptor, told, 0)  # before the old words go: of a full disk the place that they have is enough
            os.ftruncate(descriptor, len(told))
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise ProblemsError(
                Problem(
                    where=str(self._path.parent),
                    what=f"another Postern{f' (process {holder})' if holder else ''} uses this data directory",
                    hint="stop it first, or give this one a data directory of its own",
                )
            ) from None
        except OSError as error:
            raise self._unusable(error, "locked and written") from error

    def _unusable(self, error: OSError, how: str) -> ProblemsError:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = (
            "free some room there"
            if is_full
            else "the data directory must exist and belong to the user Postern runs as"
        )
        return ProblemsError(Problem(where=str(self._path), what=f"cannot be {how}: {error.strerror}", hint=hint))

    def release(self) -> None:
        """Give the lock up; the file stays, so that nobody can lock a name that is being removed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
