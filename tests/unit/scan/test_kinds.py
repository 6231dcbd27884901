"""Every kind of identifier and of health context that the scan promises: texts that have it, and texts that have not.

The order is that of 45 CFR 164.514(b)(2)(i), then of the language of care; docs/phi.md lists the same kinds.
"""

import pytest

from relay.extract.engine import ScanEngine, load_judge

KINDS = [
    # names
    ("name", ["Ellen Marsh called.", "Dear Ms. Okafor,", "Hi Ellen,", "pt john doe"], ["Dear customer,", "the marsh"]),
    (
        "name-labelled",
        ["Patient: Xochitl Mbeki", "Paciente: Lupe Ayala"],
        ["Patient: see below", "Patient Portal Access"],
    ),
    (
        "name-field",
        ["Full name: Zyx Qwerton", "Patient name,DOB\nZyx Qwerton,03/14/1962"],
        ["Name: ____", "name of file"],
    ),
    ("name-column", ["Name,DOB,MRN\nZyx Qwerton,03/14/1962,4471829"], ["Name,Price,Stock\nZyx Chair,12,40"]),
    ("name-and-birth", ["Zyx Qwerton, born 03/14/1962"], ["Zyx Qwerton, 12 units"]),
    ("name-and-date", ["(Zyx Qwerton, 7/19/2016)", "RE: Zyx Qwerton 02/29/1948"], ["(Monday, 7/19/2016)"]),
    ("initials-and-date", ["J.K.M., 8/30/52", "A.B. (8/30/1952)"], ["on 8/30/52", "A. 8/30/52"]),
    ("person-number", ["inmate 22-40981", "DOC no. 448120"], ["donor list 2026", "inmate rights"]),
    ("last-four", ["last four 8821", "last 4 of ssn: 8821", "ending in 8821"], ["the last four years", "ending 12"]),
    ("name-described", ["Zyx Qwerton is a 57-year-old man"], ["Zyx Qwerton is a friend, 57 chairs"]),
    # geography
    ("address", ["410 Main Street", "88 Juniper Lane, Boise"], ["Main Street is closed", "10 court cases"]),
    ("zip", ["Springfield, IL 62701", "Boise, ID 83702-1234"], ["ID 4471", "model AB 12345"]),
    ("facility", ["at Northgate Community Hospital"], ["at the hospital"]),
    ("residence", ["She lives in Springfield"], ["She lives in fear"]),
    # dates
    (
        "date-of-birth",
        ["DOB: 03/14/1962", "born March 14, 1962", "fecha de nacimiento 14/03/1962", "Zyx, b. 1958-11-23"],
        ["DOB: __/__/____"],
    ),
    ("date-of-death", ["died on 03/14/2026", "deceased 2026-03-14"], ["the battery died in 3 days"]),
    ("visit-date", ["admitted 03/14/2026", "discharged on 3/14/26", "cita 14/03/2026"], ["due 55/14/2026"]),
    ("age-over-89", ["a 93-year-old woman", "she is 101 yrs"], ["a 67-year-old woman", "a 130-year-old house"]),
    # numbers
    ("phone", ["(212) 736-5000", "+1 212.736.5000"], ["800-736-5000", "212-136-5000", "1.212.736"]),
    ("phone", ["Fax: 212-736-5000"], ["fax the form"]),
    ("email", ["pat.roe@mail.example"], ["@patroe", "pat at mail"]),
    ("ssn", ["SSN 219-45-9876", "social security no. 219459876"], ["SSN 000-45-9876", "SSN: ___-__-____"]),
    ("ssn-unlabelled", ["it is 219-45-9876"], ["it is 219-00-9876", "part 078-05-1120"]),
    ("ssn-invalid", ["SSN 900-12-3456"], ["SSN 000-00-0000"]),
    ("itin", ["ITIN 912-70-1234"], ["912-49-1234"]),
    ("mbi", ["Medicare 1EG4-TE5-MK73", "1EG4TE5MK73"], ["1SG4-TE5-MK73", "1EG4-TE5-MK7"]),
    ("hicn", ["HICN 219-45-9876A", "Medicare number 219459876B1"], ["HICN 000-45-9876A", "219-45-9876A"]),
    (
        "mrn",
        ["MRN 4471829", "med rec # 00-4471", "chart no. 88201", "expediente 20931", "Chart 20911"],
        ["MRN: ____", "MRN-0007", "chart 5"],
    ),
    (
        "member-number",
        ["Member ID: W123456789", "policy no 88-1204", "Medicaid ID 4471829"],
        ["Member ID:", "policy of 2026"],
    ),
    ("member-number", ["Group # 88-1204"], ["group of 12"]),
    ("claim-number", ["claim no 20261122771", "authorization number A-44718", "referral # 99120"], ["claim of 2026"]),
    ("prescription-number", ["Rx# 7712345", "Rx 7712345", "prescription number 7712345"], ["Rx pad", "RX 580"]),
    ("account-number", ["account number 4420198", "acct 5520198", "A/C # 55201"], ["on account of", "accounts 2026"]),
    ("licence-number", ["driver's license number D1234567", "DL# D1234567"], ["license key", "driver 12"]),
    ("licence-number", ["VIN number 1HGCM82633A004352", "license plate no. 7KLM332"], ["vin rouge 1998", "plate 12"]),
    (
        "device-serial",
        [
            "serial number 8HX-221904",
            "UDI number 00844588003288",
            "UDI (01)00844588003288(21)8HX221904",
            "implant lot # 44718",
            "S/N 8HX-221904",
            "serial 8HX-221904",
        ],
        ["serial port", "a device"],
    ),
    (
        "url",
        ["https://portal.example/r?pid=4471829", "www.x.example/a?patient_id=88123"],
        ["https://x.example/patients"],
    ),
    ("ip-address", ["from 203.0.113.9 at noon"], ["version 300.1.2.3", "1.2.3.4.5"]),
    ("biometric", ["her fingerprints", "a retinal scan", "voice prints"], ["blueprint", "scan the page"]),
    ("photo", ["photo of the wound", "patient photos", "full-face photograph"], ["photo of the building"]),
    # providers
    ("npi", ["NPI 1234567893"], ["NPI 1234567890"]),
    ("dea", ["DEA AB1234563"], ["DEA AB1234567"]),
    ("provider-name", ["Dr. Anna Keller", "Anna Keller, RN"], ["Anna Keller"]),
    # health
    ("icd10", ["dx E11.9", "diagnosis codes: J45.909, I10"], ["model E11.9", "version I10", "dx E11.7"]),
    ("procedure-code", ["CPT 99213", "HCPCS J1885", "procedure code 99213"], ["order 99213", "part J1885"]),
    ("ndc", ["NDC 0071-0155-23"], ["0071-0155-23"]),
    ("loinc", ["LOINC 4548-4"], ["item 4548-4"]),
    ("drug", ["metformin", "Zoloft", "zorvastatin", "an ACE inhibitor", "toma metformina"], ["medicine ball", "satin"]),
    ("condition", ["asthma", "type 2 diabetes", "glossodynitis", "dolor de pecho"], ["the synthesis of the market"]),
    (
        "complaint",
        [
            "her left knee blew up again",
            "a lump in his groin",
            "she can't feel her toes",
            "the rash on both arms",
            "Jo's knee hurts",
        ],
        [
            "the head of the department hurts sales",
            "his hand is green",
            "a spot in the car park",
            "the heart of it is better",
        ],
    ),
    ("gestation", ["39+4, in labour", "seen at 24+0"], ["24+7", "2024-05-01T10:00+01", "139+4", "call +39+4"]),
    ("vital-sign", ["BP still 178/96", "sats were 86", "a fever of 102"], ["weight of 1,200", "temp in 4 weeks"]),
    ("lab-value", ["sugars are all over 300", "azucar salio en 240", "white count is 0.9"], ["sugar 250 g", "ef 3"]),
    ("condition", ["a broken hip", "knee surgery", "torn meniscus"], ["a broken chair", "the knee of the curve"]),
    ("procedure", ["colonoscopy", "MRI", "hip replacement", "chemo"], ["a procedure call"]),
    ("lab", ["hemoglobin A1c", "lipid panel", "your biopsy results", "potassium is low"], ["lab coats"]),
    ("lab-value", ["glucose 182 mg/dL", "INR 4.8", "CD4 320"], ["182 mg", "speed 4.8"]),
    ("dose", ["500 mg bid", "2 tablets daily"], ["500 mb", "2 tables"]),
    ("vital-sign", ["BP 142/91", "heart rate of 88", "SpO2 91"], ["BP rose 3 percent"]),
    ("exam", ["clear to auscultation", "no acute distress"], ["clear to land"]),
    ("care", ["prior authorization", "discharge summary", "copay", "receta medica"], ["author"]),
    ("visit", ["an appointment with cardiology", "oncology", "cita de oncologia"], ["an appointment with Bob"]),
    ("age", ["45 y/o", "a 6-month-old girl", "aged 45"], ["45 years of service"]),
]


