"""Where each part of a message lies: read once as it streams, so that no message has to fit into memory.

What is a part follows the standard library's parser (RFC 2046, and what mail in the wild makes of it): tests compare
the two. Nothing here raises for what is in a message.
"""

import re
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Final

from relay.core.labour import BOUNDED
from relay.mail.words import decode_value

_HEADER_LINE: Final = re.compile(rb"(?:From |[\041-\071\073-\176]*:|[\t ])")
_MAX_DELIMITER: Final = 1024  # octets of a line that may be a delimiter
_MAX_BOUNDARY: Final = 256  # RFC 2046 allows 70
_IDENTITY: Final = frozenset({"", "7bit", "8bit", "binary"})
_PARSER: Final = BytesHeaderParser(policy=BOUNDED)
_MAX_VALUE: Final = 4096  # characters of a header value that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineLimits:
    """What an outline may hold (law 6). Beyond, the rest of the message belongs to the part before.

    Attributes:
        depth: containers inside one another.
        parts: parts in all.
        header_bytes: octets of one part's header that are kept.
    """

    depth: int = 20
    parts: int = 500
    header_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part and where its body lies.

    Attributes:
        index: its place in ``Outline.parts``; the message itself is 0.
        parent: the index of what holds it; -1 for the message itself.
        content_type: lower case, without parameters.
        start, end: of the body in the message, octets; the line end before a delimiter belongs to the delimiter.
        encoding: Content-Transfer-Encoding, lower case.
        charset: as labelled.
        flowed, delsp: of ``format=flowed`` text (RFC 3676).
        filename: decoded; may be empty.
        attached: Content-Disposition is ``attachment``.
        content_id: without angle brackets.
        root: the ``start`` parameter of multipart/related, without angle brackets.
        headers: of a message (this one or one inside): (lower-case name, decoded value), in order.
    """

    index: int
    parent: int
    content_type: str
    start: int
    end: int
    encoding: str = ""
    charset: str = ""
    flowed: bool = False
    delsp: bool = False
    filename: str = field(default="", repr=False)
    attached: bool = False
    content_id: str = ""
    root: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def is_container(self) -> bool:
        """Whether it holds parts instead of content."""
        return self.content_type.startswith("multipart/")

    def header(self, name: str) -> str:
        """The first header field of this name; empty when there is none."""
        return next((value for known, value in self.headers if known == name), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A message's parts, in the order in which they begin.

    Attributes:
        parts: the first is the message itself.
        size: octets of the message.
        cut: a limit was reached, and not every part is listed.
    """

    parts: tuple[Part, ...]
    size: int
    cut: bool = False

    def children(self, index: int) -> tuple[Part, ...]:
        """The parts directly inside a part."""
        return tuple(part for part in self.parts if part.parent == index)


@dataclass(slots=True)
class _Open:
    """A container whose end has not been seen. ``boundary`` is empty for a message inside."""

    index: int
    boundary: bytes
    closed: bool = False


