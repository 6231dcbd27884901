"""Shapes of identifiers and codes, as RE2 patterns over Latin-1 bytes, and what tells the true from the look-alike.

RE2 has no lookaround and runs in linear time; what a pattern cannot say a validator does. Group 1 is the value.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.lexicon import FOLD

_SEPARATORS: Final = re.compile(rb"[^0-9A-Za-z]+")
_KNOWN_FAKE_SSN: Final = frozenset({b"078051120", b"219099999", b"123456789", b"987654321", b"111111111"})
_MONTHS: Final = rb"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
DATE: Final = (
    rb"(?:\d{1,2}[-/. ]{1,3}\d{1,2}[-/. ]{1,3}\d{2,4}|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}"
    rb"|" + _MONTHS + rb"\.?[ ,]{1,3}\d{1,2}(?:st|nd|rd|th)?[ ,]{1,3}\d{2,4}|\d{1,2}(?:st|nd|rd|th)?[ -]{1,3}"
    + _MONTHS + rb"[ ,.-]{1,3}\d{2,4})"
)  # fmt: skip
_SEP: Final = rb"[\s:#.=|>*_()-]{0,12}"
_NUMBER: Final = rb"(?:number|num|no|nbr|id|#)?"
_VALUE: Final = rb"([a-z0-9][a-z0-9-]{3,24})"
_NAME: Final = rb"(?-i:[A-Z\xc0-\xde][A-Za-z\xdf-\xff'-]*\.?)"
_BIRTH: Final = re.compile(
    rb"\b(?:d\.?o\.?b\.?|birth\s?da(?:te|y)|date\s+of\s+birth|born(?:\s+on)?|nacimiento)[^\w]{0,12}\Z", re.IGNORECASE
)
_VISIT: Final = frozenset(
    b"seen admitted admission admit discharge discharged visit visits visited evaluated diagnosed appointment appt "
    b"follow followup surgery underwent hospitalized hospitalised presented treated encounter procedure service dos "
    b"collected "
    b"consult consultation consulted died deceased death operated operation exam examined scan imaging "
    b"vaccinated".split()
)
LOOK_BACK: Final = 80


def compact(value: bytes) -> bytes:
    """Letters and digits only, upper case: equal numbers compare equal however they were written."""
    return _SEPARATORS.sub(b"", value).upper()


def is_ssn(value: bytes) -> bool:
    """Area, group and serial that SSA can have issued (20 CFR 422.103; never 000, 666, 900 and up); no known fake."""
    digits = compact(value)
    return (
        len(digits) == 9
        and digits[:3] not in {b"000", b"666"}
        and digits[0] != ord("9")
        and digits[3:5] != b"00"
        and digits[5:] != b"0000"
        and digits not in _KNOWN_FAKE_SSN
        and len(set(digits)) > 1
    )


def has_digits(value: bytes) -> bool:
    """A number by label: at least three digits that are not all the same."""
    digits = [char for char in value if 48 <= char <= 57]
    return len(digits) >= 3 and len(set(digits)) > 1


def is_phone(value: bytes) -> bool:
    """A number of the North American Numbering Plan: area code and exchange begin with 2 to 9, no 555-01xx fiction."""
    digits = compact(value)
    if len(digits) == 11 and digits[:1] == b"1":
        digits = digits[1:]
    return (
        len(digits) == 10 and digits[0] > 49 and digits[3] > 49 and digits[:3] not in {b"800", b"888", b"877", b"866"}
    )


def is_date(value: bytes) -> bool:
    """Any date whose numbers can be a day, a month and a year."""
    numbers = [int(number) for number in re.findall(rb"\d+", value)]
    if not numbers:
        return False
    words = re.search(rb"[A-Za-z]{3}", value) is not None
    return all(number <= 31 or 32 < number < 100 or 1890 <= number <= 2100 for number in numbers) and (
        len(numbers) == (2 if words else 3) and any(1 <= number <= 31 for number in numbers)
    )


def date_kind(before: bytes) -> str:
    """A birth, a visit, or any date, by the words before it (45 CFR 164.514(b)(2)(i)(C))."""
    if _BIRTH.search(before):
        return "date-of-birth"
    line = before.rpartition(b"\n")[2].translate(FOLD).split()
    return "date" if _VISIT.isdisjoint(line) else "visit-date"


_NO_NAME: Final = re.compile(
    rb"\b(?:name|id|number|date|phone|address|portal|care|services|center|centre|hospital|clinic|health|medical|support"
    rb"|information|account|records?|history|education|safety|advocate|protection|privacy|rights|university|department"
    rb"|monday|tuesday|wednesday|thursday|friday|saturday|sunday|the|this|please|has|was|is|and|with)\b",
    re.IGNORECASE,
)


def is_name(value: bytes) -> bool:
    """Capitalised words after a label that are no heading or other field."""
    return _NO_NAME.search(value) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One shape.

    Attributes:
        kind: the finding's kind.
        group: what it is evidence of.
        regex: RE2, case-insensitive; group 1 is the value.
        valid: judges the value.
        refine: the kind by what stands before the value, given the text before it; ``None`` when it is none after all.
    """

    kind: str
    group: FindingGroup
    regex: bytes
    valid: Callable[[bytes], bool] = bool
    refine: Callable[[bytes], str | None] | None = None


