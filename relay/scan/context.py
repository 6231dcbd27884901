"""The shapes of health context: codes, values, doses, vital signs, and words by how medicine builds them."""

import re
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.shape import Shape

_HEALTH: Final = FindingGroup.HEALTH
_NOT_DISEASES: Final = frozenset(
    b"diagnosis prognosis hypothesis emphasis basis analysis synthesis osmosis metamorphosis hypnosis apotheosis "
    b"symbiosis mitosis meiosis photosynthesis oasis crisis thesis genesis nemesis telepathy sympathy empathy "
    b"antipathy apathy nostalgia academia diploma aroma coma roma oklahoma soma dogma tacoma sonoma alabama "
    b"logopathy psychopathy homeopathy osteopathy naturopathy endoscopy microscopy spectroscopy tomography "
    b"photography geography ontology technology polygraphy biotherapy telescopy vitis britis philosophy atrophy "
    b"trophy anatomy economy taxonomy autonomy dichotomy bohemia bulgaria macedonia enemia premia metropathy "
    b"neurosis".split()
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
CONTEXT: Final = (
    Shape(
        kind="age",
        regex=(
            rb"\b(\d{1,3}[- ]{0,2}(?:years?|yrs?|months?|weeks?|days?)(?:[- ]old)?,?[- ](?:old|male|female|man"
            rb"|woman|boy|girl)\b"
            rb"|\d{1,3}[- ]?y/?o\b|\d{1,3} ?y\.o\.|\bage[ds]? \d{1,3}\b)"
        ),
        trigger=rb"\d[- ]*(?:y/?o\b|y\.o|(?:year|yr|month|week|day)s?,?[- ](?:old|male|female|man|woman|boy|girl))"
        rb"|\bage[ds]? \d",
        group=_HEALTH,
    ),
    Shape(
        kind="icd10",
        regex=rb"\b([a-tv-z]\d[0-9ab](?:\.[0-9a-z]{1,4})?)\b",
        trigger=rb"\b[a-tv-z]\d[0-9ab](?:\.|\b)",
        group=_HEALTH,
        refine=icd_kind,
    ),
    Shape(
        kind="procedure-code",
        regex=rb"\b(?:cpt|hcpcs|procedure\s+code)s?[^\w\n]{0,6}(?:codes?)?[^\w\n]{0,4}(\d{5}|[a-v]\d{4})\b",
        trigger=rb"\b(?:cpt|hcpcs|procedure\s+code)",
        group=_HEALTH,
    ),
    Shape(
        kind="ndc",
        regex=rb"\bndc[^\w\n]{0,6}(\d{4,5}-\d{3,4}-\d{1,2}|\d{10,11})\b",
        trigger=rb"\bndc",
        group=_HEALTH,
    ),
    Shape(
        kind="loinc",
        regex=rb"\bloinc[^\w\n]{0,6}(?:code)?[^\w\n]{0,3}(\d{1,5}-\d)\b",
        trigger=rb"\bloinc",
        group=_HEALTH,
    ),
    Shape(
        kind="lab-value",
        regex=rb"\b(\d{1,4}(?:[.,]\d{1,3})? ?(?:mg/dl|g/dl|mmol/l|mmol/mol|mcg/dl|ng/ml|ng/dl|pg/ml|meq/l|iu/l|u/l"
        rb"|miu/l|copies/ml"
        rb"|cells/ul|k/ul|mm/hr|mmhg|mm hg|ml/min|bpm|kg/m2))\b",
        trigger=rb"\d ?(?:mg/dl|g/dl|mmol|mcg/dl|ng/|pg/ml|meq/l|iu/l|u/l|miu/l|copies/ml|cells/ul|k/ul|mm/hr"
        rb"|mm ?hg|ml/min|bpm|kg/m2)",
        group=_HEALTH,
    ),
    Shape(
        kind="lab-value",
        regex=rb"\b((?:" + _ANALYTES + rb")(?: level)?(?: (?:of|is|was|at))?\s{0,2}[:=]?\s{0,2}[<>]?"
        rb"\d{1,4}(?:\.\d{1,2})?)\b",
        trigger=rb"\b(?:" + _ANALYTES + rb")(?: level)?(?: (?:of|is|was|at))?\s*[:=]?\s*[<>]?\d",
        group=_HEALTH,
    ),
    Shape(
        kind="dose",
        regex=rb"\b(\d{1,4}(?:\.\d{1,3})? ?(?:mg|mcg|units|puffs?|tabs?|tablets?|capsules?)(?: (?:po|bid|tid|qid|qd"
        rb"|qhs|daily|prn|sl|iv|im|od))?)\b",
        trigger=rb"\d ?(?:mg|mcg|units|puff|tab|capsule)",
        group=_HEALTH,
    ),
    Shape(
        kind="vital-sign",
        regex=rb"\b((?:bp|blood pressure|pulse|hr|heart rate|temp|temperature|resp|rr|o2 sat|spo2|sat|bmi|weight"
        rb"|wt)[\s:]{1,3}"
        rb"(?:of |is |was )?\d{2,3}(?:/\d{2,3}|\.\d)?)\b",
        trigger=rb"\b(?:bp|blood pressure|pulse|hr|heart rate|temp|temperature|resp|rr|o2 sat|spo2|sat|bmi|weight|wt)"
        rb"[\s:]+(?:of |is |was )?\d",
        group=_HEALTH,
    ),
    Shape(
        kind="condition",
        regex=rb"\b([a-z]{3,20}(?:itis|osis|emia|aemia|pathy|algia|ectomy|oscopy|ostomy|otomy|plasty|uria|pnea"
        rb"|plegia|paresis|rrhea"
        rb"|rrhage|megaly|penia|sclerosis|carcinoma|sarcoma|blastoma|lymphoma|myeloma|adenoma|graphy|malacia|phagia"
        rb"|phasia))\b",
        trigger=rb"(?:itis|osis|emia|pathy|algia|ectomy|scopy|stomy|otomy|plasty|uria|pnea|plegia|paresis|rrhea"
        rb"|rrhage|megaly|penia"
        rb"|noma|coma|stoma|homa|eloma|graphy|malacia|phagia|phasia)\b",
        group=_HEALTH,
        valid=is_disease,
    ),
    Shape(
        kind="drug",
        regex=rb"\b([a-z]{3,14}(?:mab|tinib|ciclib|sartan|statin|gliptin|gliflozin|glutide|prazole|conazole|cillin"
        rb"|mycin|floxacin"
        rb"|cycline|dipine|olol|azepam|azolam|triptan|setron|oxetine|triptyline|parin|xaban|grel|lukast|tidine"
        rb"|thiazide"
        rb"|semide|pril|prazosin|vastatin|fibrate|glitazone|dronate|sone|solone|caine|barbital|ciclovir|previr"
        rb"|buvir|tegravir"
        rb"|terol|tropium|gabalin|racetam|idone|apine|formin|bactam|penem))\b",
        trigger=rb"(?:mab|tinib|ciclib|sartan|statin|gliptin|gliflozin|glutide|prazole|conazole|cillin|mycin"
        rb"|floxacin|cycline|dipine"
        rb"|olol|azepam|azolam|triptan|setron|oxetine|triptyline|parin|xaban|grel|lukast|tidine|thiazide|semide"
        rb"|pril|azosin|vastatin"
        rb"|fibrate|glitazone|dronate|sone|solone|caine|barbital|ciclovir|previr|buvir|tegravir"
        rb"|terol"
        rb"|tropium|gabalin|racetam|idone|apine|formin|bactam|penem)\b",
        group=_HEALTH,
        valid=is_drug,
    ),
)  # fmt: skip
