"""The shapes of identifiers (45 CFR 164.514(b)(2)(i)), and of providers' numbers, which identify no patient."""

from typing import Final

from relay.core.phi import FindingGroup
from relay.scan import validate
from relay.scan.lexicon import FOLD
from relay.scan.shape import Shape

_MONTH: Final = rb"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
DATE: Final = (
    rb"(?:\d{1,2}[-/. ]{1,3}\d{1,2}[-/. ]{1,3}\d{2,4}|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}"
    rb"|" + _MONTH + rb"\.?[ ,]{1,3}\d{1,2}(?:st|nd|rd|th)?[ ,]{1,3}'?\d{2,4}|\d{1,2}(?:st|nd|rd|th)?(?: of)?[ -]{1,3}"
    + _MONTH + rb"[ ,.-]{1,3}\d{2,4})"
)  # fmt: skip
_DATE_TRIGGER: Final = (
    rb"\d[-/. ]+\d\d?[-/. ]+\d|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?[ ,]+\d"
    rb"|\d(?:st|nd|rd|th)?(?: of)?[ -]+(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
)
_SEP: Final = rb"[\s:#.=|>*_()\"'-]{0,12}(?:is[\s:#]{1,3}|no\.?[\s:#]{1,3}|number[\s:#]{1,3})?#?"
_VALUE: Final = rb"([a-z0-9][a-z0-9]?[a-z0-9-]{2,23})"
_NUM: Final = rb"(?:numbers?|num|no|nbr|id|#|code|identifier)"
_NAME: Final = rb"(?-i:[A-Z\xc0-\xde][A-Za-z\xdf-\xff'-]*\.?)"
_PERSON: Final = _NAME + rb"(?:,?[ \t]{1,2}" + _NAME + rb"){1,3}"
_MBI_LETTER: Final = rb"[ac-hj-km-np-rt-y]"  # no S, L, O, I, B, Z (CMS, MBI format)
_MBI_EITHER: Final = rb"[0-9ac-hj-km-np-rt-y]"
_STREET: Final = (
    rb"(?:street|st|avenue|ave|road|rd|boulevard|blvd|drive|dr|lane|ln|court|ct|way|place|pl|terrace|ter|circle|cir"
    rb"|parkway|pkwy|highway|hwy|trail|trl)"
)


_FACILITY: Final = (
    rb"hospital|clinic|medical center|health center|cancer center|surgery center|nursing home|health system"
)
_ALWAYS_NUMBERS: Final = rb"mrn|m\.r\.n\.|mr|med(?:ical)?\.?\s+rec(?:ord)?s?|hbn|emr|expediente|historia\s+clinica"
_LABELS: Final = (
    rb"chart|patient|pt|hospital|encounter|visit|accession|specimen|csn|fin|epic|ehr|member|subscriber|beneficiary|insured"
    rb"|insurance|medicaid|medicare|policy|group|plan|poliza|afiliado|claim|icn|dcn|authori[sz]ation|auth|referral|rx"
    rb"|prescription|receta|account|acct|a/c|guarantor|case|file|record|licen[sc]e|dl|vin|plate|vehicle|serial|udi|device"
    rb"|implant|lot"
)
_KIND_BY_LABEL: Final = {
    word: kind
    for kind, words in {
        "mrn": b"mrn m r n mr rec record records medical med hbn emr expediente historia clinica chart patient pt "
        b"hospital encounter visit accession specimen csn fin epic ehr",
        "member-number": b"member subscriber beneficiary insured insurance medicaid medicare policy group plan poliza "
        b"afiliado",
        "claim-number": b"claim icn dcn authorization authorisation auth referral",
        "prescription-number": b"rx prescription receta",
        "account-number": b"account acct c guarantor",
        "case-number": b"case file",
        "licence-number": b"license licence dl vin plate vehicle",
        "device-serial": b"serial udi device implant lot",
    }.items()
    for word in words.split()
}


def number_kind(before: bytes, value: bytes) -> str:
    """The kind of a labelled number, by the nearest word before it that is a label."""
    del value
    for word in reversed(before.translate(FOLD).split()):
        if word in _KIND_BY_LABEL:
            return _KIND_BY_LABEL[word]
    return "case-number"


