"""Names of persons, and who they are in the text: a patient, a provider, a sender, or somebody named.

A list alone finds too much (every word can be a surname) and too little (most people are on no list). A given name on
the list that stands as a name does is the candidate; what stands before and after it tells the role. Names that are on
no list are found by their label or by what follows them, among the shapes (:mod:`relay.scan.shapes`).
"""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.model import Hit
from relay.scan.tokens import Tokens

_UPPER: Final = rb"[A-Z\xc0-\xde]"
_LETTER: Final = rb"[A-Za-z\xc0-\xff'-]"
_PERSON: Final = re.compile(
    _UPPER + _LETTER + rb"*(?:[ \t]+(?P<initial>" + _UPPER + rb")(?:\.|(?!" + _LETTER + rb")))?"
    rb"(?:[ \t]+(?P<last>(?:(?:de|da|di|del|della|la|van|von|der|den|bin|al|el|st\.)[ \t]+){0,2}"
    + _UPPER + _LETTER + rb"+))?(?:[ \t]+(?P<more>" + _UPPER + _LETTER + rb"+))?"
)  # fmt: skip
_ROLES_BEFORE: Final = {
    "provider": b"dr drs doctor prof professor nurse attending provider physician pcp surgeon therapist cardiologist "
    b"oncologist neurologist psychiatrist dentist hospitalist pharmacist "
    b"manager supervisor coordinator navigator",
    "patient": b"patient pt patients client resident insured subscriber paciente named baby infant old yo male female "
    b"man woman boy girl lady gentleman child mother father son daughter wife husband newborn",
    "title": b"mr mrs ms miss sr sra srta senor senora",
    "greeting": b"dear hi hello hey thanks regards sincerely cheers best respectfully yours truly "
    b"wishes wrote author contact from to cc bcc by reporter assignee instructor "
    b"presenter host editor recruiter owner organizer vendor rep representative speaker novelist actor actress singer "
    b"quarterback pitcher striker goalie midfielder senator congressman governor president coach trainer "
    b"curator facilitator moderator panelist columnist journalist spokesman spokeswoman spokesperson congresswoman sen "
    b"gov chairman chairwoman mayor ambassador librarian writer analyst realtor translator maintainer producer "
    b"questions",
    "mention": b"call called calling saw re regarding about for fwd fw with",
    "place": b"st saint san santa mount mt fort port lake cape",
}
TITLES: Final = frozenset(b"mr mrs ms miss sr sra srta senor senora".split())
_SURNAME: Final = re.compile(
    rb"[A-Za-z\xf1]+\.?[ \t]{1,2}((?:" + _UPPER + rb"\.[ \t])?(?:(?:de|la|von|van|der|del|di)[ \t])*" + _UPPER + _LETTER
    + rb"+(?:[ \t]" + _UPPER + _LETTER + rb"+)?)"
)  # fmt: skip
LABELS: Final = frozenset(b"patient pt".split())
NAMED_UNCAPITALISED: Final = frozenset(
    b" ".join(_ROLES_BEFORE[role] for role in ("patient", "title", "mention")).split()
)
"""Words after which a name is taken for one without its capital; after some of them only a full one."""
_BEFORE: Final = {word: role for role, words in _ROLES_BEFORE.items() for word in words.split()}
_ADDRESSING: Final = frozenset(b"from to cc bcc by".split())  # a header field at the beginning of a line only
_CLOSING: Final = frozenset(b"thanks regards sincerely cheers best respectfully yours truly wishes".split())
_SALUTES: Final = frozenset(b"hi hello hey".split())
_GOES_ON: Final = re.compile(rb"(?:'s)?[ ][a-z]")
_NEWLINE: Final = 10
_BY: Final = frozenset(b"seen signed dictated managed referred reviewed treated prescribed ordered performed".split())
_BY_AUTHOR: Final = frozenset(b"edited written hosted presented posted compiled sponsored taught led organized".split())
AFTER: Final = re.compile(
    rb"(?:'s)?+[\s,:(-]{0,3}+(?:(?P<provider>(?:registered |charge |school )?nurse\b"
    rb"|m\.?d\.?\b|d\.o\.|r\.?n\.?\b|n\.?p\.?\b|pa-?c\b|ph\.?d|d\.?d\.?s\b|lcsw|lpn|crnp|aprn|esq|cpa"
    rb"|pharmd|hr\b|human resources|manager|director|coordinator|president|vice president|ceo\b|cfo\b|cio\b|vp\b|chief"
    rb"|administrator|supervisor|editor|chair\b|secretary|recruiter|engineer|professor)"
    rb"|(?P<thing>syndrome|disease|disorder|test|score|scale|sign|reflex|procedure|lymphoma|stain|method|criteria|index"
    rb"|hospital|clinic|medical|health|healthcare|center|centre|university|college|institute|foundation|school|church"
    rb"|street|st\b|avenue|ave\b|road|rd\b|blvd|drive|lane|county|city|inc|llc|ltd|corp|co\b|company|group|bank|associates"
    rb"|sequence|anomaly|malformation|deformity|palsy|tumou?r|phenomenon|operation|technique|classification|maneuver|law"
    rb"|rule|effect|model|theorem|algorithm|library|museum|airport|elementary|academy|hotel|hall|theat(?:er|re)|stadium"
    rb"|building|tower|ohio|texas|show|award|act|band|album|university's)\b"
    rb"|(?P<patient>dob|d\.o\.b|mrn|date of birth|born|aged?\b|\d{1,3}[- ]?(?:yo|y/o|yr|year|m\b|f\b)|ssn"
    rb"|medical record|is an? (?:\w+ )?\d|(?:was |is being |has been |who was |who is )?(?:seen|admitted|diagnosed"
    rb"|discharged|hospitali[sz]ed|evaluated|treated|referred|prescribed|scheduled)|presents|presented|underwent|reports|denies"
    rb"|complains|suffers|suffering|with (?:a )?history)"
    rb"|(?P<speaker>\"?[ ]?<[\w.+-]*@|wrote|writes|said|says|told|asked|added|explained|reported that|announced|argued"
    rb"|notes that|won\b|scored|sang|starred|coached|will (?:bring|present|talk|speak|lead|teach|host)"
    rb"|(?:[a-z]{1,12} ){0,2}(?:talk|piece|article|essay|column|novel|lecture|weblog|blog|keynote) (?:on|about|in|is|at"
    rb"|begins)\b))"
)  # for text in lower case: with case ignored each of the hundred would be tried letter by letter
_OF_WHOM: Final = frozenset({b"for", b"of", b"on"})
_GOES_ON_BEHIND: Final = frozenset(
    b"we're we we'll we've he he's he'll she she's she'll they they're they'll it it's i i'm i'll i've the his her our "
    b"my mom dad patient pt please can could do does did is was will has no not this that there".split()
)
"""Words with which the next sentence begins: ``Caden W. We're keeping him``."""
_SECTIONS: Final = (b"first", b"first-or-word", b"last", b"last-or-word", b"nobody")
_LONGEST_PLACEHOLDER: Final = 3
_MAX_BETWEEN: Final = 4  # characters between a label and the name it labels