@pytest.fixture(scope="module")
def kinds():
    engine = ScanEngine(load_judge(lambda plain: plain))
    return lambda text: set(engine.scan_text(text).counts())


@pytest.mark.parametrize(("kind", "has", "lacks"), KINDS, ids=[f"{kind}-{has[0][:16]}" for kind, has, _ in KINDS])
def test_a_kind_is_found_and_not_mistaken(kinds, kind, has, lacks):
    assert [text for text in has if kind not in kinds(text)] == []
    assert [text for text in lacks if kind in kinds(text)] == []


@pytest.mark.parametrize(
    ("sensitive", "texts"),
    [
        ("mental-health", ["bipolar disorder", "suicidal ideation", "tiene depresión", "a panic attack"]),
        ("hiv", ["HIV positive", "CD4 count", "on Biktarvy", "VIH"]),
        ("substance-use", ["opioid use disorder", "methadone", "sobredosis", "positive for cocaine"]),
        ("reproductive", ["abortion", "IVF", "an IUD", "birth control", "on Clomid"]),
        ("genetic", ["BRCA1", "Lynch syndrome", "genetic testing"]),
    ],
)
def test_specially_protected_kinds_say_so(sensitive, texts):
    engine = ScanEngine(load_judge(lambda plain: plain))
    found = {text: {finding.sensitive for finding in engine.scan_text(text).findings} for text in texts}
    assert [text for text in texts if sensitive not in found[text]] == []
    assert not any(finding.sensitive for finding in engine.scan_text("asthma, gout and a broken hip").findings)


def test_the_manual_lists_every_kind_that_can_be_found():
    from importlib.resources import files
    from pathlib import Path

    import yaml

    manual = (Path(__file__).parents[3] / "docs" / "phi.md").read_text("utf-8")
    weights = yaml.safe_load((files("relay.scan") / "data" / "weights.yaml").read_text("utf-8"))
    told = {*weights["identifiers"], *weights["health"]} - {"icd10-bare"}
    assert [kind for kind in told if f"`{kind}`" not in manual and not kind.startswith("name-")] == []