NUMBERS: Final = (
    Shape(
        kind="ssn",
        regex=rb"\b(?:ssn|ss\s?#|soc(?:ial)?\.?\s+sec(?:urity)?(?:\s+(?:number|no|num|#))?|seguro\s+social)[^\w\n]{0,12}"
        rb"(?:is\s|number\s|no\.?\s|:|\s){0,2}(\d{3}[-\s.]{0,3}\d{2}[-\s.]{0,3}\d{4})\b",
        trigger=rb"\bssn|\bss\s?#|\bsoc(?:ial)?\.?\s+sec|seguro\s+social",
        valid=validate.is_ssn,
    ),
    Shape(
        kind="ssn-invalid",
        regex=rb"\b(?:ssn|social\s+security(?:\s+(?:number|no|num))?)[^\w\n]{0,12}(\d{3}[-\s.]?\d{2}[-\s.]?\d{4})\b",
        trigger=rb"\bssn|\bsocial\s+sec",
        valid=validate.is_filled,
    ),
    Shape(
        kind="itin",
        regex=rb"\b(9\d{2}-[5-9]\d-\d{4})\b",
        trigger=rb"\b9\d\d-[5-9]\d-\d{4}",
        valid=validate.is_itin,
    ),
    Shape(
        kind="ssn-unlabelled",
        regex=rb"\b(\d{3}-\s?\d{2}-\s?\d{4})\b",
        trigger=rb"\d{3}-\s?\d\d-\s?\d{4}",
        valid=validate.is_ssn,
    ),
    Shape(
        kind="hicn",
        regex=rb"\b(?:hicn?|medicare(?:\s+(?:number|no|id|claim|#))?)[^\w\n]{0,8}(\d{3}-?\d{2}-?\d{4}-?[a-z]\d?)\b",
        trigger=rb"\d{4}-?[a-z]\d?\b",
        valid=lambda value: validate.is_ssn(value[:11] if b"-" in value else value[:9]),
    ),
    Shape(
        kind="mbi",
        regex=rb"\b([1-9]" + _MBI_LETTER + _MBI_EITHER + rb"\d[- ]?" + _MBI_LETTER + _MBI_EITHER + rb"\d[- ]?"
        + _MBI_LETTER + rb"{2}\d{2})\b",
        trigger=rb"[1-9][a-z][0-9a-z]\d[- ]?[a-z][0-9a-z]\d[- ]?[a-z][a-z]\d\d",
    ),
    Shape(
        kind="mrn",
        regex=rb"\b(?:(?:" + _ALWAYS_NUMBERS + rb")\b(?:\s{0,2}" + _NUM + rb"\b)?|(?:" + _LABELS + rb")\s{0,2}(?:"
        + _NUM + rb"\b|#))" + _SEP + _VALUE + rb"\b",
        trigger=rb"\b(?:" + _ALWAYS_NUMBERS + rb")\b|\b(?:" + _LABELS + rb")\s*(?:" + _NUM + rb"\b|#)",
        valid=validate.has_digits,
        refine=number_kind,
    ),
    Shape(
        kind="npi",
        regex=rb"\b(?:npi)[^\w\n]{0,8}(?:number|no|id)?[^\w\n]{0,4}(\d{10})\b",
        trigger=rb"\bnpi",
        group=FindingGroup.PROVIDER,
        valid=validate.is_npi,
    ),
    Shape(
        kind="dea",
        regex=rb"\b(?:dea)[^\w\n]{0,8}(?:number|no|id)?[^\w\n]{0,4}([a-z][a-z9]\d{7})\b",
        trigger=rb"\bdea",
        group=FindingGroup.PROVIDER,
        valid=validate.is_dea,
    ),
)  # fmt: skip
"""Numbers. A labelled shape stands before the same without label: where two findings overlap the first stays."""

