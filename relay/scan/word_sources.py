"""What the tables of the scan's words are made of, and how."""

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from relay.scan import tables, zones
from relay.scan.compiled import ENTRY, LISTED, VERSION, Index, Octets, pack
from relay.scan.lexicon import COMMON, COMMONEST, FOLD, Lexicon, Phrases
from relay.scan.names import (
    FIRST,
    FIRST_OR_WORD,
    LAST,
    LAST_OR_WORD,
    NAMED_UNCAPITALISED,
    TITLES,
    NameTable,
    name_lists,
)
from relay.scan.shapes import PairProbes, ShapeFinder
from relay.scan.word_tables import (
    CAPITAL,
    FREE,
    KNOWN,
    NAME,
    NAMED,
    SIGN,
    TERM,
    TOLD,
    Rows,
    Terms,
    WordTables,
    open_tables,
)  # fmt: skip

LEXICONS: Final = (
    "public.txt",
    "notes.txt",
    "trades.txt",
    "exam.txt",
    "spanish.txt",
    "care.txt",
    "conditions.txt",
    "drugs.txt",
    "everyday.txt",
)
"""The lexicons in ``relay/scan/data``; of a term that stands in several the last counts."""
LISTS: Final = ("names.txt", "names-today.txt")
"""The lists of names there."""
SIGNS: Final = tables.ANCHORS | zones.MARKS
"""Words that are heads of tables or marks of zones."""
_PAIR_BEFORE, _PAIR_AFTER = 1, 2
_OF_SIGNS: Final = 32  # octets: a bit each
_NO_PHRASES: Final = Phrases(())


class Sources(NamedTuple):
    """What the tables are made of.

    Attributes:
        lexicons: the texts of :data:`LEXICONS`.
        lists: those of :data:`LISTS`.
        levels: the weights of the levels of terms.
        shapes: the shapes, of which the words that anchor them are taken.
    """

    lexicons: tuple[bytes, ...]
    lists: tuple[bytes, ...]
    levels: Mapping[str, float]
    shapes: ShapeFinder

    def digest(self) -> bytes:
        """Of all that the tables depend on; how they are made is :data:`relay.scan.compiled.VERSION`."""
        anchors = (
            [
                (word, one.near, one.far, one.capital, *map(bool, (one.told, one.free, one.signed)), sorted(one.signs))
                for word, one in sorted(self.shapes.words.items())
            ],
            [(word, sorted(pair.before), sorted(pair.after)) for word, pair in sorted(self.shapes.pairs.items())],
        )
        closes = (sorted(zones.CLOSES), zones.CLOSES_WITHIN)
        rules = (FOLD, sorted(COMMON), COMMONEST, sorted(SIGNS), sorted(TITLES), *closes)
        told = (VERSION, sorted(self.levels.items()), anchors, rules, sorted(NAMED_UNCAPITALISED))
        digest = blake2b(repr(told).encode(), digest_size=32)
        for source in (*self.lexicons, *self.lists):
            digest.update(b"%d:" % len(source))
            digest.update(source)
        return digest.digest()

    def lexicon(self) -> Lexicon:
        """The terms."""
        return Lexicon.parse([source.decode() for source in self.lexicons], self.levels)

    def names(self) -> NameTable:
        """The names."""
        return NameTable.parse(self.name_source())

    def name_source(self) -> bytes:
        """The lists of names as one."""
        return b"\n".join(self.lists)


def make(sources: Sources) -> bytes:
    """The file of tables: the same sources give the same octets.

    Raises:
        ValueError: a source cannot be read, or there is too much of something.
    """
    lexicon, names = sources.lexicon(), sources.names()
    return pack({**_Maker(lexicon, names, sources.shapes).tables(), **_names(sources.name_source())}, sources.digest())


def made_now(sources: Sources) -> "WordTables":
    """The tables in memory."""
    found = open_tables(memoryview(make(sources)), sources.digest())
    if found is None:
        raise RuntimeError("tables of other sources than those that they were just made of")
    return found


