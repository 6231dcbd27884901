"""Replies read from a peer, byte by byte if need be, with bounds (RFC 5321 section 4.2, RFC 2034)."""

import functools
import re
from dataclasses import dataclass
from typing import Final

from relay.core.errors import PosternError
from relay.core.reply import EnhancedStatus, Reply

_LINE: Final = re.compile(rb"([2-5][0-5][0-9])(?:([ -])(.*))?\Z", re.DOTALL)
_STATUS: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)")
_LAST_CODE: Final = 559


class ReplyError(PosternError):
    """What the peer sent is not an SMTP reply, or is longer than the bounds; its text is not repeated here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLimits:
    """Bounds on one reply. RFC 5321 section 4.5.3.1.5 allows 512 octets a line; real servers write more.

    Attributes:
        line_bytes: octets a line, line end included.
        lines: lines a reply.
        reply_bytes: octets a reply.
    """

    line_bytes: int = 4096
    lines: int = 128
    reply_bytes: int = 32_768


DEFAULT_LIMITS: Final = ReplyLimits()


def make_reply(code: int, lines: tuple[str, ...]) -> Reply:
    """Build the reply of a server that need not be consistent.

    The enhanced status is taken from the first line and removed from every line that repeats it. One whose class
    disagrees with the code is not believed: the code decides (RFC 5321 section 4.2.1), and the status stays as text.

    Raises:
        ReplyError: a code outside 200 to 559.
    """
    if not 200 <= code <= _LAST_CODE:
        raise ReplyError("the reply code is not one of SMTP")
    match = _STATUS.match(lines[0]) if lines else None
    if match is None:
        return Reply(code, None, lines or ("",))
    status = EnhancedStatus.parse(match[1])
    if status is None or status.klass != code // 100:
        return Reply(code, None, lines)
    prefix = match[1]
    return Reply(code, status, tuple(_without(line, prefix) for line in lines))


def _without(line: str, prefix: str) -> str:
    if line.startswith(prefix) and line[len(prefix) : len(prefix) + 1] in {"", " ", "\t"}:
        return line[len(prefix) :].lstrip()
    return line


@functools.lru_cache(maxsize=512)
def _single(line: bytes) -> Reply:
    """The reply of one line. A peer says the same few words again and again, so they are kept."""
    match = _LINE.match(line.rstrip(b"\r\n"))
    if match is None:
        raise ReplyError("the reply does not begin with a code of SMTP")
    return make_reply(int(match[1]), ((match[3] or b"").decode("utf-8", "replace"),))


class ReplyReader:
    """Cuts a stream into replies. Feed bytes, then take replies until there is ``None``."""

    __slots__ = ("_buffer", "_bytes", "_code", "_limits", "_lines")

    def __init__(self, limits: ReplyLimits = DEFAULT_LIMITS) -> None:
        self._buffer = bytearray()
        self._limits = limits
        self._code = 0
        self._lines: list[str] = []
        self._bytes = 0

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._buffer += data

    @property
    def pending(self) -> bool:
        """Whether bytes wait that belong to no reply taken yet."""
        return bool(self._buffer) or bool(self._lines)

    def take(self) -> Reply | None:
        """The next whole reply, or ``None`` when more bytes are needed.

        Raises:
            ReplyError: not SMTP, lines whose codes differ, or over a bound. The stream is of no further use.
        """
        buffer = self._buffer
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[: end + 1])
            del buffer[: end + 1]
            if not self._lines and line[3:4] == b" " and len(line) <= self._limits.line_bytes:
                return _single(line)
            if self._line(line):
                reply = make_reply(self._code, tuple(self._lines))
                self._code, self._lines, self._bytes = 0, [], 0
                return reply
        if len(buffer) > self._limits.line_bytes:
            raise ReplyError("a reply line is too long")
        return None

    def _line(self, line: bytes) -> bool:
        """Take one line; whether it ends the reply."""
        limits = self._limits
        self._bytes += len(line)
        if len(line) > limits.line_bytes or self._bytes > limits.reply_bytes or len(self._lines) >= limits.lines:
            raise ReplyError("the reply is too long")
        match = _LINE.match(line.rstrip(b"\r\n"))
        if match is None:
            raise ReplyError("the reply does not begin with a code of SMTP")
        code = int(match[1])
        if self._lines and code != self._code:
            raise ReplyError("the lines of one reply have different codes")
        self._code = code
        self._lines.append((match[3] or b"").decode("utf-8", "replace"))
        return match[2] != b"-"
