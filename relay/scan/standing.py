"""How a person stands in a text: what is before a name and behind it, whom it makes of him or her.

``Mr. Roe``, ``my son Temurbek``, ``Bed 2 Roe``, ``the Wojtasky kids``, ``sending Ottolinia ... she``: what is around
a name tells a person, not the name. What is before it counts most, then what he or she does, then whether *he* or *she*
follows.
"""

import re
from collections.abc import Sequence
from typing import Final

from relay.scan.names import AFTER
from relay.scan.tokens import Tokens

_DATED: Final = re.compile(
    rb",?[ ]\(?(?:b\.|dob|born|age[d]?\b|\d{1,2}[ ]?(?:y/?o|yrs?|years?|m\b|f\b|mos?\b|months?|weeks?|days?)"
    rb"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})|,[ ]\d{1,2}[,.:;]"
)
RELATIONS: Final = frozenset(
    b"son daughter sons daughters husband wife spouse partner fiance fiancee mother father mom mum dad mama papa "
    b"sister brother grandmother grandfather grandma grandpa granddaughter grandson aunt uncle niece nephew "
    b"cousin baby twins child kid boy girl toddler newborn infant stepson stepdaughter law roommate hijo hija "
    b"esposo esposa madre padre hermano hermana abuela abuelo".split()
)
_WHOSE: Final = frozenset(b"my his her our their your mi su the s".split())
_LABELS: Final = frozenset(
    b"mr mrs ms miss mx sr sra srta sgt cpl pvt baby pt patient client resident inmate claimant respondent "
    b"decedent donor newborn infant member beneficiary policyholder guarantor name don dona ato mme madame shri "
    b"haji hajji auntie fem female male yo".split()
)
_PAIRS: Final = frozenset(
    {(relation, b"of") for relation in RELATIONS | {b"parents", b"parent", b"guardian", b"widow"}}
    | {(b"name", b"is"), (b"this", b"is"), (b"it", b"s"), (b"s", b"me"), (b"its", b"me"), (b"i", b"m"), (b"i", b"am")}
    | {(b"baby", b"boy"), (b"baby", b"girl"), (b"acct", b"holder"), (b"account", b"holder"), (b"me", b"llamo")}
)
"""Pairs of words after which a person is named."""
_SEEN: Final = frozenset(
    b"call for with of re regarding about on fwd from saw called calling met visited add book schedule "
    b"reschedule to move moved remind tell told send sent sending give gave behalf para de is was admit "
    b"discharge discharged that says because if so when since while asked get help both".split()
)
PROVIDERS: Final = frozenset(
    b"dr drs doctor prof professor nurse rabbi pastor coach officer attorney judge therapist physician surgeon "
    b"pharmacist director manager supervisor coordinator rep senator governor president".split()
)
"""Words before a name that make it none of a patient."""
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
ANNOUNCES: Final = RELATIONS | _LABELS | _ADDRESSED | frozenset(b"of is me i'm am it's holder llamo".split())
_BEDS: Final = frozenset(b"bed rm room bay bunk chair or icu cell pod unit".split())
_BED_BEHIND: Final = re.compile(rb",?[ ](?:in[ ])?\(?(?:bed|rm|room|bay|bunk)[ ]#?\d")
_HOUSEHOLD: Final = frozenset(
    b"kids kid twins residence family baby boy boys girl girls household brothers sisters child children infant "
    b"newborn triplets couple".split()
)
_PUBLIC: Final = frozenset(
    b"won wins scored plays played directed sang sings starred stars wrote writes painted composed published coached "
    b"elected founded invented argues announced performs performed".split()
)
"""What is done by those of whom news are made."""
_SEEN_ALONE: Final = frozenset(b"for sending seeing saw see excuse seen regarding re remind gave".split())
_DOES_ALONE: Final = frozenset(
    b"is was has had will got had came went needs fell started still can hasn hadn isn wasn did does says said called "
    b"missed lost took threw woke wants feels felt broke refused tolerated tested wears uses skips skipped keeps kept "
    b"cannot owes drinks smokes sleeps walks refuses doesn won tiene dice".split()
)
"""Before and after which one name alone is a person's, where he or she is spoken of besides."""
_ACTS: Final = _DOES_ALONE - frozenset(
    b"is was has will had can hasn hadn isn wasn did does doesn won still uses keeps".split()
)
"""Those of them that only persons do."""
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
    b"lost turned slept ate eats developed has had is was will owes owed pays paid agreed agrees prefers declined "
    b"wears uses keeps kept skipped skips cannot walks drinks smokes sleeps climbs lives uses tries tried brought "
    b"llamo dice vino necesita quiere tiene pide esta".split()
)
_SENTENCE_ENDS: Final = frozenset({b"", b".", b"!", b"?", b"\n", b":"})
_CLOSERS: Final = (b"!", b"?", b";")
_ABBREVIATED: Final = frozenset(b"dr drs prof mr mrs ms sr sra srta st rev sgt cpl lt capt re no vs".split())
_JOINS: Final = (b"&", b"@", b"/", b"+")
LEADS: Final = _SEEN | _NOBODY | _LABELS | RELATIONS | _ADDRESSED
_STOPS: Final = b":;.,(/|-\n0123456789"
_PRONOUNS: Final = tuple(
    b" %b " % word for word in b"she he her his him hers pt hes shes mom mother dad parents wife husband".split()
)
_FOREIGN: Final = tuple(b"que los las una und der das les des est".split())
_IS_FOREIGN: Final = 2
_SPEAKS: Final = 180  # characters behind a name in which a pronoun may speak of it
_BEFORE: Final = 40
_AFTER: Final = 100
_BED: Final = 20
_VERB: Final = 14
_DIGITS_OF_LABEL: Final = 4
_LONG: Final = 300  # words: longer than notes are
_HEADING: Final = 3  # characters behind a name that ends a heading: what follows the empty line speaks of it


