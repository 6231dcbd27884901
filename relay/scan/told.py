"""Whom a text near words of health is about: who is spoken of, who speaks of himself, who is spoken to.

A name tells little by itself. ``Ivo Stankovic ... he has a bruise`` speaks of Ivo; ``this is Rosalind, my chemo`` makes
the sender the patient, with all the ways to reach her; ``Dear Fenella, your cholesterol was 212`` the one who is
written to. Only what stands near health context is looked at, so ordinary mail pays nothing.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.model import Hit
from relay.scan.strangers import StrangerFinder, does_in_public, is_spoken_of
from relay.scan.tokens import Tokens

_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_HEALTH: Final = FindingGroup.HEALTH
_ENOUGH: Final = 0.38  # health context in a text below which no name makes it likely
_PLAIN: Final = 0.2  # weight of a term that a complaint is made of
_CERTAIN: Final = 0.75  # an identifier that weighs so much needs no other beside it
_WINDOW: Final = 1000  # characters
_BESIDE: Final = 160
_BESIDE_IS_HEALTH: Final = 0.6
_COMPLAINT: Final = 60  # characters before a term in which the one who has it speaks
_REACH: Final = 700  # characters between a complaint and its sender's name
_SPOKEN: Final = 200  # characters from a name to health context
_FEW: Final = 5
_MINE: Final = tuple(
    b" %b " % words
    for words in (
        b"my", b"i m", b"im", b"i ve", b"ive", b"i am", b"i was", b"i had", b"i have", b"i got", b"i get", b"i need",
        b"i feel", b"i took", b"i take", b"i went", b"i started", b"i ran", b"i can t", b"i cannot", b"i woke",
        b"gave me", b"put me", b"told me", b"made me", b"knocked me", b"got me", b"mi", b"me duele", b"tengo",
    )
)  # fmt: skip
_OF_ME: Final = (b" my ", b" i ", b" me ", b" im ", b" ive ", b" mi ", b" tengo ")
"""One of these stands in whatever speaks of me."""
_YOURS: Final = (b" your ", b" you re ", b" you are ", b" you have ", b" you had ", b" you were ", b" su ")
_SPEAKS: Final = frozenset(map(bytes.strip, (*_OF_ME, b"your", b"you", b"su")))
"""One of these words stands in whatever speaks of me or of you."""
_NOT_ME: Final = frozenset(
    b"son daughter husband wife mother father mom mum dad sister brother grandmother grandfather grandma grandpa "
    b"grandson granddaughter aunt uncle niece nephew cousin baby friend neighbor neighbour patient patients "
    b"client clients doctor practice clinic staff team company code computer server machine laptop phone pc dog "
    b"cat horse book colleague boss order subscription purchase quote article newsletter newest latest".split()
)
"""What is mine and not me."""
_ENDS: Final = (b". ", b"\n", b"! ", b"? ")
_INTRODUCES: Final = frozenset(
    {(b"this", b"is"), (b"it", b"is"), (b"it", b"s"), (b"s", b"me"), (b"its", b"me"), (b"name", b"is"), (b"i", b"am")}
    | {(b"i", b"m"), (b"me", b"llamo"), (b"sent", b"by")}
)
_HEADS: Final = frozenset(b"im soy um uh name from".split())
_CLOSES: Final = frozenset(b"thanks thank love best regards sincerely gracias".split())
_BREAKS: Final = frozenset({b". ", b"! ", b"? ", b"- ", b"~ "})
_SIGNS_AFTER: Final = re.compile(rb"[ .]{0,2}(?:\Z|\n|,? (?:here|again|dob|\d{1,2}[-/]))")
_GREETS: Final = frozenset(b"dear hi hello hey morning afternoon evening estimado estimada hola".split())
_BEFORE: Final = 24
_SAID: Final = 300  # characters in which who speaks need not be asked again
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

    def told(self, hits: list[Hit], tokens: Tokens, marks: bytearray) -> list[Hit]:
        """The hits, with persons on no list, and with names and ways to reach somebody weighed by whom they belong to.

        Args:
            hits: what was found.
            tokens: the text.
            marks: of each character, whether something was found there.
        """
        health = [hit for hit in hits if hit[1] is _HEALTH and hit[4] > 0]
        if _together(health) < _ENOUGH or _is_plain(hits, health):
            return hits
        health.sort(key=_place)
        health = [hit for hit in _dense(health) if hit[4] >= _PLAIN]
        if not health:
            return hits
        hits = [*hits, *self._strangers.find(tokens, health, marks), *self._strangers.in_small(tokens, marks)]
        voices = _voices(health, tokens)
        places = [hit[2] for hit in health] if _are_few(hits) else []
        left = _NAMES
        for number, hit in enumerate(hits):
            if hit[1] is _IDENTIFIER and (hit[0] == "name" or hit[0] in _REACHES) and left:
                left -= 1
                if (weight := self._weight(hit, tokens, places, voices)) > hit[4]:
                    kind = "patient-contact" if hit[0] in _REACHES else hit[0]
                    hits[number] = hit._replace(kind=kind, weight=weight)
        return hits

    def _weight(self, hit: Hit, tokens: Tokens, health: Sequence[int], voices: Voices) -> float:
        weights = self._weights
        if hit.kind in _REACHES:
            return weights["patient-contact"] if _is_near(voices.mine, hit.start, _REACH) else 0.0
        if voices.mine or voices.yours:
            words = tokens.padded[max(0, hit.start - _BEFORE) : hit.start + 1].split()[-2:]
            if _is_near(voices.mine, hit.start, _REACH) and _is_sender(hit, tokens, words):
                return weights["name-self" if b" " in hit.norm else "name-first-self"]
            if _is_near(voices.yours, hit.start, _REACH) and words[-1:] and words[-1] in _GREETS:
                return weights["name-addressed"]
        is_full = b" " in hit.norm
        if is_full and hit.weight == weights["name-first"] and _is_near(health, hit.start, _SPOKEN):
            return self._strangers.weight_of(hit, tokens)
        if (
            hit.weight >= weights["name-first"]
            and not does_in_public(tokens, hit.end)
            and _is_near(health, hit.start, _SPOKEN)
            and is_spoken_of(tokens, hit.end)
            and self._strangers.is_person(hit.norm)
        ):
            return weights[
                "name-spoken-of" if is_full or hit.weight >= weights["name-title"] else "name-first-spoken-of"
            ]
        return 0.0


def _place(hit: Hit) -> int:
    return hit.start


def _together(hits: Iterable[Hit]) -> float:
    rest = 1.0
    for hit in hits:
        rest *= 1 - hit[4]
    return 1 - rest


def _dense(health: Sequence[Hit]) -> Iterator[Hit]:
    """The hits, which are in order, that lie within a window of enough health context."""
    upto = 0
    for first, hit in enumerate(health):
        rest, last = 1.0, first
        while last < len(health) and health[last][2] <= hit[2] + _WINDOW:
            rest *= 1 - health[last][4]
            last += 1
            if 1 - rest >= _ENOUGH:
                yield from health[max(first, upto) : last]
                upto = max(upto, last)
                break


def _is_plain(hits: Iterable[Hit], health: Sequence[Hit]) -> bool:
    """Whether somebody is told without doubt in the midst of health context: no more is to be found out."""
    return any(
        hit[4] >= _CERTAIN
        and hit[1] is _IDENTIFIER
        and _together(other for other in health if hit[2] - _BESIDE <= other[2] <= hit[3] + _BESIDE)
        >= _BESIDE_IS_HEALTH
        for hit in hits
    )


def _are_few(hits: Iterable[Hit]) -> bool:
    """Whether the text speaks of few: news and lists speak of many, and say he and she of all of them."""
    return len({hit[5] for hit in hits if hit[0] == "name" and b" " in hit[5]}) <= _FEW


def _is_sender(hit: Hit, tokens: Tokens, words: Sequence[bytes]) -> bool:
    """Whether a name behind these words introduces who writes, or signs."""
    if tuple(words) in _INTRODUCES or (words[-1:] and words[-1] in _HEADS):
        return True
    before = tokens.data[max(0, hit.start - 2) : hit.start]
    return _SIGNS_AFTER.match(tokens.lower, hit.end) is not None and (
        before[-1:] == b"\n" or before in _BREAKS or (bool(words) and words[-1] in _CLOSES)
    )


def _voices(health: Sequence[Hit], tokens: Tokens) -> Voices:
    mine: list[int] = []
    yours: list[int] = []
    padded = tokens.padded
    spoken = [b" %b " % word for word in _SPEAKS.intersection(tokens.words)]
    if not spoken:
        return Voices(mine, yours)
    for hit in health:
        told = mine or yours
        if hit.kind in {"care", "age"} or (told and hit.start < told[-1] + _SAID):
            continue
        first = max(0, hit.start - _COMPLAINT)
        if not _holds_any(padded[first : hit.end + 2], spoken):
            continue
        first = max(first, *[tokens.data.rfind(end, first, hit.start) + 1 for end in _ENDS])
        before = padded[first : hit.end + 2]  # with the term, of which "your" may be a part
        of_me = _last(before, _MINE) if any(map(before.__contains__, _OF_ME)) else 0
        of_you = _last(before, _YOURS) if b" you" in before or b" su " in before else 0
        if max(of_me, of_you) <= 0 or not _NOT_ME.isdisjoint(before[max(of_me, of_you) :].split()[:2]):
            continue
        (mine if of_me > of_you else yours).append(hit.start)
    return Voices(mine, yours)


def _holds_any(text: bytes, several: Iterable[bytes]) -> bool:
    for piece in several:  # noqa: SIM110 - any() takes a generator, which costs more than these few look-ups
        if piece in text:
            return True
    return False


def _last(text: bytes, several: tuple[bytes, ...]) -> int:
    """Where the last of several pieces of text ends, or 0."""
    return max([text.rfind(piece) + len(piece) for piece in several if piece in text], default=0)


def _is_near(places: Sequence[int], place: int, reach: int) -> bool:
    index = bisect_left(places, place - reach)
    return index < len(places) and places[index] <= place + reach
