"""Header edits on octets: what is not edited stays as it was written, octet for octet.

Re-serialising a message would break signatures inside it and could change what it means; so a header is found, cut out
or put in, and nothing else moves. ``content`` has CRLF line ends throughout.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from email.charset import Charset
from email.errors import HeaderParseError
from email.header import Header
from typing import Final, NamedTuple

from relay.core.address import normalise_domain
from relay.core.decision import HeaderEdit
from relay.core.errors import AddressError
from relay.mail.words import decode_value, mailboxes

_FIELD: Final = re.compile(rb"[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")
_NAME: Final = re.compile(r"[!-9;-~]{1,76}\Z")
_SIMPLE_FROM: Final = re.compile(rb'[ \t]*(?:[^<>@,:;"()\\]*<)?[^<>@,:;"()\\\s]{1,64}@([A-Za-z0-9.-]{1,255})>?[ \t]*\Z')
_OBSOLETE: Final = re.compile(rb"^([!-9;-~]+)[ \t]+:", re.MULTILINE)
_UTF8: Final = Charset("utf-8")
_FOLD_AT: Final = 76  # RFC 5322 section 2.1.1 asks for lines of at most 78
_MAX_LINE: Final = 998


class HeaderField(NamedTuple):
    """One header field as it stands in a message.

    Attributes:
        name: lower case, without white space.
        start, end: its span in the content, the last CRLF included.
        value: what follows the colon, still folded, without the last CRLF.
    """

    name: bytes
    start: int
    end: int
    value: bytes

    @property
    def unfolded(self) -> bytes:
        """The value on one line, without white space around it (RFC 5322 section 2.2.3)."""
        return _unfold(self.value)


def _unfold(value: bytes) -> bytes:
    return value.replace(b"\r\n", b"").strip(b" \t")


def header_end(content: bytes) -> int:
    """Where the header section ends: after its last CRLF, before the empty line."""
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 2


def body_start(content: bytes) -> int:
    """Where the body begins: after the empty line, or at the end when there is none."""
    return min(header_end(content) + 2, len(content))


def fields(content: bytes) -> Iterator[HeaderField]:
    """The header fields in order; lines that are none (no colon) are passed over."""
    for match in _FIELD.finditer(_head(content)):
        name, colon, value = match[0].partition(b":")
        if colon:
            end = min(match.end(), len(content))
            yield HeaderField(name.strip(b" \t").lower(), match.start(), end, value[:-2])


def get(content: bytes, name: str) -> bytes | None:
    """The first such header's value, unfolded; ``None`` when there is none."""
    wanted = name.encode("ascii").lower()
    for line in _FIELD.findall(_head(content)):
        found, colon, value = line.partition(b":")
        if colon and found.strip(b" \t").lower() == wanted:
            return _unfold(value)
    return None


def _head(content: bytes) -> bytes:
    """The header section, its last line ended."""
    head = content[: header_end(content)]
    return head if not head or head.endswith(b"\r\n") else head + b"\r\n"


def plain_names(head: bytes) -> bytes:
    """A header section without the white space that old programs put before a colon (RFC 5322 section 4.5).

    It is lawful to read and unlawful to write; parsers that do not know it see the end of the header there.
    """
    return _OBSOLETE.sub(rb"\1:", head) if b" :" in head or b"\t:" in head else head


def get_all(content: bytes, name: str) -> tuple[bytes, ...]:
    """Every such header's value, unfolded, in order."""
    wanted = name.encode("ascii").lower()
    return tuple(field.unfolded for field in fields(content) if field.name == wanted)


def remove(content: bytes, *names: str) -> bytes:
    """Without all headers of these names; the same object when there is none."""
    wanted = {name.encode("ascii").lower() for name in names}
    kept: list[bytes] = []
    position = 0
    for field in fields(content):
        if field.name in wanted:
            kept.append(content[position : field.start])
            position = field.end
    return content if not kept else b"".join((*kept, content[position:]))


def add(content: bytes, name: str, value: str, *, top: bool = False) -> bytes:
    """With one more header, as the first (``top``, as trace fields want it) or as the last.

    Raises:
        ValueError: see :func:`encode_field`.
    """
    line = encode_field(name, value)
    if top:
        return line + content if content else line + b"\r\n"
    end = header_end(content)
    before = content[:end]
    if before and not before.endswith(b"\r\n"):
        before += b"\r\n"
    return before + line + content[end:]


def replace(content: bytes, name: str, value: str) -> bytes:
    """With exactly one header of this name: in the place of the first, or as the last when there was none.

    Raises:
        ValueError: see :func:`encode_field`.
    """
    wanted = name.encode("ascii").lower()
    first = next((field for field in fields(content) if field.name == wanted), None)
    if first is None:
        return add(content, name, value)
    return content[: first.start] + encode_field(name, value) + remove(content[first.end :], name)


def apply(content: bytes, edits: Sequence[HeaderEdit]) -> bytes:
    """What a policy's ``add_header`` and ``remove_header`` ask for, in order.

    Raises:
        ValueError: see :func:`encode_field`.
    """
    for edit in edits:
        content = remove(content, edit.name) if edit.value is None else add(content, edit.name, edit.value)
    return content


