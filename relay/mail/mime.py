"""A message's bytes to its leaves: every part accounted for, within limits, never an exception.

The standard library's parser (``email`` with ``compat32``) is the reference for what a part is. A quicker reader stands
in front of it and gives way wherever it is not certain to see the same parts (:mod:`relay.mail.split`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from typing import Any, Final

from relay.mail.transfer import decode_transfer
from relay.mail.words import decode_value

_PARSER: Final = BytesParser(policy=compat32)
_USUAL_PREAMBLE: Final = 200  # characters; "This is a multi-part message in MIME format."


@dataclass(frozen=True, slots=True, kw_only=True)
class MimeLimits:
    """What reading a message may cost (law 6). Over a limit the rest is a fault, and so a finding ``unreadable``.

    Attributes:
        depth: containers inside one another (multipart and message/rfc822 both count).
        parts: parts in all, containers included.
        bytes: octets of the message, and of all decoded parts together.
        header_bytes: octets of one part's header that are looked at.
    """

    depth: int = 20
    parts: int = 500
    bytes: int = 64 * 1024 * 1024
    header_bytes: int = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A part that holds content, its transfer encoding undone.

    Attributes:
        number: its place as IMAP numbers it: ``1``, ``2.1``.
        content_type: lower case, without parameters.
        charset: as labelled, or empty.
        filename: as given, decoded, or empty.
        attached: Content-Disposition is ``attachment``.
        related: it has a Content-ID or is ``inline``: part of how another part looks.
        fault: what is wrong with its encoding, or empty; the data is then the best reading of it.
    """

    number: str
    content_type: str
    data: bytes = field(repr=False)
    charset: str = ""
    filename: str = ""
    attached: bool = False
    related: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailTree:
    """What reading gave.

    Attributes:
        headers: (lower-case name, decoded value), in order.
        leaves: parts with content, in order.
        notes: (part, text) that belongs to no leaf: the headers of messages inside, text outside the parts.
        faults: (part, reason): what could not be read: ``depth``, ``parts``, ``size``, ``malformed``.
    """

    headers: tuple[tuple[str, str], ...] = ()
    leaves: tuple[Leaf, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    faults: tuple[tuple[str, str], ...] = ()


class _Builder:
    """Gathers leaves and faults while the limits last."""

    def __init__(self, limits: MimeLimits) -> None:
        self.limits = limits
        self.leaves: list[Leaf] = []
        self.notes: list[tuple[str, str]] = []
        self.faults: list[tuple[str, str]] = []
        self.parts = 0
        self.octets = 0

    def enter(self, number: str, depth: int) -> bool:
        """Count a part; whether it may still be looked at."""
        self.parts += 1
        if depth > self.limits.depth:
            self.fault(number, "depth")
        elif self.parts > self.limits.parts:
            self.fault(number, "parts")
        else:
            return True
        return False

    def fault(self, number: str, reason: str) -> None:
        """Note what could not be read, each reason once a part and no more than there may be parts."""
        if (number, reason) not in self.faults[-1:] and len(self.faults) < self.limits.parts:
            self.faults.append((number or "1", reason))

    def add(self, leaf: Leaf) -> None:
        """Keep a leaf unless the decoded octets run over."""
        self.octets += len(leaf.data)
        if self.octets > self.limits.bytes:
            self.fault(leaf.number, "size")
        else:
            self.leaves.append(leaf)


def read_message(content: bytes, limits: MimeLimits) -> MailTree:
    """Read a message. Never raises: what cannot be read is in ``faults`` (law 3)."""
    if len(content) > limits.bytes:
        return MailTree(faults=(("1", "size"),))
    builder = _Builder(limits)
    headers: tuple[tuple[str, str], ...] = ()
    try:
        message = _PARSER.parsebytes(content)
        headers = tuple(_headers(message))
        _walk(message, "", 1, builder)
    except RecursionError:
        builder.fault("1", "depth")
    except Exception:  # noqa: BLE001 - a stranger's bytes met a fault of the parser: closed when in doubt (law 3)
        builder.fault("1", "malformed")
    return MailTree(
        headers=headers, leaves=tuple(builder.leaves), notes=tuple(builder.notes), faults=tuple(builder.faults)
    )


def _headers(message: "Message[str, str]") -> Iterator[tuple[str, str]]:
    for name, value in message.raw_items():
        yield name.lower(), decode_value(str(value))


def _walk(part: "Message[str, str]", number: str, depth: int, builder: _Builder) -> None:
    if not builder.enter(number, depth):
        return
    payload = part.get_payload()
    if isinstance(payload, list):
        if part.get_content_maintype() == "message":
            _inner_message(part, payload, number or "1", depth, builder)
            return
        for outside in (part.preamble, part.epilogue):
            if outside and len(outside.strip()) > (_USUAL_PREAMBLE if outside is part.preamble else 0):
                builder.notes.append((number or "1", outside))
        for index, child in enumerate(payload, 1):
            _walk(child, f"{number}.{index}" if number else str(index), depth + 1, builder)
        return
    builder.add(_leaf(part, number or "1"))


def _inner_message(part: "Message[str, str]", payload: list[Any], number: str, depth: int, builder: _Builder) -> None:
    """A message (or delivery report) inside: its header is a note, its body parts are numbered below it."""
    for index, child in enumerate(payload, 1):
        builder.notes.append((f"{number}.HEADER", "\n".join(f"{name}: {value}" for name, value in _headers(child))))
        inner = number if isinstance(child.get_payload(), list) else f"{number}.{index}"
        _walk(child, inner, depth + 1, builder)
    if part.get_content_type() != "message/rfc822" and not payload:
        builder.fault(number, "malformed")


def _leaf(part: "Message[str, str]", number: str) -> Leaf:
    encoding = str(part.get("content-transfer-encoding", ""))
    del part["content-transfer-encoding"]  # without it the stdlib hands over the bytes as they stand
    raw = part.get_payload(decode=True)
    data, fault = decode_transfer(raw if isinstance(raw, bytes) else b"", encoding)
    disposition = str(part.get("content-disposition", "")).partition(";")[0].strip().lower()
    return Leaf(
        number=number,
        content_type=part.get_content_type(),
        data=data,
        charset=_charset(part),
        filename=decode_value(part.get_filename("") or ""),
        attached=disposition == "attachment",
        related=disposition == "inline" or part.get("content-id") is not None,
        fault=fault,
    )


def _charset(part: "Message[str, str]") -> str:
    value = part.get_param("charset", "")
    if isinstance(value, tuple):  # RFC 2231
        value = value[2]
    return value or ""