FIRST, FIRST_OR_WORD, LAST, LAST_OR_WORD = 1, 2, 4, 8
"""Lists that a name is on, as bits (:mod:`relay.scan.word_tables`)."""


@dataclass(frozen=True, slots=True)
class NameTable:
    """Given names and surnames, folded; those that are also English words apart; and words of no name.

    Attributes:
        surnames: all surnames.
        given: all given names; none where the lists are the compiled ones, which tell given names themselves.
    """

    first: Container[bytes]
    first_or_word: Container[bytes]
    last: Container[bytes]
    last_or_word: Container[bytes]
    nobody: frozenset[bytes]
    surnames: Container[bytes]
    given: frozenset[bytes] = frozenset()

    @classmethod
    def parse(cls, source: bytes) -> "NameTable":
        """Read ``names.txt``, as :func:`name_lists` does.

        Raises:
            ValueError: a section is missing.
        """
        first, first_or_word, last, last_or_word, nobody = name_lists(source)
        return cls(first, first_or_word, last, last_or_word, nobody, last | last_or_word, first | first_or_word)

    @classmethod
    def listed(cls, on: Callable[[int], Container[bytes]], nobody: frozenset[bytes]) -> "NameTable":
        """From the compiled tables; ``on`` gives those that are on any of the lists told by their bits."""
        first, first_or_word, last, last_or_word = map(on, (FIRST, FIRST_OR_WORD, LAST, LAST_OR_WORD))
        return cls(first, first_or_word, last, last_or_word, nobody, on(LAST | LAST_OR_WORD))