def encode_field(name: str, value: str) -> bytes:
    """One header field with its CRLF: ASCII folded at white space, other text as RFC 2047 words.

    Raises:
        ValueError: a name RFC 5322 does not allow, or a value with a line end or NUL (it would inject headers).
    """
    if not _NAME.match(name):
        raise ValueError("not a header name (RFC 5322 section 2.2)")
    if any(mark in value for mark in "\r\n\0"):
        raise ValueError("a header value must not hold a line end or NUL")
    if value.isascii():
        return _fold(f"{name}: {value}".rstrip(" ")).encode("ascii") + b"\r\n"
    return encode_words(name, value)


def encode_words(name: str, value: str) -> bytes:
    """One header field with its CRLF, its text in RFC 2047 words whatever it is, none longer than a line."""
    text = value.encode("utf-8", "replace").decode("utf-8")
    if (word := _one_word(text, _FOLD_AT - len(name) - 2)) is not None:
        return f"{name}: {word}\r\n".encode("ascii")
    encoded = Header(text, "utf-8", maxlinelen=_FOLD_AT, header_name=name).encode(linesep="\r\n")
    return f"{name}: {encoded}\r\n".encode("ascii")


def _one_word(text: str, room: int) -> str | None:
    """As the standard library writes a short text; ``None`` where that is more than one word of this length."""
    if len(text) > room or not text.isprintable() or text[:1] == " " or text[-1:] == " " or not text:
        return None
    word = _UTF8.header_encode(text)
    return word if len(word) <= room else None


def _fold(line: str) -> str:
    if len(line) <= _FOLD_AT:
        return line
    lines: list[str] = []
    current = ""
    for token in re.findall(r"[ \t]*[^ \t]+", line):
        # The name and the first word stay together: a line of white space alone is forbidden (RFC 5322 section 3.2.2).
        if current and len(current) + len(token) > _FOLD_AT and len(lines) + len(current.split()) > 1:
            lines.append(current)
            current = ""
        current += token
    folded = "\r\n".join((*lines, current))
    if max(len(one) for one in folded.split("\r\n")) > _MAX_LINE:
        raise ValueError("a header value has a word that no line can hold")
    return folded


def author_domain(content: bytes) -> str:
    """The normalised domain of the first author (From), which DKIM and DMARC look at; empty when there is none."""
    value = get(content, "From")
    if value is None:
        return ""
    simple = _SIMPLE_FROM.match(value)
    if simple:
        return _domain(simple[1].decode("ascii"))
    text = value.decode("utf-8", "replace")
    for _, address in mailboxes([text]):
        if "@" in address:
            return _domain(address.rpartition("@")[2])
    return ""


@functools.lru_cache(maxsize=256)
def _domain(text: str) -> str:
    try:
        return normalise_domain(text)
    except AddressError:
        return ""


# --- the subject ----------------------------------------------------------


def strip_subject_tags(content: bytes, tags: Sequence[str]) -> bytes:
    """Without these tags in the Subject, also where it is written in RFC 2047 words; case does not matter.

    A tag of letters goes only where it stands as a word of its own. The same object when no tag stands there.
    """
    if not tags:
        return content
    field = next((field for field in fields(content) if field.name == b"subject"), None)
    if field is None:
        return content
    raw = field.unfolded.decode("utf-8", "surrogateescape")
    text = decode_value(raw)
    left = remove_tags(text, tags)
    if left == text:
        return content
    clean = re.sub(r"[\r\n\0]", " ", left)
    return content[: field.start] + _subject(clean) + content[field.end :]


def mask_subject(content: bytes, text: str) -> bytes:
    """With this text as its subject, and without ``Thread-Topic``, which mail programs make of the subject.

    Args:
        content: the message.
        text: printable ASCII, short enough for one line.
    """
    content, subject = remove(content, "Thread-Topic"), _subject(text)
    pieces: list[bytes] = []
    position = 0
    for field in fields(content):
        if field.name == b"subject":
            pieces += (content[position : field.start], subject)
            position = field.end
    return b"".join((*pieces, content[position:]))


def _subject(text: str) -> bytes:
    try:
        return encode_field("Subject", text)
    except (ValueError, HeaderParseError):
        return encode_words("Subject", text)


def remove_tags(text: str, tags: Sequence[str]) -> str:
    """A decoded subject without the tags, its white space closed where they stood."""
    changed = text
    for tag in tags:
        pattern = re.escape(tag)
        if tag[:1].isalnum():
            pattern = r"(?<![^\W_])" + pattern
        if tag[-1:].isalnum():
            pattern += r"(?![^\W_])"
        first, *rest = re.split(pattern, changed, flags=re.IGNORECASE)
        if rest:  # white space is closed piece by piece: a pattern that began with it would look at each run many times
            pieces = [first.rstrip(" \t"), *(piece.strip(" \t") for piece in rest[:-1]), rest[-1].lstrip(" \t")]
            changed = " ".join(pieces)
    return text if changed == text else changed.strip(" \t")
