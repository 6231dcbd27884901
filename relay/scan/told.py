"""Whom a text near words of health is about: who is spoken of, who speaks of himself, who is spoken to.

A name tells little by itself. ``Ivo Stankovic ... he has a bruise`` speaks of Ivo; ``this is Rosalind, my chemo`` makes
the sender the patient, with all the ways to reach her; ``Dear Fenella, your cholesterol was 212`` the one who is
written to. Only what stands near health context is looked at, so ordinary mail pays nothing.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.forms import FormFinder
from relay.scan.model import Hit
from relay.scan.standing import RELATIONS, does_in_public, is_in_bed, is_spoken_of
from relay.scan.strangers import StrangerFinder
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
_FEW_WORDS: Final = 300  # of a text that is about one thing
_MINE: Final = tuple(
    b" %b " % words
    for words in (
        b"my", b"i m", b"im", b"i ve", b"ive", b"i am", b"i was", b"i had", b"i have", b"i got", b"i get", b"i need",
        b"i feel", b"i took", b"i take", b"i went", b"i started", b"i ran", b"i can t", b"i cannot", b"i woke",
        b"i will be out", b"i ll be out", b"i tested", b"i missed", b"i lost", b"i broke", b"i hurt", b"i cut",
        b"i threw", b"i cant", b"i couldn t", b"i haven t", b"i don t", b"i dont", b"i keep", b"i stopped", b"i quit",
        b"i noticed", b"i fell", b"i burned", b"i think i", b"i also", b"i already", b"i still", b"i never",
        b"gave me", b"put me", b"told me", b"made me", b"knocked me", b"got me", b"mi", b"me duele", b"tengo", b"estoy",
        b"me siento",
    )
)  # fmt: skip
_OF_ME: Final = (b" my ", b" i ", b" me ", b" im ", b" ive ", b" mi ", b" tengo ", b" estoy ")
"""One of these stands in whatever speaks of me."""
_YOURS: Final = (b" your ", b" you re ", b" you are ", b" you have ", b" you had ", b" you were ", b" su ")
_SPEAKS: Final = tuple(map(bytes.strip, (*_OF_ME, b"your", b"you", b"su")))
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
    | {(b"i", b"m"), (b"me", b"llamo"), (b"sent", b"by"), (b"me", b"again")}
)
_HEADS: Final = frozenset(b"im its soy um uh name from habla saluda atte".split())
_CLOSES: Final = frozenset(b"thanks thank love best regards sincerely gracias atentamente saludos".split())
_RANKS: Final = frozenset(
    b"mr mrs ms miss mx sr sra srta don dona lt col sgt cpl pfc maj capt sgt major lieutenant colonel captain "
    b"sister brother deacon elder little baby name is named".split()
)
"""What stands between a relation, or a greeting, and a name."""
_BREAKS: Final = frozenset({b". ", b"! ", b"? ", b"- ", b"~ "})
_SIGNS_AFTER: Final = re.compile(
    rb"[ .]{0,2}(?:\Z|\n|,? (?:here|again|dob|\d{1,2}[-/])|, (?:[^\n!?.]|no\.){1,60}\s{0,3}\Z)"
)
"""What stands behind the name of who signs: nothing, a number, or at the end of the text his office."""
_BORN: Final = re.compile(
    rb",?[ ]\(?(?:[A-Za-z]{2,20},[ ])?\d{1,2}[-/.]\d{1,2}[-/.](?:19[2-9]\d|20[01]\d|[3-9]\d|0\d|1[0-6])(?!\d)"
)
"""A date in the past behind a name: the day of birth."""
_DON: Final = (b"DON ", b"DO\xd1A ", b"DO\xf1A ", b"DONA ")
_NICKNAMED: Final = re.compile(rb"[ ][\"(][A-Z][a-z]+[\")][ ][A-Z][a-z]")
"""``Bartholomew "Bat" Ferrone``."""
_QUOTED: Final = frozenset({b' "', b" ("})
_SPACED: Final = frozenset({b",", b" "})
_SOMEBODY: Final = (b" she ", b" he ", b" pt ", b" her ", b" his ", b" my son ", b" my daughter ", b" patient says ")
"""One of these stands in whatever speaks of one person's health."""
_TELLS: Final = 0.11  # weight of an identifier that may name somebody
_WAYS: Final = frozenset({"phone", "email", "address"})
_BESIDE_WAYS: Final = frozenset({"date", "zip", "facility", "residence", "url", "photo"})
_FEW_WAYS: Final = 2
_SHORT: Final = 150  # words
_PUBLIC_REACH: Final = 600
_OF_MANY: Final = 0.15
_GREETS: Final = frozenset(b"dear hi hello hey back morning afternoon evening estimado estimada hola".split())
_BEGINS: Final = frozenset({b"", b"\n", b"\n\n", b": "})
_CALLED: Final = re.compile(rb",[ \n]|[ ]?[-\x96\x97:!][ \n]|[.]?\n")
"""What stands behind the name of one who is called by it."""
_TO_YOU: Final = (b" you ", b" your ", b" u ", b" ur ", b" yours ", b" yourself ")
_OF_OTHERS: Final = (
    b" he ", b" she ", b" his ", b" her ", b" him ", b" pt ", b" patient ", b" patients ", b" mr ", b" mrs ", b" ms ",
    b" they ", b" their ", b" them ", b" clients ", b" residents ", b" students ",
)  # fmt: skip
_MUCH: Final = 0.7  # health context, the language of care apart
_BEFORE: Final = 28
_SAID: Final = 300  # characters in which who speaks need not be asked again
_NAMES: Final = 40  # hits that are looked at closer: more tell no more
_REACHES: Final = frozenset({"email", "phone"})


