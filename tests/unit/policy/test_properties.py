"""Laws of evaluation over arbitrary policies and facts."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.policies import load_policy
from relay.core.address import Address
from relay.core.decision import Action, MethodName
from relay.core.envelope import Attachment, ClientSession
from relay.core.level import Level
from relay.core.phi import FindingGroup, Phi
from tests.support.policies import NOW, compile_text, facts, finding

ROOT = Path(__file__).parents[3]
WORDS = ["none", "possible", "likely", "certain"]
LEVELS = ["clear", "encrypted", "verified", "authenticated"]
KINDS = ["health", "ssn"]
DOMAINS = ["mail.example", "gmail.com", "gmial.com", "mercy.example", "east.labnet.example", "firm.example"]

leaves = st.one_of(
    st.builds(lambda word: {"phi": word}, st.sampled_from(WORDS)),
    st.builds(lambda word: {"subject_phi": word}, st.sampled_from(WORDS)),
    st.builds(lambda domain: {"recipient": {"domain": domain}}, st.sampled_from([*DOMAINS, "*.labnet.example"])),
    st.builds(lambda domain: {"sender": {"domain": domain}}, st.sampled_from(DOMAINS)),
    st.builds(lambda tag: {"subject": {"tag": tag}}, st.sampled_from(["[a]", "[b]"])),
    st.builds(lambda kind, n: {"finding": {"kind": kind, "count": n}}, st.sampled_from(KINDS), st.integers(1, 3)),
    st.builds(lambda size: {"size": {"over": f"{size}KiB"}}, st.integers(0, 3)),
    st.just({"attachment": {"unreadable": True}}),
    st.just({"stream": "bulk"}),
)  # fmt: skip


def trees(leaf):
    """Conditions under all, any and not."""
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda children: {"all": children}, st.lists(inner, min_size=1, max_size=4)),
            st.builds(lambda children: {"any": children}, st.lists(inner, min_size=1, max_size=4)),
            st.builds(lambda child: {"not": child}, inner),
        ),
        max_leaves=8,
    )


def rising(leaf):
    """Conditions that a floor may have: nothing that a worse verdict would lift."""
    either = st.sampled_from(["all", "any"])

    def combined(inner):
        return st.builds(lambda key, children: {key: children}, either, st.lists(inner, min_size=1, max_size=3))

    return st.recursive(leaf, combined, max_leaves=5)


SSN = finding("ssn", FindingGroup.IDENTIFIER)
TIMEOUT = finding("unreadable: timeout", FindingGroup.UNREADABLE)
findings = st.lists(st.sampled_from([finding("drug"), SSN, TIMEOUT]), max_size=5)
attached = st.builds(
    Attachment,
    type=st.just("zip"),
    name=st.text(max_size=3),
    size=st.just(1),
    unreadable=st.sampled_from(["", "encrypted"]),
)
messages = st.builds(
    facts,
    sender=st.sampled_from([f"a@{domain}" for domain in DOMAINS] + [""]),
    subject=st.sampled_from(["", "[a] x", "[A][b]", "b"]),
    size=st.integers(0, 4096),
    phi=st.sampled_from(Phi),
    subject_phi=st.sampled_from(Phi),
    findings=findings,
    truncated=st.booleans(),
    attachments=st.lists(attached, max_size=2),
    stream=st.sampled_from(["transactional", "bulk"]),
)
recipients = st.builds(Address, st.sampled_from(["pat", "Kim"]), st.sampled_from(DOMAINS))


@st.composite
def policies(draw, *, overrides=True):
    """Whole policies with floors and rules, as JSON, which YAML reads too."""
    floors = [
        {
            "id": f"f{number}",
            "when": draw(rising(leaves)),
            "require": draw(st.sampled_from(LEVELS)),
            "overridable": draw(st.booleans()),
        }
        for number in range(draw(st.integers(0, 4)))
    ]
    yielding = [floor["id"] for floor in floors if floor["overridable"]]
    rules = []
    for number in range(draw(st.integers(0, 3))):
        rule = {"id": f"r{number}", "when": draw(trees(leaves)), "deliver": {"tls": draw(st.sampled_from(LEVELS))}}
        if overrides and yielding and draw(st.booleans()):
            named = draw(st.lists(st.sampled_from(yielding), min_size=1, unique=True))
            rule["override"] = {"floors": named, "reason": "agreed so"}
        rules.append(rule)
    return {"policy": "p", "floor": floors, "rules": [*rules, {"id": "rest", "deliver": {"tls": "opportunistic"}}]}


def naive(tree, message, recipient):
    """The same conditions by the shortest reading of the format."""
    (key, value), = tree.items()  # fmt: skip
    verdict, group = message.verdict, {"health": FindingGroup.HEALTH}
    domains = {"recipient": recipient.domain, "sender": message.envelope.reverse_path.domain}
    if key in {"all", "any"}:
        return {"all": all, "any": any}[key]([naive(child, message, recipient) for child in value])
    if key == "not":
        return not naive(value, message, recipient)
    if key in {"phi", "subject_phi"}:
        return getattr(verdict, key) >= WORDS.index(value)
    if key in domains:
        wanted, found = value["domain"], domains[key]
        return found.endswith(wanted[1:]) if wanted.startswith("*.") else found == wanted
    if key == "finding":
        kind = value["kind"]
        count = sum(f.kind == kind or f.group is group.get(kind) for f in verdict.findings)
        return verdict.truncated or count >= value["count"]
    if key == "subject":
        return value["tag"] in message.subject.lower()
    if key == "size":
        return message.size > int(value["over"][:-3]) * 1024
    if key == "attachment":
        return verdict.is_unreadable or any(one.unreadable for one in message.attachments)
    return message.stream == value


@settings(deadline=None)
@given(policies(), messages, recipients)
def test_no_rule_and_no_override_goes_below_a_floor_that_holds_and_was_not_lawfully_set_aside(
    source, message, recipient
):
    policy = compile_text(json.dumps(source))
    treatment = policy.decide(message, recipient).treatment
    holding = [floor for floor in source["floor"] if naive(floor["when"], message, recipient)]
    rule = next(one for one in source["rules"] if one["id"] == treatment.rule)
    named = rule.get("override", {}).get("floors", [])
    aside = [floor["id"] for floor in holding if floor["overridable"] and floor["id"] in named]
    binding = [LEVELS.index(floor["require"]) for floor in holding if floor["id"] not in aside]
    assert list(treatment.floors) == [floor["id"] for floor in holding]
    assert list(treatment.overridden) == aside
    assert treatment.floor == max([treatment.tls, *binding])


@settings(deadline=None)
@given(trees(leaves), messages, recipients)
def test_all_any_and_not_agree_with_the_shortest_reading_of_the_format(tree, message, recipient):
    source = {"policy": "p", "rules": [{"id": "hit", "when": tree, "deliver": {}}, {"id": "rest", "deliver": {}}]}
    decision = compile_text(json.dumps(source)).decide(message, recipient)
    assert (decision.treatment.rule, decision.error) == ("hit" if naive(tree, message, recipient) else "rest", "")


def worse(message, phi, more, *, truncated):
    """The same message, of which the scan found more, or could read less."""
    verdict = message.verdict
    return facts(
        sender=str(message.envelope.reverse_path),
        subject=message.subject,
        size=message.size,
        stream=message.stream,
        attachments=[
            Attachment(type=one.type, name=one.name, size=one.size, unreadable="encrypted")
            for one in message.attachments
        ],
        phi=max(verdict.phi, phi),
        subject_phi=max(verdict.subject_phi, phi),
        findings=[*verdict.findings, *more],
        truncated=verdict.truncated or truncated,
    )


@settings(deadline=None)
@given(policies(overrides=False), messages, recipients, st.sampled_from(Phi), findings, st.booleans())
def test_a_worse_verdict_lifts_no_floor(source, message, recipient, phi, more, truncated):
    policy = compile_text(json.dumps(source))
    before = policy.decide(message, recipient).treatment
    after = policy.decide(worse(message, phi, more, truncated=truncated), recipient).treatment
    assert set(before.floors) <= set(after.floors)


@pytest.fixture(scope="module")
def default():
    return load_policy(ROOT / "policies" / "main.yaml", methods=frozenset({MethodName.TLS}), now=NOW)


@settings(deadline=None)
@given(messages, recipients, st.sampled_from(Phi), findings, st.booleans())
def test_under_the_default_policy_a_worse_verdict_never_lowers_the_floor(
    default, message, recipient, phi, more, truncated
):
    after = worse(message, phi, more, truncated=truncated)
    assert default.floor(after, recipient) >= default.floor(message, recipient)


anything = st.one_of(
    st.none(), st.text(max_size=20), st.integers(), st.floats(), st.binary(max_size=5), st.lists(st.text())
)


@settings(deadline=None)
@given(
    default_facts=messages,
    recipient=recipients,
    field=st.sampled_from(["subject", "headers", "size", "verdict", "attachments", "received_at", "stream", "session"]),
    value=anything,
    network=st.text(max_size=12),
)
def test_deciding_never_raises_and_gives_one_answer(default, default_facts, recipient, field, value, network):
    policies = (default, NETWORK_AND_TIME)
    object.__setattr__(default_facts, "session", ClientSession(network=network))
    object.__setattr__(default_facts, field, value)
    for policy in policies:
        first, second = policy.decide(default_facts, recipient), policy.decide(default_facts, recipient)
        assert first == second
        assert policy.explain(default_facts, recipient).decision == first
        if first.error:
            assert (first.treatment.action, first.treatment.floor) == (Action.HOLD, Level.AUTHENTICATED)


NETWORK_AND_TIME = compile_text(
    "policy: p\nrules:\n"
    "  - { id: a, when: { client: { network: 10.0.0.0/8 } }, deliver: {} }\n"
    "  - { id: b, when: { time: { hours: 01:00-02:00, zone: America/Chicago } }, deliver: {} }\n"
    "  - { id: c, when: { header: { name: X-A, matches: 'x+' } }, deliver: {} }\n"
    "  - { id: rest, deliver: {} }\n"
)
