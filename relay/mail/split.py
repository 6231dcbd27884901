"""The quick reader in front of the standard library's: it reads what is well formed and gives way on everything else.

Every octet of what it accepts is in a header line, a delimiter line, a part's body, or the text before and after the
parts; whatever does not fit that exactly (a bare CR, a line that is no header, a missing delimiter, a message inside a
message, parameters in an unusual dress) is ``None``, and the reference reads it. A test holds the two together.
"""

import re
from email.message import Message
from typing import Final, NamedTuple

from relay.core.labour import has_many_parameters
from relay.core.octets import finder, octet_pattern
from relay.mail.leaf import Leaf, MailTree, MimeLimits, TreeBuilder, make_leaf
from relay.mail.words import decode_value

_find_bare_cr: Final = octet_pattern(rb"\r(?:[^\n]|\z)").search
DECISIVE: Final = ("content-type", "content-transfer-encoding")
"""Fields that say how a part is read."""
_OBSOLETE: Final = re.compile(
    rb"^(content-[!-9;-~]+|mime-version|subject|from|to|cc|reply-to|sender|date|message-id|received)[ \t]+:",
    re.IGNORECASE | re.MULTILINE,
)
"""White space before a colon (RFC 5322 section 4.5): the standard library sees the end of the header there."""
_BLANK: Final = re.compile(rb"\n\r?\n")  # begins with an octet: found as memchr finds
_HEADER: Final = re.compile(r"([!-9;-~]++):([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)(?:\r?\n|\Z)|(?s:.+)")
"""A header field; or all the rest, where none begins."""
_TYPE: Final = re.compile(r"\s*([\w.+-]+/[\w.+-]+)\s*(?:;|\Z)")
_PARAMETER: Final = re.compile(r'\s*([\w-]+)=(?:"([^"\\]*)"|([^\s;"()<>@,:\\/?=*]+))\s*(?:;|\Z)')
_LF: Final = 0x0A
_DELIMITER_END: Final = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")
_BOUNDARY: Final = re.compile(r"[!-~](?:[ -~]{0,68}[!-~])?\Z")

Headers = list[tuple[str, str]]


class _UnusualError(Exception):
    """Something that only the reference may judge."""


def read_split(content: bytes, limits: MimeLimits) -> MailTree | None:
    """Read a message, or give way with ``None``. Never raises."""
    if _find_bare_cr(content) is not None:
        return None
    builder = TreeBuilder(limits)
    try:
        headers, start = _split_header(content, 0, len(content), limits)
        _part(_Place(content, start, len(content)), headers, "", 1, builder, frozenset())
    except _UnusualError:
        return None
    return builder.tree(tuple((name, decode_value(value)) for name, value in headers))


def plain_fields(content: bytes) -> bytes:
    """Without white space before the colon of the fields that decide what is read."""
    return _OBSOLETE.sub(rb"\1:", content) if b" :" in content or b"\t:" in content else content


class _Place(NamedTuple):
    """A part's body where it lies: a large one is not cut out at each level, only when it is decoded."""

    content: bytes
    start: int
    end: int


def _split_header(content: bytes, start: int, end: int, limits: MimeLimits) -> tuple[Headers, int]:
    """The fields of a message or part, and where its body begins."""
    if content.startswith((b"\r\n", b"\n"), start, end):
        return [], content.index(b"\n", start) + 1
    blank = _BLANK.search(content, start, end)
    stop = blank.start() + 1 if blank else end
    block = content[start : stop - _line_end(content, start, stop)] if blank else content[start:end]
    if len(block) > limits.header_bytes:
        raise _UnusualError
    lines = plain_fields(block).decode("ascii", "surrogateescape")
    found = _HEADER.findall(lines)
    if found and not found[-1][0]:
        raise _UnusualError
    return [(name.lower(), value.lstrip(" \t")) for name, value in found], blank.end() if blank else end


def _part(
    place: _Place, headers: Headers, number: str, depth: int, builder: TreeBuilder, boundaries: frozenset[bytes]
) -> None:
    if not builder.enter(number, depth):
        return
    fields = {name: value for name, value in reversed(headers)}  # noqa: C416 - the first of equal names counts
    if len(fields) < len(headers) and _says_twice(headers):
        raise _UnusualError
    label = fields.get("content-type")
    content_type, parameters = _content_type(label)
    builder.describe(
        number,
        fields.get("content-description", ""),
        label or "",
        fields.get("content-disposition", ""),
        holds_parts=content_type.startswith("multipart/"),
    )
    if content_type.startswith("multipart/"):
        _multipart(place, content_type, parameters, fields, number, depth, builder, boundaries)
    elif content_type.startswith("message/"):
        raise _UnusualError
    else:
        body = place.content[place.start : place.end]
        builder.add(_leaf(content_type, parameters, fields, body, number or "1"))


