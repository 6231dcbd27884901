"""Persons told by how they are written in short notes: lists of beds, labels, what is said of one name alone.

``L2 Okonjo G3P2``, ``Kessler: GI bleed``, ``Cust: Buddy Rexroth``, ``goes by Rey``, ``Sal had a stroke``, ``Roe^Ann``:
notes, boards and tickets name people without a title, a sentence or a *he*. Each form is weak alone, so it counts only
in a short text, with health context near, in its own line for most.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.model import Hit
from relay.scan.names import AFTER
from relay.scan.standing import LEADS, PROVIDERS
from relay.scan.tokens import Tokens

_IDENTIFIER: Final = FindingGroup.IDENTIFIER
_UPPER: Final = rb"[A-Z\xc0-\xde]"
_WORD: Final = (
    _UPPER
    + rb"(?:[a-z\xdf-\xff]++|[a-z]?[a-z']"
    + _UPPER
    + rb"[a-z\xdf-\xff]++)(?:-"
    + _UPPER
    + rb"?[a-z\xdf-\xff]++)?"
)
_RUN: Final = re.compile(
    rb"(?<![\w@/'.-])" + _WORD + rb"(?:,?[ ](?:" + _WORD + rb"|" + _UPPER + rb"\b\.?)){0,3}(?![\w@])"
)
_PART: Final = re.compile(_WORD + rb"|" + _UPPER + rb"\b\.?")
_MOST: Final = 80  # runs looked at in one text
_BEFORE: Final = 44
_AFTER: Final = 64
_CARET: Final = re.compile(rb"(?<![\w^])(" + _UPPER + rb"[A-Za-z'-]{1,30})\^(" + _UPPER + rb"[A-Za-z'-]{0,30})(?!\w)")
_NAMED: Final = re.compile(
    rb"\b(?:name'?s|names|named|goes by|went by|aka|a\.k\.a\.|nicknamed|calls (?:her|him|them)self|(?:first |last "
    rb"|full |maiden )?name(?: is| was| might be| may be|'s)?|call (?:her|him|me)|name,? it's|se llama|me llamo"
    rb"|nombre(?: es)?|apellido)[ :,]{1,3}[\"'(]?\Z"
)
"""What says that a name follows."""
_LABEL: Final = re.compile(
    rb"(?:\A|[\n.;,|\t>*-][ ]{0,2})(?:cust(?:omer)?|client|cl|student|employee|emp|ee|member|mbr|camper|caller|subject"
    rb"|consumer|enrollee|participant|rider|passenger|worker|iw|injured worker|injured|applicant|tenant|veteran|vet"
    rb"|recipient|donor|child|infant|mother|mom|mum|father|dad|son|daughter|spouse|husband|wife|pupil|athlete|inmate"
    rb"|detainee|victim|guest|couple|family|household|dependent|dep|minor|ward|individual|indiv|person served"
    rb"|staff injured|decedent|deceased|evaluee|examinee|learner|swimmer|player|sitter for|on behalf of"
    rb"|name ?\([a-z, ]{3,24}\)|chart|file|cliente|alumn[ao]|pac|pcte|paciente|nombre|beneficiari[ao]"
    rb"|asegurad[ao])(?: name)?[ ]?[:=#>|-][ ]{0,4}\Z"
)
"""The label of a field in a form or ticket, before its sign."""
_ABOUT: Final = re.compile(
    rb"(?:\A|\n)(?:subject: ?)?(?:re|fw|fwd|ref|about|who|regarding|update|update on|referral|consult|f/u|followup"
    rb"|follow up|add on|addon|d/c|dc|transfer|admit|admission|discharge|new admit|baby (?:boy|girl)|refill|call back"
    rb"|callback|cb|appt|labs?|results?|rx)[ ]?[:-]?[ ]{0,3}\Z"
)
"""What begins a line that is about somebody."""
_BOARD: Final = re.compile(
    rb"(?:\A|\n|; |, )[ \t*-]{0,4}(?:(?:bed|rm|room|bay|l|r|t|ldr|or|er|icu|cc|pod|hall|triage|slot|chair|station|cell"
    rb"|unit|apt|stop|case|cabin|table|lane|no\.?)[ #]?)?#?(?:\d{1,4}[a-z]?"
    rb"|\d{1,2}[:.]\d\d)(?:[ ]?[ap]m?)?[ .:)=-]{1,4}(?:[a-z]\. )?\Z"
)
"""A line's number on a board: a bed, a room, an hour."""
_CASE: Final = re.compile(
    rb"\b(?:patient|pt|client|resident|camper|student|inmate|neighbor|neighbour|cousin|friend|buddy|kiddo|participant"
    rb"|roommate|coworker|co-worker|member|veteran|widow|widower|newborn|preemie|toddler|baby|infant|twin|(?:my|your"
    rb"|her|his|our|their) (?:wife|husband|son|daughter|mother|father|mom|dad|sister|brother|grandson|granddaughter"
    rb"|grandmother|grandfather|grandma|grandpa|nephew|niece|partner|fiancee?|spouse|child|uncle|aunt|(?:mother|father"
    rb"|sister|brother|son|daughter).in.law),?)[ ]\Z"
)
"""Who somebody is to the one who writes, right before the name."""
_BEGINS: Final = re.compile(
    rb"(?:\A|[\n.!?;:>][ \n]{0,2}|\n[ \t]*[-*\xb7\x95][ ]?|, | and | but | so | that | if | when |because |since "
    rb"| think | hope | hey | heard |know )\Z"
)
"""Where a sentence or a clause begins."""
_ITEM: Final = re.compile(rb"(?:\A|[\n.!?;>][ \n]{0,2}|\n[ \t]*[-*\xb7\x95][ ]?)\Z")
_SAYS: Final = re.compile(
    rb"(?:'s)?[ ](?:just |still |finally |also |now |already |really |never |always |only |has |had |is |was "
    rb"|got )?(?:had|has|have|having|is|was|got|gets|needs|needed|broke|took|takes|threw|fell|started|tested|can't"
    rb"|cannot|couldn't|woke|passed|lost|came|went|spent|saw|ran|burned|cut|hit|been|will|isn't|won't|hasn't|didn't"
    rb"|did|does|feels|felt|says|said|wants|keeps|kept|hurt|refused|missed|failed|finished|goes|starts|stopped|died"
    rb"|x[ ]?\d|(?:not )?eating|doing|taking|using|drinking|tiene|tuvo|esta|est\xe1|ya|sali\xf3|salio)\b"
)
"""What a sentence says of the one it begins with."""
_AGED: Final = re.compile(
    rb" ?\((?:\d{1,2}(?:st|nd|rd|th)\b|\d{1,3}(?:[ ]?(?:y|yo|yrs?|years?|m|mo|mos|months?|f|wks?|weeks?"
    rb"|days?))?[,;)\s]|age|dob|grade|kinder|pre-?k|freshman|sophomore|junior|senior|[mf][,)]|her|his|my|our|the|pt\b"
    rb"|rm\b|bed\b|born|(?:19|20)\d\d\)|class of|room)"
)
"""An age, a class or whose in brackets behind a name."""
_TREATED: Final = re.compile(
    rb"\b(?:treated|treat|treating|evaluated|examined|diagnosed|admitted|discharged|counseled|counselled|drained"
    rb"|intubated|vaccinated|immunized|scoped|sedated|transfused|caring for|care for|cared for|taking care of"
    rb"|resuscitated|nursed|bathed|dressed|catheterized|extubated|suctioned|medicated|operated on|drew|swabbed"
    rb"|splinted|transported|grandpa|grandma|granny|nana|papa|aunt|auntie|uncle|cousin|tia|tio|abuela|abuelo|abuelita"
    rb"|mama|sister|brother|little|baby|resident|grandson|granddaughter|nephew|niece|my (?:wife|husband|son|daughter"
    rb"|mom|mother|dad|father)),? \Z"
)
"""What is done to a patient, and relations that are said with the name."""
_ROOM: Final = re.compile(rb",? \(?(?:in|rm|room|bed|bay|unit|cell|pod)[ ]#?\d{1,4}[a-z]?\b(?![/:.]\d)")
_POSSESSES: Final = re.compile(rb"'s? ")
_EPONYMS: Final = frozenset(
    b"ludwig bruch wegener graves hodgkin crohn addison cushing bell hashimoto paget raynaud sjogren meniere "
    b"wilson baker gehrig morton dupuytren peyronie reye tourette barrett still kaposi kawasaki marfan turner down "
    b"asperger huntington lyme cooley pott colles bright whipple castleman behcet gilbert takayasu pick ewing "
    b"bowen merkel horner bouchard sever scheuermann tinel phalen mcmurray lachman babinski romberg murphy kernig "
    b"koplik forchheimer glanzmann".split()
)
"""Those of whom diseases, signs and tests have their names."""
_FOR: Final = re.compile(
    rb"\b(?:reminder|appointment|appt|order|refill|rx|script|prescription|labs?|results?|referral|records?|chart|auth"
    rb"|authorization|approved|approval|claim|form|excuse|interpreter|ride|transport|bed|meds?|medication|consent"
    rb"|copay|assistance|voucher|consult|specimen|sample|urine|blood|x-?rays?|films?|scan|mri|ct|walker|wheelchair"
    rb"|oxygen|tray|diet|insulin|inhaler|patch|dose|booster|vaccine|shot|shots|clearance|brace|boot|cast|denture|crown"
    rb"|glasses|hairpiece|wig|lenses|mask|machine|pump|monitor|kit|bill|balance|eob|denial|appeal|excuse|please excuse"
    rb"|waiting on|waiting for|tell|let|saw|see|seen|visited) (?:for |on |of |from )?\Z"
)
"""What is made out, kept or done for one patient, before the name."""
_SELF: Final = re.compile(
    rb"(?:\A|[\n\"'.!,?] ?)(?:hi|hey|hello|yo|good morning)?,? ?(?:it'?s|its|this is|i'?m|i am|im) \Z"
)
"""Who calls or writes says the name."""
_HOUSEHOLD: Final = re.compile(
    rb" (?:gentleman|lady|boys?|girls?|family|kids?|baby|twins?|child|children|couple|household|sisters|brothers"
    rb"|newborn|infant|man|woman|boy's|girl's|family's)\b"
)
"""Those who are called by their family's name, behind it."""
_KIN_BEHIND: Final = re.compile(
    rb"(?:'s (?:mom|dad|mum|mother|father|daughter|wife|husband|son|sister|brother|parents|family|aide|guardian"
    rb"|grandma|grandmother|caregiver|partner|girlfriend|boyfriend|case ?worker|roommate|doctor|surgeon|nurse"
    rb"|oncologist|pcp|cardiologist|therapist|counselor|pharmacy|insurance|oxygen|meds|labs?|chart|results?|blood"
    rb"|appointment|appt|surgery|biopsy|scan|mri|x-?ray|dose|pills|insulin|prescription|refill|referral|claim|wound"
    rb"|leg|arm|foot|knee|hip|back|heart|eye|eyes|ear|ears|teeth|tooth|breathing|weight|sugar|bp|pressure|fever|rash"
    rb"|cough|seizure|dialysis)\b| (?:and|&|y) (?:his|her|su) (?:wife|husband|mom|mother|dad|father|partner|son"
    rb"|daughter|sister|brother|esposa|esposo|mam\xe1))"
)
"""What belongs to a patient, or who comes with one, behind the name."""
_LINE_END: Final = re.compile(rb"[\n]|[.!?][ ]")
_NO_ONE: Final = frozenset(
    b"will may hope mark grace faith joy summer rose bill chance art grant june april august dawn sunny holly misty "
    b"sandy stormy windy rusty dusty dot star chart dean king prince major guy gay".split()
)
"""Names that are words with which sentences begin."""
_GIVEN_WITH: Final = 2
_NEAR: Final = 110  # characters to health context
_HIS: Final = 30  # characters from a name to what is his or hers
_IN_LINE: Final = 90  # characters in which a line says what somebody has


