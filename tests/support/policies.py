"""Policies from text, and facts with only what a test cares about."""

from zoneinfo import ZoneInfo

from relay.config.policies import builtin_lists
from relay.core.address import Address, ReversePath
from relay.core.decision import MethodName
from relay.core.envelope import ClientSession, Envelope, MessageFacts, Recipient
from relay.core.errors import ProblemsError
from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.policy.compile import SourceFile, Sources, compile_policy
from relay.policy.read import read
from relay.policy.source import parse

NOW = 1_772_441_100.0  # Monday 2026-03-02 08:45 UTC
ALL_METHODS = frozenset(MethodName)
REST = "  - { id: rest, deliver: { methods: [tls], tls: opportunistic } }\n"


def compile_text(text, *, methods=ALL_METHODS, now=NOW, csv=None):
    """A policy of one file; ``csv`` maps list names to the contents of their files."""
    document, problems = parse(text, "policy.yaml"), []
    content = read(document, problems)
    if problems:
        raise ProblemsError(*problems)
    files = {("policy.yaml", name): (f"{name}.csv", rows) for name, rows in (csv or {}).items()}
    sources = Sources(files=(SourceFile(document, content),), csv=files, builtin=builtin_lists())
    return compile_policy(sources, methods=methods, now=now, zone=ZoneInfo)


def one_rule(when, **more):
    """A policy whose rule ``hit`` has the condition, given as YAML, and whose rest is ``rest``."""
    rules = f"  - {{ id: hit, when: {when}, deliver: {{ tls: verified }} }}\n{REST}"
    return compile_text(f"policy: p\n{more.pop('head', '')}\nrules:\n{rules}", **more)


def finding(kind="drug", group=FindingGroup.HEALTH, sensitive=""):
    return Finding(kind=kind, group=group, part="1", start=0, end=1, sensitive=sensitive)


def facts(
    *,
    sender="ehr@clinic.example",
    to="pat@mail.example",
    session=None,
    subject="",
    headers=(),
    size=4096,
    phi=Phi.NONE,
    subject_phi=Phi.NONE,
    findings=(),
    truncated=False,
    attachments=(),
    stream="transactional",
    received_at=NOW,
):
    verdict = PhiVerdict(phi=phi, subject_phi=subject_phi, findings=tuple(findings), truncated=truncated)
    return MessageFacts(
        session=session or ClientSession(),
        envelope=Envelope(
            reverse_path=ReversePath(Address.parse(sender) if sender else None),
            recipients=(Recipient(address=Address.parse(to)),),
        ),
        subject=subject,
        headers=tuple(headers),
        size=size,
        verdict=verdict,
        attachments=tuple(attachments),
        stream=stream,
        received_at=received_at,
    )


def rule_for(policy, to="pat@mail.example", **given):
    """The id of the rule that decides, after checking that nothing went wrong."""
    decision = policy.decide(facts(to=to, **given), Address.parse(to))
    assert decision.error == ""
    return decision.treatment.rule
