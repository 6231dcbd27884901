"""The shapes of health context: codes, values, doses, vital signs; and words by how medicine builds them."""

import re
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.shape import Shape, after_any

_HEALTH: Final = FindingGroup.HEALTH
_NOT_DISEASES: Final = frozenset(
    b"diagnosis prognosis hypothesis emphasis basis analysis synthesis osmosis metamorphosis hypnosis apotheosis "
    b"symbiosis mitosis meiosis photosynthesis oasis crisis thesis genesis nemesis telepathy sympathy empathy "
    b"antipathy apathy nostalgia academia diploma aroma coma roma oklahoma soma dogma tacoma sonoma alabama "
    b"logopathy psychopathy homeopathy osteopathy naturopathy endoscopy microscopy spectroscopy tomography "
    b"photography geography ontology technology polygraphy biotherapy telescopy vitis britis philosophy atrophy "
    b"trophy anatomy economy taxonomy autonomy dichotomy bohemia bulgaria macedonia enemia premia metropathy "
    b"neurosis biography autobiography bibliography calligraphy choreography cinematography cartography demography "
    b"discography filmography pornography stenography topography typography videography lithography cryptography "
    b"ethnography iconography historiography oceanography hagiography etruria liguria xerography".split()
)
_NOT_DRUGS: Final = frozenset(
    b"online offline cosine medicine discipline machine magazine engine imagine determine define refine combine "
    b"examine program proline saline april peril pupil cyril evil vigil statin satin latin crystal capital vital "
    b"digital pam opam spam trepan cream stream protocol stopril caroline zone ozone cone tone stone bone phone "
    b"alone person mason season reason lesson cocaine vaine maine romaine humaine domaine provir devoir savoir".split()
)


def is_disease(value: bytes) -> bool:
    """A word of medical build that is no word of every day."""
    return value.lower() not in _NOT_DISEASES


def is_drug(value: bytes) -> bool:
    """A word that ends as nonproprietary names of drugs do (WHO, INN stems) and is no word of every day."""
    return value.lower() not in _NOT_DRUGS


def icd_kind(before: bytes, value: bytes) -> str:
    """A code of the set after a word that announces codes, or one with its dot; its shape alone is nothing."""
    if _ANNOUNCED.search(before):
        return "icd10"
    return "icd10-bare" if b"." in value else ""


_ANNOUNCED: Final = re.compile(
    rb"\b(?:icd|dx|diagnos[ie]s|diagnoses|diag|code|codes|coded|assessment|problem|impression"
    rb"|condition)\b[^\n]{0,40}\Z",
    re.IGNORECASE,
)

