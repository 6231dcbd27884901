"""Text in the one form that detectors are written for."""

import codecs
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from relay.core.octets import holds
from relay.mail.aside import aside
from relay.mail.charset import decode
from relay.mail.html import html_to_text

_INVISIBLE: Final = (
    0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F),
    *range(0x2060, 0x2070), 0xFEFF, *range(0xFE00, 0xFE10), *range(0xE0000, 0xE0080),
)  # fmt: skip
_DASHES: Final = (*range(0x2010, 0x2016), 0x2043, 0x2212, 0xFE58, 0xFE63, 0xFF0D)
_QUOTES: Final = {0x2018: "'", 0x2019: "'", 0x201A: "'", 0x201B: "'", 0x02BC: "'", 0x2032: "'",
                  0x201C: '"', 0x201D: '"', 0x201E: '"', 0x2033: '"'}  # fmt: skip
_DIGIT_ZEROS: Final = (0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0E50)

_TABLE: Final[dict[int, str]] = {
    **dict.fromkeys(_INVISIBLE, ""),
    **dict.fromkeys(_DASHES, "-"),
    **_QUOTES,
    **{zero + value: str(value) for zero in _DIGIT_ZEROS for value in range(10)},
    0x2028: "\n",
    0x2029: "\n",
    0x0085: "\n",
    0x00A0: " ",
}
_NARROW: Final = bytes(ord(_TABLE[code]) if _TABLE.get(code) else code for code in range(256))
_SOFT_HYPHEN: Final = b"\xad"
_PIECE: Final = 1024  # characters
_BLANKS: Final = re.compile(rb"\0\0*")  # the first literally: found as memchr finds
_SOFT_BREAK: Final = re.compile(r"-(?<=\w-)[ \t]*\n[ \t]*(?=[a-z])")


def normalise(text: str) -> str:
    r"""The form that detectors read: NFKC, decimal digits of other scripts as ASCII, one dash, straight quotes.

    Soft hyphens, zero-width characters, variation selectors and direction marks are removed; line ends are ``\n``.
    A word that hyphenation split over two lines is joined.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        text = _plain(text)
        if not text.isascii():
            text = _compatible(text)
    if holds(text, "-\n") or holds(text, "- \n"):
        text = _SOFT_BREAK.sub("", text)
    return text


def _compatible(text: str) -> str:
    """NFKC, a piece at a time, cut at blanks where there are any.

    Marks in a row are sorted in a time that grows with the square of their number: 60,000 took ten seconds.
    """
    pieces: list[str] = []
    start, changed = 0, False
    while start < len(text):
        end = len(text)
        if end - start > _PIECE:
            end = start + _PIECE
            end = max(text.rfind(" ", start, end), text.rfind("\n", start, end)) + 1 or end
        piece = text[start:end]
        composed = unicodedata.normalize("NFKC", piece)
        changed = changed or composed != piece
        pieces.append(composed)
        start = end
    return _plain("".join(pieces)) if changed else text


def _plain(text: str) -> str:
    # str.translate builds a wide text anew character by character: only the runs that need it are given to it.
    try:
        return _latin(text)
    except UnicodeEncodeError:
        pieces: list[str] = []
        last = 0
        for start, end in _wide_runs(text):
            pieces += (_latin(text[last:start]), text[start:end].translate(_TABLE))
            last = end
        pieces.append(_latin(text[last:]))
        return "".join(pieces)


def _latin(text: str) -> str:
    return text.encode("latin-1").translate(_NARROW, _SOFT_HYPHEN).decode("latin-1")


def _blank(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return b"\0" * (error.end - error.start), error.end


codecs.register_error("postern.blank", _blank)


def _wide_runs(text: str) -> Iterator[tuple[int, int]]:
    """Spans that hold all characters beyond Latin-1; the codec finds them ten times as fast as a pattern."""
    return (match.span() for match in _BLANKS.finditer(text.encode("latin-1", "postern.blank")))


def text_of(data: bytes, content_type: str, charset: str) -> str:
    """Normalised text of a decoded text part, HTML converted. Never raises."""
    text = decode(data, charset)
    if content_type in {"text/html", "application/xhtml+xml"}:
        text = "\n".join((html_to_text(text), *aside(text)))
    return normalise(text)