@dataclass(frozen=True, slots=True)
class Voices:
    """Where a text speaks of the sender's own health, of that of the one it is written to, and of a relation's."""

    mine: list[int]
    yours: list[int]
    kin: list[int]


class Teller:
    """Tells whom a text is about. Stateless after construction."""

    def __init__(self, strangers: StrangerFinder, weights: Mapping[str, float]) -> None:
        self._strangers = strangers
        self._forms = FormFinder(strangers.kind_of, strangers.is_listed, weights)
        self._weights = weights

    def weighed(self, weights: Mapping[str, float]) -> "Teller":
        """The same with other weights."""
        return Teller(self._strangers.weighed(weights), weights)

    def told(self, hits: list[Hit], tokens: Tokens) -> list[Hit]:
        """The hits, with persons on no list, and with names and ways to reach somebody weighed by whom they belong to.

        Args:
            hits: what was found.
            tokens: the text.
        """
        public = [hit[2] for hit in hits if hit[0] == "public"]
        if public:
            others = self._told([hit for hit in hits if hit[0] != "public"], tokens, hits)
            return [_in_public(hit, public) if hit[0] == "name" else hit for hit in others]
        return self._told(hits, tokens, hits)

    def _told(self, hits: list[Hit], tokens: Tokens, found: Sequence[Hit]) -> list[Hit]:
        health = [hit for hit in hits if hit[1] is _HEALTH and hit[4] > 0]
        if not _is_much(health, _ENOUGH):
            return hits
        health.sort(key=_place)
        if _is_plain(hits, health):
            return hits
        health = [hit for hit in _dense(health) if hit[4] >= _PLAIN]
        if not health:
            return hits
        marks = _marks(found, len(tokens.data))
        hits = [*hits, *self._strangers.find(tokens, health, marks), *self._strangers.in_small(tokens, marks)]
        if len(tokens.words) <= _FEW_WORDS:
            hits = self._forms.find(tokens, hits, health, marks)
        voices = _voices(health, tokens)
        if not voices.yours and not voices.mine and not voices.kin:
            voices.yours.extend(_speaks_to(health, tokens))
        places = [hit[2] for hit in health] if _are_few(hits) else []
        left = _NAMES
        for number, hit in enumerate(hits):
            if hit[1] is _IDENTIFIER and (hit[0] == "name" or hit[0] in _REACHES) and left:
                left -= 1
                kind, weight = self._weighed(hit, tokens, places, voices)
                if weight > hit[4]:
                    hits[number] = hit._replace(kind=kind, weight=weight)
        return self._reached(hits, tokens, health) if len(tokens.words) <= _SHORT else hits

    def _reached(self, hits: list[Hit], tokens: Tokens, health: Sequence[Hit]) -> list[Hit]:
        """In a short text that names nobody and speaks of one person's health: the way to reach him or her."""
        told = [hit for hit in hits if hit[1] is _IDENTIFIER and hit[4] >= _TELLS and not _is_no_address(hit, tokens)]
        ways = {hit[5] for hit in told if hit[0] in _WAYS}
        if (
            not ways
            or len(ways) > _FEW_WAYS
            or any(hit[0] not in _WAYS and hit[0] not in _BESIDE_WAYS for hit in told)
            or not _is_much(health, _BESIDE_IS_HEALTH)
            or not _holds_any(tokens.padded, _SOMEBODY)
        ):
            return hits
        weight = self._weights["patient-contact"]
        return [hit._replace(kind="patient-contact", weight=weight) if hit[5] in ways else hit for hit in hits]

    def _weighed(self, hit: Hit, tokens: Tokens, health: Sequence[int], voices: Voices) -> tuple[str, float]:
        """The kind and weight of a name or a way to reach somebody, or what it is by itself and nothing."""
        if hit.kind in _REACHES:
            is_own = _is_near(voices.mine, hit.start, _REACH) or _is_near(voices.kin, hit.start, _REACH)
            return "patient-contact", self._weights["patient-contact"] if is_own else 0.0
        words = _words_before(tokens, hit.start)
        if voices.mine or voices.yours or voices.kin:
            kind, weight = self._voiced(hit, tokens, words, voices)
            if weight:
                return kind, weight
        return hit.kind, self._spoken(hit, tokens, words) if _is_near(health, hit.start, _SPOKEN) else 0.0

    def _voiced(self, hit: Hit, tokens: Tokens, words: Sequence[bytes], voices: Voices) -> tuple[str, float]:
        """The kind and weight of the name of one who speaks of himself or his kin, or who is spoken to.

        A full name is then of a kind of its own, which counts in a signature as well.
        """
        weights = self._weights
        words = [word for word in words if word not in _RANKS or word == b"is"][-2:]
        is_mine, is_kin = _is_near(voices.mine, hit.start, _REACH), _is_near(voices.kin, hit.start, _REACH)
        if (is_mine or is_kin) and _is_sender(hit, tokens, words):
            if b" " in hit.norm:
                return "name-self", weights["name-self" if is_mine else "name-of-kin"]
            return hit.kind, weights["name-first-self" if is_mine else "name-first-of-kin"]
        is_addressed = _is_near(voices.yours, hit.start, _REACH) and _is_addressed(hit, tokens, words)
        return hit.kind, weights["name-addressed"] if is_addressed else 0.0

    def _spoken(self, hit: Hit, tokens: Tokens, words: list[bytes]) -> float:
        """The weight of the name of one who is spoken of near health context."""
        weights, is_full = self._weights, b" " in hit.norm
        is_titled = hit.weight >= weights["name-title"]
        if is_full and hit.norm.startswith(_DON):
            return weights["name-title"]
        if _is_told_beside(hit, tokens, words):
            return weights["name-patient-full" if is_full or is_titled else "name-patient"]
        if is_full and hit.weight == weights["name-first"]:
            return self._strangers.weight_of(hit, tokens)
        if not is_full and tokens.data[hit.end : hit.end + 2] in _QUOTED and _NICKNAMED.match(tokens.data, hit.end):
            return weights["name-half"]
        if (
            hit.weight >= weights["name-first"]
            and not does_in_public(tokens, hit.end)
            and is_spoken_of(tokens, hit.end)
            and self._strangers.is_person(hit.norm)
        ):
            if is_full or is_titled:
                return weights["name-spoken-of"]
            return weights["name-first-in-short" if len(tokens.words) <= _FEW_WORDS else "name-first-spoken-of"]
        return 0.0