_ID: Final = FindingGroup.IDENTIFIER
PATTERNS: Final = (
    Pattern(
        kind="ssn",
        group=_ID,
        regex=rb"\b(?:ssn|ss\s?#|social\s+security(?:\s+(?:number|no|num))?)\b"
        + _SEP
        + rb"(\d{3}[-\s.]{0,3}\d{2}[-\s.]{0,3}\d{4})\b",
        valid=is_ssn,
    ),
    Pattern(kind="ssn-unlabelled", group=_ID, regex=rb"\b(\d{3}-\s?\d{2}-\s?\d{4})\b", valid=is_ssn),
    Pattern(
        kind="mbi",
        group=_ID,
        regex=(
            rb"\b([1-9][ac-hj-km-np-rt-y][0-9ac-hj-km-np-rt-y]\d[- ]?[ac-hj-km-np-rt-y][0-9ac-hj-km-np-rt-y]\d"
            rb"[- ]?[ac-hj-km-np-rt-y]{2}\d{2})\b"
        ),
    ),
    Pattern(
        kind="mrn",
        group=_ID,
        regex=rb"\b(?:mrn|mr\s?#|medical\s+record|med\s+rec|chart|patient)\s*" + _NUMBER + rb"\b" + _SEP + _VALUE,
        valid=has_digits,
    ),
    Pattern(
        kind="member-number",
        group=_ID,
        regex=(
            rb"\b(?:member|subscriber|policy|beneficiary|insurance|group|claim|authori[sz]ation|account|acct|rx|prescription)\s*"
            rb"(?:number|num|no|nbr|id|#)[\s:#.=|>*_()-]{0,12}" + _VALUE
        ),
        valid=has_digits,
    ),
    Pattern(kind="date", group=_ID, regex=rb"\b(" + DATE + rb")\b", valid=is_date, refine=date_kind),
    Pattern(
        kind="name-and-date",
        group=_ID,
        regex=rb"(" + _NAME + rb"(?: " + _NAME + rb"){1,3}) ?\(\d{1,2}[/-]\d{1,2}[/-]\d{2,4}\)",
    ),
    Pattern(
        kind="name-labelled",
        group=_ID,
        regex=(
            rb"\b(?:patient(?:'?s)?(?:\s+name)?|pt(?:\s+name)?|client\s+name|member\s+name|insured|subscriber|"
            rb"paciente|nombre(?:\s+del\s+paciente)?|resident|beneficiary)"
            rb"(?:\s*[:#=|]\s*|\s+(?:is\s+|was\s+|named\s+)?|,\s+)"
            rb"((?:" + _NAME + rb",?\s+)" + _NAME + rb"(?:\s" + _NAME + rb")?)"
        ),
        valid=is_name,
    ),
    Pattern(
        kind="name-described",
        group=_ID,
        regex=(
            rb"(" + _NAME + rb" (?:" + _NAME + rb" )?" + _NAME + rb")(?:,)? (?:is|was) an? (?:[a-z]+ ){0,2}"
            rb"\d{1,3}[- ]?(?:year|yr|y\.?o|month|week|day)"
        ),
    ),
    Pattern(
        kind="address",
        group=_ID,
        regex=(
            rb"\b(\d{1,5} (?:[nsew]\.? )?[a-z][a-z'.]{1,20} (?:[a-z][a-z'.]{1,20} ){0,2}"
            rb"(?:street|st|avenue|ave|road|rd|boulevard|blvd|drive|dr|lane|ln|court|ct|way|place|pl|terrace|ter|circle|cir"
            rb"|parkway|pkwy|highway|hwy|trail|trl)\b\.?)"
        ),
    ),
    Pattern(
        kind="phone",
        group=_ID,
        regex=rb"(?:^|[^\d.-])((?:\+?1[-. ]?)?\(?[2-9]\d{2}\)?[-. ]{0,2}[2-9]\d{2}[-. ]{1,2}\d{4})\b",
        valid=is_phone,
    ),
    Pattern(
        kind="email",
        group=_ID,
        regex=rb"\b([a-z0-9][a-z0-9._%+-]{0,63}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,8})\b",
    ),
    Pattern(
        kind="age",
        group=FindingGroup.HEALTH,
        regex=(
            rb"\b(\d{1,3}[- ]{0,2}(?:years?|yrs?|y/?o|y\.o\.|months?)(?:[- ]old)?,?[- ]"
            rb"(?:old|male|female|man|woman|boy|girl|m|f)\b|\d{1,3}[- ]?y/?o\b|\d{1,3} y\.o\.)"
        ),
    ),
    Pattern(kind="icd10", group=FindingGroup.HEALTH, regex=rb"\b([a-tv-z]\d[0-9a-z](?:\.[0-9a-z]{1,4})?)\b"),
)  # fmt: skip
"""Every shape, labelled ones before the same shape without label: where two findings overlap the first stays."""
