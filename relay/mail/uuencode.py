"""Files written into a message's text itself: uuencode (IEEE 1003.1) and yEnc, which mail programs show as files."""

import binascii
import re
from collections.abc import Iterator
from typing import Final

from relay.core.octets import holds

_BEGIN: Final = re.compile(rb"^begin(?:-base64)? [0-7]{3,4} ([^\r\n]{1,255})\r?\n", re.MULTILINE)
_LINE: Final = re.compile(rb"([ -`][ -`]{0,90})\r?\n?")
_YENC: Final = re.compile(rb"^=ybegin [^\r\n]*\bline=", re.MULTILINE)
_MOST: Final = 100
"""Files in one text; what is more stays text."""


def uuencoded(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of each file; of a damaged one what comes before the damage."""
    place, is_there = 0, holds(text, b"begin")
    for _ in range(_MOST):
        begin = _BEGIN.search(text, place) if is_there else None
        if begin is None:
            return
        content, place = _content(text, begin.end())
        if content:
            yield begin[1].strip(), content


def holds_yenc(text: bytes) -> bool:
    """Whether a file in yEnc stands in it, which is not read."""
    return holds(text, b"=ybegin ") and _YENC.search(text) is not None


def _content(text: bytes, place: int) -> tuple[bytes, int]:
    """What the lines from there on hold, and where they end."""
    pieces: list[bytes] = []
    while line := _LINE.match(text, place):
        try:
            piece = binascii.a2b_uu(line[1])
        except binascii.Error:
            break
        place = line.end()
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces), place
