"""What stands in every mail and speaks of nobody's health: signatures, legal notices, attribution lines."""

import pytest

from relay.core.phi import FindingGroup, Phi
from relay.extract.engine import ScanEngine, load_judge

NOTICE = """

CONFIDENTIALITY NOTICE: this e-mail is intended solely for its recipient and may hold privileged health information
protected by HIPAA. If you are not the intended recipient, any disclosure, copying or distribution is prohibited; please
notify privacy@mercy.example and delete it.
"""
SIGNATURE = """

Kind regards,
Dana Whitfield
Patient Services, Cardiology Clinic
12 Harbor Street, Springfield, IL 62704
(212) 736-5000 | dana.whitfield@mercy.example
"""


@pytest.fixture(scope="module")
def judged():
    engine = ScanEngine(load_judge(lambda plain: plain))
    return engine.scan_text


def weights(verdict, kind):
    return [finding.weight for finding in verdict.findings if finding.kind == kind]


@pytest.mark.parametrize(
    "text",
    [
        "The diabetes class moves to room 4." + SIGNATURE,
        "The parking lot is closed." + NOTICE,
        "Our new brochure on asthma is ready." + SIGNATURE + NOTICE,
    ],
)
def test_who_signs_and_what_the_notice_says_is_no_patient(judged, text):
    assert judged(text).phi < Phi.LIKELY


@pytest.mark.parametrize("closing", ["Kind regards,", "Thanks", "-- ", "Sincerely,", "Saludos,"])
def test_the_lines_of_a_signature_hardly_weigh(judged, closing):
    text = f"Asthma class is at noon.\n\n{closing}\nDana Whitfield\n(212) 736-5000\n"
    verdict = judged(text)
    assert verdict.group_count(FindingGroup.IDENTIFIER)
    assert all(weight <= 0.05 for kind in ("name", "phone") for weight in weights(verdict, kind))


@pytest.mark.parametrize(
    "text",
    [
        "Patient: Maribel Quintana, DOB 03/04/1961, has diabetes." + SIGNATURE + NOTICE,
        "Please see below.\n\nThanks,\nDana\n\n> Maribel Quintana, DOB 03/04/1961, was started on metformin 500 mg.\n",
        "See below.\n\nOn Mon, 2 Mar 2026, Dana Whitfield wrote:\n> Mrs. Quintana (MRN 4471829) has pneumonia.\n"
        + NOTICE,
        "Thanks,\nDana\nPatient: Maribel Quintana\nDOB: 03/04/1961\nDiagnosis: pneumonia\n",
    ],
)
def test_a_patient_among_all_that_is_found(judged, text):
    assert judged(text).phi >= Phi.LIKELY


def test_a_notice_does_not_hide_what_stands_in_it(judged):
    text = (
        "CONFIDENTIAL, privileged, unauthorized disclosure prohibited: Maribel Quintana, MRN 4471829, is HIV positive."
    )
    assert judged(text).phi >= Phi.LIKELY
