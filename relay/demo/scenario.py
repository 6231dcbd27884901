"""The demo's story: domains of a simulated Internet, and a dozen messages of a clinic, each with its expected fate.

Every person, number and clinic in here is made up.
"""

from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final

from relay.demo.behaviour import Greylist, PeerBehaviour, StartTls

CLINIC: Final = "clinic.example"
SENDER: Final = f"ehr@{CLINIC}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One domain of the simulated Internet.

    Attributes:
        name: the domain.
        about: what it is like, in a few words.
        behaviour: how its server acts; the certificate is filled in by the site.
        certificate: ``good``, ``self-signed``, ``wrong-name``, ``expired`` or ``none``.
        route: whether the configuration has a static route to it (then the host's name is vouched for).
    """

    name: str
    about: str
    behaviour: PeerBehaviour
    certificate: str = "good"
    route: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One message and what should become of it.

    Attributes:
        title: what the operator's table calls it; our own words, not the subject.
        recipients: recipient to the expected end: a fate's word, or ``held``.
        subject, text, html: the content.
        attachment: file name, MIME type and content; ``None`` for none.
        expected_rule: the rule that should decide, for all its recipients.
    """

    title: str
    recipients: dict[str, str]
    subject: str
    text: str
    expected_rule: str
    html: str = ""
    attachment: tuple[str, str, bytes] | None = None

    def build(self, number: int) -> bytes:
        """The message as an EHR would write it, CRLF line ends."""
        message = EmailMessage()
        message["From"] = f"Clinic Example <{SENDER}>"
        message["To"] = ", ".join(self.recipients)
        message["Subject"] = self.subject
        message["Message-ID"] = f"<demo.{number}@{CLINIC}>"
        message.set_content(self.text)
        if self.html:
            message.add_alternative(self.html, subtype="html")
        if self.attachment:
            name, kind, content = self.attachment
            maintype, subtype = kind.split("/")
            message.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)
        return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def domains() -> tuple[Domain, ...]:
    """The simulated Internet."""
    return (
        Domain(name=CLINIC, about="the clinic's own server: bounces go here", behaviour=_peer(CLINIC), route=True),
        Domain(name="mercy.example", about="partner, fixed route", behaviour=_peer("mercy.example"), route=True),
        Domain(name="mail.example", about="good TLS", behaviour=_peer("mail.example")),
        Domain(
            name="oldclinic.example",
            about="no TLS at all",
            behaviour=_peer("oldclinic.example", starttls=StartTls.ABSENT),
            certificate="none",
        ),
        Domain(
            name="badcert.example", about="a self-signed certificate", behaviour=_peer("badcert.example"),
            certificate="self-signed",
        ),
        Domain(
            name="wrongname.example", about="somebody else's certificate", behaviour=_peer("wrongname.example"),
            certificate="wrong-name",
        ),
        Domain(
            name="grey.example", about="greylists strangers", behaviour=_peer("grey.example", greylist=Greylist()),
        ),
        Domain(
            name="bounces.example",
            about="knows nobody",
            behaviour=_peer("bounces.example", everyone="550 5.1.1 No such mailbox here"),
        ),
        Domain(name="slow.example", about="answers slowly", behaviour=_peer("slow.example", delay=0.4)),
    )  # fmt: skip


def _peer(
    domain: str,
    *,
    starttls: StartTls = StartTls.OFFERED,
    greylist: Greylist | None = None,
    everyone: str = "",
    delay: float = 0.0,
) -> PeerBehaviour:
    return PeerBehaviour(
        hostname=f"mx.{domain}",
        starttls=starttls,
        greylist=greylist,
        recipients=(lambda _: everyone or None),
        delay=delay,
    )


_RESULT: Final = """Dear Ms Roe,

your HbA1c from 12 May was 8.1 %, which is higher than we want for type 2 diabetes. Please go on with metformin 500 mg
twice daily and call us for an appointment.

Patient: Jane Roe
DOB: 03/04/1961
MRN: 00481516
"""

_INVITATION: Final = """Good morning,

the new parking rules for the north car park begin on Monday. Visitors use the south entrance.

Facilities
"""

STORIES: Final = (
    Story(
        title="lab result to a patient",
        recipients={"jane.roe@mail.example": "delivered"},
        subject="Your result",
        text=_RESULT,
        expected_rule="phi",
    ),
    Story(
        title="discharge summary to the partner hospital",
        recipients={"ward3@mercy.example": "delivered"},
        subject="Discharge summary",
        text="Patient: Tom Sample, DOB 11/02/1948, MRN 7741203. Discharged after pneumonia, on amoxicillin.\n",
        expected_rule="partners",
    ),
    Story(
        title="parking rules to a domain without TLS",
        recipients={"office@oldclinic.example": "delivered"},
        subject="Parking",
        text=_INVITATION,
        expected_rule="rest",
    ),
    Story(
        title="lab result to a domain without TLS",
        recipients={"records@oldclinic.example": "notified"},
        subject="Result for your patient",
        text=_RESULT,
        expected_rule="phi",
    ),
    Story(
        title="referral to a domain with a bad certificate",
        recipients={"intake@badcert.example": "notified"},
        subject="Referral",
        text="Patient: Ana Muster, DOB 09/09/1990, MRN 5523871: referral for suspected asthma, ICD-10 J45.909.\n",
        expected_rule="phi",
    ),
    Story(
        title="newsletter to a domain with a bad certificate",
        recipients={"library@badcert.example": "delivered"},
        subject="Library hours",
        text="The library opens at nine from next week on.\n",
        expected_rule="rest",
    ),
    Story(
        title="prescription to a host with another's name",
        recipients={"pharmacy@wrongname.example": "notified"},
        subject="Prescription",
        text="Patient: Max Muster, DOB 01/30/1975, Member ID: XQA99812345: lisinopril 10 mg for hypertension.\n",
        expected_rule="phi",
    ),
    Story(
        title="visit reminder to a domain that greylists",
        recipients={"sam@grey.example": "delivered"},
        subject="Tomorrow",
        text="We are looking forward to seeing you tomorrow at ten. The lift in the main building is being repaired.\n",
        expected_rule="rest",
    ),
    Story(
        title="question to a mailbox that does not exist",
        recipients={"nobody@bounces.example": "bounced"},
        subject="Invoice copy",
        text="Could you send us a copy of your invoice for the new office chairs?\n",
        expected_rule="rest",
    ),
    Story(
        title="lab result, slow server",
        recipients={"drlee@slow.example": "delivered"},
        subject="Result",
        text="Patient: Lea Beispiel, DOB 07/21/1983, MRN 6620184: TSH 6.2 mIU/L, started levothyroxine 50 mcg.\n",
        expected_rule="phi",
    ),
    Story(
        title="sender asked for the portal",
        recipients={"pat@mail.example": "notified"},
        subject="[secure] A note from your clinic",
        text="Here is the note that you asked for.\n",
        expected_rule="sender-asked",
    ),
    Story(
        title="mistyped domain",
        recipients={"chris@gmial.com": "held"},
        subject="Opening hours",
        text="We are open from eight to six.\n",
        expected_rule="near-miss",
    ),
    Story(
        title="statement that cannot be read, to two domains",
        recipients={"billing@mail.example": "delivered", "billing@oldclinic.example": "notified"},
        subject="Statement",
        text="The statement is attached.\n",
        attachment=("statement.zip", "application/zip", b"PK\x03\x04\x14\x00\x09\x00\x63\x00" + bytes(range(200)) * 4),
        expected_rule="clinical-attachment",
    ),
)
"""A dozen and one; the last goes to two recipients whose copies part ways."""
