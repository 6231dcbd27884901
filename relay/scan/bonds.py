"""A name and somebody's health in one sentence: what a short message about a patient is made of.

``Mr. Yamamoto has a hip fracture`` says more than a name at the top and a fracture further down do: in newsletters,
lists and threads names and diseases stand near one another all the time, and seldom in one sentence.
"""

import re
from bisect import bisect_left
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
_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_HEALTH: Final = FindingGroup.HEALTH


def tied(hits: list[Hit], data: bytes, bond: float) -> list[Hit]:
    """The hits, names with more weight where their sentence speaks of health.

    Args:
        hits: what was found.
        data: the text.
        bond: how much it says that they stand in one sentence, 0 to 1.
    """
    if not any(map(_is_open, hits)):
        return hits
    health = sorted(
        [
            (start, end, weight * (_CARE if kind == "care" else 1.0))
            for kind, group, start, end, weight, _, _ in hits
            if group is _HEALTH
        ]
    )
    if not health:
        return hits
    places = [start for start, _, _ in health]
    beyond = _SHORT_BEYOND if len(data) < _SHORT else _BEYOND

    def is_tied(name: Hit) -> bool:
        near = health[bisect_left(places, name.start - _REACH) : bisect_left(places, name.end + _REACH)]
        is_told_of = bool(near) and _is_told_of(data, name)
        rest = 1.0
        for start, end, weight in near:
            gap = (name.end, start) if start >= name.end else (end, name.start)
            if gap[0] > gap[1] or (start < name.end and not is_told_of) or _BREAK.search(data, *gap):
                continue
            ends = len(_END.findall(data, *gap))
            if ends < 2 and not _is_of_all(data, end):
                rest *= 1 - weight * (beyond if ends else 1.0)
        return 1 - rest >= _ENOUGH

    return [
        hit._replace(weight=1 - (1 - hit.weight) * (1 - bond)) if _is_open(hit) and is_tied(hit) else hit
        for hit in hits
    ]


def _is_told_of(data: bytes, name: Hit) -> bool:
    first = max(0, name.start - _LONGEST_TOLD)
    before = data[max(0, first - 1) : name.start].lower()
    return _TOLD.search(before, min(first, 1)) is not None


def _is_of_all(data: bytes, end: int) -> bool:
    """Whether what follows a word of health, which ends there, makes it one that is said of all."""
    following = data[end : end + _LONGEST_OF_ALL]
    return following[:1] in (b" ", b"'") and _OF_ALL.match(following.lower()) is not None


def _is_open(hit: Hit) -> bool:
    return hit[0] == "name" and hit[1] is _IDENTIFIER and _LEAST <= hit[4] <= _MOST
