"""Large bodies as sealed files beside the database.

A file is written under a temporary name, fsynced, renamed, and its directory fsynced, all before the commit that names
it. A crash before that commit leaves a file that no row names: :meth:`BodyFiles.sweep` removes it when the process that
wrote it, whose number is in the name, is dead.
"""

import errno
import itertools
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import structlog

from relay.core.errors import CorruptError, StoreFullError, StoreUnavailableError
from relay.store.sqlite.faults import Fatal, is_full
from relay.store.sqlite.schema import sync_directory

_TEMPORARY: Final = ".part"
_PASSING: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What says nothing of the file: too many of them are open, or memory is short."""
_log = structlog.get_logger("store")


class BodyFiles:
    """Body files of one incarnation; reading and removing work for everyone's."""

    def __init__(self, directory: Path, incarnation: int, fatal: Fatal) -> None:
        self._directory = directory
        self._incarnation = incarnation
        self._fatal = fatal
        self._numbers = itertools.count(1)

    def write(self, sealed: bytes) -> str:
        """Write a sealed body durably; its file's name.

        Raises:
            StoreFullError: no room; nothing stays behind.
            StoreUnavailableError: too many open files; nothing stays behind.
        """
        name = f"{self._incarnation}-{next(self._numbers)}"
        part = self._directory / (name + _TEMPORARY)
        try:
            self._write_synced(part, sealed)
            part.rename(self._directory / name)
            sync_directory(self._directory)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno in _PASSING:
                raise StoreUnavailableError(f"a body file cannot be made: {error.strerror}") from error
            if not is_full(error):
                self._fatal(error)
            raise StoreFullError("no room for a large message's body") from error
        return name

    @staticmethod
    def _write_synced(path: Path, sealed: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(sealed)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, name: str) -> bytes:
        """A sealed body.

        Raises:
            CorruptError: the file is gone or cannot be read.
            StoreUnavailableError: it cannot be read now, for want of descriptors or memory: nothing is wrong with it.
        """
        try:
            return (self._directory / name).read_bytes()
        except OSError as error:
            if error.errno in _PASSING:
                raise StoreUnavailableError(f"a body file cannot be opened now: {error.strerror}") from error
            raise CorruptError(f"the body file {name} cannot be read: {error.strerror}") from error

    def remove(self, names: Collection[str]) -> None:
        """Remove files that no row names any more; one that resists is left to a later sweep."""
        for name in names:
            try:
                (self._directory / name).unlink(missing_ok=True)
            except OSError as error:
                _log.warning("body_file_left", file=name, detail=error.strerror)

    def sweep(self, may_live: Callable[[int], bool], is_named: Callable[[str], bool]) -> int:
        """Remove what dead processes left behind; how many files.

        Args:
            may_live: whether the incarnation of this number may still be about to commit.
            is_named: whether a row names the file.
        """
        removed = 0
        for path in self._directory.iterdir():
            number = path.name.partition("-")[0]
            if number.isdecimal() and not may_live(int(number)) and not is_named(path.name):
                path.unlink(missing_ok=True)
                removed += 1
        return removed
