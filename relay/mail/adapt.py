"""Fitting a message to what the next server can take, before it is signed (RFC 6152, RFC 6531, RFC 5322 section 2.1.1).

8-bit parts become quoted-printable or base64 where the peer lacks 8BITMIME, lines over 998 octets everywhere; raw 8-bit
headers become RFC 2047 words (RFC 2231 in parameters) unless they travel under SMTPUTF8. The decoded content of every
part stays as it was. What is signed or encrypted inside the message is never touched: then the answer is
:class:`Impossible`. A message that needs nothing comes back as the same object, looked at once.
"""

import base64
import binascii
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Final

from relay.core.labour import BOUNDED
from relay.core.octets import EIGHT_BIT, LONG_LINE, traits
from relay.core.outcome import PeerFeatures
from relay.mail import edit
from relay.mail.downgrade import DowngradeError, ascii_parameters, downgrade_headers

MAX_LINE: Final = 998
"""Octets a line may have without its CRLF (RFC 5322 section 2.1.1)."""
_NEEDS_SMTPUTF8: Final = "5.6.7"
_MAX_DEPTH: Final = 20
"""As deep as the scan looks by default; each level holds the message once more."""
_IDENTITY: Final = frozenset({"", "7bit", "8bit", "binary"})
_UNTOUCHABLE: Final = frozenset({"multipart/signed", "multipart/encrypted"})
_PARSER: Final = BytesHeaderParser(policy=BOUNDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Impossible:
    """The message cannot be sent to this peer in any form it takes.

    Attributes:
        status: the enhanced status of the permanent failure (RFC 3463 section 3.7).
        why: one clause for the sender and operators, without content.
    """

    status: str
    why: str


class _CannotError(Exception):
    def __init__(self, status: str, why: str) -> None:
        self.impossible = Impossible(status=status, why=why)
        super().__init__(why)


def has_long_line(content: bytes) -> bool:
    """Whether some line has more than 998 octets."""
    return bool(traits(content, MAX_LINE) & LONG_LINE)


def adapt(content: bytes, features: PeerFeatures, *, smtputf8: bool = False) -> bytes | Impossible:
    """The message as this peer can take it; the same object when nothing must change.

    Args:
        content: CRLF line ends, not yet signed.
        features: what the peer offered after TLS.
        smtputf8: whether the message will be sent with the SMTPUTF8 parameter.
    """
    found = traits(content, MAX_LINE)
    if not found & LONG_LINE and (not found & EIGHT_BIT or (features.eight_bit_mime and _head(content).isascii())):
        return content
    # Headers outside ASCII are downgraded where that loses nothing, and refused with 5.6.7 where it would.
    adapter = _Adapter(eight_bit=features.eight_bit_mime, utf8_headers=smtputf8 and features.smtputf8)
    try:
        return adapter.entity(content, top=True)
    except _CannotError as error:
        cause = error.impossible
        if cause.status == _NEEDS_SMTPUTF8:
            return cause
        return Impossible(status=cause.status, why=f"{_cause(content, features)}: {cause.why}")


def _cause(content: bytes, features: PeerFeatures) -> str:
    """Why the message had to be changed at all."""
    if has_long_line(content):
        return (
            f"the message has a line of more than {MAX_LINE} octets, which no server need take (RFC 5322 section 2.1.1)"
        )
    if features.eight_bit_mime:
        return "the message's header is not ASCII"
    return "the recipient's mail server takes no 8-bit messages, and this one cannot be converted"


def _head(content: bytes) -> bytes:
    return content[: edit.header_end(content)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adapter:
    """Rewrites one message, entity by entity (RFC 2045 section 2.4), as little as can be."""

    eight_bit: bool
    utf8_headers: bool

    def fits(self, raw: bytes) -> bool:
        return not traits(raw, MAX_LINE) & (LONG_LINE if self.eight_bit else LONG_LINE | EIGHT_BIT)

    def entity(self, raw: bytes, *, top: bool = False, default: str = "text/plain", depth: int = 0) -> bytes:
        """A message or part with everything in it made to fit."""
        if depth > _MAX_DEPTH:
            raise _CannotError("5.6.3", "parts are nested too deeply to be converted")
        raw = self._headers(raw)
        start = edit.body_start(raw)
        head, body = raw[:start], raw[start:]
        if self.fits(body):
            return raw
        message = _PARSER.parsebytes(edit.plain_names(head))
        kind = message.get_content_type() if message["Content-Type"] else default
        if kind in _UNTOUCHABLE:
            raise _CannotError("5.6.2", f"a {kind} part would have to be converted, which would break it")
        if kind.startswith("multipart/"):
            return self._multipart(head, body, message, kind, depth)
        if kind.startswith("message/"):
            return self._message(head, body, message, kind, depth)
        return self._leaf(head, body, message, kind, top=top)

    def _headers(self, raw: bytes) -> bytes:
        head = _head(raw)
        bad = (not self.utf8_headers and not head.isascii()) or has_long_line(head)
        if not bad:
            return raw
        try:
            return downgrade_headers(head, keep_utf8=self.utf8_headers) + raw[len(head) :]
        except DowngradeError as error:
            raise _CannotError(error.status, error.why) from None

    # --- composite types

    def _multipart(self, head: bytes, body: bytes, message: Message, kind: str, depth: int) -> bytes:
        boundary = message.get_boundary("")
        if _encoding(message) not in _IDENTITY or not boundary:
            raise _CannotError("5.6.3", "a multipart is malformed and cannot be converted")
        default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        pieces: list[bytes] = []
        for is_part, piece in _split(body, boundary.encode("utf-8", "surrogateescape")):
            if is_part:
                pieces.append(self.entity(piece, default=default, depth=depth + 1))
            else:
                # A preamble or epilogue is no content (RFC 2046 section 5.1.1): one that does not fit is left out.
                pieces.append(piece if self.fits(piece) else b"\r\n")
        return self._relabel(head, message) + b"".join(pieces)

    def _message(self, head: bytes, body: bytes, message: Message, kind: str, depth: int) -> bytes:
        # RFC 2046 section 5.2.1: message/rfc822 may not be encoded itself, only what is in it.
        if kind != "message/rfc822" or _encoding(message) not in _IDENTITY:
            raise _CannotError("5.6.3", f"a {kind} part cannot be converted")
        return self._relabel(head, message) + self.entity(body, depth=depth + 1)

    def _relabel(self, head: bytes, message: Message) -> bytes:
        if self.eight_bit or _encoding(message) in {"", "7bit"}:
            return head
        return edit.replace(head, "Content-Transfer-Encoding", "7bit")

    # --- leaves

    def _leaf(self, head: bytes, body: bytes, message: Message, kind: str, *, top: bool) -> bytes:
        encoding = _encoding(message)
        if encoding in _IDENTITY:
            plain = body
        elif encoding == "quoted-printable":
            plain = quopri.decodestring(body)
        elif encoding == "base64":
            plain = _from_base64(body)
        else:
            raise _CannotError("5.6.3", "a part in an unknown transfer encoding cannot be converted")
        if kind.startswith("text/") and encoding != "base64":
            name, encoded = "quoted-printable", to_quoted_printable(plain)
        else:
            name, encoded = "base64", to_base64(plain)
        if not plain.isascii() and kind.startswith("text/"):
            head = _with_charset(head, message, plain)
        head = edit.replace(head, "Content-Transfer-Encoding", name)
        if top and message["MIME-Version"] is None:
            head = edit.add(head, "MIME-Version", "1.0")
        return head + encoded


def _encoding(message: Message) -> str:
    # What old programs write around the word is passed over, as the scan does: `8bit;`, `"base64"`.
    return str(message.get("Content-Transfer-Encoding", "")).partition(";")[0].strip(" \t\r\n\"'").lower()


def _with_charset(head: bytes, message: Message, plain: bytes) -> bytes:
    """Name the charset of 8-bit text that names none: UTF-8 where it is, else RFC 1428's ``unknown-8bit``."""
    if message.get_param("charset") is not None:
        return head
    try:
        plain.decode("utf-8")
        charset = "utf-8"
    except UnicodeDecodeError:
        charset = "unknown-8bit"
    value = edit.get(head, "Content-Type")
    try:
        kind = ascii_parameters(value).rstrip("; \t") if value else "text/plain"
        return edit.replace(head, "Content-Type", f"{kind}; charset={charset}")
    except (DowngradeError, ValueError):  # a field in 8 bits that nobody can write anew stays as it is
        return head


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(re.sub(rb"[\r\n \t]", b"", body), validate=True)
    except binascii.Error:
        raise _CannotError("5.6.3", "a part's base64 is damaged and cannot be wrapped anew") from None


def to_base64(plain: bytes) -> bytes:
    """Base64 in lines of 76 (RFC 2045 section 6.8), CRLF line ends, the last line's included."""
    return base64.encodebytes(plain).replace(b"\n", b"\r\n")


def to_quoted_printable(plain: bytes) -> bytes:
    """Quoted-printable (RFC 2045 section 6.7): CRLF stays a line end, all else that needs it is quoted."""
    return b"\r\n".join(_quote(line) for line in plain.split(b"\r\n"))


def _quote(line: bytes) -> bytes:
    # One line at a time as binary, so that a lone CR or LF is quoted and the only line ends made are soft ones.
    return binascii.b2a_qp(line, quotetabs=False, istext=False).replace(b"\n", b"\r\n")


def _split(body: bytes, boundary: bytes) -> Iterator[tuple[bool, bytes]]:
    """Cut a multipart's body into parts and what stands between them; joined they are the body again.

    Raises:
        _CannotError: no part begins in the body: all of it would count as preamble, and be left out.
    """
    # Found by the boundary, not by the ends of lines: a large attachment has hundreds of thousands of those.
    delimiter = re.compile(rb"--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r\n|\Z)")
    position, inside, found = 0, False, False
    for match in delimiter.finditer(body):
        start = match.start()
        if start and body[start - 2 : start] != b"\r\n":
            continue
        start = max(start - 2, 0)
        found = found or match[1] is None
        # The CRLF before a delimiter belongs to it; two delimiters in a row share one and have no part between them.
        if inside and start >= position:
            yield True, body[position:start]
        elif not inside:
            yield False, body[position:start]
        line_end = min(match.end() + 2, len(body)) if match[1] is None else match.end()
        yield False, body[max(position, start) : line_end] if inside else body[start:line_end]
        position, inside = line_end, match[1] is None
        if not inside:
            break
    if not found:
        raise _CannotError("5.6.3", "a multipart is malformed and cannot be converted")
    yield inside, body[position:]
