"""Octets to command lines, bounded."""

from enum import Enum, auto
from typing import Final

_MAX_SKIPPED: Final = 65536


class Overlong(Enum):
    """A line that was too long to be kept."""

    LINE = auto()
    """It has ended: refuse it."""
    ENDLESS = auto()
    """It goes on beyond all patience: close."""


class LineReader:
    """Splits input at LF and holds at most one line's worth of a line that has not ended.

    The answer depends on the octets alone, never on the pieces in which they came.
    """

    __slots__ = ("_buffer", "_piece", "_skipped")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._piece = b""  # what came when nothing waited: a piece of a message goes on as it is
        self._skipped = 0

    @property
    def held(self) -> int:
        """Octets that wait."""
        return len(self._buffer) + len(self._piece)

    def feed(self, data: bytes) -> None:
        """Append input."""
        if not self._buffer and not self._piece:
            self._piece = data
            return
        self._gather()
        self._buffer += data

    def _gather(self) -> None:
        self._buffer += self._piece
        self._piece = b""

    def take(self) -> bytes:
        """Hand over all that waits, unsplit."""
        data = self._piece or bytes(self._buffer)  # never both hold something
        self._buffer.clear()
        self._piece = b""
        return data

    def clear(self) -> None:
        """Forget all that waits."""
        self._buffer.clear()
        self._piece = b""
        self._skipped = 0

    def next(self, limit: int) -> bytes | Overlong | None:
        """The next line with its line end; ``None`` when it has not come yet.

        Args:
            limit: octets without CRLF.
        """
        self._gather()
        end = self._buffer.find(b"\n")
        if end < 0:
            if self._skipped or len(self._buffer) > limit + 1:
                self._skipped += len(self._buffer)
                self._buffer.clear()
            return Overlong.ENDLESS if self._skipped > _MAX_SKIPPED else None
        length, self._skipped = self._skipped + end + 1, 0
        line = bytes(memoryview(self._buffer)[: end + 1]) if length <= limit + 2 else b""
        del self._buffer[: end + 1]
        if length > _MAX_SKIPPED:
            return Overlong.ENDLESS
        return line or Overlong.LINE
