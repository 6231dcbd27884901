"""The fsync behind every promise, given after the queue lock is.

SQLite commits without one (``synchronous=NORMAL``): a commit is then seen by every process, and a power cut may take it
back. Whoever acts on what he committed or read calls :meth:`Log.sync` first, and acts only when it returns. That is
enough, as the write-ahead log is one file that is written in order: a sync that begins after a commit was seen covers
it, and all before it, whoever made them. So nobody holds a lock while he waits for the disk, and one wait serves all
that was committed before it, other processes' commits too.

A log that was begun anew meanwhile is covered as well: SQLite does that only when all of the old one is in the database
file, which it has synced.
"""

import os
from pathlib import Path

from relay.store.sqlite.faults import Fatal


class Log:
    """The write-ahead log, opened once more to be synced; one a thread.

    The kernel tells each open file once of pages that it could not write, and then calls them clean. A descriptor of
    each thread's own, open from the start, hears of it whoever asked the disk first, and ends its process: what comes
    after such pages is not promised by anybody who has not begun the log anew (``anew.py``).
    """

    def __init__(self, path: Path, fatal: Fatal) -> None:
        """Open the log; a connection of this process has it open, so that nobody removes it meanwhile.

        Raises:
            OSError: it cannot be opened.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._fatal = fatal

    def sync(self) -> None:
        """Return when all that this process has seen committed is on the disk; else the process ends."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._fatal(error)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)
