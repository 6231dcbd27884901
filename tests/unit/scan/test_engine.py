"""The engine from outside: bytes in, report out."""

from email.message import EmailMessage

import pytest

from relay.core.phi import FindingGroup, Phi
from relay.extract.engine import ScanEngine, load_judge


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: "k" + plain))


def mail(text, subject="Hello", **parts):
    message = EmailMessage()
    message["From"] = "ehr@clinic.example"
    message["To"] = "pat@mail.example"
    message["Subject"] = subject
    message.set_content(text)
    for name, data in parts.items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def test_a_result_with_date_of_birth_is_likely(engine):
    verdict = engine.scan(mail("Jane Roe, DOB 03/04/1961: HbA1c 8.1 %")).verdict
    assert verdict.phi >= Phi.LIKELY
    assert {"date-of-birth", "lab-value"} <= set(verdict.counts())


@pytest.mark.parametrize(
    "text",
    [
        "Lunch at noon on Friday? Call me at 212-736-5000.",
        "The quarterly figures are attached to ticket 4471-22-9981. Thanks, Jim",
        "Diabetes affects millions. Symptoms include fatigue and thirst; see a doctor for treatment.",
    ],
)
def test_ordinary_mail_is_not_phi(engine, text):
    assert engine.scan(mail(text)).verdict.phi < Phi.LIKELY


def test_the_subject_is_judged_apart(engine):
    report = engine.scan(mail("See the portal.", subject="MRN 4471829 - colonoscopy results"))
    assert report.verdict.subject_phi >= Phi.LIKELY
    assert report.subject == "MRN 4471829 - colonoscopy results"


def test_findings_carry_no_text(engine):
    report = engine.scan(mail("Patient MRN 4471829, DOB 03/04/1961, metformin 500 mg, ssn 219-45-9876"))
    shown = repr(report.verdict)
    for secret in ("4471829", "03/04/1961", "metformin", "219-45-9876"):
        assert secret not in shown


def test_what_cannot_be_read_is_never_none(engine):
    report = engine.scan(mail("See attached.", **{"scan.bin": b"\x00\x01\x02\x03" * 50}))
    assert report.verdict.is_unreadable
    assert report.verdict.phi >= Phi.POSSIBLE
    assert report.attachments[0].unreadable
    assert report.verdict.group_count(FindingGroup.UNREADABLE) == 1


@pytest.mark.parametrize("name", ["XYZ", "ABC", "X"])
def test_a_name_that_was_taken_out_is_none(engine, name):
    told = f"Ms. {name} was seen for chest pain and started on metoprolol."
    assert "name" not in engine.scan(mail(told)).verdict.counts()
    assert "name" in engine.scan(mail(told.replace(name, "LEE"))).verdict.counts()
