"""Everything that is evidence in one text: shapes, names and terms, each with its weight where it stands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.detector import Detector
from relay.scan.lexicon import FOLD, Lexicon, Window
from relay.scan.model import Hit, Term, Weights
from relay.scan.names import LABELS, NameFinder
from relay.scan.shapes import ShapeFinder
from relay.scan.tokens import Tokens

_SAID_AGAIN: Final = 25  # words: a term said again so soon adds nothing to any window
_BY_BUILD: Final = frozenset({"condition", "drug"})  # shapes that guess from a word's build: a lexicon knows better


@dataclass(frozen=True, slots=True, kw_only=True)
class FindLimits:
    """What is gathered from one message (law 6).

    Attributes:
        words: words of a lexicon or table of names looked at; more add nothing to a verdict that is long certain.
    """

    words: int = 20_000


class Finder:
    """Finds evidence. Stateless after construction."""

    def __init__(
        self,
        lexicon: Lexicon,
        names: NameFinder,
        shapes: ShapeFinder,
        weights: Weights,
        excludes: Callable[[bytes], bool] | None = None,
        detectors: Sequence[Detector] = (),
        limits: FindLimits | None = None,
    ) -> None:
        self._lexicon = lexicon
        self._names = names
        self._weights = weights
        self._excludes = excludes
        self._detectors = tuple(detectors)
        self._limits = limits or FindLimits()
        self._shapes = shapes
        self._vocabulary: frozenset[bytes] = lexicon.vocabulary | names.vocabulary

    def find(self, text: str) -> list[Hit]:
        """Identifiers first, then the rest, each in order of place."""
        tokens = Tokens(text)
        listed = self._word_hits(tokens)
        marks = _Marks(len(tokens.data))
        hits: list[Hit] = []
        guessed: list[Hit] = []
        for hit in self._shape_hits(tokens.data):
            if hit.kind in _BY_BUILD:
                guessed.append(hit)
            elif not marks.touch(hit):
                marks.mark(hit)
                hits.append(hit)
        for hit in (*listed, *guessed):
            if not marks.touch(hit):
                marks.mark(hit)
                hits.append(hit)
        hits += [
            Hit(found.kind, found.group, found.start, found.end, min(max(found.weight, 0.0), 1.0),
                tokens.data[found.start : found.end].upper(), found.sensitive)
            for detector in self._detectors
            for found in detector.find(text)
        ]  # fmt: skip
        hits.sort(key=_order)
        return hits

    def _shape_hits(self, data: bytes) -> list[Hit]:
        return [
            Hit(kind, shape.group, start, end, self._weight(kind, shape.group), value.upper(), shape.sensitive)
            for shape, kind, start, end, value in self._shapes.find(data)
            if self._excludes is None or not self._excludes(value)
        ]

    def _weight(self, kind: str, group: FindingGroup) -> float:
        if group is FindingGroup.IDENTIFIER:
            return self._weights.identifiers[kind]
        return self._weights.health[kind] if group is FindingGroup.HEALTH else 0.0

    def _word_hits(self, tokens: Tokens) -> list[Hit]:
        words = tokens.words
        indices = list(compress(count(), map(self._vocabulary.__contains__, words)))
        given, singles, windows = self._names.vocabulary, self._lexicon.singles, self._lexicon.windows
        hits: list[Hit] = []
        said: dict[bytes, int] = {}
        upto = place = 0
        for index in indices[: self._limits.words]:
            if index < upto:
                continue
            word = words[index]
            found = self._phrase_at(words, index, windows[word]) if word in windows else None
            if found is None and word in singles:
                if index - said.get(word, -_SAID_AGAIN) < _SAID_AGAIN:
                    continue
                said[word] = index
            place = tokens.place(word, place)
            if found is not None:
                first, phrase, term = found
                hit, place = _phrase_hit(tokens, place, index - first, phrase, term)
                while hits and hits[-1].start >= hit.start:
                    hits.pop()  # a word of the phrase that stood for itself until now
                hits.append(hit)
                upto = first + len(phrase)
            elif word in singles:
                term = singles[word]
                end = place + len(word)
                hits.append(Hit(term.kind, FindingGroup.HEALTH, place, end, term.weight, word, term.sensitive))
                if word in LABELS and (name := self._names.labelled(tokens, index, end)):
                    hits.append(name)
                    upto = index + 2
            elif word in given:
                name = self._names.at(tokens, index, place)
                if name is not None:
                    hits.append(name)
                    upto = index + len(tokens.data[place : name.end].translate(FOLD).split())
        return hits

    def _phrase_at(
        self, words: list[bytes], index: int, windows: tuple[Window, ...]
    ) -> tuple[int, tuple[bytes, ...], Term] | None:
        """The longest phrase around its anchor: where its first word is, its words, its term."""
        for before, length in windows:
            first = index - before
            if first >= 0:
                phrase = tuple(words[first : first + length])
                term = self._lexicon.phrases.get(phrase)
                if term is not None:
                    return first, phrase, term
        return None


def _phrase_hit(tokens: Tokens, place: int, anchor: int, phrase: tuple[bytes, ...], term: Term) -> tuple[Hit, int]:
    """The hit for a phrase whose anchor stands at ``place``, and where its last word begins."""
    start = place
    for word in reversed(phrase[:anchor]):
        start = tokens.place_before(word, start)
    for word in phrase[anchor + 1 :]:
        place = tokens.place(word, place)
    end = place + len(phrase[-1])
    return Hit(term.kind, FindingGroup.HEALTH, start, end, term.weight, b" ".join(phrase), term.sensitive), place


class _Marks:
    """Which characters are spoken for."""

    __slots__ = ("_marks",)

    def __init__(self, size: int) -> None:
        self._marks = bytearray(size)

    def mark(self, hit: Hit) -> None:
        self._marks[hit.start : hit.end] = b"\1" * (hit.end - hit.start)

    def touch(self, hit: Hit) -> bool:
        return self._marks.find(1, hit.start, hit.end) >= 0


def _order(hit: Hit) -> tuple[bool, int]:
    return hit.group is not FindingGroup.IDENTIFIER, hit.start