class OutlineReader:
    """Reads an outline from octets that come in pieces of any size."""

    def __init__(self, limits: OutlineLimits | None = None) -> None:
        self._limits = limits or OutlineLimits()
        self._parts: list[Part] = []
        self._open: list[_Open] = []
        self._buffer = bytearray()
        self._at = 0  # where the buffer begins in the message
        self._is_line_start = True
        self._header: list[bytes] | None = []  # lines of the header being read; None in a body
        self._header_size = 0
        self._leaf = -1  # the part whose body is being read; -1 between parts
        self._parent = -1
        self._cut = False
        self._is_opaque = False  # no delimiter is looked for any more

    def feed(self, piece: bytes) -> None:
        """Take the next octets."""
        self._buffer += piece
        while self._step(is_last=False):
            pass

    def finish(self) -> Outline:
        """The outline, when all octets have been fed."""
        while self._step(is_last=True):
            pass
        end = self._at + len(self._buffer)
        if self._header is not None:
            self._end_header(end)
        self._end_all(0, end)
        return Outline(parts=tuple(self._parts), size=end, cut=self._cut)

    # --- lines

    def _step(self, *, is_last: bool) -> bool:
        """Take a header line or skip to the next delimiter; whether there is more to do with what is there."""
        if self._header is not None:
            return self._header_step(is_last=is_last)
        return self._body_step(is_last=is_last)

    def _header_step(self, *, is_last: bool) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0 and not (is_last and self._buffer):
            if len(self._buffer) > self._limits.header_bytes and self._is_line_start:
                self._header_line(bytes(self._buffer))  # a header that never ends: keep its beginning, drop the rest
            self._drop_long_line()
            return False
        line = bytes(self._buffer[: end + 1] if end >= 0 else self._buffer)
        if not self._is_line_start:  # the rest of a line whose beginning was taken
            self._consume(len(line))
            self._is_line_start = True
            return True
        stripped = line.rstrip(b"\r\n")
        if not stripped:
            self._consume(len(line))
            self._end_header(self._at)
        elif self._delimiter(line) or not _HEADER_LINE.match(line):
            self._end_header(self._at)  # the line belongs to the body
        else:
            self._header_line(line)
            self._consume(len(line))
        return True

    def _header_line(self, line: bytes) -> None:
        room = self._limits.header_bytes - self._header_size
        if self._header is not None and room > 0:
            self._header.append(line[:room])
            self._header_size += len(line)

    def _drop_long_line(self) -> None:
        if len(self._buffer) > self._limits.header_bytes:
            self._consume(len(self._buffer))
            self._is_line_start = False

    def _body_step(self, *, is_last: bool) -> bool:
        if self._is_opaque or not self._open:
            self._consume(len(self._buffer))
            return False
        if self._is_line_start and self._buffer[:2] == b"--":
            at = 0
        else:
            if self._is_line_start and len(self._buffer) < 2 and not is_last:
                return False
            found = self._buffer.find(b"\n--")
            if found < 0:
                self._skip_to_tail(is_last=is_last)
                return False
            at = found + 1
        end = self._buffer.find(b"\n", at, at + _MAX_DELIMITER)
        if end < 0 and len(self._buffer) - at < _MAX_DELIMITER and not is_last:
            return False  # the line is not whole yet
        line = bytes(self._buffer[at : end + 1] if end >= 0 else self._buffer[at : at + _MAX_DELIMITER])
        match = self._delimiter(line) if end >= 0 or is_last else None
        if match is None:
            self._consume(at + 2)
            self._is_line_start = False
            return True
        self._take_delimiter(match, self._before(at))
        self._consume(at + len(line))
        self._is_line_start = True
        return True

    def _before(self, at: int) -> int:
        """Where a body ends whose delimiter begins at ``at`` in the buffer: before the line end that belongs to it."""
        if self._buffer[max(0, at - 2) : at] == b"\r\n":
            return self._at + at - 2
        return self._at + at - (1 if at and self._buffer[at - 1 : at] == b"\n" else 0)

    def _skip_to_tail(self, *, is_last: bool) -> None:
        # Up to three octets may begin "\r\n--".
        keep = 0 if is_last else 4
        skipped = len(self._buffer) - keep
        if skipped > 0:
            self._is_line_start = self._buffer[skipped - 1 : skipped] == b"\n"
            if self._is_line_start:  # keep the line end with its line, so that it can be given to a delimiter
                skipped = max(0, skipped - 2)
                self._is_line_start = skipped > 0 and self._buffer[skipped - 1 : skipped] == b"\n"
            self._consume(skipped)

    def _consume(self, count: int) -> None:
        del self._buffer[:count]
        self._at += count

    # --- structure

    def _delimiter(self, line: bytes) -> tuple[int, bool] | None:
        """Which open container's delimiter a line is, and whether it is the last; the innermost that fits."""
        if line[:2] != b"--":
            return None
        text = line.rstrip(b"\r\n").rstrip(b" \t")[2:]
        for place in range(len(self._open) - 1, -1, -1):
            boundary = self._open[place].boundary
            if boundary and text == boundary:
                return place, False
            if boundary and text == boundary + b"--":
                return place, True
        return None

    def _take_delimiter(self, match: tuple[int, bool], end: int) -> None:
        place, is_last = match
        holder = self._open[place]
        if holder.closed and not is_last:
            return  # after its last delimiter a container holds only its epilogue
        self._end_all(place + 1, end)
        self._end_leaf(end)
        if is_last:
            holder.closed = True
            return
        self._begin_header(holder.index)

    def _begin_header(self, parent: int) -> None:
        if len(self._parts) >= self._limits.parts:
            self._cut = self._is_opaque = True
            return
        self._parent = parent
        self._header = []
        self._header_size = 0

    def _end_header(self, start: int) -> None:
        lines, self._header = self._header or [], None
        self._is_line_start = True
        index = len(self._parts)
        part, boundary = _read_header(b"".join(lines), index, self._parent, start)
        self._leaf = index
        is_inner = part.content_type == "message/rfc822" and part.encoding in _IDENTITY
        if (boundary or is_inner) and len(self._open) >= self._limits.depth:
            self._cut = True
            part = replace(part, content_type="application/octet-stream")
            boundary, is_inner = b"", False
        self._parts.append(part)
        if boundary or is_inner:
            self._leaf = -1
            self._open.append(_Open(index, boundary))
        if is_inner:
            self._begin_header(index)

    def _end_leaf(self, end: int) -> None:
        if self._leaf >= 0:
            part = self._parts[self._leaf]
            self._parts[self._leaf] = replace(part, end=max(part.start, end))
            self._leaf = -1

    def _end_all(self, place: int, end: int) -> None:
        """End what is open from ``place`` on, inner first."""
        self._end_leaf(end)
        for holder in reversed(self._open[place:]):
            part = self._parts[holder.index]
            self._parts[holder.index] = replace(part, end=max(part.start, end))
        del self._open[place:]


