"""Tests inside a policy file: each message is built, scanned and decided as a real one would be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP

from relay.core.address import Address, ReversePath
from relay.core.decision import PolicyDecision
from relay.core.envelope import ClientSession, Envelope, MessageFacts, Recipient
from relay.core.errors import AddressError, Problem
from relay.core.level import Level
from relay.core.ports import ScanReport
from relay.policy.engine import CompiledPolicy, LocatedTest
from relay.policy.schema import Expectation, SampleMessage

Scan = Callable[[bytes, str], ScanReport]
"""Scans a message, given its octets and the name of the client whose mail it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What one test led to; it passed when there are no problems."""

    name: str
    where: str
    decision: PolicyDecision | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all that was expected came out."""
        return not self.problems


def run_tests(policy: CompiledPolicy, scan: Scan) -> tuple[CaseResult, ...]:
    """Run every test inside the policy. Never raises for what a test's message holds."""
    return tuple(_run(policy, one, scan) for one in policy.tests)


def _run(policy: CompiledPolicy, one: LocatedTest, scan: Scan) -> CaseResult:
    name, expect = one.test.name, one.test.expect
    try:
        facts, recipient = facts_of(one.test.message, scan, now=policy.loaded_at)
    except (AddressError, ValueError) as error:
        problem = Problem(where=one.where, what=f"test `{name}`: the message cannot be built: {error}", hint="")
        return CaseResult(name=name, where=one.where, problems=(problem,))
    decision = policy.decide(facts, recipient)
    problems = tuple(
        Problem(
            where=one.where,
            what=f"test `{name}`: {key} is {found}, expected {wanted}",
            hint=f"decided by the rule `{decision.treatment.rule}`, phi {facts.verdict.phi.word}",
        )
        for key, wanted, found in _differences(expect, decision, facts)
    )
    return CaseResult(name=name, where=one.where, decision=decision, problems=problems)


def _differences(expect: Expectation, decision: PolicyDecision, facts: MessageFacts) -> Iterator[tuple[str, str, str]]:
    treatment = decision.treatment
    found = {
        "rule": treatment.rule,
        "action": treatment.action.value,
        "methods": treatment.methods,
        "tls": treatment.tls.word,
        "floor": treatment.floor.word,
        "floors": treatment.floors,
        "overridden": treatment.overridden,
        "otherwise": treatment.otherwise.value,
        "phi": facts.verdict.phi.word,
    }
    for key in sorted(expect.model_fields_set, key=list(found).index):
        wanted = getattr(expect, key)
        if key == "tls":
            wanted = Level.from_word(wanted).word
        if wanted != found[key]:
            yield key, _words(wanted), _words(found[key])
    if decision.error:
        yield "error", "none", decision.error


def _words(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value) or "none"


def facts_of(message: SampleMessage, scan: Scan, *, now: float) -> tuple[MessageFacts, Address]:
    """The facts of a test's message, and its recipient.

    Raises:
        AddressError: sender or recipient is no address.
        ValueError: a header or the time cannot be read.
    """
    recipient = Address.parse(message.to)
    sender = Address.parse(message.from_) if message.from_ not in {"", "<>"} else None
    content = build(message)
    report = scan(content, message.client)
    facts = MessageFacts(
        session=ClientSession(
            client=message.client,
            tenant=message.tenant,
            listener=message.listener,
            network=message.network,
            identity=message.identity,
        ),
        envelope=Envelope(reverse_path=ReversePath(sender), recipients=(Recipient(address=recipient),)),
        subject=report.subject,
        headers=report.headers,
        size=len(content),
        verdict=report.verdict,
        attachments=report.attachments,
        stream=message.stream,
        received_at=_moment(message.received) if message.received else now,
    )
    return facts, recipient


def _moment(text: str) -> float:
    """Unix seconds of an ISO time; UTC where it names no zone, so that a test is the same on every machine."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def build(message: SampleMessage) -> bytes:
    """The bytes of a test's message, CRLF line ends.

    Raises:
        ValueError: a header or an attachment that cannot be written.
    """
    for name in message.headers:
        if name.lower().startswith("content-"):
            raise ValueError(f"the header {name} comes from text, html and attachments")
    try:
        return _written(message).as_bytes()
    except ValueError:
        raise
    except Exception as error:  # email.message raises whatever it comes upon over odd values
        raise ValueError(f"a header or an attachment's type is not written as mail has it ({error})") from error


def _written(message: SampleMessage) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = message.from_ or "postmaster@localhost"
    mail["To"] = message.to
    mail["Subject"] = message.subject
    mail["Date"] = "Mon, 02 Mar 2026 09:00:00 +0000"
    mail["Message-ID"] = "<test@policy.invalid>"
    for name, value in message.headers.items():
        mail[name] = value
    if message.text or not message.html:
        mail.set_content(message.text)
    if message.html and message.text:
        mail.add_alternative(message.html, subtype="html")
    elif message.html:
        mail.set_content(message.html, subtype="html")
    for attachment in message.attachments:
        maintype, _, subtype = attachment.type.partition("/")
        mail.add_attachment(
            attachment.text.encode(), maintype=maintype, subtype=subtype or "octet-stream", filename=attachment.name
        )
    return mail
