"""The shapes of identifiers (45 CFR 164.514(b)(2)(i)), and of providers' numbers, which identify no patient."""

from typing import Final

from relay.core.phi import FindingGroup
from relay.scan import validate
from relay.scan.lexicon import FOLD
from relay.scan.persons import NAME, PERSONS, YEARS
from relay.scan.shape import ANY, SIGN, Shape, after_any

_MONTH: Final = rb"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_DATE: Final = rb"\d{1,2}[-/. ]{1,3}\d{1,2}[-/. ]{1,3}\d{2,4}|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}"
_DATE_WITH_MONTH: Final = (
    _MONTH + rb"\.?[ ,]{1,3}\d{1,2}(?:st|nd|rd|th)?[ ,]{1,3}'?\d{2,4}|\d{1,2}(?:st|nd|rd|th)?(?: of)?[ -]{1,3}"
    + _MONTH + rb"[ ,.-]{1,3}\d{2,4}"
)  # fmt: skip
_SEP: Final = rb"[\s:#.=|>*_()\"'-]{0,12}(?:is[\s:#]{1,3}|no\.?[\s:#]{1,3}|number[\s:#]{1,3})?#?"
_VALUE: Final = rb"([a-z0-9][a-z0-9]?[a-z0-9-]{2,23})"
_NUM: Final = rb"(?:numbers?|num|no|nbr|id|#|code|identifier)"
_MBI_LETTER: Final = rb"[ac-hj-km-np-rt-y]"  # no S, L, O, I, B, Z (CMS, MBI format)
_MBI_EITHER: Final = rb"[0-9ac-hj-km-np-rt-y]"
_STREET: Final = (
    rb"(?:street|st|avenue|ave|road|rd|boulevard|blvd|drive|dr|lane|ln|court|ct|way|place|pl|terrace|ter|circle|cir"
    rb"|parkway|pkwy|highway|hwy|trail|trl)"
)


