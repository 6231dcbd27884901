"""Reading the message after DATA: where it ends, what is in it, what is refused (RFC 5321 sections 4.1.1.4, 4.5.2).

The message ends at ``<CRLF>.<CRLF>`` and nowhere else, in every mode: servers that also take ``<LF>.<LF>`` or a mix of
the two are how messages are smuggled. A CR or LF that is not part of a CRLF makes the message refused, or, where the
listener says so, is turned into CRLF before anything else sees the message. Dots are unstuffed where the wire has CRLF,
before that: what goes out is stuffed anew, so a line that holds one dot stays what it is, a line.
"""

import re
from enum import StrEnum
from typing import Final

from relay.core import octets
from relay.core.octets import end_of_data, traits
from relay.core.reply import Reply

_ANY_NEWLINE: Final = re.compile(rb"\r\n|\r|\n")
_DISCARD_FACTOR: Final = 4

TOO_BIG: Final = Reply.of(552, "5.3.4", "Message is larger than this server takes")
BARE_NEWLINE: Final = Reply.of(554, "5.6.0", "Message has a bare CR or LF; lines must end with CRLF")
NUL: Final = Reply.of(554, "5.6.0", "Message has a NUL octet")
LONG_LINE: Final = Reply.of(554, "5.6.0", "Message has a line that is too long")


class BareNewlines(StrEnum):
    """What becomes of a CR or LF outside CRLF in a message."""

    REFUSE = "refuse"
    NORMALISE = "normalise"


class DataReader:
    """Takes octets until the end of data, holding no more than the largest message may have.

    Args:
        max_size: octets of the message, dot-stuffing not counted (RFC 1870 section 3).
        max_line: octets of one line without its CRLF. RFC 5321 asks servers to take 998; clinical systems write HTML
            in one line, and delivery makes such lines fit for the next hop before it signs.
        bare_newlines: see :class:`BareNewlines`.
    """

    __slots__ = ("_bare", "_buffer", "_discarded", "_max_line", "_max_size", "_refusal")

    def __init__(self, *, max_size: int, max_line: int, bare_newlines: BareNewlines) -> None:
        self._max_size = max_size
        self._max_line = max_line
        self._bare = bare_newlines
        self._buffer = bytearray(b"\r\n")  # so that a dot in the first line is at the start of a line too
        self._discarded = 0
        self._refusal: Reply | None = None

    @property
    def held(self) -> int:
        """Octets in memory now."""
        return len(self._buffer)

    @property
    def hopeless(self) -> bool:
        """Whether so much was thrown away that waiting for the end is no longer polite but only costly."""
        return self._discarded > self._max_size * _DISCARD_FACTOR

    def refuse(self, reply: Reply) -> None:
        """Throw away what came and what comes; the reply is given at the end of data."""
        if self._refusal is None:
            self._refusal = reply
        self._discard()

    def feed(self, data: bytes) -> bytes | None:
        """Take octets; at the end of data return those that follow it (perhaps none), before it ``None``."""
        buffer = self._buffer
        start = len(buffer) - 4
        buffer += data
        end = end_of_data(buffer, max(start, 0))
        if end >= 0:
            rest = bytes(memoryview(buffer)[end + 5 :])
            del buffer[end + 2 :]
            self._discarded += end
            if end + 4 > self._most() and self._refusal is None:
                self._refusal = TOO_BIG
            return rest
        if self._refusal is not None or len(buffer) > self._most():
            self.refuse(TOO_BIG)
        return None

    def _most(self) -> int:
        """Octets on the wire beyond which the message must be over its limit: stuffing adds one to three ("..", CRLF).

        It is compared in :meth:`feed` so that the answer does not depend on how the octets were cut into pieces.
        """
        return self._max_size * 4 // 3 + 8

    def result(self) -> bytes | Reply:
        """After the end of data: the message, or the reply that refuses it."""
        if self._refusal is not None:
            return self._refusal
        found = traits(self._buffer, self._max_line)
        if found & octets.NUL:
            return NUL
        if found & octets.BARE_NEWLINE and self._bare is BareNewlines.REFUSE:
            return BARE_NEWLINE
        content = unstuff(self._buffer) if found & octets.LEADING_DOT else bytes(memoryview(self._buffer)[2:])
        if found & octets.BARE_NEWLINE:
            content = _ANY_NEWLINE.sub(b"\r\n", content)
            found = traits(content, self._max_line)
        if len(content) > self._max_size:
            return TOO_BIG
        if found & octets.LONG_LINE and traits(content, self._max_line) & octets.LONG_LINE:  # a dot may have made it so
            return LONG_LINE
        return content

    def _discard(self) -> None:
        """Keep only what may be the beginning of the end of data."""
        drop = len(self._buffer) - 4
        if drop > 0:
            self._discarded += drop
            del self._buffer[:drop]


def unstuff(buffer: bytes | bytearray) -> bytes:
    """Remove the dot that was put before each line that began with one; ``buffer`` has a CRLF before its first line."""
    return bytes(memoryview(buffer.replace(b"\r\n.", b"\r\n"))[2:])