def name_lists(source: bytes) -> tuple[frozenset[bytes], ...]:
    """The sections of ``names.txt``, in the order of the fields of :class:`NameTable`.

    An ``@`` line names a section, the others list names.

    Raises:
        ValueError: a section is missing.
    """
    sections: dict[bytes, list[bytes]] = {}
    current: list[bytes] = []
    for line in source.splitlines():
        if line.startswith(b"@"):
            current = sections.setdefault(line[1:].strip(), [])
        elif not line.startswith(b"#"):
            current += line.split()
    try:
        return tuple(frozenset(sections[name]) for name in _SECTIONS)
    except KeyError as error:
        raise ValueError("the table of names lacks a section") from error


class NameFinder:
    """Finds persons. Stateless after construction."""

    def __init__(self, table: NameTable, weights: Mapping[str, float]) -> None:
        self._table = table
        self._weights = weights
        self.vocabulary = table.given | TITLES

    def weighed(self, weights: Mapping[str, float]) -> "NameFinder":
        """The same with other weights."""
        return NameFinder(self._table, weights)

    def at(self, tokens: Tokens, index: int, place: int) -> Hit | None:
        """The person whose given name is the word at ``index``, at ``place``, if it stands as a name does."""
        data = tokens.data
        if tokens.words[index] in TITLES:
            return self._titled(tokens, index, place)
        if not 65 <= data[place] <= 90 and data[place] < 0xC0:
            return self._uncapitalised(tokens, index, place)
        match = _PERSON.match(data, place)
        if match is None or (place and data[place - 1] in b"@.-_/"):
            return None
        word = tokens.words[index]
        initial, last, _ = match.groups()
        if last and _BEFORE.get(word) == "place":
            return None  # San Francisco
        if last and initial and last.lower() in _GOES_ON_BEHIND:
            last = None
        end = match.end("last") if last else match.end("initial") if initial else place + len(word)
        weight = self._likeness(word, initial, last)
        before = tokens.words[index - 1] if index else b""
        is_behind = not last and data[place - 2 : place] == b", " and word not in self._table.nobody
        if is_behind and before in self._table.last and before not in _BEFORE:
            start = place - 2 - len(tokens.words[index - 1])
            if data[start : start + 1].isupper():  # Garcia, Luis
                place, weight, index = start, "name-full", index - 1
        role = _role(tokens, index, place, end, match.end())
        return self._hit(role, weight, place, end, data)

    def _titled(self, tokens: Tokens, index: int, place: int) -> Hit | None:
        """``Mrs. Alvarez``: a title and a surname that need be on no list."""
        match = _SURNAME.match(tokens.data, place)
        if match is None or self._stands_for_a_name(match[1]):
            return None
        if tokens.data[place : place + 3] == b"MS " and not match[1].isupper():
            return None  # a disease, a company
        greeted = _before(tokens, index, place) == "greeting"
        weight = self._weights["name-greeted" if greeted else "name-title"]
        start, end = match.span(1)
        return Hit("name", FindingGroup.IDENTIFIER, start, end, weight, match[1].upper())

    def _stands_for_a_name(self, surname: bytes) -> bool:
        """``Ms. XYZ``: somebody took the name out."""
        short = len(surname) <= _LONGEST_PLACEHOLDER and surname.isupper()
        return short and surname.lower() not in self._table.surnames

    def labelled(self, tokens: Tokens, index: int, end: int) -> Hit | None:
        """``Patient Jones``: a surname on the list after the word at ``index``, which ends at ``end``."""
        following = tokens.words[index + 1] if index + 1 < len(tokens.words) else b""
        start = end + 1
        if following not in self._table.last or tokens.data[end:start] != b" ":
            return None
        stop = start + len(following)
        if not tokens.data[start : start + 1].isupper() or tokens.data[start:stop].isupper():
            return None
        weight = self._weights["name-patient"]
        return Hit("name", FindingGroup.IDENTIFIER, start, stop, weight, tokens.data[start:stop].upper())

    def _likeness(self, first: bytes, initial: bytes | None, last: bytes | None) -> str:
        known = first in self._table.first
        if last:
            folded = last.lower().rpartition(b" ")[2].removesuffix(b"'s")
            if folded in self._table.last:
                return "name-full"
            if folded in self._table.last_or_word:
                return "name-full" if known else "name-half"
            return "name-half" if known else "name-first"
        if initial:
            return "name-initial" if known else "name-half-initial"
        return "name-first" if known else ""

    def _hit(self, role: str, likeness: str, start: int, end: int, data: bytes) -> Hit | None:
        if not likeness or role in {"thing", "place"}:
            return None
        if role == "provider":
            return Hit("provider-name", FindingGroup.PROVIDER, start, end, 0.0, data[start:end].upper())
        weight = self._weights[likeness]
        if role == "patient":
            weight = max(weight, self._weights["name-patient-full" if likeness != "name-first" else "name-patient"])
        elif role == "title":
            weight = max(weight, self._weights["name-title"])
        elif role in {"greeting", "speaker", "quoted"}:
            weight = min(weight, self._weights["name-sender"])
        return Hit("name", FindingGroup.IDENTIFIER, start, end, weight, data[start:end].upper())

    def _uncapitalised(self, tokens: Tokens, index: int, place: int) -> Hit | None:
        """``pt john doe``: without capitals only a label makes a name."""
        word = tokens.words[index]
        role = _before(tokens, index, place)
        if word not in self._table.first or role not in {"patient", "title", "mention"}:
            return None
        following = tokens.words[index + 1] if index + 1 < len(tokens.words) else b""
        end = place + len(word)
        is_full = following in self._table.last and tokens.data[end : end + 1] == b" "
        if is_full:
            end += 1 + len(following)
        if role == "mention":
            return self._hit("", "name-half", place, end, tokens.data) if is_full else None
        return self._hit("patient", "name-half", place, end, tokens.data)


