"""The quick reader in front of the standard library's: it reads what is well formed and gives way on everything else.

Every octet of what it accepts is in a header line, a delimiter line, a part's body, or the text before and after the
parts; whatever does not fit that exactly (a bare CR, a line that is no header, a missing delimiter, a message inside a
message, parameters in an unusual dress) is ``None``, and the reference reads it. A test holds the two together.
"""

import re
from email.message import Message
from typing import Final

from relay.core.labour import has_many_parameters
from relay.mail.leaf import Leaf, MailTree, MimeLimits, TreeBuilder, make_leaf
from relay.mail.words import decode_value

_BARE_CR: Final = re.compile(rb"\r(?!\n)")
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
    if _BARE_CR.search(content):
        return None
    builder = TreeBuilder(limits)
    try:
        headers, body = _split_header(content, limits)
        _part(headers, body, "", 1, builder, frozenset())
    except _UnusualError:
        return None
    return builder.tree(tuple((name, decode_value(value)) for name, value in headers))


def _split_header(content: bytes, limits: MimeLimits) -> tuple[Headers, bytes]:
    if content.startswith((b"\r\n", b"\n")):
        return [], content[2 if content.startswith(b"\r") else 1 :]
    blank = _BLANK.search(content)
    block, body = (_without_line_end(content[: blank.start() + 1]), content[blank.end() :]) if blank else (content, b"")
    if len(block) > limits.header_bytes:
        raise _UnusualError
    lines = block.decode("ascii", "surrogateescape")
    found = _HEADER.findall(lines)
    if found and not found[-1][0]:
        raise _UnusualError
    return [(name.lower(), value.lstrip(" \t")) for name, value in found], body


def _part(
    headers: Headers, body: bytes, number: str, depth: int, builder: TreeBuilder, boundaries: frozenset[bytes]
) -> None:
    if not builder.enter(number, depth):
        return
    fields = {name: value for name, value in reversed(headers)}  # noqa: C416 - the first of equal names counts
    content_type, parameters = _content_type(fields.get("content-type"))
    if content_type.startswith("multipart/"):
        _multipart(content_type, parameters, fields, body, number, depth, builder, boundaries)
    elif content_type.startswith("message/"):
        raise _UnusualError
    else:
        builder.add(_leaf(content_type, parameters, fields, body, number or "1"))


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
    content_type: str,
    parameters: dict[str, str],
    fields: dict[str, str],
    body: bytes,
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
    closings, pieces = cut(body, mark)
    contents = pieces[1:]
    complete = len(closings) >= 2 and closings[-1] and not any(closings[:-1])
    if not complete or not all(contents[:-1]):  # the reference takes adjacent delimiters for one
        raise _UnusualError
    builder.outside(number, pieces[0], contents[-1])
    for index, piece in enumerate(contents[:-1], 1):
        headers, inner = _split_header(_without_line_end(piece), builder.limits)
        child = f"{number}.{index}" if number else str(index)
        _part(headers, inner, child, depth + 1, builder, boundaries | {mark})


def cut(body: bytes, mark: bytes) -> tuple[list[bool], list[bytes]]:
    """Cut at the lines that are delimiters (RFC 2046 section 5.1.1): which of them close, and what is around them.

    Found by the boundary, not by the beginnings of lines: a large attachment has ten thousand of those.
    """
    delimiter = b"--" + mark
    closings: list[bool] = []
    pieces: list[bytes] = []
    start, at = 0, body.find(delimiter)
    while at >= 0:
        end = _DELIMITER_END.match(body, at + len(delimiter)) if at == 0 or body[at - 1] == _LF else None
        if end is None:
            at = body.find(delimiter, at + 1)
            continue
        pieces.append(body[start:at])
        closings.append(end[1] is not None)
        start = end.end()
        at = body.find(delimiter, start)
    return closings, [*pieces, body[start:]]


def _without_line_end(piece: bytes) -> bytes:
    """A delimiter owns the line end before it (RFC 2046 section 5.1.1)."""
    if piece.endswith(b"\r\n"):
        return piece[:-2]
    return piece[:-1] if piece.endswith(b"\n") else piece


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
