"""Persons whose name is on no list: capitalised words that are no English words and stand as a person stands.

``Zsofia Nemeth called, she ran out of insulin``: most people of the world are on no list of names, and what they
are called looks like what a company, a town or a product is called. So names are guessed only near words of health, and
what stands around them has to tell a person: a relation, a label, a verb of persons, a pronoun.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from relay.core.phi import FindingGroup
from relay.scan.model import Hit
from relay.scan.names import AFTER, NameTable
from relay.scan.words import Words

_UPPER: Final = rb"[A-Z\xc0-\xde]"
_SMALL: Final = rb"[a-z\xdf-\xff]"
_WORD: Final = (
    rb"(?:Mc|Mac|De|La|Le|Di|Du|Van|Fitz|[ODN]')?" + _UPPER + _SMALL
    + rb"++(?:['-](?!s\b)(?:Mc|O')?" + _UPPER + rb"?" + _SMALL + rb"++){0,2}"
)  # fmt: skip
_ALOUD: Final = _UPPER + rb"{3,}+(?:-" + _UPPER + rb"{2,}+)?"
_BETWEEN: Final = rb"(?:[ ](?:de|da|do|di|del|della|la|las|los|van|von|der|den|bin|bint|ibn|al|el|abu|St\.|y))"
_NEXT: Final = (
    rb"(?:" + _BETWEEN + rb"{0,3}[ ]" + _WORD + rb"|[ ]\"" + _WORD + rb"\"|[ ]\(" + _WORD + rb"\)|[ ]" + _UPPER
    + rb"\b\.?)"
)  # fmt: skip
_RUN: Final = re.compile(
    rb"(?<![\w.@/'-])(?:" + _WORD + rb"," + _NEXT + rb"{1,2}|" + _ALOUD + rb",[ ]" + _WORD + rb"(?:[ ]" + _UPPER
    + rb"\b\.?)?|(?:" + _WORD + rb"|" + _UPPER + rb"\.)" + _NEXT + rb"{0,4})(?![\w@])"
)  # fmt: skip
_FOLDED: Final = re.compile(rb"[a-z\xdf-\xff'-]{2,}")
_PART: Final = re.compile(_WORD + rb"|" + _ALOUD)
_INITIAL: Final = re.compile(rb"(?<![\w'-])" + _UPPER + rb"\.")

_RELATIONS: Final = (
    rb"son|daughter|sons|daughters|husband|wife|spouse|partner|fianc.e?|mother|father|mom|mum|dad|mama|papa|sister"
    rb"|brother|grandmother|grandfather|grandma|grandpa|granddaughter|grandson|aunt|uncle|niece|nephew|cousin|baby|twins"
    rb"|child|kid|boy|girl|toddler|newborn|infant|stepson|stepdaughter|mother-in-law|father-in-law|roommate|hijo|hija"
    rb"|esposo|esposa|madre|padre|hermano|hermana|abuela|abuelo"
)
_TOLD_BEFORE: Final = re.compile(
    rb"\b(?:(?:my|his|her|our|their|your|mi|su)[ ](?:\w+[ ])?(?:" + _RELATIONS + rb")(?:'s)?[,:]?"
    rb"|(?:son|daughter|wife|husband|mother|father|mom|dad|parents?|guardian|spouse|widow|sister|brother)[ ]of"
    rb"|mr|mrs|ms|miss|mx|sra?|srta|sgt|cpl|pvt|baby|pt|patient|client|resident|inmate|claimant|respondent"
    rb"|decedent|newborn|infant|member|beneficiary|acct[ ]holder|account[ ]holder|policyholder|guarantor|patient[ ]name"
    rb"|name[ ]is|real[ ]name|name|this[ ]is|it's[ ]me|its[ ]me|i'm|i[ ]am|for[ ]pt|for[ ]patient)[.:,]?[ ]{1,2}\Z"
)
_SEEN_BEFORE: Final = re.compile(
    rb"(?:\b(?:for|with|of|re|regarding|about|on|fwd|from|saw|called|calling|met|visited|add|book|schedule"
    rb"|reschedule|spoke[ ]to|spoke[ ]with|talked[ ]to|move|moved|remind|tell|told|send|sent|sending|give|gave|behalf"
    rb"|para|de|is|was|admit|discharge|discharged|that|says|because|if|so|when|since|while|asked|get|help|both)"
    rb":?|\d{4,})[ ]{1,2}\Z"
)
_BEGINS: Final = re.compile(rb"(?:\A|\n[ >*\t-]*|[.!?:;)][ \n]+|[-,/|\"(>][ ]?)\Z")
_NOBODY_BEFORE: Final = re.compile(
    rb"(?:\b(?:dr|drs|doctor|prof|professor|nurse|rabbi|pastor|coach|officer|attorney|judge|chef|by|at|in|near|the|a|an"
    rb"|this|our|new|via|into|dear|hi|hello|hey|thanks|regards|sincerely|cheers|wishes|best|saint|st|city|university|team"
    rb"|company|brand|using|join|like|than|or|every|all|no|north|south|east|west|author|editor|cc|bcc|director|ceo"
    rb"|chairman|president|senator|governor|mayor|novelist|actor|actress|singer|poet|composer|director|starring|featuring"
    rb"|owner|host|speaker|presenter|instructor|technician|rep|representative|pharmacist|therapist|physician|surgeon)"
    rb"[.:,]?[ \n]{1,2}|(?:\b(?:follow[ -]?up|followup|appointment|appt|consult|visit|session)[ ]with"
    rb"|(?:referred|refer|referral)[ ]to|(?:seen|treated|followed|managed)[ ]by)[ ]|[&@/+][ ]?)\Z"
)
_DOES: Final = re.compile(
    rb"'?[ ](?:(?:just|also|then|again|still|now|already|has|had|is|was|will|would|who|can't|cannot|can|hasn't|didn't"
    rb"|doesn't|who's|still|finally|never)[ ]){0,2}"
    rb"(?:called|calls|calling|phoned|says|said|came|come|comes|coming|went|needs?|needed|wants?|wanted|asked|asks|asking"
    rb"|reports?|reported|denies|denied|missed|misses|cancell?ed|rescheduled|fell|fainted|woke|threw|vomited|refused|refuses"
    rb"|takes|took|taking|started|starts|stopped|ran|running|complains?|complaining|complained|feels|felt|feeling|seen"
    rb"|admitted|discharged|diagnosed|treated|referred|scheduled|due|pregnant|allergic|tested|tests|passed|died|expired"
    rb"|suffered|suffers|stopped[ ]by|dropped|left|signed|showed|arrived|presented|presents|underwent|recovering|doing"
    rb"|back|here|overdue|out|off|on|in|at|home|waiting|crying|dizzy|sick|ill|tolerated|completed|finished|received|got|gets"
    rb"|has|had|have|is|was|will|can't|can|hasn't|didn't|doesn't|did|does|forgot|lost|turned|slept|ate|eats|developed)\b"
)
_ITS_OWN: Final = re.compile(rb"'s?[ ][a-z0-9]")
_STOPS: Final = re.compile(rb"[ ]?(?:[:;.,(/|-]|\n|\Z|\d)")
_DATED: Final = re.compile(
    rb",?[ ]\(?(?:b\.|dob|born|age[d]?\b|\d{1,2}[ ]?(?:y/?o|yrs?|years?|m\b|f\b|mos?\b|months?|weeks?|days?)"
    rb"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})|,[ ]\d{1,2}[,.:;]"
)
PRONOUN: Final = re.compile(rb"\b(?:he|she|his|her|him|hers|he's|she's|himself|herself|hes|shes|pt)\b")
"""Words that speak of one person, in lower case."""
_FOREIGN: Final = tuple(b" %b " % word for word in b"que los las una und der das les des est".split())
_IS_FOREIGN: Final = 2
"""Words of other languages, of which so many make a text one in which every noun is no English word."""
_SPEAKS: Final = 180  # characters behind a name in which a pronoun may speak of it
_REACH: Final = 200  # characters around health context in which names are guessed
_MOST: Final = 60  # guesses in one text: more names tell no more
_BEFORE: Final = 48
_AFTER: Final = 100


class _Guess(NamedTuple):
    """A run of words that may be a person: where, and how many of its words say so."""

    start: int
    end: int
    parts: int
    initials: int


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
        kinds = [self.kind(part.group()) for part in _FOLDED.finditer(name.lower())]
        return bool(kinds) and min(kinds) > 0 and max(kinds) > 1

    def find(self, data: bytes, lower: bytes, health: Sequence[tuple[int, int]], marks: bytearray) -> Iterator[Hit]:
        """Persons near health context, where nothing else was found.

        Args:
            data: the text.
            lower: the same in lower case.
            health: where it speaks of health, in order.
            marks: of each character, whether something was found there.
        """
        found = 0
        foreign = sum(word in lower for word in _FOREIGN) >= _IS_FOREIGN
        for start, end in near(health, _REACH, len(data)):
            for run in _RUN.finditer(data, start, end):
                if marks.find(1, *run.span()) < 0 and (hit := self._judged(data, lower, run, foreign=foreign)):
                    yield hit
                    found += 1
                    if found == _MOST:
                        return

    def _judged(self, data: bytes, lower: bytes, run: "re.Match[bytes]", *, foreign: bool) -> Hit | None:
        guess = self._guess(data, lower, run)
        if guess is None:
            return None
        start, end, parts, initials = guess
        before, after = lower[max(0, start - _BEFORE) : start], lower[end : end + _AFTER]
        likeness = _likeness(before, after, parts + initials, lower, end)
        weight = 0.0 if foreign and not likeness.startswith("name-patient") else self._weights.get(likeness, 0.0)
        return Hit("name", FindingGroup.IDENTIFIER, start, end, weight, data[start:end].upper()) if weight else None

    def _guess(self, data: bytes, lower: bytes, run: "re.Match[bytes]") -> _Guess | None:
        """The run without the words of every day at its ends, if what is left may be a name."""
        spans = [part.span() for part in _PART.finditer(data, *run.span())]
        kinds = [self.kind(lower[first:last]) for first, last in spans]
        while kinds and not kinds[0]:
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
        start, end = spans[0][0], spans[-1][1]
        if data[end : end + 1] == b" " and (last := _INITIAL.match(data, end + 1)):
            end = last.end()
        if start > run.start() and (first := _INITIAL.match(data, run.start())) and first.end() + 1 == start:
            start = run.start()
        return _Guess(start, end, len(kinds), (start, end) != (spans[0][0], spans[-1][1]))

    def kind(self, word: bytes) -> int:
        """0: no name; 1: a name that is also a word; 2: a name on a list, or no word at all. In lower case."""
        parts = word.split(b"-")
        table = self._table
        if not table.nobody.isdisjoint(parts):
            return 0
        if word in table.first or word in table.last:
            return 2
        if word in table.first_or_word or word in table.last_or_word:
            return 1
        return 0 if all(part in self._words for part in parts) else 2


def _likeness(before: bytes, after: bytes, size: int, lower: bytes, end: int) -> str:
    """How sure it is that somebody is spoken of: an entry of the weights, or nothing."""
    role = AFTER.match(after)
    told = role.lastgroup if role else None
    if told in {"provider", "thing"}:
        return ""
    if _TOLD_BEFORE.search(before):
        return "name-patient-full" if size > 1 else "name-patient"
    if size < 2 or _NOBODY_BEFORE.search(before):
        return ""
    if told == "patient" or _DATED.match(after):
        return "name-patient-full"
    stands = bool(_SEEN_BEFORE.search(before)) + bool(_DOES.match(after) or _ITS_OWN.match(after))
    if not stands and _BEGINS.search(before) and _STOPS.match(after):
        stands = 1
    if not stands:
        return ""
    return "name-full" if is_spoken_of(lower, end) else "name-half"


def is_spoken_of(lower: bytes, end: int) -> bool:
    """Whether what follows a name, which ends there, goes on to speak of him or her."""
    stop = lower.find(b"\n\n", end, end + _SPEAKS)
    return PRONOUN.search(lower, end, stop if stop >= 0 else end + _SPEAKS) is not None


def near(places: Sequence[tuple[int, int]], reach: int, size: int) -> Iterator[tuple[int, int]]:
    """The stretches of a text of this size that lie so near to one of these places, in order."""
    start = end = -1
    for first, last in places:
        if first - reach > end:
            if end >= 0:
                yield start, end
            start = max(0, first - reach)
        end = min(size, max(end, last + reach))
    if end >= 0:
        yield start, end
