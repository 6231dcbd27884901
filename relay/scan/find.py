"""Everything that is evidence in one text: shapes, names and terms, each with its weight where it stands."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan import alone, bonds, tables, zones
from relay.scan.detector import Detector
from relay.scan.endings import EndingFinder
from relay.scan.everywhere import EverywhereFinder
from relay.scan.lexicon import Lexicon
from relay.scan.model import Hit, Term, Weights
from relay.scan.names import LABELS, NameFinder
from relay.scan.shapes import ShapeFinder, ShapeSearch
from relay.scan.terms import TermFinder, Tried
from relay.scan.tokens import Tokens
from relay.scan.told import Teller
from relay.scan.vocabulary import PAIR, PROBES, SIGN, Known, NativeVocabulary, PlainVocabulary, Vocabularies
from relay.scan.way import NATIVE
from relay.scan.word_sources import SIGNS
from relay.scan.word_tables import WordTables

if NATIVE:
    from relay.scan import _native

_DENSE: Final = 20  # different terms of one word in some thousand characters
_HEALTH: Final = FindingGroup.HEALTH
_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_START: Final = itemgetter(2)
_END: Final = itemgetter(3)
_MOST_MARKED: Final = 200
_MARKED: Final = b"\1" * _MOST_MARKED
_new = tuple.__new__  # makes a named tuple without the detour over its signature: there are hundreds in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class FindLimits:
    """What is gathered from one message (law 6).

    Attributes:
        words: words of a lexicon or table of names looked at; more add nothing to a verdict that is long certain.
    """

    words: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What finds.

    Attributes:
        lexicon: words and phrases of health context; compiled for the way in C.
        names: finds persons.
        shapes: finds numbers, dates, codes.
        endings: finds words by how medicine builds them.
        teller: tells whom words of health are about.
        own: the operator's patterns.
        detectors: of installed packages.
    """

    lexicon: Lexicon | WordTables
    names: NameFinder
    shapes: ShapeFinder
    endings: EndingFinder
    teller: Teller
    own: EverywhereFinder
    detectors: Sequence[Detector] = ()