def _before(tokens: Tokens, index: int, place: int) -> str:
    """The role that the word before gives a name."""
    words = tokens.words
    previous = words[index - 1] if index else b""
    role = _BEFORE.get(previous, "")
    if not role:
        return ""
    gap = tokens.gap(place, _MAX_BETWEEN)
    if gap > _MAX_BETWEEN or (b"\n" in tokens.data[place - gap : place] and previous not in _CLOSING):
        return ""
    if previous in _ADDRESSING:
        if previous == b"by" and index > 1:
            if words[index - 2] in _BY:
                return "provider"
            if words[index - 2] in _BY_AUTHOR or b'"' in tokens.data[max(0, place - gap - 4) : place]:
                return "greeting"
        start = place - gap - len(previous)
        return role if start <= 0 or tokens.data[start - 1] == _NEWLINE else ""
    return role


def _role(tokens: Tokens, index: int, place: int, end: int, tail: int) -> str:
    role = _before(tokens, index, place)
    if role == "greeting" and _GOES_ON.match(tokens.data, max(end, tail)) and tokens.words[index - 1] in _SALUTES:
        role = ""  # "Hi, Jane Roe called": who is greeted is not who is spoken of
    if role in {"provider", "place"}:
        return role
    after = AFTER.match(tokens.lower, end)
    if after is None and tail > end:
        after = AFTER.match(tokens.lower, tail)
    told = (after.lastgroup or "") if after else ""
    if told == "speaker" and index and tokens.words[index - 1] in _OF_WHOM:
        return ""  # form for Isla Rutherford says "Zoloft 25"
    return told if told in {"provider", "thing", "patient", "speaker"} and role != "title" else role or told
