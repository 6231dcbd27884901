"""The scan's words as tables that are made once, when the package is built, and mapped by every process.

The file (``relay/scan/_tables.bin``, written by ``hatch_build.py``) is what the lexicons and lists of names in
``relay/scan/data`` and the words that shapes are anchored by come to: numbers in rows and the words behind one another,
to be looked up where they lie. It says of which sources it was made; for others it is not used, and what it would hold
is made in memory, which takes half a second and 20 MB a process. Numbers are in the octet order of the machine.
"""

import zlib
from array import array
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

VERSION: Final = 3
"""Of what the tables hold and how; whoever changes that raises it."""
MAGIC: Final = b"\x89Postern"
_ORDER: Final = 0x01020304
_HEADER: Final = Struct("=8sII32sI")  # magic, octet order, version, digest of the sources, CRC-32 of what follows
_PLACE: Final = Struct("=II")  # of a table: where, how many octets
_APART: Final = 64  # tables begin at multiples of it

ENTRY: Final = Struct("=IIHHHHHBB")
"""A word: place, its neighbours from, octets, neighbours, near, far, term, traits, signs; as ``Entry`` in native.h."""
BESIDE: Final = Struct("=IIHHB3x")
"""A neighbour: number of the word from 1, first phrase, phrases before, phrases after, pairs; ``Beside`` there."""
PHRASE: Final = Struct("=IHHHH")
"""A phrase: its first part, rank, words before the anchor, words, term; ``Phrase`` there."""
LISTED: Final = Struct("=IHH")
"""A name: place, octets, the lists it is on; ``Listed`` there."""

INDEX: Final = ("filter", "prints", "slots")
WORDS: Final = ("arena", "entries", *INDEX, "beside", "phrases", "parts", "signs")
"""The tables of words, as ``_native.Vocabulary`` takes them."""
NAMES: Final = tuple(f"names-{table}" for table in ("arena", "entries", *INDEX))
"""The tables of names, as ``_native.Names`` takes them."""
_EVERY: Final = (*WORDS, "terms", *NAMES, "nobody")

_ALL: Final = (1 << 64) - 1
_LOW: Final = (1 << 32) - 1
_FILTER_BITS: Final = 8  # a slot
_SHORT: Final = 8  # octets of a word that its hash has whole

Octets = bytes | bytearray | memoryview
Table = Mapping[str, Octets]


class DamagedTablesError(ValueError):
    """A file of tables says it is of these sources, and is not whole."""


def hash_of(word: bytes) -> int:
    """The hash of a word, as ``hash_of`` in native.h."""
    number = (int.from_bytes(word[:_SHORT], "little") * 0x9E3779B97F4A7C15 + len(word)) & _ALL
    if len(word) > _SHORT:
        number ^= (int.from_bytes(word[-_SHORT:], "little") * 0xC2B2AE3D27D4EB4F) & _ALL
    number = ((number ^ (number >> 32)) * 0xD6E8FEB86659FD93) & _ALL
    return number ^ (number >> 32)


class Index:
    """Where words are found by their hash: slots with a number from 1 each, at least twice as many as words."""

    def __init__(self, words: Sequence[bytes]) -> None:
        room = 16
        while room < 2 * len(words) + 2:
            room *= 2
        self.slots = array("I", bytes(4 * room))
        self.prints = array("H", bytes(2 * room))
        self.filter = bytearray(room * _FILTER_BITS // 8)
        for number, word in enumerate(words, 1):
            if word:  # the empty one stands before the first and after the last
                self._insert(word, number)

    def _insert(self, word: bytes, number: int) -> None:
        hashed = hash_of(word)
        mask = len(self.slots) - 1
        bit = hashed & _LOW & (len(self.filter) * 8 - 1)
        self.filter[bit >> 3] |= 1 << (bit & 7)
        slot = (hashed >> 16) & mask
        while self.prints[slot]:
            slot = (slot + 1) & mask
        self.prints[slot], self.slots[slot] = hashed >> 48 or 1, number

    def tables(self, before: str = "") -> dict[str, bytes]:
        """As the file has them."""
        words = array("Q", (int.from_bytes(self.filter[at : at + 8], "little") for at in range(0, len(self.filter), 8)))
        return {
            f"{before}filter": words.tobytes(),
            f"{before}prints": self.prints.tobytes(),
            f"{before}slots": self.slots.tobytes(),
        }


def pack(tables: Table, digest: bytes) -> bytes:
    """The file.

    Args:
        tables: all of them, by name.
        digest: of the sources, 32 octets.
    """
    place = _HEADER.size + _PLACE.size * len(_EVERY)
    places, body = [], bytearray()
    for name in _EVERY:
        body += bytes(-(place + len(body)) % _APART)
        places.append(_PLACE.pack(place + len(body), len(tables[name])))
        body += tables[name]
    rest = b"".join(places) + body
    return _HEADER.pack(MAGIC, _ORDER, VERSION, digest, zlib.crc32(rest)) + rest


def unpack(image: memoryview, digest: bytes) -> dict[str, memoryview] | None:
    """The tables of a file; None where it was made of other sources, by another version, or for another machine.

    Raises:
        DamagedTablesError: it is damaged.
    """
    if len(image) < _HEADER.size:
        raise DamagedTablesError("it is cut off")
    magic, order, version, sources, checksum = _HEADER.unpack_from(image)
    if magic != MAGIC:
        raise DamagedTablesError("it is no file of tables")
    if (order, version, sources) != (_ORDER, VERSION, digest):
        return None
    if zlib.crc32(image[_HEADER.size :]) != checksum:
        raise DamagedTablesError("its checksum is another")
    if len(image) < _HEADER.size + _PLACE.size * len(_EVERY):
        raise DamagedTablesError("it is cut off")
    tables = {}
    for number, name in enumerate(_EVERY):
        place, size = _PLACE.unpack_from(image, _HEADER.size + number * _PLACE.size)
        if place % _APART or place + size > len(image):
            raise DamagedTablesError(f"its table {name} lies outside")
        tables[name] = image[place : place + size]
    return tables