def _read_header(block: bytes, index: int, parent: int, start: int) -> tuple[Part, bytes]:
    """A part without its end, and the boundary of its parts; empty when it holds none."""
    try:
        header = _PARSER.parsebytes(block)
        content_type = header.get_content_type()
        boundary = header.get_boundary() if content_type.startswith("multipart/") else None
        part = _described(header, content_type, index, parent, start)
    except Exception:  # noqa: BLE001 - a stranger's header met a fault of the parser: shown as what can only be saved
        return Part(index=index, parent=parent, content_type="application/octet-stream", start=start, end=start), b""
    if content_type.startswith("multipart/") and not boundary:
        return replace(part, content_type="text/plain"), b""  # as the standard library takes it
    octets = (boundary or "").encode("utf-8", "surrogateescape").rstrip()
    return part, octets if len(octets) <= _MAX_BOUNDARY else b""


def _described(header: "Message[str, str]", content_type: str, index: int, parent: int, start: int) -> Part:
    disposition = str(header.get("content-disposition", "")).partition(";")[0].strip().lower()
    is_message = parent < 0 or "from" in header or "subject" in header
    return Part(
        index=index,
        parent=parent,
        content_type=content_type,
        start=start,
        end=start,
        encoding=str(header.get("content-transfer-encoding", "")).strip().lower(),
        charset=_parameter(header, "charset"),
        flowed=_parameter(header, "format").lower() == "flowed",
        delsp=_parameter(header, "delsp").lower() == "yes",
        filename=decode_value(header.get_filename() or "")[:_MAX_VALUE],
        attached=disposition == "attachment",
        content_id=_identifier(str(header.get("content-id", ""))),
        root=_identifier(_parameter(header, "start")),
        headers=tuple(
            (name.lower(), decode_value(str(value))[:_MAX_VALUE]) for name, value in header.raw_items() if is_message
        ),
    )


def _parameter(header: "Message[str, str]", name: str) -> str:
    value = header.get_param(name, "")
    return str(value[2] if isinstance(value, tuple) else value or "")


def _identifier(value: str) -> str:
    return value.strip().removeprefix("<").removesuffix(">")[:_MAX_VALUE]
