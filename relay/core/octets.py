"""A few octets found in large content.

Python's search for two or three octets looks at each place; RE2 compares the first and last of them at many places at
once, and in base64, where most large content is, takes an eighth of the time.
"""

import re
from collections.abc import Callable
from typing import Final

import re2

_LARGE: Final = 64 * 1024
"""Octets from which on it is worth the call."""
_NEAR: Final = 4 * 1024
"""Octets that are looked at without it first."""


def octet_pattern(pattern: bytes) -> "re2._Regexp[bytes]":
    """A pattern of RE2 over octets, whatever they spell.

    Raises:
        re2.error: it is none.
    """
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(pattern, options)


def holds(literal: bytes) -> Callable[[bytes | bytearray], bool]:
    """What tells whether content holds these octets."""
    search = octet_pattern(re.escape(literal)).search

    def is_held(content: bytes | bytearray) -> bool:
        return literal in content if len(content) < _LARGE else search(content) is not None

    return is_held


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