def may_be(tokens: Tokens, run: "re.Match[bytes]") -> bool:
    """Whether a run of capitals is worth a closer look: one word alone needs one beside it that tells a person."""
    data = tokens.data
    start, end = run.span()
    if data.find(b" ", start, end) >= 0 or data[end : end + 1] == b",":
        return True
    first = data.rfind(b" ", max(0, start - _BEFORE), max(0, start - 1)) + 1
    previous = data[first:start].rstrip(b" .,:\n").lower().rpartition(b"\n")[2]
    return (
        previous in ANNOUNCES
        or (previous.isdigit() and _is_bed(data, first))
        or _stands_alone(tokens, start, end, previous)
    )


def _is_bed(data: bytes, place: int) -> bool:
    """Whether the number at this place is that of a bed."""
    return not _BEDS.isdisjoint(data[max(0, place - _BED) : place].lower().split()[-1:])


def _stands_alone(tokens: Tokens, start: int, end: int, previous: bytes) -> bool:
    """Whether one name alone stands as that of a person does, who is spoken of."""
    data = tokens.data
    if previous in _SEEN_ALONE or data[end : end + 2] == b"'s":
        return is_spoken_of(tokens, end)
    if data[end : end + 1] != b" ":
        return False
    following = tokens.padded[end + 2 : end + _VERB].partition(b" ")[0]
    if previous == b"the":
        return following in _HOUSEHOLD
    is_first = data[start - 2 : start - 1] in _SENTENCE_ENDS
    return following in (_ACTS if is_first else _DOES_ALONE) and is_spoken_of(tokens, end)


def likeness(tokens: Tokens, start: int, end: int, size: int) -> str:
    """How sure it is that somebody is spoken of: an entry of the weights, or nothing."""
    data = tokens.data
    words = tokens.padded[max(0, start - _BEFORE) : start + 1].split()
    previous, before = (words[-1] if words else b""), tuple(words[-2:])
    gap = data[max(0, start - 2) : start]
    closed = b"\n" in gap or (
        gap[1:] == b" " and (gap[:1] in _CLOSERS or (gap[:1] == b"." and previous not in _ABBREVIATED))
    )
    is_called = data[start - 1 - len(previous) : start].istitle()  # Papa Diop
    is_told = (
        previous in _LABELS
        or is_in_bed(tokens, end, words)
        or (
            not closed
            and (before in _PAIRS or (previous in RELATIONS and (is_called or not _WHOSE.isdisjoint(words[-3:-1]))))
        )
    )
    is_told = is_told or (previous == b"the" and not closed and _is_household(tokens, end))
    if not is_told and previous in _ADDRESSED and not closed:
        return "name-sender"
    if not is_told and ((not closed and _is_nobody(previous, words)) or gap[-1:] in _JOINS):
        return ""
    role = AFTER.match(tokens.lower[end : end + _AFTER])
    after = role.lastgroup if role else None
    if after in {"provider", "thing"} or (after == "speaker" and len(tokens.words) > _LONG):
        return ""  # in a long text somebody who says something is quoted
    if does_in_public(tokens, end):
        return ""
    if is_told:
        return "name-patient-full" if size > 1 else "name-patient"
    if size == 1:
        return "name-first-spoken-of" if _stands_alone(tokens, start, end, previous) else ""
    if after == "patient" or _DATED.match(tokens.lower, end):
        return "name-patient-full"
    stands, spoken_of = _stands(tokens, end, previous, gap, closed=closed), is_spoken_of(tokens, end)
    if stands and spoken_of:
        return "name-full"
    return "name-half" if stands or spoken_of else ""


def is_in_bed(tokens: Tokens, end: int, words: Sequence[bytes]) -> bool:
    """Whether a bed or a room with its number stands beside a name: ``Bed 2 Roe``, ``Roe, rm 14``.

    Args:
        tokens: the text.
        end: where the name ends.
        words: the words before it.
    """
    if len(words) > 1 and words[-2] in _BEDS and words[-1][:1].isdigit():
        return True
    following = tokens.lower[end : end + _BED]
    return (b" b" in following or b" r" in following) and _BED_BEHIND.match(following) is not None


def _is_household(tokens: Tokens, end: int) -> bool:
    return tokens.data[end : end + 1] == b" " and not _HOUSEHOLD.isdisjoint(
        tokens.padded[end + 1 : end + _BEFORE].split()[:1]
    )


def does_in_public(tokens: Tokens, end: int) -> bool:
    """Whether somebody does what news are made of."""
    return not _PUBLIC.isdisjoint(tokens.padded[end + 1 : end + _BEFORE].split()[:1])


def is_foreign(tokens: Tokens) -> bool:
    """Whether the text is in a language in which every noun is no English word."""
    return len(tokens.among(_FOREIGN)) >= _IS_FOREIGN


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
    stop = tokens.data.find(b"\n\n", end + _HEADING, end + _SPEAKS)
    following = tokens.padded[end : (stop if stop >= 0 else end + _SPEAKS) + 1]
    for word in _PRONOUNS:  # noqa: SIM110 - any() takes a generator, which costs more than these few look-ups
        if word in following:
            return True
    return False
