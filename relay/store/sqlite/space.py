"""How much room the disk has."""

import os
from pathlib import Path
from typing import Final

from relay.core.errors import StoreFullError
from relay.core.ports import Clock

_FRESH: Final = 1.0


class Space:
    """Refuses new messages before the disk is full; asks the file system once a second at the most."""

    def __init__(self, directory: Path, reserve: int, clock: Clock) -> None:
        self._directory = directory
        self._reserve = reserve
        self._clock = clock
        self._free = 0
        self._read_at = float("-inf")

    def require(self, size: int) -> None:
        """Make sure that ``size`` more octets leave the reserve untouched.

        Raises:
            StoreFullError: they would not.
        """
        now = self._clock()
        if not 0 <= now - self._read_at < _FRESH:
            status = os.statvfs(self._directory)
            self._free, self._read_at = status.f_bavail * status.f_frsize, now
        if self._free - size < self._reserve:
            raise StoreFullError(f"only {self._free} bytes are free and {self._reserve} are kept in reserve")
        self._free -= size
