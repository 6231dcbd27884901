"""Writes whole lines, buffered, from many processes to one file or stream without tearing them."""

import atexit
import contextlib
import os
import select
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

PIPE_WRITE: Final = 4096
"""Octets that one write to a pipe keeps together (PIPE_BUF, pipe(7)); no line is longer."""
_PATIENCE: Final = 5.0
"""Seconds to wait for a reader that has stopped reading, before lines are given up and counted."""


class LineWriter:
    """Collects lines and writes them when there are enough, when a while has passed, and at exit.

    Attributes:
        lost: lines that could not be written (disk full, nobody reads); the next flush that succeeds says so.
    """

    def __init__(
        self,
        target: int | Path,
        *,
        interval: float = 0.25,
        size: int = 32 * 1024,
        on_lost: Callable[[int], None] = lambda _number: None,
    ) -> None:
        """Write to a descriptor, or append to a file.

        Args:
            target: the descriptor (not closed here) or the file.
            interval: seconds that a line may wait.
            size: octets that may wait.
            on_lost: told how many lines were lost just now.
        """
        self.lost = 0
        self._path = target if isinstance(target, Path) else None
        self._descriptor = target if isinstance(target, int) else _append(target)
        self._on_lost = on_lost
        self._interval = interval
        self._size = size
        self._lines: list[bytes] = []
        self._waiting = 0
        self._told = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        atexit.register(self.close)

    def write(self, line: bytes, *, urgent: bool = False) -> None:
        """Take one line, its line feed included; ``urgent`` writes it, and all before it, now."""
        with self._lock:
            self._lines.append(line)
            self._waiting += len(line)
            full = self._waiting >= self._size
        if urgent or full:
            self.flush()
        elif not self._pending.is_set():
            self._wake()

    def flush(self) -> None:
        """Write all that waits. Never raises; what cannot be written is counted in ``lost``."""
        with self._writing:  # one at a time, so that lines keep their order
            with self._lock:
                lines, self._lines, self._waiting = self._lines, [], 0
                self._pending.clear()
            if self.lost > self._told:
                lines.insert(0, b'{"level":"error","event":"log lines lost","lines":%d}\n' % (self.lost - self._told))
                self._told = self.lost
            for chunk, number in _chunks(lines, whole=self._is_regular()):
                if not self._put(chunk):
                    self.lost += number
                    self._on_lost(number)

    def reopen(self) -> None:
        """Open the file anew, after it was rotated away; a descriptor stays as it is."""
        if self._path is None:
            return
        self.flush()
        fresh = _append(self._path)
        with self._writing:
            old, self._descriptor = self._descriptor, fresh
        os.close(old)

    def close(self) -> None:
        """Write what waits and stop; lines taken later are written at once."""
        self._stop.set()
        self._pending.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self.flush()
        self._pending.clear()
        atexit.unregister(self.close)
        if self._path is not None and self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _wake(self) -> None:
        if self._stop.is_set():
            self.flush()
            return
        self._pending.set()
        if self._thread is None or not self._thread.is_alive():  # it does not survive a fork
            self._thread = threading.Thread(target=self._flush_in_time, name="log", daemon=True)
            self._thread.start()

    def _flush_in_time(self) -> None:
        while not self._stop.is_set():
            self._pending.wait()
            if not self._stop.wait(self._interval):
                self.flush()

    def _is_regular(self) -> bool:
        with contextlib.suppress(OSError):
            return stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        return False

    def _put(self, chunk: bytes) -> bool:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                if not select.select([], [self._descriptor], [], _PATIENCE)[1]:
                    return False
            except OSError:
                return False
        return True


def _append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _chunks(lines: list[bytes], *, whole: bool) -> list[tuple[bytes, int]]:
    """What to write at once, and how many lines that is: all of it to a file, what a pipe keeps together elsewhere."""
    if not lines:
        return []
    if whole:
        return [(b"".join(lines), len(lines))]
    chunks, batch, size = [], [lines[0]], len(lines[0])
    for line in lines[1:]:
        if size + len(line) > PIPE_WRITE:
            chunks.append((b"".join(batch), len(batch)))
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    return [*chunks, (b"".join(batch), len(batch))]
