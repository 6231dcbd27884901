"""Random octets for salts and ids, read from the kernel for many at a time.

A message needs six times a few octets. Each read from the kernel gives up the interpreter's lock, and then queues for
it behind the thread that took it meanwhile.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from relay.core.ids import ENTROPY_BYTES, queue_id

_POOL: Final = 4096
"""Octets that are read at once: those of about forty messages."""
_FRESH: Final = 0.05
"""Seconds for which octets are kept. A machine that is copied with its memory must not go on twice with the same ones.

No more can be done here: the copy cannot be seen (madvise(2) MADV_WIPEONFORK is for forks; the VM Generation ID is the
kernel's, which takes new octets when it changes), and what both read within this time is the same. docs/install.md
tells whoever runs the host.
"""


class Entropy:
    """Called with ``n``, gives ``n`` octets of a cryptographic source, none twice. Safe in threads and after a fork.

    For what is shown or stored once it is used, as salts and ids are. Keys come from the kernel directly.

    Args:
        source: ``n -> n`` octets.
        clock: unix seconds.
    """

    __slots__ = ("_at", "_clock", "_lock", "_pool", "_read_at", "_source")

    def __init__(self, source: Callable[[int], bytes] = os.urandom, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._read_at = 0.0
        self._lock = threading.Lock()
        self._pool = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, count: int) -> bytes:
        """Give so many octets."""
        if count > _POOL:
            return self._source(count)
        with self._lock:
            end = self._at + count
            age = self._clock() - self._read_at
            if end > len(self._pool) or not 0 <= age < _FRESH:
                self._refill()
                end = count
            start, self._at = end - count, end
            return self._pool[start:end]

    def _refill(self) -> None:
        self._pool = self._source(_POOL)
        self._read_at = self._clock()

    def _forget(self) -> None:
        """Hold nothing: what a process held when it forked is its own."""
        self._lock = threading.Lock()
        self._pool = b""
        self._at = 0


ENTROPY: Final = Entropy()
"""The process's."""


def new_id(now: float) -> str:
    """A queue id."""
    return queue_id(now, ENTROPY(ENTROPY_BYTES))