def _says_twice(headers: Headers) -> bool:
    """Whether a field that says how the part is read comes more than once."""
    names = [name for name, _ in headers]
    return any(names.count(name) > 1 for name in DECISIVE)


def _content_type(value: str | None) -> tuple[str, dict[str, str]]:
    if value is None:
        return "text/plain", {}
    match = _TYPE.match(value)
    if match is None:
        raise _UnusualError
    return match[1].lower(), _parameters(value, match.end())


def _parameters(value: str, place: int) -> dict[str, str]:
    found: dict[str, str] = {}
    while place < len(value):
        match = _PARAMETER.match(value, place)
        if match is None:
            if value[place:].strip():
                raise _UnusualError
            break
        name = match[1].lower()
        if name in found:
            raise _UnusualError
        found[name] = match[2] if match[2] is not None else match[3]
        place = match.end()
    return found


def _multipart(
    place: _Place,
    content_type: str,
    parameters: dict[str, str],
    fields: dict[str, str],
    number: str,
    depth: int,
    builder: TreeBuilder,
    boundaries: frozenset[bytes],
) -> None:
    boundary = parameters.get("boundary", "")
    encoding = fields.get("content-transfer-encoding", "").strip().lower()
    if (
        not _BOUNDARY.match(boundary)
        or content_type == "multipart/digest"
        or encoding not in {"", "7bit", "8bit", "binary"}
    ):
        raise _UnusualError
    mark = boundary.encode("ascii")
    if mark in boundaries:
        raise _UnusualError
    content = place.content
    closings, pieces = cut(content, mark, place.start, place.end)
    inner = pieces[1:-1]
    complete = len(closings) >= 2 and closings[-1] and not any(closings[:-1])
    if not complete or not all(start < end for start, end in inner):  # the reference takes adjacent ones for one
        raise _UnusualError
    before, after = pieces[0], pieces[-1]
    builder.outside(number, content[before[0] : before[1]], content[after[0] : after[1]])
    for index, (start, end) in enumerate(inner, 1):
        end -= _line_end(content, start, end)  # noqa: PLW2901
        headers, body = _split_header(content, start, end, builder.limits)
        child = f"{number}.{index}" if number else str(index)
        _part(_Place(content, body, end), headers, child, depth + 1, builder, boundaries | {mark})


def cut(body: bytes, mark: bytes, start: int, stop: int) -> tuple[list[bool], list[tuple[int, int]]]:
    """Cut at the lines that are delimiters (RFC 2046 section 5.1.1): which of them close, and what is around them.

    Found by the boundary, not by the beginnings of lines: a large attachment has ten thousand of those.

    Args:
        body: holds what is to be cut.
        mark: the boundary.
        start: where that begins.
        stop: where it ends.
    """
    delimiter = b"--" + mark
    find = finder(delimiter, stop - start)
    closings: list[bool] = []
    pieces: list[tuple[int, int]] = []
    first, at = start, find(body, start, stop)
    while at >= 0:
        end = None
        if at == start or body[at - 1] == _LF:
            end = _DELIMITER_END.match(body, at + len(delimiter), stop)
        if end is None:
            at = find(body, at + 1, stop)
            continue
        pieces.append((first, at))
        closings.append(end[1] is not None)
        first = end.end()
        at = find(body, first, stop)
    return closings, [*pieces, (first, stop)]


def _line_end(content: bytes, start: int, end: int) -> int:
    """Octets of the line end at the end: a delimiter owns the one before it (RFC 2046 section 5.1.1)."""
    if content.endswith(b"\r\n", start, end):
        return 2
    return int(content.endswith(b"\n", start, end))


def _leaf(content_type: str, parameters: dict[str, str], fields: dict[str, str], body: bytes, number: str) -> Leaf:
    disposition = fields.get("content-disposition", "")
    if has_many_parameters(disposition) or has_many_parameters(fields.get("content-type", "")):
        raise _UnusualError
    filename = ""
    if disposition or "name" in parameters:
        filename = _filename(fields)
    return make_leaf(
        number=number,
        content_type=content_type,
        charset=parameters.get("charset", ""),
        encoding=fields.get("content-transfer-encoding", ""),
        disposition=disposition,
        filename=filename,
        has_id="content-id" in fields,
        raw=body,
    )


def _filename(fields: dict[str, str]) -> str:
    """By the reference, for its patience with what people write there."""
    message: Message[str, str] = Message()
    for name in ("content-disposition", "content-type"):
        if name in fields:
            message[name] = fields[name]
    return message.get_filename("") or ""
