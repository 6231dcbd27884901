"""What acceptance does to a message's header: trace, missing fields, Bcc (RFC 5321 section 4.4, RFC 5322 section 3.6).

Everything works on octets. What is not mended stays as it was written, octet for octet: re-serialising would break
signatures and give parsers something else to read than the scan saw.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from relay.core.envelope import ClientSession, Envelope
from relay.mail import edit
from relay.mail.words import mailboxes

_INTERESTING: Final = re.compile(
    rb"^(?:(?P<received>received)|(?P<date>date)|(?P<author>from)|(?P<id>message-id)|(?P<bcc>(?:resent-)?bcc))[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD_NAME: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_FOLDED: Final = re.compile(rb"[^\n]*\n(?:[ \t][^\n]*\n)*")
_MBOX_LINES: Final = re.compile(rb"(?:>?From [^\n]*\n)+")
_FROM: Final = re.compile(rb"^from[ \t]*:(?P<value>[^\n]*\n(?:[ \t][^\n]*\n)*)", re.IGNORECASE | re.MULTILINE)
_COMMENT_UNSAFE: Final = re.compile(r"[^\x21-\x27\x2a-\x3a\x3c-\x5b\x5d-\x7e]")  # a semicolon begins the date
_MAX_MESSAGE_ID: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What the header of a message shows at a glance.

    Attributes:
        head_end: octets of the header, the last field's CRLF included.
        hops: how many Received fields there are (RFC 5321 section 6.3).
        message_id: the Message-ID's value, bounded; empty when there is none.
        has_date: whether there is a Date.
        has_author: whether there is a From.
        hidden: spans of the Bcc and Resent-Bcc fields, folded lines included.
        starts_with_field: whether the first line is a header field.
    """

    head_end: int
    hops: int
    message_id: str
    has_date: bool
    has_author: bool
    hidden: tuple[tuple[int, int], ...]
    starts_with_field: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A message made fit for its way: ``content`` to keep, the ``message_id`` it has now."""

    content: bytes = field(repr=False)
    message_id: str


def head_end(content: bytes) -> int:
    """Where the header ends: after the last field's CRLF, before the empty line."""
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 2


def inspect(content: bytes) -> Inspection:
    """Look at the header once. ``content`` has CRLF line ends."""
    end = head_end(content)
    head = content[:end]
    hops, has_date, has_author, message_id = 0, False, False, ""
    hidden: list[tuple[int, int]] = []
    for match in _INTERESTING.finditer(head):
        kind = match.lastgroup
        if kind == "received":
            hops += 1
        elif kind == "date":
            has_date = True
        elif kind == "author":
            has_author = True
        elif kind == "id":
            message_id = message_id or _value(head, match.end())
        else:
            folded = _FOLDED.match(head, match.start())
            hidden.append((match.start(), folded.end() if folded else end))
    return Inspection(
        head_end=end,
        hops=hops,
        message_id=message_id,
        has_date=has_date,
        has_author=has_author,
        hidden=tuple(hidden),
        starts_with_field=_FIELD_NAME.match(head) is not None,
    )


def _value(head: bytes, start: int) -> str:
    folded = _FOLDED.match(head, start)
    raw = head[start : folded.end()] if folded else head[start:]
    return b" ".join(raw.split()).decode("ascii", "replace")[:_MAX_MESSAGE_ID]


def mend(content: bytes, seen: Inspection, *, trace: bytes, message_id: str, now: float, author: str = "") -> Mended:
    """Prepend the trace, add Date, From and Message-ID when they are missing, remove Bcc; nothing else changes.

    A message without From (RFC 5322 section 3.6 asks for one) is refused by many, and no DKIM signature fits it.

    White space between a field's name and its colon goes: some readers see the end of the header there. First lines
    of mbox (``From ...``), which old programs leave, go; a message whose first line is no header field gets the empty
    line that makes all of it body.

    Args:
        content: CRLF line ends.
        seen: what :func:`inspect` said of it.
        trace: the Received field with its CRLF.
        message_id: the Message-ID to add, angle brackets included.
        now: unix seconds, UTC.
        author: the envelope's sender; empty: the null sender, and then no From is added.
    """
    rest, head = content, content[: seen.head_end]
    if not seen.starts_with_field and (mbox := _MBOX_LINES.match(content)) is not None:
        rest = content[mbox.end() :]
    elif not seen.starts_with_field and head:
        rest = b"\r\n" + content
    elif (plain := edit.plain_names(head)) != head:  # else who reads it next may see the end of the header there
        rest = plain + content[seen.head_end :]
    if rest is not content:
        return mend(rest, inspect(rest), trace=trace, message_id=message_id, now=now, author=author)
    pieces = [trace]
    if not seen.message_id:
        pieces.append(b"Message-ID: %s\r\n" % message_id.encode("ascii"))
    if not seen.has_date:
        pieces.append(b"Date: %s\r\n" % date(now).encode("ascii"))
    if not seen.has_author and author:
        pieces.append(b"From: <%s>\r\n" % author.encode("utf-8"))
    at = 0
    for start, end in seen.hidden:
        pieces.append(content[at:start])
        at = end
    pieces.append(content[at:] if at else content)
    return Mended(content=b"".join(pieces), message_id=seen.message_id or message_id)


def date(now: float) -> str:
    """A date of RFC 5322 section 3.3, in UTC."""
    return _date(int(now))


@functools.lru_cache(maxsize=4)  # many messages come in one second
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def received(*, session: ClientSession, envelope: Envelope, hostname: str, queue_id: str, now: float) -> bytes:
    """The Received field of RFC 5321 section 4.4 for a message we took, CRLF included.

    There is no ``for`` clause: with several recipients it would tell one of them about another, and a Bcc has no other
    place to hide.
    """
    lines = [f"Received: from {_neuter(session.helo or 'unknown')} ({_literal(session.network)})"]
    if session.tls_version:
        lines.append(f"(using {_neuter(session.tls_version)} with cipher {_neuter(session.tls_cipher)})")
    lines.append(f"by {hostname} with {protocol(session, envelope)} id {queue_id};")
    lines.append(date(now))
    return "\r\n\t".join(lines).encode("ascii", "replace") + b"\r\n"


def protocol(session: ClientSession, envelope: Envelope) -> str:
    """The ``with`` keyword (RFC 3848; RFC 6531 section 4.3)."""
    if not session.esmtp:
        return "SMTP"
    letters = ("S" if session.tls_version else "") + ("A" if session.identity else "")
    return f"{'UTF8SMTP' if envelope.smtputf8 else 'ESMTP'}{letters}"


def from_addresses(content: bytes) -> list[str]:
    """The mailboxes of all From fields, as written; for the check that a client writes in its own name."""
    head = content[: head_end(content)]
    return [address for _, address in mailboxes(list(_from_values(head))) if address]


def _from_values(head: bytes) -> Iterator[str]:
    for match in _FROM.finditer(head):
        yield b" ".join(match["value"].split()).decode("utf-8", "replace")


def _literal(network: str) -> str:
    if not network:
        return "local"
    return f"[IPv6:{network}]" if ":" in network else f"[{network}]"


def _neuter(text: str) -> str:
    return _COMMENT_UNSAFE.sub("?", text)
