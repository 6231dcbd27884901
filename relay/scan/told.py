"""Whom a text near words of health is about: who is spoken of, who speaks of himself, who is spoken to.

A name tells little by itself. ``Ivo Stankovic ... he has a bruise`` speaks of Ivo; ``this is Rosalind, my chemo`` makes
the sender the patient, with all the ways to reach her; ``Dear Fenella, your cholesterol was 212`` the one who is
written to. Only what stands near health context is looked at, so ordinary mail pays nothing.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.model import Hit
from relay.scan.strangers import StrangerFinder, is_spoken_of

_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_HEALTH: Final = FindingGroup.HEALTH
_ENOUGH: Final = 0.3  # health context in a text below which no name makes it likely
_PLAIN: Final = 0.2  # weight of a term that a complaint is made of: records and staff are none
_COMPLAINT: Final = 60  # characters before a term in which the one who has it speaks
_REACH: Final = 700  # characters between a complaint and its sender's name
_MINE: Final = re.compile(
    rb"\b(?:my|i'm|im|i've|ive|i am|i was|i had|i have|i got|i get|i need|i feel|i took|i take|i went|i started|i ran"
    rb"|i can't|i cannot|i woke|gave me|put me|told me|made me|knocked me|got me|mi|me duele|tengo)\b[^.!?\n]{0,60}\Z"
)
_OTHERS: Final = re.compile(
    rb"\bmy (?:\w+ )?(?:son|daughter|husband|wife|mother|father|mom|mum|dad|sister|brother|grand\w+|aunt|uncle|niece"
    rb"|nephew|cousin|baby|friend|neighbou?r|patients?|clients?|doctor|practice|clinic|staff|team|company|code|computer"
    rb"|server|machine|laptop|phone|pc|dog|cat|horse|book|colleague|boss)\b"
)
"""What is mine and not me, in lower case."""
_YOUR: Final = re.compile(rb"\b(?:your|you're|you are|you have|su|you had|you were)\b[^.!?\n]{0,60}\Z")
_INTRODUCES: Final = re.compile(
    rb"(?:\b(?:this is|it is|it's|its me|it's me|my name is|i am|i'm|im|name's|soy|me llamo)(?: um| uh)?,?[ ]"
    rb"|(?:\A|\n)[ \t]*(?:name|from|patient|sent by):?[ ]+)\Z"
)
_SIGNS_BEFORE: Final = re.compile(
    rb"(?:\n[ \t>]*|[.!?] +|(?:--?|~|thanks?(?: you)?(?: so much)?[,.!]?|love|best|regards|sincerely|gracias)[ ,]+)\Z"
)
_SIGNS_AFTER: Final = re.compile(rb"[ .]{0,2}(?:\Z|\n|,? (?:here|again|dob|\d{1,2}[-/]))")
_ADDRESSES: Final = re.compile(
    rb"(?:\A|\n|[.!?][ \n])[ \t>]*(?:dear|hi|hello|hey|good (?:morning|afternoon|evening)|estimad[oa]|hola)[ ]\Z"
)
_BEFORE: Final = 40
_SPOKEN: Final = 200  # characters from a name to health context
_FEW: Final = 5
_NAMES: Final = 40  # hits that are looked at closer: more tell no more
_REACHES: Final = frozenset({"email", "phone"})


@dataclass(frozen=True, slots=True)
class Voices:
    """Where a text speaks of the sender's own health, and of that of the one it is written to."""

    mine: list[int]
    yours: list[int]


class Teller:
    """Tells whom a text is about. Stateless after construction."""

    def __init__(self, strangers: StrangerFinder, weights: Mapping[str, float]) -> None:
        self._strangers = strangers
        self._weights = weights

    def weighed(self, weights: Mapping[str, float]) -> "Teller":
        """The same with other weights."""
        return Teller(self._strangers.weighed(weights), weights)

    def told(self, hits: list[Hit], data: bytes, lower: bytes, marks: bytearray) -> list[Hit]:
        """The hits, with persons on no list, and with names and ways to reach somebody weighed by whom they belong to.

        Args:
            hits: what was found.
            data: the text.
            lower: the same in lower case.
            marks: of each character, whether something was found there.
        """
        health = sorted([hit for hit in hits if hit[1] is _HEALTH and hit[4] > 0], key=_place)
        rest = 1.0
        for hit in health:
            rest *= 1 - hit[4]
        if 1 - rest < _ENOUGH:
            return hits
        hits = [*hits, *self._strangers.find(data, lower, [(hit[2], hit[3]) for hit in health], marks)]
        voices = _voices(health, lower)
        places = [hit[2] for hit in health] if self._are_few(hits) else []
        left = _NAMES
        for number, hit in enumerate(hits):
            if hit[1] is _IDENTIFIER and (hit[0] == "name" or hit[0] in _REACHES) and left:
                left -= 1
                if (weight := self._weight(hit, lower, places, voices)) > hit[4]:
                    kind = "patient-contact" if hit[0] in _REACHES else hit[0]
                    hits[number] = hit._replace(kind=kind, weight=weight)
        return hits

    def _weight(self, hit: Hit, lower: bytes, health: Sequence[int], voices: Voices) -> float:
        weights = self._weights
        if hit.kind in _REACHES:
            return weights["patient-contact"] if _is_near(voices.mine, hit.start, _REACH) else 0.0
        before = lower[max(0, hit.start - _BEFORE) : hit.start]
        if _is_near(voices.mine, hit.start, _REACH) and (
            _INTRODUCES.search(before) or (_SIGNS_AFTER.match(lower, hit.end) and _SIGNS_BEFORE.search(before))
        ):
            return weights["name-self" if b" " in hit.norm else "name-first-self"]
        if _is_near(voices.yours, hit.start, _REACH) and _ADDRESSES.search(before):
            return weights["name-addressed"]
        if (
            hit.weight >= weights["name-first"]
            and _is_near(health, hit.start, _SPOKEN)
            and is_spoken_of(lower, hit.end)
            and self._strangers.is_person(hit.norm)
        ):
            return weights["name-spoken-of" if b" " in hit.norm else "name-first-spoken-of"]
        return 0.0

    @staticmethod
    def _are_few(hits: Sequence[Hit]) -> bool:
        """Whether the text speaks of few: news and lists speak of many, and say he and she of all of them."""
        return len({hit[5] for hit in hits if hit[0] == "name" and b" " in hit[5]}) <= _FEW


def _place(hit: Hit) -> int:
    return hit.start


def _voices(health: Sequence[Hit], lower: bytes) -> Voices:
    mine, yours = [], []
    for hit in health:
        if hit.weight < _PLAIN or hit.kind in {"care", "age"}:
            continue
        before = lower[max(0, hit.start - _COMPLAINT) : hit.start]
        if (found := _MINE.search(before)) and not _OTHERS.match(before, found.start()):
            mine.append(hit.start)
        elif _YOUR.search(before):
            yours.append(hit.start)
    return Voices(mine, yours)


def _is_near(places: Sequence[int], place: int, reach: int) -> bool:
    index = bisect_left(places, place - reach)
    return index < len(places) and places[index] <= place + reach