def _names(source: bytes) -> dict[str, Octets]:
    """The tables of names."""
    *lists, nobody = name_lists(source)
    on = dict(zip((FIRST, FIRST_OR_WORD, LAST, LAST_OR_WORD), lists, strict=True))
    arena, rows = bytearray(), bytearray()
    every = sorted(frozenset().union(*lists))
    for word in every:
        rows += LISTED.pack(len(arena), len(word), sum([bit for bit, listed in on.items() if word in listed]))
        arena += word
    return {
        "names-arena": arena,
        "names-entries": rows,
        **Index(every).tables("names-"),
        "nobody": b" ".join(sorted(nobody)),
    }


class _Maker:
    """Makes the tables of words from the beginning."""

    def __init__(self, lexicon: Lexicon, names: NameTable, shapes: ShapeFinder) -> None:
        self._lexicon = lexicon
        self._shapes = shapes
        self._names = names.given | TITLES
        known = lexicon.vocabulary | self._names | shapes.words.keys() | shapes.pairs.keys() | SIGNS
        others = set(NAMED_UNCAPITALISED).union(
            *((*pair.before, *pair.after) for pair in shapes.pairs.values()),
            *(phrases for phrases in lexicon.phrases),
        )
        self._known = known
        self._every = (*sorted(known), *sorted(others - known))
        signed = (probes.signs for probes in shapes.words.values() if probes.signed)
        self._signs = sorted({bytes(sorted(signs)) for signs in signed})
        self._terms = Terms()

    def tables(self) -> dict[str, Octets]:
        """All of them."""
        rows = Rows()
        number = {word: rows.word(word) for word in self._every}
        entries = bytearray()
        for word, row in zip(self._every, ENTRY.iter_unpack(bytes(rows.entries)), strict=True):
            pairs = {number[other]: sides for other, sides in _sides(self._shapes.pairs.get(word))}
            phrases = self._lexicon.anchored.get(word, _NO_PHRASES)
            first, count = rows.neighbours(pairs, phrases, number, self._terms)
            traits, near, far, signs = self._traits(word)
            term = self._terms.number(self._lexicon.singles.get(word))
            entries += ENTRY.pack(row[0], first, len(word), count, near, far, term, traits, signs)
        rows.entries = entries
        terms = json.dumps(self._terms.told).encode()
        signs_table = b"".join(map(_as_bits, self._signs))
        return {**rows.tables(), **Index(self._every).tables(), "signs": signs_table, "terms": terms}

    def _traits(self, word: bytes) -> tuple[int, int, int, int]:
        """What a word is, as bits; how far a digit must stand, or the ends of its line; which set of signs it has."""
        traits = NAMED if word in NAMED_UNCAPITALISED else 0
        traits |= KNOWN if word in self._known else 0
        traits |= TERM if word in self._lexicon.singles else 0
        traits |= SIGN if word in SIGNS else 0
        traits |= NAME if word in self._names else 0
        probes = self._shapes.words.get(word)
        line = zones.CLOSES_WITHIN if word in zones.CLOSES and word not in tables.ANCHORS else 0
        if probes is None:
            return traits, line, 0, 0
        traits |= (TOLD if probes.told else 0) | (FREE if probes.free else 0) | (CAPITAL if probes.capital else 0)
        signs = self._signs.index(bytes(sorted(probes.signs))) + 1 if probes.signed else 0
        return traits, probes.near if probes.told else line, probes.far, signs


def _sides(pairs: PairProbes | None) -> Iterator[tuple[bytes, int]]:
    """The words beside which shapes of a word stand, and on which sides, as bits."""
    if pairs is not None:
        for word in {*pairs.before, *pairs.after}:
            yield word, (_PAIR_BEFORE if word in pairs.before else 0) | (_PAIR_AFTER if word in pairs.after else 0)


def _as_bits(signs: bytes) -> bytes:
    bits = bytearray(_OF_SIGNS)
    for sign in signs:
        bits[sign >> 3] |= 1 << (sign & 7)
    return bytes(bits)
