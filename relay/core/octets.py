"""What is in the octets of a message, and where.

Some of it is written in C (``relay/core/native``), which takes a sixth of the time or less; where it is not installed,
the way in Python says the same (``tests/unit/core/test_octets.py`` holds the two together).

Python's search for two or three octets looks at each place; RE2 compares the first and last of them at many places at
once, and in base64, where most large content is, takes an eighth of the time.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import re2

from relay.core import parts

try:
    from relay.core import _octets
except ImportError:  # no compiler where it was installed
    _VERSION = 0
else:
    _VERSION = _octets.VERSION

_WANTED: Final = 3  # VERSION of the C part that this code is written for
NATIVE: Final = _VERSION == _WANTED
"""Whether the C part is there, and of this version."""


def told() -> str:
    """Which way runs, for people."""
    return parts.told(_VERSION, _WANTED)


NUL: Final = 1
"""An octet of nothing."""
EIGHT_BIT: Final = 2
"""An octet outside ASCII."""
BARE_NEWLINE: Final = 4
"""A CR or LF that is not part of a CRLF."""
LEADING_DOT: Final = 8
"""A dot behind a LF: one that begins a line other than the first."""
LONG_LINE: Final = 16
"""A line of more octets, its CRLF not counted, than were asked about."""

_END_OF_DATA: Final = b"\r\n.\r\n"
_LARGE: Final = 64 * 1024
"""Octets from which on it is worth the call."""
_NEAR: Final = 4 * 1024
"""Octets that are looked at without it first."""


def traits_plainly(content: bytes | bytearray, longest: int) -> int:
    """As :data:`traits`, in Python."""
    # What is replaced by as many octets stays in its place, and single octets are found at the speed of memory.
    left = content.replace(b"\r\n", b"  ")
    return (
        (NUL if b"\0" in content else 0)
        | (0 if content.isascii() else EIGHT_BIT)
        | (BARE_NEWLINE if b"\r" in left or b"\n" in left else 0)
        | (LEADING_DOT if b"\n." in content else 0)
        | (LONG_LINE if _has_long_line(content, longest) else 0)
    )


def _has_long_line(content: bytes | bytearray, longest: int) -> bool:
    # In hops as long as a line may be, not octet by octet: most lines are short.
    start, size = 0, len(content)
    while size - start > longest:
        newline = content.rfind(b"\n", start, start + longest + 2)
        if newline < 0:
            return True
        start = newline + 1
    return False


def end_of_data_plainly(content: bytes | bytearray, start: int) -> int:
    """As :data:`end_of_data`, in Python."""
    return content.find(_END_OF_DATA, start)


traits: Final[Callable[[bytes | bytearray, int], int]] = _octets.traits if NATIVE else traits_plainly
"""``traits(content, longest)``: what of the above is in the content, added up; ``longest`` is for :data:`LONG_LINE`."""
end_of_data: Final[Callable[[bytes | bytearray, int], int]] = _octets.end_of_data if NATIVE else end_of_data_plainly
"""``end_of_data(content, start)``: where ``<CRLF>.<CRLF>`` first stands from ``start`` on; -1 where it does not."""


def holds_plainly(content: str | bytes | bytearray, literal: str | bytes) -> bool:
    """As :data:`holds`, in Python."""
    return literal in content  # type: ignore[operator]  # both octets, or both text


holds: Final[Callable[[Any, Any], bool]] = _octets.holds if NATIVE else holds_plainly
"""``holds(content, literal)``: whether the literal stands in it, both octets or both text; a quarter of the time of
``in`` where the content is large and its characters are those of the literal."""


def octet_pattern(pattern: bytes) -> "re2._Regexp[bytes]":
    """A pattern of RE2 over octets, whatever they spell.

    Raises:
        re2.error: it is none.
    """
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(pattern, options)


def finder(literal: bytes, octets: int) -> Callable[[bytes, int, int], int]:
    """``bytes.find`` for these octets, to be looked for in content of about so many octets."""
    if octets < _LARGE:
        return lambda content, start, stop: content.find(literal, start, stop)
    search = octet_pattern(re.escape(literal)).search

    def find(content: bytes, start: int, stop: int) -> int:
        near = content.find(literal, start, min(stop, start + _NEAR))  # where many stand close, a call each is too much
        if near >= 0 or stop - start <= _NEAR:
            return near
        found = search(content, start + _NEAR - len(literal) + 1, stop)
        return -1 if found is None else found.start()

    return find
