"""What reading a message gives, and the bookkeeping that both readers share."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from relay.mail.charset import decode
from relay.mail.transfer import decode_transfer
from relay.mail.words import decode_value

_NAME: Final = re.compile(r"""name\*?\d*\*?\s*=\s*("[^"]*"|[^;\s]*)""", re.IGNORECASE)
_USUAL_PREAMBLE: Final = 200  # characters; "This is a multi-part message in MIME format."


@dataclass(frozen=True, slots=True, kw_only=True)
class MimeLimits:
    """What reading a message may cost (law 6). Over a limit the rest is a fault, and so a finding ``unreadable``.

    Attributes:
        depth: containers inside one another (multipart and message/rfc822 both count).
        parts: parts in all, containers included.
        bytes: octets of the message, and of all decoded parts together.
        header_bytes: octets of one part's header that are looked at.
        labour: what the standard library's parser may be asked to do, see :func:`relay.core.labour.labour`.
    """

    depth: int = 20
    parts: int = 500
    bytes: int = 64 * 1024 * 1024
    header_bytes: int = 256 * 1024
    labour: int = 10_000_000


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


class TreeBuilder:
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

    def outside(self, number: str, before: bytes, after: bytes) -> None:
        """Note text before and after the parts of a multipart, save the usual words that old readers are shown."""
        for text, usual in ((before, _USUAL_PREAMBLE), (after, 0)):
            if len(text.strip()) > usual:
                self.notes.append((number or "1", decode(text, "")))

    def describe(
        self, number: str, description: str, content_type: str, disposition: str, *, holds_parts: bool
    ) -> None:
        """Note what programs may show of a part beside its file name: see :func:`spoken_fields`."""
        text = spoken_fields(description if number else "", content_type, disposition, holds_parts=holds_parts)
        if text:
            self.notes.append((number or "1", text))

    def add(self, leaf: Leaf) -> None:
        """Keep a leaf unless the decoded octets run over."""
        self.octets += len(leaf.data)
        if self.octets > self.limits.bytes:
            self.fault(leaf.number, "size")
        else:
            self.leaves.append(leaf)

    def tree(self, headers: tuple[tuple[str, str], ...]) -> MailTree:
        """What was gathered."""
        return MailTree(headers=headers, leaves=tuple(self.leaves), notes=tuple(self.notes), faults=tuple(self.faults))


def spoken_fields(description: str, content_type: str, disposition: str, *, holds_parts: bool) -> str:
    """A part's description (RFC 2045 section 8), the names of one that is no file, and names that differ.

    Args:
        description: the field as it stands; the others too.
        content_type: may name the part as well, and some programs take that name.
        disposition: may name it twice (RFC 2231 section 4), and programs differ in which they take.
        holds_parts: it is a multipart or a message: nothing else is known of its name.
    """
    said = [decode_value(description)] if description else []
    if "name" in content_type.lower() or "name" in disposition.lower():
        names = [name.strip('" ') for value in (content_type, disposition) for name in _NAME.findall(value)]
        if names and (holds_parts or len(set(names)) > 1):
            said.append(decode_value(unquote(" ".join(names))))
    return "\n".join(said)


def make_leaf(
    *,
    number: str,
    content_type: str,
    charset: str,
    encoding: str,
    disposition: str,
    filename: str,
    has_id: bool,
    raw: bytes,
) -> Leaf:
    """A leaf from its header fields and its body as it stands in the message."""
    data, fault = decode_transfer(raw, encoding)
    kind = disposition.partition(";")[0].strip().lower()
    return Leaf(
        number=number,
        content_type=content_type,
        data=data,
        charset=charset,
        filename=decode_value(filename) if filename else "",
        attached=kind == "attachment",
        related=kind == "inline" or has_id,
        fault=fault,
    )
