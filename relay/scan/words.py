"""Whether a word is one of every day: what tells ``Insurance Card`` from ``Zsofia Nemeth``, who is on no list."""

from hashlib import blake2b
from typing import Final

SIZE: Final = 1 << 21
"""Bits of the filter (``tools/build_words.py``)."""
_HASHES: Final = 5
_BITS: Final = SIZE.bit_length() - 1
_SHORTEST: Final = 3
_ENDINGS: Final = (
    (b"'s", (b"",)),
    (b"ies", (b"y",)),
    (b"es", (b"", b"e")),
    (b"s", (b"",)),
    (b"ied", (b"y",)),
    (b"ed", (b"", b"e")),
    (b"ing", (b"", b"e")),
    (b"er", (b"", b"e")),
    (b"ly", (b"",)),
)
_ENDS: Final = tuple(ending for ending, _ in _ENDINGS)
_LAST: Final = SIZE - 1


def places_of(word: bytes) -> list[int]:
    """The bits that stand for a word."""
    number = int.from_bytes(blake2b(word, digest_size=16).digest(), "little")
    return [(number >> (turn * _BITS)) & _LAST for turn in range(_HASHES)]


class Words:
    """English words, with the endings that a dictionary leaves out. Stateless after construction."""

    def __init__(self, bits: memoryview) -> None:
        self._bits = bits

    def __contains__(self, word: bytes) -> bool:
        """Whether it is an English word; in lower case."""
        if self._has(word):
            return True
        return word.endswith(_ENDS) and any(
            word.endswith(ending)
            and len(word) - len(ending) >= _SHORTEST
            and any(self._has(word[: -len(ending)] + stem) for stem in stems)
            for ending, stems in _ENDINGS
        )

    def _has(self, word: bytes) -> bool:
        bits = self._bits
        number = int.from_bytes(blake2b(word, digest_size=16).digest(), "little")
        for _ in range(_HASHES):
            place = number & _LAST
            if not bits[place >> 3] >> (place & 7) & 1:
                return False
            number >>= _BITS
        return True
