"""A name and somebody's health in one sentence: what a short message about a patient is made of.

``Mr. Yamamoto has a hip fracture`` says more than a name at the top and a fracture further down do: in newsletters,
lists and threads names and diseases stand near one another all the time, and seldom in one sentence.
"""

import re
from bisect import bisect_left
from math import prod
from operator import itemgetter
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.model import Hit

_REACH: Final = 110  # characters between the two
_ENOUGH: Final = 0.32  # health context in the sentence: one strong term, or two medium ones
_BEYOND: Final = 0.5  # how much of it counts in the next sentence
_CARE: Final = 0.7  # how much of the language of care does: records, referrals and clinics have staff
_SHORT: Final = 120  # characters of a text that is about one thing
_SHORT_BEYOND: Final = 0.7  # how much the next sentence counts in it
_LEAST, _MOST = 0.2, 0.8  # weights of names that are somebody's, and not already certain
_END: Final = re.compile(
    rb"[.!?](?<![ .][A-Za-z].)(?<!\b(?:Mr|Ms|Dr|St|vs|re|no).)(?<!\bMrs.)(?<!\bSra.)[\"')\]]{0,2}\s"
)
"""Where a sentence ends; not after an initial or a title, which is asked only where there is a full stop."""
_BREAK: Final = re.compile(rb"(?<![,:])\n[ \t>]*\n|\n[ \t>]*[-*\xb7]")
"""Where something else begins: a paragraph, unless it follows a salutation, or an item of a list."""
_TOLD: Final = re.compile(
    rb"\b(?:for|of|on|about|regarding|re|with|patient|is|that|from|in|was|has|de|para)[:\s]{1,2}"
    rb"(?:the |my |our |mrs?\.? |ms\.? )?\Z|[-:,(\n][ ]?\Z"
)
"""What stands before a name of whom something was told, in lower case."""
_LONGEST_TOLD: Final = 24
_OF_ALL: Final = re.compile(
    rb"(?:'s)?[ ](?:[a-z]{1,12}[ ])?(?:association|society|foundation|institute|department|committee|conference|meeting"
    rb"|symposium|educators?|coordinator|specialist|dashboard|alerts?|training|courses?|class|classes|modules?|research"
    rb"|awareness|campaign|guidelines?|protocols?|policy|crisis|epidemic|outbreak|deaths|rates?|statistics|prices?|costs"
    rb"|market|drugs?|machines?|equipment|suppl(?:y|ies)|kits?|forms|checks|vendor|company|stocks?|shares|gala|walk"
    rb"|marathon|fundraiser|charity|newsletter|articles?|books?|podcast|talk|lecture|seminar|webinar|prevention|booth"
    rb"|fair|apps?|bill|pills?)\b"
)
"""What follows a word of health that is said of all, in lower case: a diabetes educator, the opioid crisis."""
_LONGEST_OF_ALL: Final = 48
_HEALTH: Final = FindingGroup.HEALTH
_START: Final = itemgetter(2)


def tied(identifiers: list[Hit], others: list[Hit], data: bytes, bond: float) -> list[Hit]:
    """The identifiers, names with more weight where their sentence speaks of health.

    Args:
        identifiers: those found.
        others: what else was found, in order of place.
        data: the text.
        bond: how much it says that they stand in one sentence, 0 to 1.
    """
    opened = [number for number, hit in enumerate(identifiers) if hit[0] == "name" and _LEAST <= hit[4] <= _MOST]
    if not opened or not others:
        return identifiers
    places = list(map(_START, others))
    beyond = _SHORT_BEYOND if len(data) < _SHORT else _BEYOND
    hits = identifiers.copy()
    for number in opened:
        name = hits[number]
        near = [
            (start, end, weight * _CARE if kind == "care" else weight)
            for kind, group, start, end, weight, _, _ in others[
                bisect_left(places, name[2] - _REACH) : bisect_left(places, name[3] + _REACH)
            ]
            if group is _HEALTH
        ]
        if 1 - prod([1 - weight for _, _, weight in near]) >= _ENOUGH and _is_tied(name, near, data, beyond):
            hits[number] = name._replace(weight=1 - (1 - name.weight) * (1 - bond))
    return hits


def _is_tied(name: Hit, near: list[tuple[int, int, float]], data: bytes, beyond: float) -> bool:
    """Whether of the health near a name, told by span and weight, there is enough in its sentence or the one beside."""
    rest = 1.0
    is_told_of = near[0][0] >= name.end or _is_told_of(data, name)
    for start, end, weight in near:
        gap = (name.end, start) if start >= name.end else (end, name.start)
        if gap[0] > gap[1] or (start < name.end and not is_told_of) or _BREAK.search(data, *gap):
            continue
        ends = len(_END.findall(data, *gap))
        if ends < 2 and not _is_of_all(data, end):
            rest *= 1 - weight * (beyond if ends else 1.0)
    return 1 - rest >= _ENOUGH


def _is_told_of(data: bytes, name: Hit) -> bool:
    first = max(0, name.start - _LONGEST_TOLD)
    before = data[max(0, first - 1) : name.start].lower()
    return _TOLD.search(before, min(first, 1)) is not None


def _is_of_all(data: bytes, end: int) -> bool:
    """Whether what follows a word of health, which ends there, makes it one that is said of all."""
    following = data[end : end + _LONGEST_OF_ALL]
    return following[:1] in (b" ", b"'") and _OF_ALL.match(following.lower()) is not None
