"""How a text is put: a second opinion on texts that hold somebody and some health, but do not plainly tell of both.

The weights know what stands in a text, not how it is told. Whether ``Bielski no show x3 for shoulder`` is about a
patient shows in the manner as well: few words, thick with care, in the third person. So what the hits come to, and
which everyday words stand beside them, is looked up in a table of points that was learnt from labelled texts
(``tools/learn_manner.py``), as with an additive scorecard: each feature gives the points of the step it falls on, and
their sum is the logit of a probability.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import yaml

from relay.core.phi import FindingGroup, Phi
from relay.scan.lexicon import words_of
from relay.scan.model import Hit
from relay.scan.weigh import Weigher
from relay.scan.zones import said

_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_HEALTH: Final = FindingGroup.HEALTH
_SOME: Final = 0.2  # of identifiers and of health, below which there is nothing to be told
_FAINT: Final = 0.15
_SOMEBODY: Final = 0.2  # weight of a name that may be a patient's
FAR: Final = 5000
"""Characters to the term of health nearest to a name, where there is none nearer or no name."""
_LONGEST: Final = 20_000  # characters: what is longer tells by what stands in it
_AROUND: Final = 250  # characters each side of the identifier with the most health beside it
_MOST: Final = 200  # names and terms between which the distance is looked for
_HE: Final = frozenset((b"he", b"she", b"his", b"her", b"him", b"hers"))
_I: Final = frozenset((b"i", b"my", b"me"))
_BY_LENGTH: Final = ("length", "density")
_BY_WORDS: Final = ("he-or-she", "i", "speech")


def evidence(hits: Sequence[Hit], score: float) -> tuple[dict[str, float], float] | None:
    """What the hits come to, and how much health there is in all; None without somebody or without health."""
    who: dict[str, float] = {}
    what: dict[bytes, float] = {}
    for kind, group, _, _, weight, norm, _ in hits:
        if group is _IDENTIFIER:
            who[kind] = max(who.get(kind, 0.0), weight)
        elif group is _HEALTH:
            what[norm] = max(what.get(norm, 0.0), weight)
    told = _either(who)
    if min(told, _either(what)) < _SOME:
        return None
    return {"score": score, "who": told, "distance": _distance(hits)}, sum(what.values())


def shape(own: str, health: float) -> dict[str, float]:
    """How long a text is without notices and signatures, and how thick with health."""
    return {"length": len(own), "density": 100 * health / (len(own) + 50)}


def spoken(words: Sequence[bytes], different: AbstractSet[bytes]) -> dict[str, float]:
    """How often the words speak of somebody, and of who writes."""
    return {
        "he-or-she": sum([words.count(word) for word in different & _HE]),
        "i": sum([words.count(word) for word in different & _I]),
    }


def _around(text: str, hits: Sequence[Hit], middle: Hit) -> tuple[str, list[Hit]]:
    """What stands around an identifier, and what was found there."""
    start, end = max(0, middle.start - _AROUND), middle.end + _AROUND
    return text[start:end], [hit for hit in hits if start <= hit.start and hit.end <= end]


def _either(weights: Mapping[Any, float]) -> float:
    return 1 - math.prod([1 - weight for weight in weights.values()])


def _distance(hits: Sequence[Hit]) -> int:
    """Characters between somebody's name and the term of health nearest to one."""
    places = sorted(hit[2] for hit in hits if hit[1] is _HEALTH and hit[4] > _FAINT)[:_MOST]
    names = [hit for hit in hits if hit[1] is _IDENTIFIER and hit[4] >= _SOMEBODY and hit[0].startswith("name")]
    return min([_nearest(places, name) for name in names[:_MOST]], default=FAR)


def _nearest(places: Sequence[int], name: Hit) -> int:
    index = bisect_left(places, name[2])
    after = places[index] - name[3] if index < len(places) else FAR
    before = name[2] - places[index - 1] if index else FAR
    return max(0, min(after, before, FAR))


class Steps(NamedTuple):
    """Of a feature where its steps begin, the points of each step, one more, and the most of them."""

    edges: tuple[float, ...]
    points: tuple[float, ...]
    most: float

    @classmethod
    def of(cls, edges: Sequence[float], points: Sequence[float]) -> "Steps":
        """From both."""
        return cls(tuple(edges), tuple(points), max(points))

    def at(self, value: float) -> float:
        """The points of a value."""
        return self.points[bisect_left(self.edges, value)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """The table of points. Stateless after construction.

    Attributes:
        base: points that every text has.
        steps: the steps of each feature, by its name.
        words: points of a word of those that tell; their sum, over the root of how many different words there are in
            the text, is the feature ``speech``.
    """

    base: float
    steps: Mapping[str, Steps]
    words: Mapping[bytes, float]

    @classmethod
    def parse(cls, card: bytes, words: bytes) -> "Manner":
        """Read the card (YAML) and the words (a line each: word, space, points).

        Raises:
            ValueError: an entry is missing or of the wrong kind.
        """
        raw: Any = yaml.load(card, Loader=yaml.CSafeLoader)
        try:
            return cls(
                base=float(raw["base"]),
                steps={name: Steps.of(step["from"], step["points"]) for name, step in raw["steps"].items()},
                words=dict(_points(words)),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("the card of points lacks an entry or has one of the wrong kind") from error

    def opinion(self, text: str, hits: Sequence[Hit], weigher: Weigher) -> tuple[Phi, float | None]:
        """The verdict after a second look, and the chance that it came to where that raised it.

        It never lowers one: a notice or a newsletter below a note changes how the whole is put, and not what it tells.
        """
        score, middle = weigher.best(hits)
        phi, least = weigher.grade(score), weigher.weights.manner["likely"]
        if phi >= Phi.LIKELY:
            return phi, None
        chance = self.chance(text, hits, score, least)
        if (chance is None or chance < least) and middle is not None and len(text) > _AROUND:
            chance = self.chance(*_around(text, hits, middle), score, least)
        return (Phi.LIKELY, chance) if chance is not None and chance >= least else (phi, None)

    def chance(self, text: str, hits: Sequence[Hit], score: float, least: float = 0.0) -> float | None:
        """How likely the text is about a patient by its manner, 0 to 1.

        None where there is nothing to be told, or where it cannot come to ``least``: most texts end there, before their
        words are looked at.
        """
        some = evidence(hits, score) if len(text) <= _LONGEST else None
        if some is None:
            return None
        known, health = some
        points = self.base + self._sum(known)
        if _chance(points + self._most(_BY_LENGTH + _BY_WORDS)) < least:
            return None
        own = said(text)
        points += self._sum(shape(own, health))
        if _chance(points + self._most(_BY_WORDS)) < least:
            return None
        words = words_of(own)
        different = set(words)
        return _chance(points + self._sum({**spoken(words, different), "speech": self.speech(different)}))

    def _sum(self, found: Mapping[str, float]) -> float:
        """The points of these features; one that has no steps gives none."""
        return sum([self.steps[name].at(value) for name, value in found.items() if name in self.steps])

    def _most(self, names: Iterable[str]) -> float:
        """The most that these features can give."""
        return sum([self.steps[name].most for name in names if name in self.steps])

    def speech(self, different: AbstractSet[bytes]) -> float:
        """How much a text's different words are those of texts about health."""
        return math.fsum(map(self.words.__getitem__, different & self.words.keys())) / math.sqrt(len(different) or 1)


def _chance(points: float) -> float:
    return 1 / (1 + math.exp(-points))


def _points(lines: bytes) -> Iterator[tuple[bytes, float]]:
    for line in lines.splitlines():
        word, _, points = line.partition(b" ")
        yield word, float(points)