class FormFinder:
    """Finds persons by the form in which notes have them. Stateless after construction."""

    def __init__(
        self, kind: Callable[[bytes], int], is_listed: Callable[[bytes], bool], weights: Mapping[str, float]
    ) -> None:
        self._kind = kind
        self._is_listed = is_listed
        self._weights = weights

    def find(self, tokens: Tokens, hits: Sequence[Hit], health: Sequence[Hit], marks: bytearray) -> list[Hit]:
        """The hits, with persons told by form among them; names that were found already with the weight of theirs.

        Args:
            tokens: the text.
            hits: what was found.
            health: where it speaks of health, in order.
            marks: of each character, whether something was found there.
        """
        found = {hit[2]: number for number, hit in enumerate(hits) if hit[1] is _IDENTIFIER and hit[0] == "name"}
        ends = {hits[number][3]: number for number in found.values()}
        places = [hit[2] for hit in health]
        result = list(hits)
        for start, end, weight in self._told(tokens, places):
            number = found.get(start, ends.get(end, -1))
            if number >= 0:
                result[number] = result[number]._replace(weight=max(weight, result[number][4]))
            elif marks.find(1, start, end) < 0:
                result.append(Hit("name", _IDENTIFIER, start, end, weight, tokens.data[start:end].upper()))
        return result

    def _told(self, tokens: Tokens, places: list[int]) -> list[tuple[int, int, float]]:
        data, weights = tokens.data, self._weights
        told = [(*run.span(), weights["name-patient-full"]) for run in _CARET.finditer(data)]
        for count, run in enumerate(_RUN.finditer(data)):
            if count == _MOST:
                break
            if (span := self._name(tokens, run)) and (name := self._form(tokens, *span, places)):
                told.append((span[0], span[1], weights[name]))
        return told

    def _name(self, tokens: Tokens, run: "re.Match[bytes]") -> tuple[int, int, int, int] | None:
        """Where in a run the name is, of how many words, and what the best of them may be."""
        lower = tokens.lower
        spans = [part.span() for part in _PART.finditer(tokens.data, *run.span())]
        kinds = [1 if last - first < _GIVEN_WITH else self._kind(lower[first:last]) for first, last in spans]
        while kinds and (not kinds[0] or lower[slice(*spans[0])] in LEADS):
            del kinds[0], spans[0]
        while kinds and not kinds[-1]:
            del kinds[-1], spans[-1]
        if not kinds or not all(kinds) or spans[0][1] - spans[0][0] < _GIVEN_WITH:
            return None
        return spans[0][0], spans[-1][1], len(spans), max(kinds)

    def _form(self, tokens: Tokens, start: int, end: int, size: int, kind: int, places: list[int]) -> str:
        """The entry of the weights for a name that stands so, or nothing."""
        lower = tokens.lower
        before, after, name = lower[max(0, start - _BEFORE) : start], lower[end : end + _AFTER], lower[start:end]
        previous = before.rstrip(b" .").rpartition(b" ")[2].rpartition(b"\n")[2]
        role = AFTER.match(lower, end)
        if previous in PROVIDERS or (role and role.lastgroup in {"provider", "thing"}):
            return ""
        full = "name-patient-full" if size > 1 else "name-patient"
        if _is_told(before, after, name, previous, is_sure=kind > 1):
            return full
        if (
            any(map(self._is_listed, name.split()))
            and _FOR.search(before)
            and _is_within(places, start - _NEAR, end + _NEAR)
        ):
            return "name-full" if size > 1 else "name-half"
        if (
            _POSSESSES.match(after)
            and name not in _EPONYMS
            and any(map(self._is_listed, name.split()))
            and _is_within(places, end, end + _HIS)
        ):
            return full
        stop = _LINE_END.search(tokens.data, end, end + _IN_LINE + 1)
        if not _is_within(places, end, stop.start() if stop else end + _IN_LINE):
            return ""
        if kind > 1 and (_BOARD.search(before) or _ABOUT.search(before) or _AGED.match(after) or _ROOM.match(after)):
            return full
        if _TREATED.search(before) and name not in _NO_ONE:
            return full
        if name in _NO_ONE or not self._is_listed(name.rpartition(b" ")[2]):
            return ""
        if after[:1] == b":" and _ITEM.search(before):
            return "name-half"
        return "name-first-in-short" if _BEGINS.search(before) and _SAYS.match(after) else ""


def _is_told(before: bytes, after: bytes, name: bytes, previous: bytes, *, is_sure: bool) -> bool:
    """Whether a label, a relation or the like tells a person, whatever else the line says."""
    if _NAMED.search(before) or _LABEL.search(before):
        return True
    if (is_sure or after[:1] in b" ,.'") and _CASE.search(before):
        return True
    if is_sure and previous == b"the" and _HOUSEHOLD.match(after):
        return True
    return name not in _NO_ONE and (
        _KIN_BEHIND.match(after) is not None or (after[:1] in b".,!\n " and _SELF.search(before) is not None)
    )


def _is_within(places: list[int], start: int, end: int) -> bool:
    index = bisect_left(places, start)
    return index < len(places) and places[index] < end
