"""Everything that is evidence in one text: shapes, names and terms, each with its weight where it stands."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import itemgetter
from typing import Final, NamedTuple

from relay.core.phi import FindingGroup
from relay.scan import tables, zones
from relay.scan.detector import Detector
from relay.scan.endings import EndingFinder
from relay.scan.everywhere import EverywhereFinder
from relay.scan.lexicon import FOLD, Lexicon, Phrases
from relay.scan.model import Hit, Term, Weights
from relay.scan.names import LABELS, NAMED_UNCAPITALISED, NameFinder
from relay.scan.shapes import Probe, ShapeFinder, ShapeSearch
from relay.scan.tokens import Tokens

_SAID_AGAIN: Final = 25  # words: a term said again so soon adds nothing to any window
_CAPITALS_END: Final = 91
_HEALTH: Final = FindingGroup.HEALTH
_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_BY_PLACE: Final = itemgetter(2)
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


class _Word(NamedTuple):
    """What is known of a word: one look-up tells it."""

    padded: bytes
    term: Term | None
    phrases: Phrases | None
    is_name: bool
    heads_table: bool
    is_mark: bool
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What finds.

    Attributes:
        lexicon: words and phrases of health context.
        names: finds persons.
        shapes: finds numbers, dates, codes.
        endings: finds words by how medicine builds them.
        own: the operator's patterns.
        detectors: of installed packages.
    """

    lexicon: Lexicon
    names: NameFinder
    shapes: ShapeFinder
    endings: EndingFinder
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
        self._weights = weights
        self._excludes = excludes
        self._limits = limits or FindLimits()
        lexicon, names, shapes = instruments.lexicon, instruments.names, instruments.shapes
        self._words = {
            word: _Word(
                b" %b " % word, lexicon.singles.get(word), lexicon.anchored.get(word), word in names.vocabulary,
                word in tables.ANCHORS, word in zones.MARKS, shapes.words.get(word, ()),
            )
            for word in lexicon.vocabulary | names.vocabulary | shapes.words.keys() | tables.ANCHORS | zones.MARKS
        }  # fmt: skip
        self._known = self._words.__contains__

    def find(self, text: str) -> list[Hit]:
        """Identifiers first, then the rest, each in order of place."""
        tokens = Tokens(text)
        data = tokens.data
        search = self._use.shapes.search(data)
        marked: list[tuple[int, bytes]] = []
        listed, cells = self._word_hits(tokens, search, marked)
        marks = bytearray(len(data))
        hits: list[Hit] = []
        _take((*self._own(data), *cells, *self._shape_hits(search), *listed), marks, hits)
        _take(self._guessed(data, marks), marks, hits)
        hits = zones.without_boilerplate(hits, data, marked)
        hits += self._detected(text, data)
        hits.sort(key=_BY_PLACE)
        identifiers = [hit for hit in hits if hit.group is _IDENTIFIER]
        return identifiers + [hit for hit in hits if hit.group is not _IDENTIFIER] if identifiers else hits

    def _detected(self, text: str, data: bytes) -> list[Hit]:
        return [
            Hit(found.kind, found.group, found.start, found.end, min(max(found.weight, 0.0), 1.0),
                data[found.start : found.end].upper(), found.sensitive)
            for detector in self._use.detectors
            for found in detector.find(text)
        ]  # fmt: skip

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

    def _guessed(self, data: bytes, marks: bytearray) -> Iterable[Hit]:
        health = self._weights.health
        for kind, start, end, value in self._use.endings.find(data, marks):
            if self._excludes is None or not self._excludes(value):
                yield Hit(kind, _HEALTH, start, end, health[kind], value.upper())

    def _weight(self, kind: str, group: FindingGroup) -> float:
        if group is _IDENTIFIER:
            return self._weights.identifiers[kind]
        return self._weights.health[kind] if group is _HEALTH else 0.0

    def _word_hits(
        self, tokens: Tokens, search: ShapeSearch, marked: list[tuple[int, bytes]]
    ) -> tuple[list[Hit], list[Hit]]:
        """Terms and names, and cells of tables; shapes anchored by words are tried, and marks gathered, in passing."""
        words, padded, table = [*tokens.words, b""], tokens.padded, self._words
        hits: list[Hit] = []
        cells: list[Hit] = []
        said: dict[bytes, int] = {}
        upto = after = table_end = 0
        for index in list(compress(count(), map(self._known, words)))[: self._limits.words]:
            word = words[index]
            needle, term, phrases, is_name, heads_table, is_mark, probes = table[word]
            place = padded.find(needle, after)
            after = place + len(word)
            if probes:
                search.at_word(probes, words, index, place)
            if is_mark:
                marked.append((place, word))
            if heads_table and place >= table_end:
                table_end = self._cells(tokens.data, place, cells)
            if index < upto:
                continue
            found = phrases.around(words, index) if phrases is not None else None
            if found is not None:
                first, phrase, meaning = found
                hit = _phrase_hit(tokens, place, index - first, phrase, meaning)
                while hits and hits[-1].start >= hit.start:
                    hits.pop()  # a word of the phrase that stood for itself until now
                hits.append(hit)
                upto = first + len(phrase)
            elif term is not None:
                if index - said.get(word, -_SAID_AGAIN) < _SAID_AGAIN:
                    continue
                said[word] = index
                hits.append(_new(Hit, (term.kind, _HEALTH, place, after, term.weight, word, term.sensitive)))
                if word in LABELS and (name := self._use.names.labelled(tokens, index, after)):
                    hits.append(name)
                    upto = index + 2
            elif is_name and (name := self._name(tokens, index, place)):
                hits.append(name)
                upto = index + len(tokens.data[place : name.end].translate(FOLD).split())
        return hits, cells

    def _name(self, tokens: Tokens, index: int, place: int) -> Hit | None:
        if tokens.data[place] < _CAPITALS_END or tokens.words[index - 1] in NAMED_UNCAPITALISED:
            return self._use.names.at(tokens, index, place)
        return None

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


def _phrase_hit(tokens: Tokens, place: int, anchor: int, phrase: tuple[bytes, ...], term: Term) -> Hit:
    """The hit for a phrase whose anchor stands at ``place``."""
    start = place
    for word in reversed(phrase[:anchor]):
        start = tokens.place_before(word, start)
    for word in phrase[anchor + 1 :]:
        place = tokens.place(word, place + 1)
    end = place + len(phrase[-1])
    return _new(Hit, (term.kind, _HEALTH, start, end, term.weight, b" ".join(phrase), term.sensitive))


def _take(found: Iterable[Hit], marks: bytearray, hits: list[Hit]) -> None:
    """Keep what stands where nothing is spoken for, and speak for it."""
    for hit in found:
        _, _, start, end, _, _, _ = hit
        if marks.find(1, start, end) < 0:
            marks[start:end] = _MARKED[: end - start] if end - start < _MOST_MARKED else b"\1" * (end - start)
            hits.append(hit)
