"""A message's bytes to its leaves: every part accounted for, within limits, never an exception.

The standard library's parser (``email`` with ``compat32``) is the reference for what a part is. A quicker reader stands
in front of it and gives way wherever it is not certain to see the same parts (:mod:`relay.mail.split`).
"""

import re
from collections.abc import Iterator
from email.errors import MissingHeaderBodySeparatorDefect
from email.message import Message
from email.parser import BytesParser
from typing import Any, Final

from relay.core.labour import BOUNDED, has_many_parameters, labour
from relay.mail.leaf import Leaf, MailTree, MimeLimits, TreeBuilder, make_leaf
from relay.mail.split import DECISIVE, plain_fields, read_split
from relay.mail.transfer import IDENTITY, decode_transfer
from relay.mail.words import decode_value

__all__ = ["MimeLimits", "read_message", "read_reference"]

_PARSER: Final = BytesParser(policy=BOUNDED)
_FIELD: Final = re.compile(r"^[!-9;-~]+[ \t]*:", re.MULTILINE)
_BLANK: Final = re.compile(r"\r?\n\r?\n")


def read_message(content: bytes, limits: MimeLimits) -> MailTree:
    """Read a message. Never raises: what cannot be read is in ``faults`` (law 3)."""
    if len(content) > limits.bytes:
        return MailTree(faults=(("1", "size"),))
    return read_split(content, limits) or read_reference(content, limits)


def read_reference(content: bytes, limits: MimeLimits) -> MailTree:
    """Read a message with the standard library's parser. Never raises."""
    return _read_plain(plain_fields(content), limits)


def _read_plain(content: bytes, limits: MimeLimits) -> MailTree:
    builder = TreeBuilder(limits)
    headers: tuple[tuple[str, str], ...] = ()
    if labour(content) > limits.labour:
        builder.fault("1", "depth")
        return builder.tree(headers)
    try:
        message = _PARSER.parsebytes(content)
        headers = tuple(_headers(message))
        _walk(message, "", 1, builder)
    except RecursionError:
        builder.fault("1", "depth")
    except Exception:  # noqa: BLE001 - a stranger's bytes met a fault of the parser: closed when in doubt (law 3)
        builder.fault("1", "malformed")
    return builder.tree(headers)


def _headers(message: "Message[str, str]") -> Iterator[tuple[str, str]]:
    for name, value in message.raw_items():
        yield name.lower(), decode_value(str(value))


def _walk(part: "Message[str, str]", number: str, depth: int, builder: TreeBuilder) -> None:
    if not builder.enter(number, depth):
        return
    if _hides_fields(part) or _hides_parameters(part) or _is_ambiguous(part):
        builder.fault(number or "1", "malformed")
    kind = part.get_content_maintype()
    builder.describe(
        number,
        str(part.get("content-description", "")),
        str(part.get("content-type", "")),
        str(part.get("content-disposition", "")),
        holds_parts=kind in {"multipart", "message"},
    )
    if part.is_multipart():  # asking for the payload of a leaf would decode it, and fail for some charsets
        payload: Any = part.get_payload()
        if kind == "message":
            _inner_message(part, payload, number or "1", depth, builder)
            return
        builder.outside(number, _octets(part.preamble), _octets(part.epilogue))
        for index, child in enumerate(payload, 1):
            _walk(child, f"{number}.{index}" if number else str(index), depth + 1, builder)
        return
    leaf = _leaf(part, number or "1")
    if kind == "multipart" and leaf.data.strip():  # its boundary is missing: programs differ in what they make of it
        builder.fault(leaf.number, "malformed")
    builder.add(leaf)


def _hides_fields(part: "Message[str, str]") -> bool:
    """Whether the header may go on behind a line that is no field: some take it for its end, others pass it over."""
    if not any(isinstance(defect, MissingHeaderBodySeparatorDefect) for defect in part.defects):
        return False
    try:
        behind: Any = part.preamble if part.is_multipart() else part.get_payload()
    except (ValueError, LookupError):  # a charset that decodes nothing
        return True
    return _FIELD.search(_BLANK.split(behind or "", 1)[0]) is not None


def _hides_parameters(part: "Message[str, str]") -> bool:
    """Whether it has more parameters than are looked at."""
    return any(name.lower().startswith("content-") and has_many_parameters(value) for name, value in part.raw_items())


def _is_ambiguous(part: "Message[str, str]") -> bool:
    """Whether it says twice, and not the same, how it is read: some programs take the first field, some the last."""
    if any(len({" ".join(str(value).split()) for value in part.get_all(name, ())}) > 1 for name in DECISIVE):
        return True
    parameters = [(name.lower(), str(value)) for name, value in part.get_params(())]
    boundaries = {value for name, value in parameters if name == "boundary"}
    charsets = {value.strip().lower() for name, value in parameters if name == "charset"}
    return len(boundaries) > 1 or len(charsets) > 1


def _inner_message(
    part: "Message[str, str]", payload: list[Any], number: str, depth: int, builder: TreeBuilder
) -> None:
    """A message (or delivery report) inside: its header is a note, its body parts are numbered below it."""
    encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
    if payload and encoding not in IDENTITY:
        payload = [_decoded(payload[0], encoding, number, builder)]
    for index, child in enumerate(payload, 1):
        builder.notes.append((f"{number}.HEADER", "\n".join(f"{name}: {value}" for name, value in _headers(child))))
        inner = number if child.is_multipart() else f"{number}.{index}"
        _walk(child, inner, depth + 1, builder)
    if part.get_content_type() != "message/rfc822" and not payload:
        builder.fault(number, "malformed")


def _decoded(coded: "Message[str, str]", encoding: str, number: str, builder: TreeBuilder) -> "Message[str, str]":
    """A message that is encoded as a whole: lawful in message/global (RFC 6532 section 3.7), and met in others."""
    content, fault = decode_transfer(coded.as_bytes(unixfrom=False), encoding)
    builder.octets += len(content)
    if fault:
        builder.fault(number, fault)
    elif builder.octets > builder.limits.bytes:
        builder.fault(number, "size")
    elif labour(content) > builder.limits.labour:
        builder.fault(number, "depth")
    else:
        return _PARSER.parsebytes(plain_fields(content))
    return coded


def _leaf(part: "Message[str, str]", number: str) -> Leaf:
    encoding = str(part.get("content-transfer-encoding", ""))
    del part["content-transfer-encoding"]  # without it the stdlib hands over the bytes as they stand
    raw = part.get_payload(decode=True)
    return make_leaf(
        number=number,
        content_type=part.get_content_type(),
        charset=_charset(part),
        encoding=encoding,
        disposition=str(part.get("content-disposition", "")),
        filename=part.get_filename("") or "",
        has_id=part.get("content-id") is not None,
        raw=raw if isinstance(raw, bytes) else b"",
    )


def _octets(text: str | None) -> bytes:
    return (text or "").encode("utf-8", "surrogateescape")


def _charset(part: "Message[str, str]") -> str:
    value = part.get_param("charset", "")
    if isinstance(value, tuple):  # RFC 2231
        value = value[2]
    return value or ""