PLACES_AND_DATES: Final = (
    Shape(
        kind="date",
        regex=rb"\b(" + DATE + rb")\b",
        trigger=_DATE_TRIGGER,
        valid=validate.is_date,
        refine=validate.date_kind,
    ),
    Shape(
        kind="age-over-89",
        regex=rb"\b(9\d|1[012]\d)[- ]{0,2}(?:years?|yrs?|y/?o|y\.o\.)",
        trigger=rb"\b(?:9|1[012])\d[- ]*(?:y)",
        valid=validate.is_old,
    ),
    Shape(
        kind="address",
        regex=rb"\b(\d{1,5} (?:[nsew]\.? )?[a-z0-9][a-z'.]{1,20} (?:[a-z][a-z'.]{1,20} ){0,2}" + _STREET + rb"\b\.?)",
        trigger=rb"[a-z'.] " + _STREET + rb"\b",
    ),
    Shape(
        kind="facility",
        regex=rb"\b(?:at|in|from|to|of) (?:the )?(" + _NAME + rb"(?: " + _NAME + rb"){0,2}) (?:" + _FACILITY + rb")\b",
        trigger=rb" (?:" + _FACILITY + rb")\b",
    ),
    Shape(
        kind="residence",
        regex=rb"\b(?:lives? in|living in|resident of|resides? (?:in|at)|residing (?:in|at)|hometown of) ("
        + _NAME
        + rb"(?: "
        + _NAME
        + rb")?)",
        trigger=rb"\b(?:lives? in|living in|resident of|resid(?:es?|ing) (?:in|at)|hometown of) ",
    ),
    Shape(
        kind="zip",
        regex=rb"(?-i:\b(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]"
        rb"|UT|V[AT]|W[AIVY])),? (\d{5}(?:-\d{4})?)\b",
        trigger=rb"\b[a-z][a-z],? \d{5}\b",
    ),
    Shape(
        kind="phone",
        regex=rb"(?:^|[^\d.-])((?:\+?1[-. ]?)?\(?[2-9]\d{2}\)?[-. ]{0,2}[2-9]\d{2}[-. ]{1,2}\d{4})\b",
        trigger=rb"\d{3}\)?[-. ]*\d{3}[-. ]+\d{4}",
        valid=validate.is_phone,
    ),
    Shape(
        kind="email",
        regex=rb"\b([a-z0-9][a-z0-9._%+-]*@[a-z0-9-]+(?:\.[a-z0-9-]+)+)\b",
        trigger=rb"@[a-z0-9-]+\.[a-z0-9-]",
    ),
    Shape(
        kind="ip-address",
        regex=rb"(?:^|[^\d.])(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?:[^\d.]|$)",
        trigger=rb"\d\.\d+\.\d+\.\d",
        valid=validate.is_ip,
    ),
)

PERSONS: Final = (
    Shape(
        kind="name-and-date",
        regex=rb"(" + _NAME + rb"(?: " + _NAME + rb"){1,3}),? ?\((?:dob:? ?)?\d{1,2}[/-]\d{1,2}[/-]\d{2,4}\)",
        trigger=rb"\((?:dob:? ?)?\d+[/-]\d+[/-]\d+\)",
    ),
    Shape(
        kind="name-and-birth",
        regex=rb"(" + _NAME + rb"(?: " + _NAME + rb"){1,3}),?\s{1,2}\(?(?:dob|d\.o\.b\.|date of birth|born)\b",
        trigger=rb"\s\(?(?:dob|d\.o\.b\.|date of birth|born)\b",
        valid=validate.is_name,
    ),
    Shape(
        kind="name-labelled",
        regex=(
            rb"\b(?:patient(?:'?s)?(?:\s+name)?|pt(?:\s+name)?|client\s+name|member\s+name|insured|subscriber|paciente"
            rb"|nombre(?:\s+del\s+paciente)?|resident|beneficiary)(?:\s*[:#=|]\s*|\s+(?:is\s+|was\s+|named\s+)?|,\s+)("
            + _PERSON + rb")"
        ),
        trigger=rb"\b(?:patient|pt|client|member|insured|subscriber|paciente|nombre|resident|beneficiary)",
        valid=validate.is_name,
    ),
    Shape(
        kind="name-field",
        regex=rb"(?:^|\n|\t|;|\|)[ \t>*]*(?:full )?name[ \t]{0,3}[:=|\t][ \t]{0,3}(" + _PERSON + rb")",
        trigger=rb"\bname\b",
        valid=validate.is_name,
    ),
    Shape(
        kind="name-described",
        regex=(
            rb"(" + _NAME + rb" (?:" + _NAME + rb" )?" + _NAME + rb"),? (?:is|was) an? (?:[a-z]+ ){0,2}"
            rb"\d{1,3}[- ]?(?:year|yr|y\.?o|month|week|day)"
        ),
        trigger=rb"\d[- ]?(?:year|yr|y\.?o|month|week|day)",
    ),
)  # fmt: skip

IDENTIFIERS: Final = NUMBERS + PERSONS + PLACES_AND_DATES