class Finder:
    """Finds evidence. Stateless after construction."""

    def __init__(
        self,
        instruments: Instruments,
        weights: Weights,
        excludes: Callable[[bytes], bool] | None = None,
        limits: FindLimits | None = None,
    ) -> None:
        self._use = instruments
        self._apart = _native.apart if isinstance(instruments.lexicon, WordTables) else _apart
        self._weights = weights
        self._excludes = excludes
        self._limits = limits or FindLimits()
        self._terms = TermFinder(_vocabulary(instruments), instruments.names)

    def is_dense(self, text: str) -> bool:
        """Whether a text names so many different things of health as records do, and little else."""
        return self._terms.count(text) >= _DENSE

    def find(self, text: str) -> list[Hit]:
        """Identifiers first, then the rest, each in order of place."""
        tokens = Tokens(text, self._terms.split)
        data = tokens.data
        search = self._use.shapes.search(data, tokens.lower)
        marked: list[tuple[int, bytes]] = []
        listed, tried = self._terms.find(tokens, self._limits.words)
        cells = self._tried(data, tried, search, marked)
        hits = self._apart([*self._own(data), *cells, *self._shape_hits(search)], listed, len(data))
        if guessed := self._guessed(tokens, hits):
            hits += guessed
            hits.sort(key=_START)
        hits = alone.weighed(hits, len(data), self._weights)
        told = self._use.teller.told(hits, tokens)
        hits = told if told is hits else sorted(told, key=_START)
        hits = zones.without_boilerplate(hits, data, marked)
        identifiers = [hit for hit in hits if hit[1] is _IDENTIFIER]
        if identifiers:
            hits = [hit for hit in hits if hit[1] is not _IDENTIFIER]
            hits = bonds.tied(identifiers, hits, data, self._weights.bond) + hits
        return self._with_detected(hits, text, data) if self._use.detectors else hits

    def _with_detected(self, hits: list[Hit], text: str, data: bytes) -> list[Hit]:
        hits += [
            Hit(found.kind, found.group, found.start, found.end, min(max(found.weight, 0.0), 1.0),
                data[found.start : found.end].upper(), found.sensitive)
            for detector in self._use.detectors
            for found in detector.find(text)
        ]  # fmt: skip
        return sorted(hits, key=lambda hit: (hit.group is not _IDENTIFIER, hit.start))

    def _own(self, data: bytes) -> list[Hit]:
        return [
            Hit(
                shape.kind,
                shape.group,
                start,
                end,
                self._weight(shape.kind, shape.group),
                value.upper(),
                shape.sensitive,
            )
            for shape, start, end, value in self._use.own.find(data)
            if self._excludes is None or not self._excludes(value)
        ]

    def _shape_hits(self, search: ShapeSearch) -> list[Hit]:
        return [
            _new(Hit, (kind, shape.group, start, end, self._weight(kind, shape.group), value.upper(), shape.sensitive))
            for _, start, end, kind, value, shape in search.by_outline()
            if self._excludes is None or not self._excludes(value)
        ]

    def _guessed(self, tokens: Tokens, hits: Sequence[Hit]) -> list[Hit]:
        health = self._weights.health
        starts = list(map(_START, hits))

        def is_taken(start: int, end: int) -> bool:
            before = bisect_left(starts, end)
            return before > 0 and hits[before - 1][3] > start

        return [
            _new(Hit, (kind, _HEALTH, start, end, health[kind], value.upper(), ""))
            for kind, start, end, value in self._use.endings.find(tokens, is_taken)
            if self._excludes is None or not self._excludes(value)
        ]

    def _weight(self, kind: str, group: FindingGroup) -> float:
        if group is _IDENTIFIER:
            return self._weights.identifiers[kind]
        return self._weights.health[kind] if group is _HEALTH else 0.0

    def _tried(
        self, data: bytes, tried: Iterable[Tried], search: ShapeSearch, marked: list[tuple[int, bytes]]
    ) -> list[Hit]:
        """Try the shapes that words anchor, gather marks; the cells of tables."""
        cells: list[Hit] = []
        table_end = 0
        for why, place, known, previous, following in tried:
            word, _, probes, pairs, _ = known
            if pairs is not None and why & PAIR:
                search.at_pair(pairs, place, previous, following)
            if probes is not None and why & PROBES:
                search.at_word(probes, place, place + len(word), following)
            if why & SIGN:
                if word in zones.MARKS:
                    marked.append((place, word))
                if word in tables.ANCHORS and place >= table_end:
                    table_end = self._cells(data, place, cells)
        return cells

    def _cells(self, data: bytes, place: int, cells: list[Hit]) -> int:
        """Take the table whose head has its label at this place; where it ends."""
        header = tables.header_at(data, place)
        if header is None:
            return place
        found, end = tables.rows(data, *header)
        for kind, first, last in found:
            value = data[first:last]
            if self._excludes is None or not self._excludes(value):
                cells.append(Hit(kind, _IDENTIFIER, first, last, self._weights.identifiers[kind], value.upper()))
        return end


def _vocabulary(use: Instruments) -> NativeVocabulary | PlainVocabulary:
    """What words are known for."""
    lexicon, names, shapes = use.lexicon, use.names, use.shapes
    if isinstance(lexicon, WordTables):
        return NativeVocabulary(lexicon, shapes)
    terms: dict[Term, tuple[str, float, str]] = {}  # each kept once
    singles = lexicon.singles

    def known(word: bytes) -> Known:
        term = singles.get(word)
        told = terms.setdefault(term, (term.kind, term.weight, term.sensitive)) if term is not None else None
        return Known(word, told, shapes.words.get(word), shapes.pairs.get(word), word in LABELS)

    anchors = lexicon.vocabulary | names.vocabulary | shapes.words.keys() | shapes.pairs.keys() | SIGNS
    return PlainVocabulary(
        Vocabularies(
            known={word: known(word) for word in anchors},
            phrases=lexicon.anchored,
            signs=SIGNS,
            names=names.vocabulary,
        )
    )


def _apart(first: list[Hit], listed: list[Hit], size: int) -> list[Hit]:
    """What stands where nothing before it in both lists does, by place; ``listed`` is in order and nowhere twice."""
    if not first:
        return listed
    first = _first_come(first, size)
    starts, ends = list(map(_START, listed)), list(map(_END, listed))
    taken = {
        number
        for _, _, start, end, _, _, _ in first
        for number in range(bisect_right(ends, start), bisect_left(starts, end))
        if start < end
    }
    if taken:
        listed = [hit for number, hit in enumerate(listed) if number not in taken]
    return sorted(first + listed, key=_START)


def _first_come(found: Iterable[Hit], size: int) -> list[Hit]:
    """Those that stand where nothing is spoken for yet; each speaks for its place."""
    marks = bytearray(size)
    hits = []
    for hit in found:
        _, _, start, end, _, _, _ = hit
        if marks.find(1, start, end) < 0:
            marks[start:end] = _MARKED[: end - start] if end - start < _MOST_MARKED else b"\1" * (end - start)
            hits.append(hit)
    return hits
