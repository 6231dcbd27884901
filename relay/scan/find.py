"""Everything that is evidence in one text: shapes, names and terms, each with its weight where it stands."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import itemgetter
from typing import Any, Final, NamedTuple

from relay.core.phi import FindingGroup
from relay.scan import bonds, tables, zones
from relay.scan.detector import Detector
from relay.scan.endings import EndingFinder
from relay.scan.everywhere import EverywhereFinder
from relay.scan.lexicon import Lexicon, Phrase, Phrases
from relay.scan.model import Hit, Term, Weights
from relay.scan.names import LABELS, NAMED_UNCAPITALISED, NameFinder
from relay.scan.shapes import Probe, ShapeFinder, ShapeSearch
from relay.scan.tokens import Tokens
from relay.scan.told import Teller

_SAID_AGAIN: Final = 25  # words: a term said again so soon adds nothing to any window
_CAPITALS_END: Final = 91
_HEALTH: Final = FindingGroup.HEALTH
_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_BY_PLACE: Final = itemgetter(2)
_MOST_MARKED: Final = 200
_MARKED: Final = b"\1" * _MOST_MARKED
_PLACES: Final = tuple(range(4096))
"""The indexes of most messages' words: to count anew is to make each number anew."""
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
    size: int
    term: Term | None
    phrases: Phrases | None
    is_name: bool
    is_label: bool
    is_sign: bool
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What finds.

    Attributes:
        lexicon: words and phrases of health context.
        names: finds persons.
        shapes: finds numbers, dates, codes.
        endings: finds words by how medicine builds them.
        teller: tells whom words of health are about.
        own: the operator's patterns.
        detectors: of installed packages.
    """

    lexicon: Lexicon
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
        self._weights = weights
        self._excludes = excludes
        self._limits = limits or FindLimits()
        lexicon, names, shapes = instruments.lexicon, instruments.names, instruments.shapes
        self._words = {
            word: _Word(
                b" %b " % word, len(word), lexicon.singles.get(word), lexicon.anchored.get(word),
                word in names.vocabulary, word in LABELS, word in tables.ANCHORS or word in zones.MARKS,
                shapes.words.get(word, ()),
            )
            for word in lexicon.vocabulary | names.vocabulary | shapes.words.keys() | tables.ANCHORS | zones.MARKS
        }  # fmt: skip
        self._known = self._words.get

    def find(self, text: str) -> list[Hit]:
        """Identifiers first, then the rest, each in order of place."""
        tokens = Tokens(text)
        data = tokens.data
        search = self._use.shapes.search(data, tokens.lower)
        marked: list[tuple[int, bytes]] = []
        listed, cells = self._word_hits(tokens, search, marked)
        marks = bytearray(len(data))
        hits: list[Hit] = []
        _take((*self._own(data), *cells, *self._shape_hits(search), *listed), marks, hits)
        _take(self._guessed(data, marks), marks, hits)
        hits = self._use.teller.told(hits, data, tokens.lower, marks)
        hits = zones.without_boilerplate(hits, data, marked)
        hits = bonds.tied(hits, data, self._weights.bond)
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
        words, padded = [*tokens.words, b""], tokens.padded
        hits: list[Hit] = []
        cells: list[Hit] = []
        said: dict[bytes, int] = {}
        upto = after = table_end = 0
        known: list[Any] = list(map(self._known, words))
        indexes = _PLACES if len(known) <= len(_PLACES) else count()
        for index in list(compress(indexes, known))[: self._limits.words]:
            needle, size, term, phrases, is_name, is_label, is_sign, probes = known[index]
            place = padded.find(needle, after)
            after = place + size
            if probes:
                search.at_word(probes, words, index, place)
            if is_sign:
                table_end = self._sign(tokens.data, words[index], place, table_end, marked, cells)
            if index < upto:
                continue
            if phrases is not None and (words[index - 1] in phrases.before or words[index + 1] in phrases.after):
                phrase = phrases.around(words, index)
                if phrase is not None:
                    hit = _phrase_hit(tokens, place, phrase)
                    while hits and hits[-1].start >= hit.start:
                        hits.pop()  # a word of the phrase that stood for itself until now
                    hits.append(hit)
                    upto = index - phrase.before + phrase.size
                    continue
            if term is not None:
                word = words[index]
                if index - said.get(word, -_SAID_AGAIN) < _SAID_AGAIN:
                    continue
                said[word] = index
                hits.append(_new(Hit, (term.kind, _HEALTH, place, after, term.weight, word, term.sensitive)))
                if is_label and (name := self._use.names.labelled(tokens, index, after)):
                    hits.append(name)
                    upto = index + 2
            elif is_name and (name := self._name(tokens, index, place)):
                hits.append(name)
                upto = index + len(padded[place : name.end + 1].split())
        return hits, cells

    def _name(self, tokens: Tokens, index: int, place: int) -> Hit | None:
        if tokens.data[place] < _CAPITALS_END or tokens.words[index - 1] in NAMED_UNCAPITALISED:
            return self._use.names.at(tokens, index, place)
        return None

    def _sign(
        self, data: bytes, word: bytes, place: int, table_end: int, marked: list[tuple[int, bytes]], cells: list[Hit]
    ) -> int:
        """Note a mark, take the table that begins here; where the last table ends."""
        if word in zones.MARKS:
            marked.append((place, word))
        return self._cells(data, place, cells) if word in tables.ANCHORS and place >= table_end else table_end

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


def _phrase_hit(tokens: Tokens, place: int, phrase: Phrase) -> Hit:
    """The hit for a phrase whose anchor stands at ``place``."""
    start = place - phrase.shift
    if start >= 0 and tokens.padded.startswith(phrase.padded, start):
        end = start + len(phrase.text)
    else:
        start, end = _spread(tokens, place, phrase)
    term = phrase.term
    return _new(Hit, (term.kind, _HEALTH, start, end, term.weight, phrase.text, term.sensitive))


def _spread(tokens: Tokens, place: int, phrase: Phrase) -> tuple[int, int]:
    """Where a phrase stands between whose words is more than a space."""
    start = place
    for word in reversed(phrase.words[: phrase.before]):
        start = tokens.place_before(word, start)
    for word in phrase.words[phrase.before + 1 :]:
        place = tokens.place(word, place + 1)
    return start, place + len(phrase.words[-1])


def _take(found: Iterable[Hit], marks: bytearray, hits: list[Hit]) -> None:
    """Keep what stands where nothing is spoken for, and speak for it."""
    for hit in found:
        _, _, start, end, _, _, _ = hit
        if marks.find(1, start, end) < 0:
            marks[start:end] = _MARKED[: end - start] if end - start < _MOST_MARKED else b"\1" * (end - start)
            hits.append(hit)
