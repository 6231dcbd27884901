"""Leaving nothing behind in the log that the disk may not have, when a process opens the queue."""

import errno
import os
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import apsw

from relay.store.sqlite.lock import FileLock

_READERS: Final = 1.0
_CHECKPOINTS: Final = 30.0
_PAUSE: Final = 0.02
"""Seconds in which short readers, and checkpoints of other processes, are over; and between tries."""
_HEADER: Final = 32
_FRAME_HEADER: Final = 24
"""Octets before the frames of a log, and before the page in each (the WAL format, "File Format" of sqlite.org)."""
_PIECE: Final = 1 << 20


def begin_anew(connection: apsw.Connection, lock: FileLock, log: Path) -> None:
    """Move what is in the log into the database, so that whoever writes next begins it anew.

    After a failed fsync the kernel may keep pages of the log as clean that the disk never got: whoever opens the log
    then reads them and hears of nothing, and what he wrote behind them would be out of reach after a power cut. Copied
    from memory into the database they are on the disk.

    While somebody reads the log it cannot be begun anew, and ``postern store check`` reads for as long as it takes:
    then the log is written over with what is read of it, and synced.

    Args:
        connection: nobody else uses it meanwhile; without a transaction.
        lock: the queue lock; not held by the caller, and given back between tries.
        log: the file.

    Raises:
        apsw.BusyError: another process did not come to the end of its checkpoint.
        OSError: the log could not be written.
    """
    connection.set_busy_timeout(0)  # SQLite would keep its write lock while it waits
    begun = monotonic()
    while True:
        waited = monotonic() - begun
        try:
            with lock.held():
                if waited < _READERS:
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
                else:
                    _write_over(connection, log)
        except apsw.BusyError:
            if waited > _CHECKPOINTS:
                raise
            sleep(_PAUSE)
        else:
            return


def _write_over(connection: apsw.Connection, log: Path) -> None:
    """Make dirty again, and sync, what the log has; under the queue lock nobody else writes it or begins it anew."""
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    end = _HEADER + frames * (_FRAME_HEADER + connection.pragma("page_size"))
    descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    try:
        for start in range(0, end, _PIECE):
            octets = os.pread(descriptor, min(_PIECE, end - start), start)
            if os.pwrite(descriptor, octets, start) != len(octets):
                raise OSError(errno.EIO, "a write was cut short", str(log))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
