"""What stands in every mail and speaks of nobody's health: signatures, legal notices, attribution lines."""

import pytest

from relay.core.phi import FindingGroup, Phi
from relay.extract.engine import ScanEngine, load_judge
from relay.scan.zones import said

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


@pytest.mark.parametrize(
    "closing", ["Kind regards,", "Thanks", "-- ", "Sincerely,", " " * 8 + "Respectfully kind respectfully yours,"]
)
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


REMINDER = """Dear {name},

This is a reminder of your upcoming appointment on December 3, 2026 at 10:30 AM{where}. Please arrive 15 minutes early
and bring your insurance card, a photo ID and a list of your current medications. Your copay is due at check-in.

If you need to reschedule or cancel, call (217) 555-0188 at least 24 hours before.
"""


@pytest.mark.parametrize("name", ["Jane Roe", "Ms. Alvarez"])
@pytest.mark.parametrize("where", ["", " at Northgate Clinic", " with Dr. Lee"])
def test_what_every_reminder_says_is_not_somebodys_health(judged, name, where):
    verdict = judged(REMINDER.format(name=name, where=where))
    assert verdict.phi < Phi.LIKELY
    assert all(weight <= 0.05 for weight in weights(verdict, "care"))


@pytest.mark.parametrize("name", ["Jane Roe", "Ms. Alvarez"])
@pytest.mark.parametrize(
    "where",
    [" with Dr. Lee in Oncology", " at Lakeside Dermatology", " for your colonoscopy", " at the methadone clinic"],
)
def test_an_appointment_that_says_what_it_is_for_is(judged, name, where):
    assert judged(REMINDER.format(name=name, where=where)).phi >= Phi.LIKELY


def test_reminders_in_spanish(judged):
    reminder = (
        "Estimada Sra. Lopez: recordatorio de su cita{} el 3 de diciembre a las 10. Por favor llegar 15 minutos antes "
        "y traiga su tarjeta de seguro."
    )
    assert judged(reminder.format("")).phi < Phi.LIKELY
    assert judged(reminder.format(" de oncología")).phi >= Phi.LIKELY


SIGNATURES = {  # as they stand below mail
    "closing": ("\n\nKind regards,\nDeborah Marsh\nFront office, Maple Street Clinic\n212-555-0147\n"),
    "titles": (
        "\n\nThanks!\n"
        "Marcy\n"
        "\nMarcy Dunn, RN, BSN | Care Coordinator\n"
        "Lakeview Hospital - Cardiology\n"
        "O: 212-555-0147\n"
    ),
    "dashes": (
        "\n\n--\nDr. Alan Reyes\nLakeview Medical Group, Oncology\n88 Elm Street, Springfield, IL 62701\n212-555-0147\n"
    ),
    "no closing": ("\n\nMarcy Dunn, RN\nLakeview Hospital Cardiology\n212-555-0147\n"),
    "business": ("\n\nBest,\nTom Becker\nAccount Manager, Acme Supply Inc.\ntom.becker@acme.example\n(212) 555-0147\n"),
    "slogan": (
        "\n\nThank you,\n"
        "\nDeborah Marsh\n"
        "Patient Access Representative\n"
        "Maple Street Clinic\n"
        "\nGet your flu shot today!\n"
    ),
}


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
@pytest.mark.parametrize(
    "text",
    [
        "Tenant Ewa Sikorska, unit 9, gives notice for June 30. Forwarding to her sister. Walkthrough the 29th at 5.",
        "Q. Can I take ibuprofen with a blood pressure pill? A. It may raise your pressure or hurt the kidneys.",
        "I disagree with the editorial. Statins in people over 75 without heart disease: the trials aren't there yet.",
        "Welcome Harold Ebersole, who joins us on Monday. He has fixed every boiler in town twice.",
    ],
)
def test_who_signs_at_work_is_no_patient_and_his_house_is_nobodys_health(judged, text, signature):
    assert judged(text).phi < Phi.LIKELY
    assert judged(text + signature).phi < Phi.LIKELY


@pytest.mark.parametrize(
    "signature", ["\n\nThank you,\nMaria Lopez\n212-555-0147\n", "\n\nMaria Lopez\n212-555-0147\n"]
)
def test_a_patient_who_signs_is_one(judged, signature):
    assert judged("My knee is swollen again and the pills for my diabetes ran out." + signature).phi >= Phi.LIKELY


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
def test_a_signature_hides_no_patient(judged, signature):
    assert judged("Anna Keller has asthma and needs her inhaler before Friday." + signature).phi >= Phi.LIKELY
    assert judged("Chart for Anna Keller, DOB 03/04/1961, is at the desk." + signature).phi >= Phi.LIKELY


def test_what_somebody_wrote_is_left_without_notices_and_signatures():
    assert said("The class moves." + SIGNATURE + NOTICE).strip() == "The class moves.\n\nKind regards,"
    assert said("Regards to all\nwho came") == "Regards to all\nwho came"
    assert said("") == ""


@pytest.mark.parametrize(
    "text",
    [
        "Update:\n\nDr. Lee saw Anna Keller today.\nHer asthma is worse.",
        "Seen today:\n\nMarcy Dunn, RN\nAnna Keller, asthma\n",
        "Please file.\n\nDr. Lee\nAnna Keller has asthma and diabetes\n",
        "See below.\n\nThanks,\nDana Whitfield\nMaple Clinic\n\nP.S. your biopsy is back, Mrs. Keller: melanoma\n",
        "See below.\n\nThanks,\nDana Whitfield\nMaple Street Clinic\nMrs. Keller, your biopsy shows a melanoma\n",
    ],
)
def test_a_patient_below_or_within_a_signature_is_found(judged, text):
    assert judged(text).phi >= Phi.LIKELY