_FACILITY: Final = (
    rb"hospital|clinic|medical center|health center|cancer center|surgery center|nursing home|health system"
)
_ALWAYS_NUMBERS: Final = rb"mrn|mr|med(?:ical)?\.?\s+rec(?:ord)?s?|hbn|emr|expediente|historia\s+clinica"
_LABELS: Final = (
    rb"chart|patient|pt|hospital|encounter|visit|accession|specimen|csn|fin|epic|ehr|member|subscriber|beneficiary|insured"
    rb"|insurance|medicaid|medicare|policy|group|plan|poliza|afiliado|claim|icn|dcn|authori[sz]ation|auth|referral|rx"
    rb"|prescription|receta|account|acct|guarantor|case|file|record|licen[sc]e|dl|vin|plate|vehicle|serial|udi|device"
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

_SHORT_CODE: Final = 6  # characters behind a label and a dash
_SHORTEST_RECORD: Final = 5  # characters behind "MR" and a space: merge requests have such numbers as well


def number_kind(before: bytes, value: bytes) -> str:
    """The kind of a labelled number, by the nearest word before it that is a label; ``MRN-0007`` is some code."""
    if before.endswith(b"-") and len(value) < _SHORT_CODE:
        return ""
    words = before.translate(FOLD).split()
    if words[-1:] == [b"mr"] and before[-1:] == b" " and len(value) < _SHORTEST_RECORD:
        return ""
    for word in reversed(words):
        if word in _KIND_BY_LABEL:
            return _KIND_BY_LABEL[word]
    return "case-number"


_NUMBER_WORDS: Final = frozenset(b"number numbers num no nbr id code identifier".split())
_HASH: Final = frozenset(b"#")
_RECORD: Final = frozenset(b"rec recs record records".split())
_LABEL_ANCHORS: Final = {
    **dict.fromkeys(
        b"chart patient pt hospital encounter visit accession specimen csn fin epic ehr member subscriber beneficiary "
        b"insured insurance medicaid medicare policy group plan poliza afiliado claim icn dcn authorization "
        b"authorisation auth referral rx prescription receta account acct guarantor case file record license licence "
        b"dl vin plate vehicle serial udi device implant lot".split(),
        _NUMBER_WORDS,
    ),
    **after_any(b"mrn mr hbn emr expediente"),
    b"med": _RECORD,
    b"medical": _RECORD,
    b"historia": frozenset({b"clinica"}),
}
_MONTHS: Final = after_any(
    b"jan january feb february mar march apr april may jun june jul july aug august sep sept september oct october "
    b"nov november dec december"
)
_STREETS: Final = after_any(
    b"street st avenue ave road rd boulevard blvd drive dr lane ln court ct way place pl terrace ter circle cir "
    b"parkway pkwy highway hwy trail trl"
)
_PICTURES: Final = frozenset(b"photo photos photograph photographs picture pictures image images".split())

NUMBERS: Final = (
    Shape(
        kind="ssn",
        regex=rb"\b(?:ssn|ss\s?#|soc(?:ial)?\.?\s+sec(?:urity)?(?:\s+(?:number|no|num|#))?|seguro\s+social)[^\w\n]{0,12}"
        rb"(?:is\s|number\s|no\.?\s|:|\s){0,2}(\d{3}[-\s.]{0,3}\d{2}[-\s.]{0,3}\d{4})\b",
        words=after_any(b"ssn ss soc social seguro"),
        stuck=(b"ssn",),
        valid=validate.is_ssn,
    ),
    Shape(
        kind="ssn-invalid",
        regex=rb"\b(?:ssn|social\s+security(?:\s+(?:number|no|num))?)[^\w\n]{0,12}(\d{3}[-\s.]?\d{2}[-\s.]?\d{4})\b",
        words={b"ssn": ANY, b"social": frozenset({b"security"})},
        stuck=(b"ssn",),
        valid=validate.is_filled,
    ),
    Shape(
        kind="itin",
        regex=rb"\b(9\d{2}-[5-9]\d-\d{4})\b",
        middle=(2,),
        joint=b"-",
        before=2,
        after=14,
        valid=validate.is_itin,
    ),
    Shape(
        kind="ssn-unlabelled",
        regex=rb"\b(\d{3}-\s?\d{2}-\s?\d{4})\b",
        middle=(2,),
        joint=b"-",
        before=2,
        after=16,
        valid=validate.is_ssn,
    ),
    Shape(
        kind="hicn",
        regex=rb"\b(?:hicn?|medicare(?:\s+(?:number|no|id|claim|#))?)[^\w\n]{0,8}(\d{3}-?\d{2}-?\d{4}-?[a-z]\d?)\b",
        words=after_any(b"hic hicn medicare"),
        stuck=(b"hic", b"icn"),
        valid=lambda value: validate.is_ssn(value[:11] if b"-" in value else value[:9]),
    ),
    Shape(
        kind="mbi",
        regex=rb"\b([1-9]" + _MBI_LETTER + _MBI_EITHER + rb"\d[- ]?" + _MBI_LETTER + _MBI_EITHER + rb"\d[- ]?"
        + _MBI_LETTER + rb"{2}\d{2})\b",
        outline=rb"9a[9a]9-?a[9a]9-?aa99",
        after=15,
    ),
    Shape(
        kind="mrn",
        regex=rb"(?<![\w-])(?:(?:" + _ALWAYS_NUMBERS + rb")\b(?:\s{0,2}" + _NUM + rb"\b)?|(?:" + _LABELS
        + rb")\s{0,2}(?:" + _NUM + rb"\b|#))" + _SEP + _VALUE + rb"\b",
        words=_LABEL_ANCHORS,
        sign=_HASH,
        digits=(0, 70),
        valid=validate.has_digits,
        refine=number_kind,
    ),
    Shape(
        kind="mrn",
        regex=rb"\bm\.r\.n\." + _SEP + _VALUE + rb"\b",
        words={b"r": frozenset({b"n"})},
        before=2,
        valid=validate.has_digits,
    ),
    Shape(
        kind="account-number",
        regex=rb"\ba/c\s{0,2}(?:" + _NUM + rb"\b|#)" + _SEP + _VALUE + rb"\b",
        words={b"c": _NUMBER_WORDS},
        sign=_HASH,
        before=2,
        valid=validate.has_digits,
    ),
    Shape(
        kind="prescription-number",
        regex=rb"\brx\s{0,2}(\d{6,12})\b",
        words=after_any(b"rx"),
        digits=(0, 6),
        valid=validate.has_digits,
    ),
    Shape(
        kind="account-number",
        regex=rb"\bacct\.?\s{0,2}(\d{5,16})\b",
        words=after_any(b"acct"),
        digits=(0, 8),
        valid=validate.has_digits,
    ),
    Shape(
        kind="mrn",
        regex=rb"\bcharts?\s{0,2}(\d{4,12})\b",
        words=after_any(b"chart charts"),
        digits=(0, 12),
        valid=validate.has_digits,
    ),
    Shape(
        kind="person-number",
        regex=rb"\b(?:inmate|detainee|prisoner|booking|offender|recruit|donor|participant|enrollee|doc|badge)"
        rb"\s{0,2}(?:" + _NUM + rb"\b|#)?[\s:#.]{0,4}([a-z]{0,2}-?\d[\d-]{3,12})\b",
        words=after_any(b"inmate detainee prisoner booking offender recruit donor participant enrollee doc badge"),
        digits=(0, 24),
        valid=validate.has_digits,
    ),
    Shape(
        kind="last-four",
        regex=rb"\b(?:last\s(?:four|4)|ending(?:\sin)?)(?:\s(?:of|digits|ssn|social|is|are|her|his|my)){0,4}[\s:#]{1,3}(\d{4})\b",
        words={b"last": frozenset({b"four", b"4"}), **after_any(b"ending")},
        digits=(0, 40),
    ),
    Shape(
        kind="device-serial",
        regex=rb"\b(?:serial|s/n)[\s:#]{1,4}([a-z0-9][a-z0-9-]{4,23})\b",
        words={**after_any(b"serial"), b"s": frozenset({b"n"})},
        digits=(0, 30),
        valid=validate.has_digits,
    ),
    Shape(
        kind="device-serial",  # UDI as GS1 writes it: device, then production (21 CFR 830)
        regex=rb"\budi[^\w\n(]{0,6}(\(01\)\d{14}(?:\(\d{2}\)[\w/.+-]{1,20}){0,4})",
        words=after_any(b"udi"),
        digits=(0, 12),
    ),
    Shape(
        kind="npi",
        regex=rb"\b(?:npi)[^\w\n]{0,8}(?:number|no|id)?[^\w\n]{0,4}(\d{10})\b",
        words=after_any(b"npi"),
        stuck=(b"npi",),
        group=FindingGroup.PROVIDER,
        valid=validate.is_npi,
    ),
    Shape(
        kind="dea",
        regex=rb"\b(?:dea)[^\w\n]{0,8}(?:number|no|id)?[^\w\n]{0,4}([a-z][a-z9]\d{7})\b",
        words=after_any(b"dea"),
        group=FindingGroup.PROVIDER,
        valid=validate.is_dea,
    ),
)  # fmt: skip
"""Numbers. A labelled shape stands before the same without label: where two findings overlap the first stays."""

PLACES_AND_DATES: Final = (
    Shape(
        kind="date",
        regex=rb"\b(" + _DATE + rb")\b",
        middle=(1, 2),
        before=3,
        after=18,
        valid=validate.is_date,
        refine=validate.date_kind,
    ),
    Shape(
        kind="date",
        regex=rb"\b(" + _DATE_WITH_MONTH + rb")\b",
        words=_MONTHS,
        before=14,
        after=40,
        digits=(14, 18),
        valid=validate.is_date,
        refine=validate.date_kind,
    ),
    Shape(
        kind="age-over-89",
        regex=rb"\b(9\d|1[012]\d)[- ]{0,2}(?:years?|yrs?|y/?o|y\.o\.)",
        words=YEARS,
        glued=(b"ye", b"yr", b"yo", b"y/", b"y."),
        before=6,
        after=8,
        digits=(3, 0),
        valid=validate.is_old,
    ),
    Shape(
        kind="address",
        regex=rb"\b(\d{1,5} (?:[nsew]\.? )?[a-z0-9][a-z'.]{1,20} (?:[a-z][a-z'.]{1,20} ){0,2}" + _STREET + rb"\b\.?)",
        words=_STREETS,
        before=76,
        after=14,
        digits=(75, 0),
    ),
    Shape(
        kind="facility",
        regex=rb"\b(?:at|in|from|to|of) (?:the )?(" + NAME + rb"(?: " + NAME + rb"){0,2}) (?:" + _FACILITY + rb")\b",
        words={
            **after_any(b"hospital clinic"),
            **dict.fromkeys((b"medical", b"cancer", b"surgery"), frozenset({b"center"})),
            b"health": frozenset({b"center", b"system"}),
            b"nursing": frozenset({b"home"}),
        },
        before=80,
        after=20,
        capital=True,
    ),
    Shape(
        kind="residence",
        regex=rb"\b(?:lives? in|living in|resident of|resides? (?:in|at)|residing (?:in|at)|hometown of) ("
        + NAME + rb"(?: " + NAME + rb")?)",
        words={
            **dict.fromkeys((b"live", b"lives", b"living"), frozenset({b"in"})),
            **dict.fromkeys((b"reside", b"resides", b"residing"), frozenset({b"in", b"at"})),
            **dict.fromkeys((b"resident", b"hometown"), frozenset({b"of"})),
        },
    ),
    Shape(
        kind="zip",
        regex=rb"(?-i:\b(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]"
        rb"|UT|V[AT]|W[AIVY])),? (\d{5}(?:-\d{4})?)\b",
        outlines=(b"-99999",),
        before=3,
        after=14,
    ),
    Shape(
        kind="phone",
        regex=rb"(?:^|[^\d.-])((?:\+?1[-. ]?)?\(?[2-9]\d{2}\)?[-. ]{0,2}[2-9]\d{2}[-. ]{1,2}\d{4})\b",
        middle=(3,),
        before=8,
        after=20,
        valid=validate.is_phone,
    ),
    Shape(
        kind="phone",
        regex=rb"\b(?:call|text|cell|phone|tel|ph)[ :.]{1,3}(?:me |us |her |him )?(?:back )?(?:at |on |is )?"
        rb"([2-9]\d{9})\b",
        words=after_any(b"call text cell phone tel ph"),
        digits=(0, 30),
        after=36,
        valid=validate.is_phone,
    ),
    Shape(
        kind="email",
        regex=rb"\b([a-z0-9][a-z0-9._%+-]*@[a-z0-9-]+(?:\.[a-z0-9-]+)+)\b",
        outlines=(b"@",),
        unbroken=True,
        before=64,
        after=200,
    ),
    Shape(
        kind="ip-address",
        regex=rb"(?:^|[^\d.])(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?:[^\d.]|$)",
        middle=(1, 2, 3),
        joint=b".",
        before=3,
        after=18,
        valid=validate.is_ip,
    ),
    Shape(
        kind="url",
        regex=rb"\b(?:https?://|www\.)[^\s<>\"]{3,160}?[?&/_-](?:mrn|pid|patient(?:[_-]?id)?|member(?:[_-]?id)?|chart|encounter"
        rb"|visit(?:[_-]?id)?|claim|appointment|lab[_-]?result|rx)=([a-z0-9-]*\d[a-z0-9-]{2,40})",
        words=dict.fromkeys(
            b"mrn pid patient patientid member memberid chart encounter visit visitid claim appointment labresult "
            b"rx".split(),
            SIGN,
        ),
        sign=frozenset(b"="),
        before=180,
        after=60,
        valid=validate.has_digits,
    ),
    Shape(
        kind="biometric",
        regex=rb"\b((?:finger|voice|palm)[- ]?prints?|(?:retinal?|iris|facial|face) (?:scans?|recognition|geometry)"
        rb"|biometrics?)\b",
        words={
            **after_any(b"fingerprint fingerprints voiceprint voiceprints palmprint palmprints biometric biometrics"),
            **dict.fromkeys((b"finger", b"voice", b"palm"), frozenset({b"print", b"prints"})),
            **dict.fromkeys(
                (b"retina", b"retinal", b"iris", b"facial"), frozenset({b"scan", b"scans", b"recognition", b"geometry"})
            ),
        },
    ),
    Shape(
        kind="photo",
        regex=rb"\b((?:full[- ]face |patient(?:'s)? |facial |clinical |wound )(?:photo|photograph|picture|image)s?"
        rb"|(?:photo|photograph|picture)s? of (?:the |her |his |my |your )?(?:patient|face|wound|rash|lesion"
        rb"|incision))\b",
        words={
            **dict.fromkeys((b"facial", b"clinical", b"wound"), _PICTURES),
            b"patient": _PICTURES | {b"s"},
            b"full": frozenset({b"face"}),
            **dict.fromkeys(_PICTURES, frozenset({b"of"})),
        },
    ),
)  # fmt: skip

IDENTIFIERS: Final = NUMBERS + PERSONS + PLACES_AND_DATES
