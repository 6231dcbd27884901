"""A word of short notes that stands alone in a long text.

``spotting``, ``refill``, ``ICU`` and ``GCS`` say much in a note of three sentences. In a long text the same letters are
somebody's thanks, a button, a library and a nickname, unless something else there speaks of health as well.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.model import Hit, Weights

_LONG: Final = 1000  # characters; notes are shorter
_ENOUGH: Final = 0.3  # of other health context beside it: one firm term, or two of the middle
_HEALTH: Final = FindingGroup.HEALTH


def weighed(hits: list[Hit], size: int, weights: Weights) -> list[Hit]:
    """The hits, those of level ``spoken`` with the weight of level ``alone`` where nothing beside them is of health.

    Args:
        hits: what was found, in order of place.
        size: characters of the text.
        weights: with the levels, and how far what counts as beside lies.
    """
    spoken = weights.levels["spoken"]
    if size < _LONG or spoken not in [hit[4] for hit in hits]:
        return hits
    health = [hit for hit in hits if hit[1] is _HEALTH and hit[4] > 0]
    places = [hit[2] for hit in health]
    least = weights.levels["alone"]
    return [
        hit._replace(weight=least)
        if hit[4] == spoken
        and hit[1] is _HEALTH
        and not _is_named(hit)
        and _is_alone(hit, health, places, weights.window)
        else hit
        for hit in hits
    ]


def _is_named(hit: Hit) -> bool:
    """Whether a term of several words names an illness: ``hip fracture`` is no word of anything else."""
    return hit.kind == "condition" and b" " in hit.norm


def _is_alone(hit: Hit, health: Sequence[Hit], places: Sequence[int], reach: int) -> bool:
    near = health[bisect_left(places, hit.start - reach) : bisect_right(places, hit.end + reach)]
    rest, said = 1.0, {hit.norm}
    for _, _, _, _, weight, norm, _ in near:
        if norm not in said:
            said.add(norm)
            rest *= 1 - weight
            if 1 - rest >= _ENOUGH:
                return False  # and more of it makes it no less
    return True
