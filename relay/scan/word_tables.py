"""The scan's words in tables: written, read where they lie, and changed for an operator."""

import json
from array import array
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from struct import error as StructError  # noqa: N812  as classes are written
from sys import intern

from relay.scan.compiled import BESIDE, ENTRY, NAMES, PHRASE, WORDS, DamagedTablesError, Index, Octets, hash_of, unpack
from relay.scan.lexicon import Phrases, Window, anchor_of
from relay.scan.model import Term
from relay.scan.way import NATIVE

if NATIVE:
    from relay.scan import _native

KNOWN, TERM, SIGN, NAME, NAMED, TOLD, FREE, CAPITAL = (1 << bit for bit in range(8))
"""What a word is, as bits; as native.h has them."""
Told = tuple[str, float, str]
"""A term: kind, weight, specially protected kind."""


class Rows:
    """The tables of words while they are written, from the beginning or behind others."""

    def __init__(self, tables: Mapping[str, Octets] | None = None) -> None:
        before = tables or {}
        self.arena = bytearray(before.get("arena", b""))
        self.entries = bytearray(before.get("entries", b""))
        self.beside = bytearray(before.get("beside", b""))
        self.phrases = bytearray(before.get("phrases", b""))
        self.parts = array("I", bytes(before.get("parts", b"")))

    def word(self, word: bytes) -> int:
        """Add a word that is not there; its number from 1."""
        self.entries += ENTRY.pack(len(self.arena), 0, len(word), 0, 0, 0, 0, 0, 0)
        self.arena += word
        return len(self.entries) // ENTRY.size

    def neighbours(
        self, pairs: Mapping[int, int], phrases: Phrases, number: Mapping[bytes, int], term: "Terms"
    ) -> tuple[int, int]:
        """Add what stands beside a word: from where on, how many.

        Args:
            pairs: sides on which shapes want a word, by its number.
            phrases: those that it anchors.
            number: of each word in them.
            term: the number of a term.
        """
        first = len(self.beside) // BESIDE.size
        by_number = {number[word]: word for word in (*phrases.before, *phrases.after)}
        near = sorted(by_number.keys() | pairs.keys())
        for place in near:
            word = by_number.get(place, b"")
            before, after = phrases.before.get(word, ()), phrases.after.get(word, ())
            start = len(self.phrases) // PHRASE.size
            self.beside += BESIDE.pack(place, start, len(before), len(after), pairs.get(place, 0))
            for phrase in (*before, *after):
                self.phrases += PHRASE.pack(
                    len(self.parts), phrase.rank, phrase.before, phrase.size, term.number(phrase.term)
                )
                self.parts.extend(map(number.__getitem__, phrase.words))
        return first, len(near)

    def tables(self) -> dict[str, Octets]:
        """As they are now."""
        return {
            "arena": self.arena,
            "entries": self.entries,
            "beside": self.beside,
            "phrases": self.phrases,
            "parts": self.parts.tobytes(),
        }


class Terms:
    """Terms by number, from 1."""

    def __init__(self, told: Iterable[Told] = ()) -> None:
        self.told = list(told)
        self._numbers = {told: number for number, told in enumerate(self.told, 1)}

    def number(self, term: Term | None) -> int:
        """The number of a term, a new one where it has none; 0 for none."""
        if term is None:
            return 0
        told = (term.kind, term.weight, term.sensitive)
        if told not in self._numbers:
            self.told.append(told)
            self._numbers[told] = len(self.told)
        return self._numbers[told]


def open_tables(image: memoryview, digest: bytes) -> "WordTables | None":
    """The tables of a file, or None where it was made of other sources.

    Raises:
        DamagedTablesError: it is not whole.
    """
    found = unpack(image, digest)
    if found is None:
        return None
    try:
        told = json.loads(bytes(found["terms"]))
        terms = tuple((intern(kind), float(weight), intern(sensitive)) for kind, weight, sensitive in told)
    except (ValueError, TypeError) as error:
        raise DamagedTablesError("its terms cannot be read") from error
    if NATIVE:
        try:
            _native.Vocabulary(len(terms), None, None, *map(found.__getitem__, WORDS))
        except ValueError as error:
            raise DamagedTablesError(str(error)) from error
    return WordTables(found, terms)


