"""Persons whose name is on no list: capitalised words that are no English words and stand as a person stands.

``Zsofia Nemeth called, she ran out of insulin``: most people of the world are on no list of names, and what they are
called looks like what a company, a town or a product is called. So names are guessed only near words of health, and
what stands around them has to tell a person: a relation, a label, a verb of persons, a pronoun.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.model import Hit
from relay.scan.names import AFTER, NameTable
from relay.scan.tokens import Tokens
from relay.scan.words import Words

_UPPER: Final = rb"[A-Z\xc0-\xde]"
_SMALL: Final = rb"[a-z\xdf-\xff]"
_REST: Final = (
    rb"(?:(?:c|ac|e|a|i|u|an|itz|')" + _UPPER + rb")?" + _SMALL
    + rb"++(?:['-](?!s\b)(?:Mc|O')?" + _UPPER + rb"?" + _SMALL + rb"++){0,2}"
)  # fmt: skip
_WORD: Final = _UPPER + _REST
_ALOUD: Final = _UPPER + rb"{3,}+(?:-" + _UPPER + rb"{2,}+)?"
_NEXT: Final = (
    rb"[ ](?:(?:(?:de|da|do|di|del|della|la|las|los|van|von|der|den|bin|bint|ibn|al|el|abu|St\.|y)[ ]){0,3}" + _WORD
    + rb"|[\"(]" + _WORD + rb"[\")]|" + _UPPER + rb"\b\.?)"
)  # fmt: skip
_RUN: Final = re.compile(
    _UPPER + rb"(?<![\w.@/'-].)(?:" + _REST + rb"(?:" + _NEXT + rb"){0,4}|\.(?:" + _NEXT + rb"){1,3}|" + _UPPER
    + rb"{2,}+(?:-" + _UPPER + rb"{2,}+)?,[ ]" + _WORD + rb"(?:[ ]" + _UPPER + rb"\b\.?)?)(?![\w@])"
)  # fmt: skip
_PART: Final = re.compile(_WORD + rb"|" + _ALOUD)
_FOLDED: Final = re.compile(rb"[a-z\xdf-\xff'-]{2,}")
_INITIAL: Final = re.compile(rb"(?<![\w'-])" + _UPPER + rb"\.")
_GIVEN_BEHIND: Final = re.compile(rb",[ ](" + _WORD + rb")(?:[ ]" + _UPPER + rb"\b\.?)?")
_DATED: Final = re.compile(
    rb",?[ ]\(?(?:b\.|dob|born|age[d]?\b|\d{1,2}[ ]?(?:y/?o|yrs?|years?|m\b|f\b|mos?\b|months?|weeks?|days?)"
    rb"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})|,[ ]\d{1,2}[,.:;]"
)

_RELATIONS: Final = frozenset(
    b"son daughter sons daughters husband wife spouse partner fiance fiancee mother father mom mum dad mama papa "
    b"sister brother grandmother grandfather grandma grandpa granddaughter grandson aunt uncle niece nephew "
    b"cousin baby twins child kid boy girl toddler newborn infant stepson stepdaughter law roommate hijo hija "
    b"esposo esposa madre padre hermano hermana abuela abuelo".split()
)
_WHOSE: Final = frozenset(b"my his her our their your mi su the s".split())
_LABELS: Final = frozenset(
    b"mr mrs ms miss mx sr sra srta sgt cpl pvt baby pt patient client resident inmate claimant respondent "
    b"decedent donor newborn infant member beneficiary policyholder guarantor name".split()
)
_PAIRS: Final = frozenset(
    {(relation, b"of") for relation in _RELATIONS | {b"parents", b"parent", b"guardian", b"widow"}}
    | {(b"name", b"is"), (b"this", b"is"), (b"s", b"me"), (b"its", b"me"), (b"i", b"m"), (b"i", b"am")}
    | {(b"baby", b"boy"), (b"baby", b"girl"), (b"acct", b"holder"), (b"account", b"holder"), (b"me", b"llamo")}
)
"""Pairs of words after which a person is named."""
_SEEN: Final = frozenset(
    b"call for with of re regarding about on fwd from saw called calling met visited add book schedule "
    b"reschedule to move moved remind tell told send sent sending give gave behalf para de is was admit "
    b"discharge discharged that says because if so when since while asked get help both".split()
)
_NOBODY: Final = frozenset(
    b"dr drs doctor prof professor nurse rabbi pastor coach officer attorney judge chef by at in near the a an "
    b"this our new via into dear hi hello hey thanks regards sincerely cheers wishes best saint st city "
    b"university team company brand using join like than or every all no north south east west author editor cc "
    b"bcc director ceo chairman president senator governor mayor novelist actor actress singer poet composer "
    b"starring featuring owner host speaker presenter instructor technician rep representative pharmacist "
    b"therapist physician surgeon".split()
)
"""Words after which no patient is named: a provider, somebody in public, a place, who is greeted."""
_ADDRESSED: Final = frozenset(
    b"dear hi hello hey thanks thank regards sincerely love best estimada estimado hola".split()
)
"""Words before and after which somebody stands whom the text is not about, unless it says so otherwise."""
_ANNOUNCES: Final = _RELATIONS | _LABELS | _ADDRESSED | frozenset(b"of is me i'm am holder llamo".split())
_PUBLIC: Final = frozenset(
    b"won wins scored plays played directed sang sings starred stars wrote writes painted composed published coached "
    b"elected founded invented argues announced performs performed".split()
)
"""What is done by those of whom news are made."""
_PARTICLES: Final = frozenset(b"te ni nic ap ben bar ter ten san".split())
_NOBODY_TO: Final = frozenset(b"referred refer referral going drove moved travel".split())
_NOBODY_WITH: Final = frozenset(b"up followup appointment appt consult visit session".split())
_AUXILIARY: Final = frozenset(
    b"just also then again still now already has had is was will would who finally never".split()
)
_DOES: Final = frozenset(
    b"called calls calling phoned says said came come comes coming went needs need needed wants want wanted "
    b"asked asks asking reports report reported denies denied missed misses cancelled canceled rescheduled fell "
    b"fainted woke threw vomited refused refuses takes took taking started starts stopped ran running complains "
    b"complaining complained feels felt feeling seen admitted discharged diagnosed treated referred scheduled "
    b"due pregnant allergic tested tests passed died expired suffered suffers dropped left signed showed arrived "
    b"presented presents underwent recovering doing back here overdue out off on in at home waiting crying dizzy "
    b"sick ill tolerated completed finished received got gets have can can't hasn didn doesn did does forgot "
    b"lost turned slept ate eats developed has had is was will".split()
)
_CLOSERS: Final = (b"!", b"?", b";")
_ABBREVIATED: Final = frozenset(b"dr drs prof mr mrs ms sr sra srta st rev sgt cpl lt capt re no vs".split())
_JOINS: Final = (b"&", b"@", b"/", b"+")
_LEADS: Final = _SEEN | _NOBODY | _LABELS | _RELATIONS | _ADDRESSED
_STOPS: Final = b":;.,(/|-\n0123456789"
_PRONOUNS: Final = tuple(b" %b " % word for word in b"she he her his him hers pt hes shes".split())
_FOREIGN: Final = frozenset(b"que los las una und der das les des est".split())
_IS_FOREIGN: Final = 2
_SPEAKS: Final = 180  # characters behind a name in which a pronoun may speak of it
_REACH: Final = 200  # characters around health context in which names are guessed
_MOST: Final = 60  # guesses in one text: more names tell no more
_BEFORE: Final = 40
_AFTER: Final = 100
_DIGITS_OF_LABEL: Final = 4
_SHORT: Final = 300  # words of a text in which names without capitals are looked for
_CAPITALS: Final = frozenset((*range(65, 91), *range(0xC0, 0xDF)))


class StrangerFinder:
    """Finds persons on no list. Stateless after construction."""

    def __init__(self, table: NameTable, words: Words, weights: Mapping[str, float]) -> None:
        self._table = table
        self._words = words
        self._weights = weights

    def weighed(self, weights: Mapping[str, float]) -> "StrangerFinder":
        """The same with other weights."""
        return StrangerFinder(self._table, self._words, weights)

    def is_person(self, name: bytes) -> bool:
        """Whether a name that was found, in capitals, has no word of every day in it and no place."""
        kinds = [self._kind(part.group()) for part in _FOLDED.finditer(name.lower())]
        return bool(kinds) and min(kinds) > 0 and max(kinds) > 1

    def in_small(self, tokens: Tokens, marks: bytearray) -> Iterator[Hit]:
        """Full names on the lists that are written without capitals, in a short text."""
        words = tokens.words
        if len(words) > _SHORT:
            return
        table, place = self._table, 0
        for word, following in pairwise(words):
            if (
                word in table.first
                and following in table.last
                and not self._is_word(word)
                and not self._is_word(following)
            ):
                found = tokens.padded.find(b" %b %b " % (word, following), place)
                if found >= 0 and marks.find(1, found, found + len(word)) < 0 and tokens.data[found] not in _CAPITALS:
                    place, end = found, found + len(word) + 1 + len(following)
                    weight = self._weights["name-full" if is_spoken_of(tokens, end) else "name-half"]
                    norm = tokens.data[found:end].upper()
                    yield Hit("name", FindingGroup.IDENTIFIER, found, end, weight, norm)

    def _is_word(self, word: bytes) -> bool:
        return word in self._words

    def weight_of(self, hit: Hit, tokens: Tokens) -> float:
        """The weight of a full name of which a list has but a part, by what stands around it."""
        if not self.is_person(hit.norm):
            return 0.0
        return self._weights.get(_likeness(tokens, hit.start, hit.end, 2), 0.0)

    def find(self, tokens: Tokens, health: Sequence[Hit], marks: bytearray) -> Iterator[Hit]:
        """Persons near health context, where nothing else was found.

        Args:
            tokens: the text.
            health: where it speaks of health, in order.
            marks: of each character, whether something was found there.
        """
        data = tokens.data
        found = 0
        for start, end in _near(health, len(data)):
            for run in _RUN.finditer(data, start, end):
                if marks.find(1, *run.span()) < 0 and _may_be(data, run) and (hit := self._judged(tokens, run)):
                    yield hit
                    found += 1
                    if found == _MOST:
                        return

    def _judged(self, tokens: Tokens, run: "re.Match[bytes]") -> Hit | None:
        span = self._name(tokens, run)
        if span is None:
            return None
        start, end, size = span
        likeness = _likeness(tokens, start, end, size)
        if not likeness or (not likeness.startswith("name-patient") and _is_foreign(tokens)):
            return None
        norm = tokens.data[start:end].upper()
        return Hit("name", FindingGroup.IDENTIFIER, start, end, self._weights[likeness], norm)

    def _name(self, tokens: Tokens, run: "re.Match[bytes]") -> tuple[int, int, int] | None:
        """Where a run may be a name, without the words of every day at its ends, and of how many words."""
        data, lower = tokens.data, tokens.lower
        spans = [part.span() for part in _PART.finditer(data, *run.span())]
        kinds = [self._kind(lower[first:last]) for first, last in spans]
        while kinds and (not kinds[0] or lower[slice(*spans[0])] in _LEADS):
            del kinds[0], spans[0]
        while kinds and not kinds[-1]:
            del kinds[-1], spans[-1]
        if (
            not kinds
            or max(kinds) < 2
            or not all(kinds)
            or len({lower[first:last] for first, last in spans}) < len(spans)
        ):
            return None
        (start, _), (_, end), size = spans[0], spans[-1], len(spans)
        if data[end : end + 1] == b" " and (last := _INITIAL.match(data, end + 1)):
            end, size = last.end(), size + 1
        if start > run.start() and (first := _INITIAL.match(data, run.start())) and first.end() + 1 == start:
            start, size = run.start(), size + 1
        if size == 1 and (given := _GIVEN_BEHIND.match(data, end)) and self._kind(given[1].lower()):
            if data[start - 1 : start] not in b"\n>":
                return None if data[start - 2 : start] != b": " else (start, given.end(), 2)
            end, size = given.end(), 2
        return start, end, size

    def _kind(self, word: bytes) -> int:
        """0: no name; 1: a name that is also a word; 2: a name on a list, or no word at all. In lower case."""
        table = self._table
        if word in table.nobody:
            return 0
        if word in _PARTICLES:
            return 1
        if word in table.first or word in table.last:
            return 2
        if word in table.first_or_word or word in table.last_or_word:
            return 1
        if b"-" not in word:
            return 0 if word in self._words else 2
        parts = word.split(b"-")
        return 0 if not table.nobody.isdisjoint(parts) or all(part in self._words for part in parts) else 2


def _may_be(data: bytes, run: "re.Match[bytes]") -> bool:
    """Whether it is worth a closer look: one word alone needs a word before it that announces a person."""
    start, end = run.span()
    if data.find(b" ", start, end) >= 0 or data[end : end + 1] == b",":
        return True
    first = data.rfind(b" ", max(0, start - _BEFORE), max(0, start - 1)) + 1
    return data[first:start].rstrip(b" .,:\n").lower().rpartition(b"\n")[2] in _ANNOUNCES


def _likeness(tokens: Tokens, start: int, end: int, size: int) -> str:
    """How sure it is that somebody is spoken of: an entry of the weights, or nothing."""
    data = tokens.data
    words = tokens.padded[max(0, start - _BEFORE) : start + 1].split()
    previous, before = (words[-1] if words else b""), tuple(words[-2:])
    gap = data[max(0, start - 2) : start]
    closed = b"\n" in gap or (
        gap[1:] == b" " and (gap[:1] in _CLOSERS or (gap[:1] == b"." and previous not in _ABBREVIATED))
    )
    is_called = data[start - 1 - len(previous) : start].istitle()  # Papa Diop
    is_told = previous in _LABELS or (
        not closed
        and (before in _PAIRS or (previous in _RELATIONS and (is_called or not _WHOSE.isdisjoint(words[-3:-1]))))
    )
    if not is_told and previous in _ADDRESSED and not closed:
        return "name-sender"
    if not is_told and (size == 1 or (not closed and _is_nobody(previous, words)) or gap[-1:] in _JOINS):
        return ""
    role = AFTER.match(tokens.lower[end : end + _AFTER])
    after = role.lastgroup if role else None
    if after in {"provider", "thing"}:
        return ""
    if does_in_public(tokens, end):
        return ""
    if is_told:
        return "name-patient-full" if size > 1 else "name-patient"
    if after == "patient" or _DATED.match(tokens.lower, end):
        return "name-patient-full"
    stands, spoken_of = _stands(tokens, end, previous, gap, closed=closed), is_spoken_of(tokens, end)
    if stands and spoken_of:
        return "name-full"
    return "name-half" if stands or spoken_of else ""


def does_in_public(tokens: Tokens, end: int) -> bool:
    """Whether somebody does what news are made of."""
    return not _PUBLIC.isdisjoint(tokens.padded[end + 1 : end + _BEFORE].split()[:1])


def _is_foreign(tokens: Tokens) -> bool:
    """Whether the text is in a language in which every noun is no English word."""
    return len(_FOREIGN.intersection(tokens.words)) >= _IS_FOREIGN


def _is_nobody(previous: bytes, words: Sequence[bytes]) -> bool:
    before = words[-2] if len(words) > 1 else b""
    return (
        previous in _NOBODY
        or (previous == b"to" and before in _NOBODY_TO)
        or (previous == b"with" and before in _NOBODY_WITH)
    )


def _stands(tokens: Tokens, end: int, previous: bytes, gap: bytes, *, closed: bool) -> bool:
    """Whether a name of several words stands as that of a person does: whom something is for, who does something."""
    if not closed and (previous in _SEEN or (previous.isdigit() and len(previous) >= _DIGITS_OF_LABEL)):
        return True
    following = tokens.data[end : end + 2]
    if following[:1] == b" " or following == b"'s":
        words = tokens.padded[end + 1 : end + _AFTER].split()[:3]
        if following == b"'s" or any(
            word in _DOES and all(auxiliary in _AUXILIARY for auxiliary in words[:place])
            for place, word in enumerate(words)
        ):
            return True
    return (not gap or gap[-1:] != b" " or not gap[:1].isalnum()) and following.lstrip(b" ")[:1] in _STOPS


def is_spoken_of(tokens: Tokens, end: int) -> bool:
    """Whether what follows a name, which ends there, goes on to speak of him or her."""
    stop = tokens.data.find(b"\n\n", end, end + _SPEAKS)
    following = tokens.padded[end : (stop if stop >= 0 else end + _SPEAKS) + 1]
    return any(word in following for word in _PRONOUNS)


def _near(health: Sequence[Hit], size: int) -> Iterator[tuple[int, int]]:
    """The stretches of a text of this size that lie near to health context, in order."""
    start = end = -1
    for hit in health:
        if hit.start - _REACH > end:
            if end >= 0:
                yield start, end
            start = max(0, hit.start - _REACH)
        end = min(size, max(end, hit.end + _REACH))
    if end >= 0:
        yield start, end
