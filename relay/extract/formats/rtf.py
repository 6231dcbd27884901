"""Rich text, bare and in the compressed form that Outlook puts into its messages."""

import re
import struct
from collections.abc import Iterator
from typing import Final

from striprtf.striprtf import rtf_to_text

from relay.extract.budget import Budget, Extracted, UnreadableError
from relay.extract.formats.image import dimensions, is_picture_of_something
from relay.mail.charset import decode

_HEADER: Final = struct.Struct("<II4sI")  # [MS-OXRTFCP] 2.1.3.1: sizes packed and unpacked, kind, checksum
_PACKED, _PLAIN = b"LZFu", b"MELA"
_FIRST: Final = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor "
    b"MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par "
    b"\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)  # what every dictionary begins with, 2.1.2.1
_WINDOW: Final = 4096
_SHOWN: Final = re.compile(
    r"(\{\s*)(?:\\\*\s*)?\\(?:(?:header|footer)[lrf]?|footnote|annotation|atnauthor|shp|shpinst|shptxt|shpgrp|shprslt|do|"
    r"dptxbxtext|object|result|formfield|ffdeftext|info|title|subject|author|keywords|doccomm|upr|ud|mmath|moMath|"
    r"moMathPara|mr)(?![a-zA-Z])-?\d*[ ]?"
)
"""Groups that hold text which Word shows, and which the library passes over."""
_BIN: Final = re.compile(rb"\\bin(\d{1,10}) ?")
_PICTURE: Final = re.compile(rb"\\pict(?![a-z])((?:[^{}]++|\{[^{}]*\})*+)")
_GOAL: Final = re.compile(rb"\\pich(?:goal)?(\d{1,6})")
_CONTROL: Final = re.compile(rb"\{[^{}]*\}|\\[a-z]+-?\d*|[^0-9a-fA-F]+")
_LARGE_GOAL: Final = 2400  # twips, 160 pixels of 96 an inch: see relay.extract.formats.image
_HEAD: Final = 131_072  # hexadecimal digits of a picture that are looked at for its size
_OBJECT: Final = re.compile(rb"\\objdata(?![a-z])([^{}]*)")
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def read_rtf(data: bytes, budget: Budget) -> Extracted:
    """The text of an RTF file; OLE objects in it as children. Pictures are the fault ``image``, others ``format``.

    Raises:
        UnreadableError: ``malformed`` or ``bomb``.
    """
    data, has_binary = _without_binary(data)
    faults = {"image"} if has_binary or any(map(_is_large, _PICTURE.finditer(data))) else set()
    children = []
    for content in _objects(data):
        budget.spend(len(content))
        start = content.find(_OLE)
        if start < 0:
            faults.add("format")
        else:
            children.append(("", content[start:]))
    return Extracted(type="rtf", text=_text(data), children=tuple(children), faults=tuple(sorted(faults)))


def rtf_text(data: bytes) -> str:
    """The text of rich text: body, headers, footers, notes, text boxes, properties.

    Raises:
        UnreadableError: ``malformed``.
    """
    return _text(_without_binary(data)[0])


def _text(data: bytes) -> str:
    try:
        source = _SHOWN.sub(r"\1\\par ", decode(data, "cp1252"))
        # The library looks for links with a pattern that takes the square of all fields: by another name they are none.
        source = source.replace("\\fldinst", "\\fldtype")
        text: str = rtf_to_text(source, errors="ignore")  # type: ignore[no-untyped-call]  # untyped
    except (ValueError, IndexError, KeyError, TypeError, LookupError) as error:
        raise UnreadableError("malformed") from error
    return text


def _without_binary(data: bytes) -> tuple[bytes, bool]:
    r"""Without what ``\bin`` announces, which is no text and may hold braces; whether there was any."""
    pieces: list[bytes] = []
    place = 0
    while announced := _BIN.search(data, place):
        pieces.append(data[place : announced.start()])
        place = announced.end() + int(announced[1])
    return b"".join((*pieces, data[place:])), bool(pieces)


def _is_large(picture: re.Match[bytes]) -> bool:
    """Whether a picture shows something: by its own size, else by the height that it is given."""
    digits = _CONTROL.sub(b"", picture[1][:_HEAD])
    content = bytes.fromhex(digits[: len(digits) & ~1].decode("ascii"))
    if dimensions(content) is not None:
        return is_picture_of_something(content)
    heights = [int(height) for height in _GOAL.findall(picture[1][:_HEAD])]
    return bool(content) and (not heights or max(heights) > _LARGE_GOAL)


def _objects(data: bytes) -> Iterator[bytes]:
    for found in _OBJECT.finditer(data):
        digits = _CONTROL.sub(b"", found[1])
        if digits:
            yield bytes.fromhex(digits[: len(digits) & ~1].decode("ascii"))


def unpack_rtf(data: bytes, budget: Budget) -> bytes:
    """Undo [MS-OXRTFCP]: rich text as it stands in the property PidTagRtfCompressed.

    Raises:
        UnreadableError: ``malformed`` or ``bomb``.
    """
    if len(data) < _HEADER.size:
        raise UnreadableError("malformed")
    _, size, kind, _ = _HEADER.unpack_from(data)
    budget.spend(size)
    if kind == _PLAIN:
        return data[_HEADER.size : _HEADER.size + size]
    if kind != _PACKED:
        raise UnreadableError("malformed")
    return _unpacked(data, size)


def _unpacked(data: bytes, size: int) -> bytes:
    """Runs of eight: a bit says of each whether it is an octet, or a place in the last 4096 and a length."""
    out = bytearray(_FIRST)
    end = len(_FIRST) + size
    place = _HEADER.size
    try:
        while len(out) < end:
            flags = data[place]
            place += 1
            for bit in range(8):
                if not flags >> bit & 1:
                    out.append(data[place])
                    place += 1
                    continue
                token = data[place] << 8 | data[place + 1]
                place += 2
                back = (len(out) - (token >> 4)) % _WINDOW
                if back == 0:
                    return bytes(out[len(_FIRST) : end])
                _repeat(out, back, (token & 0xF) + 2)
    except IndexError as error:
        raise UnreadableError("malformed") from error
    return bytes(out[len(_FIRST) : end])


def _repeat(out: bytearray, back: int, length: int) -> None:
    start = len(out) - back
    if start < 0:
        raise UnreadableError("malformed")
    for at in range(start, start + length):
        out.append(out[at])
