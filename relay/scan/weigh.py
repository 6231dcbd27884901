"""Evidence to a score: how sure it is that a text is about the health of somebody it identifies."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import itemgetter
from typing import Final

from relay.core.phi import FindingGroup, Phi
from relay.scan.model import Hit, Weights
from relay.scan.way import NATIVE

if NATIVE:
    from relay.scan import _native

_ANCHORS: Final = 200  # identifiers that are weighed as the middle of a window
_ALMOST_ONE: Final = 0.999
_BY_WEIGHT: Final = itemgetter(4)
_BY_PLACE: Final = itemgetter(2)
_BY_START: Final = itemgetter(0)
_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_HEALTH: Final = FindingGroup.HEALTH


class Weigher:
    """Weighs hits by the weights file. Stateless after construction."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def phi(self, hits: Sequence[Hit]) -> Phi:
        """The verdict over the hits."""
        return self.grade(self.score(hits))

    def grade(self, score: float) -> Phi:
        """The verdict that a score stands for."""
        weights = self.weights
        if score >= weights.certain:
            return Phi.CERTAIN
        if score >= weights.likely:
            return Phi.LIKELY
        return Phi.POSSIBLE if score >= weights.possible else Phi.NONE

    def score(self, hits: Sequence[Hit]) -> float:
        """The best window's product of both probabilities; no more than ``certain`` once that is reached."""
        return self.best(hits)[0]

    def best(self, hits: Sequence[Hit]) -> tuple[float, Hit | None]:
        """The score, and the identifier in the middle of the window that gives it."""
        weights = self.weights
        weighed = _native.weighed if NATIVE else _weighed
        identifiers, said, much = weighed(hits, _IDENTIFIER, _HEALTH, weights.implies, 2 * weights.window)
        if not said:
            return 0.0, None
        sums = _Sums(said, much)
        who = self._who(identifiers)
        if who * sums.all() ** weights.gentle < weights.possible:
            return 0.0, None  # no window can hold more than the whole
        best, middle = 0.0, None
        identifiers.sort(key=_BY_PLACE)
        places = [hit.start for hit in identifiers]
        for anchor in sorted(identifiers, key=_BY_WEIGHT, reverse=True)[:_ANCHORS]:
            start, end = anchor.start - weights.window, anchor.end + weights.window
            what = sums.around(anchor, weights) ** weights.gentle
            if what * who > best:  # or not even all identifiers would make it more
                around = identifiers[bisect_left(places, start) : bisect_right(places, end)]
                score = what * self._who(around)
                if score > best:
                    best, middle = score, anchor
            if best >= weights.certain:
                break
        return best, middle

    def _who(self, hits: Iterable[Hit]) -> float:
        """The chance that these point to a patient: each kind counts once; ten names are no more than one."""
        best: dict[str, float] = {}
        for kind, _, _, _, weight, _, _ in hits:
            if weight > best.get(kind, 0.0):
                best[kind] = weight
        who = 1 - math.prod([1 - weight for weight in best.values()])
        return min(who, self.weights.contact_cap) if best.keys() <= self.weights.contact else who


class _Sums:
    """Prefix sums of log(1 - weight) over places, so that any window's combined evidence costs two look-ups."""

    def __init__(self, places: list[int], weights: Iterable[float]) -> None:
        self._places = places
        self._sums = list(accumulate(map(_log_of_rest, weights), initial=0.0))

    def all(self) -> float:
        return 1 - math.exp(self._sums[-1])

    def around(self, hit: Hit, weights: Weights) -> float:
        near = self._between(hit.start - weights.near, hit.end + weights.near)
        window = self._between(hit.start - weights.window, hit.end + weights.window)
        return 1 - math.exp(near + weights.beyond * (window - near))

    def _between(self, start: int, end: int) -> float:
        return self._sums[bisect_right(self._places, end)] - self._sums[bisect_left(self._places, start)]


@lru_cache(maxsize=1024)
def _log_of_rest(weight: float) -> float:
    """log(1 - weight); there are as many weights as the files name."""
    return math.log(1 - min(weight, _ALMOST_ONE))


def _weighed(
    hits: Iterable[Hit], identifier: FindingGroup, health: FindingGroup, implied: Mapping[str, float], distance: int
) -> tuple[list[Hit], list[int], list[float]]:
    """Identifiers of some weight, and places and weights of what is said of health, by place.

    Of health is what is of that group, then what identifiers of some kinds say of it by themselves. What says again
    what was said less than ``distance`` before is left out: no window counts a term twice. Without identifiers nothing
    is said of anybody.
    """
    hits = list(hits)
    identifiers = [hit for hit in hits if hit[1] is identifier and hit[4] > 0]
    every = [(hit[5], hit[2], hit[4]) for hit in hits if hit[1] is health] if identifiers else []
    every += [(hit[5], hit[2], implied[hit[0]]) for hit in identifiers if hit[0] in implied]
    last: dict[bytes, int] = {}
    said: list[tuple[int, float]] = []
    for norm, start, weight in every:
        if norm not in last or start - last[norm] > distance:
            last[norm] = start
            said.append((start, weight))
    said.sort(key=_BY_START)
    return identifiers, [start for start, _ in said], [weight for _, weight in said]
