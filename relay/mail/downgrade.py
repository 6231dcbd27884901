"""Raw 8-bit header fields made ASCII without losing anything (RFC 2047, RFC 2231), and over-long ones folded anew."""

import re
from email.header import Header
from typing import Final
from urllib.parse import quote

from relay.mail import edit
from relay.mail.words import decode_value

_ADDRESSES: Final = frozenset({
    b"from", b"to", b"cc", b"bcc", b"sender", b"reply-to", b"resent-from", b"resent-to", b"resent-cc",
    b"resent-sender", b"resent-reply-to", b"disposition-notification-to", b"return-receipt-to",
})  # fmt: skip
_PARAMETERS: Final = frozenset({b"content-type", b"content-disposition"})
_STRUCTURED: Final = frozenset({
    b"message-id", b"in-reply-to", b"references", b"date", b"mime-version", b"content-transfer-encoding", b"content-id",
    b"return-path", b"dkim-signature", b"arc-seal", b"arc-message-signature", b"list-unsubscribe", b"list-post",
    b"list-help", b"list-archive", b"list-owner", b"list-subscribe", b"resent-message-id", b"resent-date",
})  # fmt: skip
"""Fields in which no encoded word may stand (RFC 2047 section 5)."""
_TEXT: Final = frozenset({b"subject", b"comments", b"content-description"})
"""Fields of text, in which an encoded word may stand wherever there is one (RFC 2047 section 5)."""
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|<[^<>]*>|[^\s"<>,;:()]+|[,;:()]|\s+|.', re.DOTALL)
"""No piece is tried twice from two beginnings: an open quotation is one to the end, and "<" does not go over "<"."""
_PARAMETER: Final = re.compile(r';\s*([A-Za-z0-9-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s"]*)')
_SEPARATORS: Final = frozenset(",;:()")
_LONGEST_TEXT: Final = 16 * 1024
"""Octets of a text whose words are encoded for their length alone: what takes long is no subject of a person."""
_FOLD_AT: Final = 76
_MAX_LINE: Final = 998


class DowngradeError(Exception):
    """A header that cannot be made ASCII: its status (RFC 3463, RFC 6531) and why, without content."""

    def __init__(self, status: str, why: str) -> None:
        self.status = status
        self.why = why
        super().__init__(why)


def downgrade_headers(head: bytes, *, keep_utf8: bool) -> bytes:
    """The header section with every field that is 8-bit (unless ``keep_utf8``) or over-long written anew.

    Raises:
        DowngradeError: a mailbox outside ASCII (5.6.7), or a field that no encoding allows (5.6.3).
    """
    pieces: list[bytes] = []
    position = 0
    for field in edit.fields(head):
        raw = head[field.start : field.end]
        pieces.append(head[position : field.start])
        pieces.append(_field(field, raw, keep_utf8=keep_utf8))
        position = field.end
    pieces.append(head[position:])
    whole = b"".join(pieces)
    if not (keep_utf8 or whole.isascii()):
        raise DowngradeError("5.6.3", "a line of the header is neither ASCII nor a field")
    if len(whole) > _MAX_LINE and any(len(line) > _MAX_LINE for line in whole.split(b"\r\n")):
        raise DowngradeError("5.6.3", "a line of the header is over-long and no field")
    return whole


def _field(field: edit.HeaderField, raw: bytes, *, keep_utf8: bool) -> bytes:
    too_long = max(len(line) for line in raw.split(b"\r\n")) > _MAX_LINE
    if (keep_utf8 or raw.isascii()) and not too_long:
        return raw
    name = raw.partition(b":")[0].decode("ascii", "replace").strip()
    text = field.unfolded.decode("ascii") if field.unfolded.isascii() else _rewritten(field)
    try:
        return edit.encode_field(name, text)
    except ValueError:
        if (
            field.name in _TEXT and too_long and len(raw) <= _LONGEST_TEXT
        ):  # decoded first: an encoded word of 1,000 octets is no word to encode anew
            return edit.encode_words(name, decode_value(field.unfolded.decode("utf-8", "surrogateescape")))
    told = name if field.name in _ADDRESSES | _PARAMETERS | _STRUCTURED else "a header"  # others may name anything
    what = "has a word that no line can hold" if too_long else "has a form that no server takes"
    raise DowngradeError("5.6.3", f"{told} {what}, and the program that wrote it must write it shorter")


def _rewritten(field: edit.HeaderField) -> str:
    if field.name in _ADDRESSES:
        return _address_list(_text(field.unfolded))
    if field.name in _PARAMETERS:
        return ascii_parameters(field.unfolded)
    if field.name in _STRUCTURED:
        raise DowngradeError("5.6.3", "a structured header is not ASCII and cannot be converted")
    return decode_value(field.unfolded.decode("utf-8", "surrogateescape"))


def _text(value: bytes) -> str:
    """UTF-8 where it is that (RFC 6532); else Latin-1, which loses no octet."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _address_list(text: str) -> str:
    """Display names and comments as encoded words; a mailbox outside ASCII cannot be (RFC 6531 section 3.7.1)."""
    out: list[str] = []
    phrase: list[str] = []
    for token in _TOKEN.findall(text):
        is_mailbox = token.startswith("<") or (not _is_quoted(token) and "@" in token)
        if is_mailbox and not token.isascii():
            raise DowngradeError("5.6.7", "a mailbox in the header is not ASCII, which needs SMTPUTF8")
        if is_mailbox or token in _SEPARATORS or (token.isspace() and not phrase):
            out += (_phrase(phrase), token)
            phrase = []
        else:
            phrase.append(token)
    return "".join((*out, _phrase(phrase)))


def _phrase(tokens: list[str]) -> str:
    """Words of a display name: as they are, or all of them as one run of encoded words."""
    whole = "".join(tokens)
    if whole.isascii():
        return whole
    text = "".join(_unquoted(token) for token in tokens)
    plain = decode_value(text)  # a word that is encoded already is not encoded twice
    return _word(plain if plain.isprintable() else text.strip()) + text[len(text.rstrip()) :]


def _is_quoted(token: str) -> bool:
    return len(token) >= 2 and token[0] == '"' == token[-1]


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1]) if _is_quoted(token) else token


def _word(text: str) -> str:
    return Header(text, "utf-8", maxlinelen=_FOLD_AT).encode(linesep="").replace("\n", "")


def ascii_parameters(value: bytes) -> str:
    """The value of a MIME field, unfolded, with its 8-bit parameters in the extended form (RFC 2231 section 4).

    Raises:
        DowngradeError: something else than a parameter's value is not ASCII (5.6.3).
    """
    return _parameters(_text(value))


def _parameters(text: str) -> str:
    """8-bit parameter values in the extended form of RFC 2231 section 4."""

    def extended(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if value.isascii():
            return match[0]
        return f"; {name}*=utf-8''{quote(_unquoted(value), safe='')}"

    changed = _PARAMETER.sub(extended, text)
    if not changed.isascii():
        raise DowngradeError("5.6.3", "a MIME header is not ASCII and cannot be converted")
    return changed
