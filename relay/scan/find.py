"""Everything that is evidence in one text: shapes, names and terms, each with its weight where it stands."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

from relay.core.phi import FindingGroup
from relay.scan import bonds, tables, zones
from relay.scan.detector import Detector
from relay.scan.endings import EndingFinder
from relay.scan.everywhere import EverywhereFinder
from relay.scan.lexicon import Lexicon, Phrase, Phrases, words_of
from relay.scan.model import Hit, Term, Weights
from relay.scan.names import LABELS, NAMED_UNCAPITALISED, NameFinder
from relay.scan.shapes import PairProbes, ShapeFinder, ShapeSearch, WordProbes
from relay.scan.tokens import Tokens
from relay.scan.told import Teller

_SAID_AGAIN: Final = 25  # words: a term said again so soon adds nothing to any window
_CAPITALS_END: Final = 91
_DENSE: Final = 20  # different terms of one word in some thousand characters
_HEALTH: Final = FindingGroup.HEALTH
_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_IS_KNOWN: Final = itemgetter(1)
_START: Final = itemgetter(2)
_END: Final = itemgetter(3)
_MOST_MARKED: Final = 200
_MARKED: Final = b"\1" * _MOST_MARKED
_NO_PHRASES: Final = Phrases(())
_new = tuple.__new__  # makes a named tuple without the detour over its signature: there are hundreds in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class FindLimits:
    """What is gathered from one message (law 6).

    Attributes:
        words: words of a lexicon or table of names looked at; more add nothing to a verdict that is long certain.
    """

    words: int = 20_000


class _Word(NamedTuple):
    """What is known of a word: one look-up tells it, and all of it lies together, as it is seldom in a cache.

    Attributes:
        padded: it with a space before and after.
        size: its length.
        beside: words of which one stands beside it in its phrases and pairs: most anchors stand beside none of those.
        phrases: those of which it is the anchor.
        pairs: the shapes of which it is the anchor beside certain words.
        is_passed: whether it is nothing by itself, only an anchor: without a word of ``beside`` it is passed over.
        term: it as a term, told by its kind, weight and specially protected kind.
        probes: the shapes of which it is the anchor whatever stands beside it.
        is_sign, is_name, is_label: the head of a table or a mark of a zone; a name or title; a label of a name.
    """

    padded: bytes
    size: int
    beside: frozenset[bytes]
    phrases: Phrases
    pairs: PairProbes | None
    is_passed: bool
    term: tuple[str, float, str] | None
    probes: WordProbes | None
    is_sign: bool
    is_name: bool
    is_label: bool


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
        terms: dict[Term, tuple[str, float, str]] = {}  # each kept once
        self._words = {
            word: self._word(word, terms)
            for word in lexicon.vocabulary
            | names.vocabulary
            | shapes.words.keys()
            | shapes.pairs.keys()
            | tables.ANCHORS
            | zones.MARKS
        }
        self._known = self._words.get

    def _word(self, word: bytes, terms: dict[Term, tuple[str, float, str]]) -> _Word:
        use = self._use
        term, pairs = use.lexicon.singles.get(word), use.shapes.pairs.get(word)
        phrases = use.lexicon.anchored.get(word, _NO_PHRASES)
        beside = frozenset(phrases.before) | phrases.after.keys()
        if pairs is not None:
            beside |= pairs.before.keys() | pairs.after.keys()
        alone = (
            terms.setdefault(term, (term.kind, term.weight, term.sensitive)) if term is not None else None,
            use.shapes.words.get(word),
            word in tables.ANCHORS or word in zones.MARKS,
            word in use.names.vocabulary,
            word in LABELS,
        )
        return _Word(b" %b " % word, len(word), beside, phrases, pairs, not any(alone), *alone)

    def is_dense(self, text: str) -> bool:
        """Whether a text names so many different things of health as records do, and little else."""
        return len(self._use.lexicon.singles.keys() & words_of(text)) >= _DENSE

    def find(self, text: str) -> list[Hit]:
        """Identifiers first, then the rest, each in order of place."""
        tokens = Tokens(text)
        data = tokens.data
        search = self._use.shapes.search(data, tokens.lower)
        marked: list[tuple[int, bytes]] = []
        listed, cells = self._word_hits(tokens, search, marked)
        hits = _apart([*self._own(data), *cells, *self._shape_hits(search)], listed, len(data))
        if guessed := self._guessed(data, hits):
            hits += guessed
            hits.sort(key=_START)
        marks = _marks(hits, len(data))
        told = self._use.teller.told(hits, tokens, marks)
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

    def _guessed(self, data: bytes, hits: Sequence[Hit]) -> list[Hit]:
        health = self._weights.health
        starts = list(map(_START, hits))

        def is_taken(start: int, end: int) -> bool:
            before = bisect_left(starts, end)
            return before > 0 and hits[before - 1][3] > start

        return [
            _new(Hit, (kind, _HEALTH, start, end, health[kind], value.upper(), ""))
            for kind, start, end, value in self._use.endings.find(data, is_taken)
            if self._excludes is None or not self._excludes(value)
        ]

    def _weight(self, kind: str, group: FindingGroup) -> float:
        if group is _IDENTIFIER:
            return self._weights.identifiers[kind]
        return self._weights.health[kind] if group is _HEALTH else 0.0

    def _word_hits(  # noqa: C901 - one pass over hundreds of words: a call costs more than what is done for most
        self, tokens: Tokens, search: ShapeSearch, marked: list[tuple[int, bytes]]
    ) -> tuple[list[Hit], list[Hit]]:
        """Terms and names, and cells of tables; shapes anchored by words are tried, and marks gathered, in passing."""
        words, padded, data = [*tokens.words, b""], tokens.padded, tokens.data
        hits: list[Hit] = []
        cells: list[Hit] = []
        said: dict[bytes, int] = {}
        upto = after = seen = table_end = 0
        known: Iterator[Any] = filter(_IS_KNOWN, enumerate(map(self._known, words)))
        for index, entry in islice(known, self._limits.words):
            needle, size, beside, phrases, pairs, is_passed, term, probes, is_sign, is_name, is_label = entry
            is_near = words[index - 1] in beside or words[index + 1] in beside
            phrase = phrases.around(words, index) if is_near and index >= upto else None
            if is_passed:
                if phrase is None and (pairs is None or not is_near):
                    continue
                for _ in range(words[seen:index].count(words[index])):
                    after = padded.find(needle, after) + size  # where it was passed over
            place = padded.find(needle, after)
            after, seen = place + size, index + 1
            if pairs is not None and is_near:
                search.at_pair(pairs, words, index, place)
            if probes is not None:
                search.at_word(probes, words, index, place)
            if is_sign:
                table_end = self._sign(data, words[index], place, table_end, marked, cells)
            if index < upto:
                continue
            if phrase is not None:
                _add_phrase(hits, tokens, place, phrase)
                upto = index - phrase.before + phrase.size
            elif term is not None:
                word = words[index]
                if index - said.get(word, -_SAID_AGAIN) < _SAID_AGAIN:
                    continue
                said[word] = index
                kind, weight, sensitive = term
                hits.append(_new(Hit, (kind, _HEALTH, place, after, weight, word, sensitive)))
                if is_label and (name := self._use.names.labelled(tokens, index, after)):
                    hits.append(name)
                    upto = index + 2
            elif is_name and (data[place] < _CAPITALS_END or words[index - 1] in NAMED_UNCAPITALISED):
                name = self._use.names.at(tokens, index, place)
                if name is not None:
                    _add(hits, name)
                    upto = index + len(padded[place : name.end + 1].split())
        return hits, cells

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


def _add_phrase(hits: list[Hit], tokens: Tokens, place: int, phrase: Phrase) -> None:
    """Add the phrase whose anchor stands at ``place``, for its words that stood for themselves until now."""
    hit = _phrase_hit(tokens, place, phrase)
    while hits and hits[-1][2] >= hit[2]:
        hits.pop()
    _add(hits, hit)


def _add(hits: list[Hit], hit: Hit) -> None:
    """Add a hit of several words unless it begins within the one before: ``Garcia, Luis`` where Garcia is known."""
    if not hits or hits[-1][3] <= hit[2]:
        hits.append(hit)


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


def _marks(hits: Iterable[Hit], size: int) -> bytearray:
    """Of each character, whether something was found there."""
    marks = bytearray(size)
    for _, _, start, end, _, _, _ in hits:
        marks[start:end] = b"\1" * (end - start)
    return marks