@dataclass(frozen=True)
class WordTables:
    """Words where they lie, looked up without the C part: for what is asked seldom.

    Attributes:
        tables: by name.
        terms: by number, from 1.
    """

    tables: Mapping[str, Octets]
    terms: tuple[Told, ...]

    @cached_property
    def _number(self) -> "_Numbers":
        return _Numbers(self.tables)

    def number(self, word: bytes) -> int:
        """The number of a word, from 1; 0: it is not there."""
        return self._number.find(word)

    def word(self, number: int) -> bytes:
        """The word of this number."""
        place, _, size, *_ = self._entry(number)
        return bytes(self.tables["arena"][place : place + size])

    def told(self, number: int) -> Told | None:
        """What a word is as a term."""
        term = self._entry(number)[6]
        return self.terms[term - 1] if term else None

    def phrase(self, number: int) -> tuple[bytes, Told]:
        """The words of a phrase, a space between each, and what it is as a term."""
        first, _, _, size, term = PHRASE.unpack_from(self.tables["phrases"], (number - 1) * PHRASE.size)
        parts = memoryview(self.tables["parts"]).cast("B")[4 * first : 4 * (first + size)].cast("I")
        return b" ".join([self.word(part) for part in parts]), self.terms[term - 1]

    def listed(self, lists: int) -> Container[bytes]:
        """The names on any of some lists, told by their bits.

        Raises:
            DamagedTablesError: a number in the tables leads outside.
        """
        try:
            return _native.Names(lists, *map(self.tables.__getitem__, NAMES))
        except ValueError as error:
            raise DamagedTablesError(str(error)) from error

    def nobody(self) -> frozenset[bytes]:
        """Words of no name."""
        return frozenset(bytes(self.tables["nobody"]).split())

    def tuned(
        self, terms: Iterable[tuple[tuple[bytes, ...], Term]], excluded: Collection[tuple[bytes, ...]]
    ) -> "WordTables":
        """With terms added and others taken out, as :meth:`relay.scan.lexicon.Lexicon.tuned`.

        What changes is copied, 1 to 3 MB; the rest is shared.

        Raises:
            OverflowError: a term is longer, or more of them stand around one word, than a row has room for.
        """
        changes: dict[tuple[bytes, ...], Term | None] = dict(terms)
        changes |= dict.fromkeys(excluded)
        try:
            return _Changed(self, changes).tables() if changes else self
        except StructError as error:
            raise OverflowError("more than 65,535 octets or words in a term, or terms around a word") from error

    def _entry(self, number: int) -> tuple[int, ...]:
        return ENTRY.unpack_from(self.tables["entries"], (number - 1) * ENTRY.size)

    def anchored(self, number: int) -> tuple[dict[tuple[bytes, ...], tuple[Window, Term]], dict[int, int]]:
        """The phrases that a word anchors, and the sides on which its shapes want a word, by its number."""
        _, first, _, count, *_ = self._entry(number)
        phrases, pairs = {}, {}
        for row in range(first, first + count):
            word, start, before, after, sides = BESIDE.unpack_from(self.tables["beside"], row * BESIDE.size)
            if sides:
                pairs[word] = sides
            for place in range(start + 1, start + before + after + 1):
                _, _, shift, size, _ = PHRASE.unpack_from(self.tables["phrases"], (place - 1) * PHRASE.size)
                text, (kind, weight, sensitive) = self.phrase(place)
                phrases[tuple(text.split())] = ((shift, size), Term(kind=kind, weight=weight, sensitive=sensitive))
        return phrases, pairs


