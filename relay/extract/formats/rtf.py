"""Rich text, bare and in the compressed form that Outlook puts into its messages."""

import struct
from typing import Final

from striprtf.striprtf import rtf_to_text

from relay.extract.budget import Budget, Extracted, UnreadableError
from relay.mail.charset import decode

_HEADER: Final = struct.Struct("<II4sI")  # [MS-OXRTFCP] 2.1.3.1: sizes packed and unpacked, kind, checksum
_PACKED, _PLAIN = b"LZFu", b"MELA"
_FIRST: Final = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor "
    b"MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par "
    b"\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)  # what every dictionary begins with, 2.1.2.1
_WINDOW: Final = 4096


def read_rtf(data: bytes, budget: Budget) -> Extracted:
    """The text of an RTF file.

    Raises:
        UnreadableError: ``malformed``.
    """
    del budget
    return Extracted(type="rtf", text=rtf_text(data))


def rtf_text(data: bytes) -> str:
    """The text of rich text.

    Raises:
        UnreadableError: ``malformed``.
    """
    try:
        text: str = rtf_to_text(decode(data, "cp1252"), errors="ignore")  # type: ignore[no-untyped-call]  # untyped
    except (ValueError, IndexError, KeyError, TypeError, LookupError) as error:
        raise UnreadableError("malformed") from error
    return text


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
