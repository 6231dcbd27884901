"""Everything that is evidence in one text: shapes, names and terms, each with its weight where it stands."""

from bisect import bisect_right, insort
from dataclasses import dataclass
from itertools import compress, count
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.lexicon import Lexicon
from relay.scan.model import Hit, Term, Weights
from relay.scan.names import NameFinder
from relay.scan.shapes import ShapeFinder
from relay.scan.tokens import Tokens

_BY_BUILD: Final = frozenset({"condition", "drug"})  # shapes that guess from a word's build: a lexicon knows better
_MAX_GAP: Final = 4  # separators inside a phrase


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
        limits: FindLimits | None = None,
    ) -> None:
        self._lexicon = lexicon
        self._names = names
        self._weights = weights
        self._limits = limits or FindLimits()
        self._shapes = shapes
        self._vocabulary = lexicon.vocabulary | names.vocabulary

    def find(self, text: str) -> list[Hit]:
        """Identifiers first, then the rest, each in order of place."""
        tokens = Tokens(text)
        hits = self._shape_hits(tokens.data)
        listed = self._word_hits(tokens)
        known = [(hit.start, hit.end) for hit in listed]
        hits = [hit for hit in hits if hit.kind not in _BY_BUILD or not _overlaps(hit, known)]
        taken = sorted((hit.start, hit.end) for hit in hits)
        hits += [hit for hit in listed if not _overlaps(hit, taken)]
        hits.sort(key=lambda hit: (hit.group is not FindingGroup.IDENTIFIER, hit.start))
        return hits

    def _shape_hits(self, data: bytes) -> list[Hit]:
        hits: list[Hit] = []
        taken: list[tuple[int, int]] = []
        for shape, kind, start, end, value in self._shapes.find(data):
            hit = Hit(kind, shape.group, start, end, self._weight(kind, shape.group), value.upper(), shape.sensitive)
            if not _overlaps(hit, taken):
                insort(taken, (start, end))
                hits.append(hit)
        return hits

    def _weight(self, kind: str, group: FindingGroup) -> float:
        if group is FindingGroup.IDENTIFIER:
            return self._weights.identifiers[kind]
        return self._weights.health[kind] if group is FindingGroup.HEALTH else 0.0

    def _word_hits(self, tokens: Tokens) -> list[Hit]:
        words = tokens.words
        present = self._vocabulary.intersection(words)
        if not present:
            return []
        indices = list(compress(count(), map(present.__contains__, words)))
        given = self._names.vocabulary
        hits: list[Hit] = []
        upto = -1
        for index in indices[: self._limits.words]:
            if index < upto:
                continue
            found = self._term_at(words, index)
            if found is not None:
                term, upto, norm = found
                start, end = tokens.place(index), tokens.end_of(upto - 1)
                hits.append(Hit(term.kind, FindingGroup.HEALTH, start, end, term.weight, norm, term.sensitive))
            elif words[index] in given:
                name = self._names.at(tokens, index)
                if name is not None:
                    hits.append(name)
                    while upto <= index or (upto < len(words) and tokens.place(upto) < name.end):
                        upto = max(upto, index) + 1
        return hits

    def _term_at(self, words: list[bytes], index: int) -> tuple[Term, int, bytes] | None:
        first = words[index]
        for rest, term in self._lexicon.phrases.get(first, ()):
            place = index + 1
            for word in rest:
                gap = 0
                while place < len(words) and not words[place] and gap < _MAX_GAP:
                    place += 1
                    gap += 1
                if place >= len(words) or words[place] != word:
                    break
                place += 1
            else:
                return term, place, b" ".join((first, *rest))
        single = self._lexicon.singles.get(first)
        return (single, index + 1, first) if single else None


def _overlaps(hit: Hit, taken: list[tuple[int, int]]) -> bool:
    place = bisect_right(taken, (hit.start, hit.end))
    return (place > 0 and taken[place - 1][1] > hit.start) or (place < len(taken) and taken[place][0] < hit.end)