_ANALYTES: Final = (
    rb"potassium|sodium|chloride|creatinine|bun|glucose|hba1c|a1c|hgb|hemoglobin|hct|hematocrit|wbc|platelets|plt|inr"
    rb"|tsh|ldl|hdl|triglycerides|cholesterol|troponin|bnp|crp|esr|psa|alt|ast|bilirubin|albumin|ferritin|egfr|cd4"
    rb"|viral load"
)
_ANALYTE_ANCHORS: Final = {
    **after_any(
        b"potassium sodium chloride creatinine bun glucose hba1c a1c hgb hemoglobin hct hematocrit wbc platelets plt "
        b"inr tsh ldl hdl triglycerides cholesterol troponin bnp crp esr psa alt ast bilirubin albumin ferritin egfr "
        b"cd4"
    ),
    b"viral": frozenset({b"load"}),
}
_ANALYTE_ENDS: Final = (b"a1c", b"hgb", b"wbc", b"inr", b"tsh", b"ldl", b"hdl", b"psa")
_DIGITS_TOLD: Final = after_any(
    b"icd dx diagnosis diagnoses diagnosis diag code codes coded assessment problem impression condition"
)
_STOOD: Final = (
    rb"of|is|was|were|are|at|up|down|around|about|to|still|now|running|only|this|morning|today|came|back|de|en|all|over"
    rb"|under|between|dropped|fell|drops|dropping|sits|sitting|reads|hit|running|went|has|been|in|the|from|level|high|low|a|again|estado|sali[o\xf3]|ha|esta"
)
"""What people put between a measure and its value: ``BP still 178/96``, ``sugars are all over 300``."""
_UP_TO_FIVE: Final = rb"(?:(?:" + _STOOD + rb") ){0,5}"
_PERIODS: Final = after_any(b"year years yr yrs month months week weeks day days yo y")
CONTEXT: Final = (
    Shape(
        kind="age",
        regex=(
            rb"\b(\d{1,3}[- ]{0,2}(?:years?|yrs?|months?|weeks?|days?)(?:[- ]old)?,?[- ](?:old|male|female|man"
            rb"|woman|boy|girl)\b"
            rb"|\d{1,3}[- ]?y/?o\b|\d{1,3} ?y\.o\.)"
        ),
        words=_PERIODS,
        glued=(b"ye", b"yr", b"mo", b"we", b"da", b"yo", b"y/", b"y."),
        before=6,
        after=24,
        digits=(3, 0),
        group=_HEALTH,
    ),
    Shape(
        kind="age",
        regex=rb"\b(age[ds]? \d{1,3}\b)",
        words=after_any(b"age aged ages"),
        group=_HEALTH,
    ),
    Shape(
        kind="icd10",
        regex=rb"\b([a-tv-z]\d[0-9ab](?:\.[0-9a-z]{1,4})?)\b",
        words=_DIGITS_TOLD,
        coded=True,
        after=62,
        seeks=True,
        digits=(0, 62),
        group=_HEALTH,
        refine=icd_kind,
    ),
    Shape(
        kind="procedure-code",
        regex=rb"\b(?:cpt|hcpcs|procedure\s+code)s?[^\w\n]{0,6}(?:codes?)?[^\w\n]{0,4}(\d{5}|[a-v]\d{4})\b",
        words={**after_any(b"cpt cpts hcpcs"), b"procedure": frozenset({b"code", b"codes"})},
        group=_HEALTH,
    ),
    Shape(
        kind="ndc",
        regex=rb"\bndc[^\w\n]{0,6}(\d{4,5}-\d{3,4}-\d{1,2}|\d{10,11})\b",
        words=after_any(b"ndc"),
        stuck=(b"ndc",),
        group=_HEALTH,
    ),
    Shape(
        kind="loinc",
        regex=rb"\bloinc[^\w\n]{0,6}(?:code)?[^\w\n]{0,3}(\d{1,5}-\d)\b",
        words=after_any(b"loinc"),
        group=_HEALTH,
    ),
    Shape(
        kind="lab-value",
        regex=rb"\b(\d{1,4}(?:[.,]\d{1,3})? ?(?:mg/dl|g/dl|mmol/l|mmol/mol|mcg/dl|ng/ml|ng/dl|pg/ml|meq/l|iu/l|u/l"
        rb"|miu/l|copies/ml"
        rb"|cells/ul|k/ul|mm/hr|mmhg|mm hg|ml/min|bpm|kg/m2))\b",
        words=after_any(b"mg g mmol mcg ng pg meq iu u miu copies cells k mm mmhg ml bpm kg"),
        glued=tuple(b"mg g/ mm mc ng pg me iu u/ mi co ce k/ ml bp kg".split()),
        before=10,
        after=14,
        digits=(2, 0),
        group=_HEALTH,
    ),
    Shape(
        kind="lab-value",
        regex=rb"\b((?:" + _ANALYTES + rb")(?: level)?(?: (?:of|is|was|at))?\s{0,2}[:=]?\s{0,2}[<>]?"
        rb"\d{1,4}(?:\.\d{1,2})?)\b",
        words=_ANALYTE_ANCHORS,
        digits=(0, 40),
        stuck=_ANALYTE_ENDS,
        group=_HEALTH,
    ),
    Shape(
        kind="dose",
        regex=rb"\b(\d{1,4}(?:\.\d{1,3})? ?(?:mg|mcg|units|puffs?|tabs?|tablets?|capsules?)(?: (?:po|bid|tid|qid|qd"
        rb"|qhs|daily|prn|sl|iv|im|od))?)\b",
        words=after_any(b"mg mcg units puff puffs tab tabs tablet tablets capsule capsules"),
        glued=(b"mg", b"mc", b"un", b"pu", b"ta", b"ca"),
        before=10,
        after=18,
        digits=(2, 0),
        group=_HEALTH,
    ),
    Shape(
        kind="vital-sign",
        regex=rb"\b((?:bp|blood pressure|pulse|hr|heart rate|temp|temperature|resp|rr|o2 sats?|o2|spo2|sats?|oxygen|bmi"
        rb"|weight|wt|fever|presi[o\xf3]n|calentura|fiebre)[\s:,=-]{1,3}" + _UP_TO_FIVE
        + rb"\d{2,3}(?:/\d{2,3}|\.\d)?)\b(?!,\d|\.\d\d)",
        words={
            **after_any(b"bp pulse hr temp temperature resp rr spo2 sat sats bmi weight wt o2 oxygen fever"),
            **after_any(b"presion calentura fiebre"),
            b"blood": frozenset({b"pressure"}),
            b"heart": frozenset({b"rate"}),
        },
        digits=(0, 60),
        after=80,
        group=_HEALTH,
    ),
    Shape(
        kind="lab-value",
        regex=rb"\b((?:(?:blood |fasting )?(?:sugars?|glucose|bs|bg|fsbs)|az[u\xfa]car)[\s:,=-]{1,3}" + _UP_TO_FIVE
        + rb"[1-6]?\d{2})\b(?! ?(?:g|grams?|cups?|lbs?|kg|oz|calories|cal|kcal|tons?|bags?|packets?|percent|%|\.\d|,\d"
        rb"|cents))",
        words=after_any(b"sugar sugars glucose azucar bs bg fsbs"),
        digits=(0, 60),
        before=8,
        after=80,
        group=_HEALTH,
    ),
    Shape(
        kind="lab-value",
        regex=rb"\b((?:white count|wbc|platelets|plts|hgb|h&h|crit|psa|tsh|a1c|inr|potassium|sodium|creatinine|creat"
        rb"|ferritin|bnp|cd4|viral load|ldl|egfr|gfr|ef|ahi|bili|edinburgh|moca|mmse|phq.?9|gad.?7|apgars?|ciwa|iop"
        rb"|lvef|pra|lead level)[\s:,=-]{1,3}(?:(?:" + _STOOD + rb") ){1,5}\d{1,4}(?:\.\d{1,2})?%?)(?!\w)",
        words={
            b"white": frozenset({b"count"}),
            b"viral": frozenset({b"load"}),
            b"lead": frozenset({b"level"}),
            b"phq": frozenset({b"9"}),
            b"gad": frozenset({b"7"}),
            **after_any(b"wbc platelets plts hgb crit psa tsh a1c inr potassium sodium creatinine creat ferritin bnp"),
            **after_any(b"cd4 ldl egfr gfr ef ahi bili edinburgh moca mmse phq9 gad7 apgar apgars ciwa iop lvef pra"),
        },
        digits=(0, 60),
        after=70,
        group=_HEALTH,
    ),
    Shape(
        kind="gestation",
        regex=rb"(?<![\w+.-])([234]\d\+[0-6])(?![\w+.-])",
        outlines=(b"99+9",),
        group=_HEALTH,
        sensitive="reproductive",
    ),
)  # fmt: skip

DISEASE_ENDINGS: Final = (
    rb"itis|osis|emia|aemia|pathy|algia|ectomy|oscopy|ostomy|otomy|plasty|uria|pnea|plegia|paresis|rrhea|rrhage|megaly|penia"
    rb"|sclerosis|carcinoma|sarcoma|blastoma|lymphoma|myeloma|adenoma|graphy|malacia|phagia|phasia"
)
DRUG_ENDINGS: Final = (
    rb"mab|tinib|ciclib|sartan|statin|gliptin|gliflozin|glutide|prazole|conazole|cillin|mycin|floxacin|cycline|dipine|olol"
    rb"|azepam|azolam|triptan|setron|oxetine|triptyline|parin|xaban|grel|lukast|tidine|thiazide|semide|pril|prazosin|vastatin"
    rb"|fibrate|glitazone|dronate|sone|solone|caine|barbital|ciclovir|previr|buvir|tegravir|terol|tropium|gabalin|racetam"
    rb"|idone|apine|formin|bactam|penem"
)
