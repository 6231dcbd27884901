"""The shapes of persons by what they are written with: a label, a date, an age. No list knows their names."""

from typing import Final

from relay.scan import validate
from relay.scan.shape import SIGN, Shape, after_any

NAME: Final = rb"(?-i:[A-Z\xc0-\xde][A-Za-z\xdf-\xff'-]*\.?)"
_PERSON: Final = NAME + rb"(?:,?[ \t]{1,2}" + NAME + rb"){1,3}"
_BIRTHS: Final = {**after_any(b"dob born"), b"o": frozenset({b"b"}), b"date": frozenset({b"of"})}
YEARS: Final = after_any(b"years year yrs yr yo y")

PERSONS: Final = (
    Shape(
        kind="name-and-date",
        regex=rb"(" + NAME + rb"(?: " + NAME + rb"){1,3}),? ?\((?:dob:? ?)?\d{1,2}[/-]\d{1,2}[/-]\d{2,4}\)",
        words=after_any(b"dob"),
        middle=(1, 2),
        before=90,
        after=24,
        needs=(b"(", 10),
    ),
    Shape(
        kind="name-and-date",
        regex=rb"\((" + NAME + rb"(?: " + NAME + rb"){1,3}),? \d{1,2}[/-]\d{1,2}[/-]\d{2,4}\)",
        middle=(1, 2),
        before=90,
        after=16,
        needs=(b"(", 80),
        valid=validate.is_name,
    ),
    Shape(
        kind="name-and-date",
        regex=rb"\b(?:re|patient|pt|chart|note|results?|labs?|films?|mri|ct|report)(?: (?:for|on|of))?:? ("
        + NAME + rb"(?:,? " + NAME + rb"){1,3}),? \d{1,2}[/.-]\d{1,2}[/.-]\d{4}\b",
        middle=(1, 2),
        before=100,
        after=16,
        capital=True,
        valid=validate.is_name,
    ),
    Shape(
        kind="initials-and-date",
        regex=rb"((?-i:\b[A-Z]\.[A-Z]\.(?:[A-Z]\.)?),? \(?(?:dob:? ?)?\d{1,2}[/-]\d{1,2}[/-]\d{2,4})",
        middle=(1, 2),
        before=20,
        after=16,
        needs=(b".", 14),
    ),
    Shape(
        kind="name-and-birth",
        regex=rb"(" + NAME + rb"(?: " + NAME + rb"){1,3}),?\s{1,2}\(?(?:dob|d\.o\.b\.|date of birth"
        rb"|(?-i:born|BORN|Born(?=:?\s{1,2}\d)))\b",  # not Max Born
        words=_BIRTHS,
        before=90,
        after=16,
        capital=True,
        valid=validate.is_name,
    ),
    Shape(
        kind="name-labelled",
        regex=(
            rb"\b(?:patient(?:'?s)?(?:\s+name)?|pt(?:\s+name)?|client\s+name|member\s+name|insured|subscriber|paciente"
            rb"|nombre(?:\s+del\s+paciente)?|resident|beneficiary|acct holder|account holder"
            rb"|cardholder|policyholder|guarantor|decedent|claimant)(?:\s*[:#=|]\s*|\s+(?:is\s+|was\s+|named\s+)?|,\s+)("
            + _PERSON + rb")"
        ),
        words={
            **after_any(
                b"patient patients pt insured subscriber paciente nombre resident beneficiary cardholder policyholder"
                b" guarantor decedent claimant"
            ),
            **dict.fromkeys((b"acct", b"account"), frozenset({b"holder"})),
            b"client": frozenset({b"name"}),
            b"member": frozenset({b"name"}),
        },
        valid=validate.is_name,
    ),
    Shape(
        kind="name-field",
        regex=rb"(?:^|\n|\t|;|\|)[ \t>*]*(?:full )?name[ \t]{0,3}[:=|\t][ \t]{0,3}(" + _PERSON + rb")",
        words={b"name": SIGN},
        sign=frozenset(b":=|\t"),
        before=16,
        valid=validate.is_name,
    ),
    Shape(
        kind="name-described",
        regex=(
            rb"(" + NAME + rb" (?:" + NAME + rb" )?" + NAME + rb"),? (?:is|was) an? (?:[a-z]+ ){0,2}"
            rb"\d{1,3}[- ]?(?:year|yr|y\.?o|month|week|day)"
        ),
        words={**YEARS, **after_any(b"month months week weeks day days")},
        glued=(b"ye", b"yr", b"yo", b"y.", b"mo", b"we", b"da"),
        before=110,
        after=8,
        digits=(2, 0),
        needs=(b"s a", 70),
    ),
)  # fmt: skip