class _Numbers:
    """Finds words by the index where it lies."""

    def __init__(self, tables: Mapping[str, Octets]) -> None:
        self._arena, self._entries = tables["arena"], tables["entries"]
        self._prints = memoryview(tables["prints"]).cast("B").cast("H")
        self._slots = memoryview(tables["slots"]).cast("B").cast("I")

    def find(self, word: bytes) -> int:
        hashed, mask = hash_of(word), len(self._slots) - 1
        slot = (hashed >> 16) & mask
        while print_ := self._prints[slot]:
            if print_ == (hashed >> 48 or 1):
                number = self._slots[slot]
                place, _, size, *_ = ENTRY.unpack_from(self._entries, (number - 1) * ENTRY.size)
                if self._arena[place : place + size] == word:
                    return number
            slot = (slot + 1) & mask
        return 0


class _Changed:
    """Writes what changes behind what is there."""

    def __init__(self, base: WordTables, changes: Mapping[tuple[bytes, ...], Term | None]) -> None:
        self._base = base
        self._rows = Rows(base.tables)
        self._terms = Terms(base.terms)
        self._number: dict[bytes, int] = {}
        self._new: list[bytes] = []
        singles = {words[0]: term for words, term in changes.items() if len(words) == 1}
        phrases: dict[bytes, dict[tuple[bytes, ...], Term | None]] = {}
        for several, term in changes.items():
            if len(several) > 1 and (term is not None or all(map(base.number, several))):
                phrases.setdefault(anchor_of(several), {})[several] = term
        for word, term in singles.items():
            if term is not None or base.number(word):
                self._single(word, term)
        for word, own in phrases.items():
            self._anchor(word, own)

    def tables(self) -> WordTables:
        """Them all, those that are as before shared."""
        tables = {**self._base.tables, **self._rows.tables()}
        if self._new:
            tables |= Index(list(self._every())).tables()
        shared = {name: self._base.tables[name] for name, own in tables.items() if own == self._base.tables[name]}
        return WordTables(
            {name: bytes(own) for name, own in tables.items() if name not in shared} | shared, tuple(self._terms.told)
        )

    def _every(self) -> Iterator[bytes]:
        for row in ENTRY.iter_unpack(bytes(self._rows.entries)):
            yield bytes(self._rows.arena[row[0] : row[0] + row[2]])

    def _of(self, word: bytes) -> int:
        """The number of a word, which is added where it is not there."""
        number = self._number.get(word) or self._base.number(word)
        if not number:
            number = self._rows.word(word)
            self._new.append(word)
        self._number[word] = number
        return number

    def _write(self, number: int, **changed: int) -> None:
        """Change what a word is: its term, its neighbours."""
        place, first, size, count, near, far, term, traits, signs = ENTRY.unpack_from(
            self._rows.entries, (number - 1) * ENTRY.size
        )
        first, count, term = changed.get("first", first), changed.get("count", count), changed.get("term", term)
        traits = traits & ~(KNOWN | TERM) | (TERM if term else 0)
        if traits & ~NAMED or count or signs:
            traits |= KNOWN
        row = (place, first, size, count, near, far, term, traits, signs)
        ENTRY.pack_into(self._rows.entries, (number - 1) * ENTRY.size, *row)

    def _single(self, word: bytes, term: Term | None) -> None:
        self._write(self._of(word), term=self._terms.number(term))

    def _anchor(self, word: bytes, own: Mapping[tuple[bytes, ...], Term | None]) -> None:
        number = self._of(word)
        before = self._base.number(word)
        phrases, pairs = self._base.anchored(before) if before else ({}, {})
        for several, term in own.items():
            if term is None:
                phrases.pop(several, None)
            else:
                phrases[several] = ((several.index(word), len(several)), term)
        numbers = {part: self._of(part) for several in phrases for part in several}
        anchored = Phrases((window, several, term) for several, (window, term) in phrases.items())
        first, count = self._rows.neighbours(pairs, anchored, numbers, self._terms)
        self._write(number, first=first, count=count)
