"""Messages kept as files: .eml, .mht, mailboxes (mbox, RFC 4155) and Apple Mail's .emlx, told by how they begin."""

import re
from typing import Final

from relay.extract.budget import Budget, Extracted
from relay.extract.sniff import sniff
from relay.mail.leaf import MimeLimits
from relay.mail.mime import read_message
from relay.mail.text import text_of

_HEAD: Final = 65_536  # octets in which the header must end
_FRONT: Final = re.compile(rb"\s{0,8}(?:\xef\xbb\xbf)?(?:\d{1,12}[ \t]*\r?\n)?(?:From [^\r\n]*\r?\n)?")
"""What may stand before the header: a mailbox's line, or the size that Apple Mail writes."""
_FIELD: Final = re.compile(rb"^([!-9;-~]{1,76})[ \t]*:", re.MULTILINE)
_BLANK: Final = re.compile(rb"\n\r?\n")
_USUAL: Final = frozenset({
    b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"received", b"return-path", b"delivered-to",
    b"mime-version", b"content-type", b"content-transfer-encoding", b"reply-to", b"sender",
})  # fmt: skip
_ENOUGH: Final = 2  # of the usual fields: a note that begins "Date:" is none
_SEPARATOR: Final = re.compile(rb"^From [^\r\n]*\r?\n", re.MULTILINE)


def is_message(data: bytes) -> bool:
    """Whether a text is a message or a mailbox: it begins with a field, and has some that messages have."""
    start = _start(data)
    head = data[start : start + _HEAD]
    blank = _BLANK.search(head)
    head = head[: blank.start()] if blank else head
    if _FIELD.match(head) is None:
        return False
    return len({name.lower() for name in _FIELD.findall(head)} & _USUAL) >= _ENOUGH


def _start(data: bytes) -> int:
    front = _FRONT.match(data)
    return front.end() if front else 0


def read_message_file(data: bytes, budget: Budget) -> Extracted:
    """A message: its header and texts, and its other parts as children. A mailbox: its messages as children."""
    if data.lstrip()[:5] == b"From ":
        messages = _SEPARATOR.split(data, budget.limits.files + 1)[1:]
        if len(messages) > 1:
            return Extracted(type="mbox", children=tuple(("", message) for message in messages))
    data = data[_start(data) :]
    tree = read_message(data, MimeLimits(depth=budget.limits.depth * 4, bytes=budget.limits.octets))
    lines = [f"{name}: {value}" for name, value in tree.headers]
    children = []
    for leaf in tree.leaves:
        kind = sniff(leaf.data, leaf.content_type)
        if kind in {"text", "html"}:
            lines += (
                leaf.filename,
                text_of(leaf.data, "text/html" if kind == "html" else leaf.content_type, leaf.charset),
            )
        else:
            children.append((leaf.filename, leaf.data))
    lines += [text for _, text in tree.notes]
    faults = {reason for _, reason in tree.faults} | {leaf.fault for leaf in tree.leaves if leaf.fault}
    return Extracted(type="eml", text="\n".join(lines), children=tuple(children), faults=tuple(sorted(faults)))