def _is_no_address(hit: Hit, tokens: Tokens) -> bool:
    """``20 minutes each way``: an address has a capital."""
    return hit[0] == "address" and tokens.data[hit[2] : hit[3]] == tokens.lower[hit[2] : hit[3]]


def _in_public(hit: Hit, public: Sequence[int]) -> Hit:
    """A name, near what is said to all worth no more than one of many."""
    if _is_near(public, hit.start, _PUBLIC_REACH):
        return hit._replace(weight=min(hit.weight, _OF_MANY))
    return hit


def _words_before(tokens: Tokens, place: int) -> list[bytes]:
    return tokens.padded[max(0, place - _BEFORE) : place + 1].split()


def _is_told_beside(hit: Hit, tokens: Tokens, words: list[bytes]) -> bool:
    """Whether a relation, a bed or a birth stands beside a name; ``words`` are those before it."""
    data, end = tokens.data, hit.end
    if is_in_bed(tokens, end, words) or (data[end : end + 1] in _SPACED and _BORN.match(data, end)):
        return True
    while words and words[-1] in _RANKS:
        del words[-1]
    return bool(words) and words[-1] in RELATIONS and data[hit.start - 2 : hit.start] != b", "


def _place(hit: Hit) -> int:
    return hit.start


def _marks(hits: Iterable[Hit], size: int) -> bytearray:
    """Of each character, whether something was found there."""
    marks = bytearray(size)
    for _, _, start, end, _, _, _ in hits:
        marks[start:end] = b"\1" * (end - start)
    return marks


def _is_much(hits: Iterable[Hit], least: float) -> bool:
    """Whether their weights together come to so much, which more of them never make less."""
    rest = 1.0
    for hit in hits:
        rest *= 1 - hit[4]
        if 1 - rest >= least:
            return True
    return False


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
    """Whether somebody is told without doubt in the midst of health context, which is in order: no more is to find."""
    certain = [hit for hit in hits if hit[4] >= _CERTAIN and hit[1] is _IDENTIFIER]
    if not certain:
        return False
    places = [hit[2] for hit in health]
    return any(
        _is_much(
            health[bisect_left(places, hit[2] - _BESIDE) : bisect_right(places, hit[3] + _BESIDE)], _BESIDE_IS_HEALTH
        )
        for hit in certain
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


def _is_addressed(hit: Hit, tokens: Tokens, words: Sequence[bytes]) -> bool:
    """Whether a name is greeted, or begins a paragraph as that of the one who is spoken to: ``Ludmila, I set up``."""
    if words[-1:] and words[-1] in _GREETS:
        return True
    before = tokens.data[max(0, hit.start - 2) : hit.start]
    return before in _BEGINS and _CALLED.match(tokens.data, hit.end) is not None


def _speaks_to(health: Sequence[Hit], tokens: Tokens) -> list[int]:
    """Where a short text that speaks of nobody else tells somebody of health: ``Hi Noreen ... chemo class``."""
    if (
        len(tokens.words) > _SHORT
        or not _holds_any(tokens.padded, _TO_YOU)
        or _holds_any(tokens.padded, _OF_OTHERS)
        or not _is_much((hit for hit in health if hit.kind != "care"), _MUCH)
    ):
        return []
    return [hit.start for hit in health]


def _voices(health: Sequence[Hit], tokens: Tokens) -> Voices:
    mine: list[int] = []
    yours: list[int] = []
    kin: list[int] = []
    padded = tokens.padded
    spoken = [b" %b " % word for word in tokens.among(_SPEAKS)]
    if not spoken:
        return Voices(mine, yours, kin)
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
        if max(of_me, of_you) <= 0:
            continue
        whose = before[max(of_me, of_you) :].split()[:2]
        if _NOT_ME.isdisjoint(whose):
            (mine if of_me > of_you else yours).append(hit.start)
        elif not RELATIONS.isdisjoint(whose):
            (kin if of_me > of_you else yours).append(hit.start)
    return Voices(mine, yours, kin)


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
