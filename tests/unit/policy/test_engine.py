"""Floors, overrides, treatments, and what happens when nothing can be decided."""

from dataclasses import replace
from pathlib import Path

import pytest

from relay.config.policies import load_policy
from relay.core.address import Address
from relay.core.decision import Action, HeaderEdit, MethodName, Otherwise, Treatment
from relay.core.envelope import ClientSession
from relay.core.level import Level
from relay.core.phi import FindingGroup, Phi
from tests.support.policies import NOW, REST, compile_text, facts, finding, one_rule

ROOT = Path(__file__).parents[3]
PAT = Address.parse("pat@mail.example")

FLOORS = """policy: p
floor:
  - { id: low, when: { phi: possible }, require: encrypted }
  - { id: high, when: { phi: likely }, require: verified, overridable: true }
  - { id: top, when: { phi: certain }, require: authenticated }
"""
CONSENT = """rules:
  - id: consented
    when: { recipient: { domain: mail.example } }
    deliver: { tls: opportunistic }
    override: { floors: high, reason: "warned preference on file" }
"""


def treat(policy, to=PAT, **given):
    decision = policy.decide(facts(to=str(to), **given), to)
    assert decision.error == ""
    assert decision.recipient == to
    return decision.treatment


@pytest.mark.parametrize(
    ("phi", "floor", "floors"),
    [
        (Phi.NONE, Level.CLEAR, ()),
        (Phi.POSSIBLE, Level.ENCRYPTED, ("low",)),
        (Phi.LIKELY, Level.VERIFIED, ("low", "high")),
        (Phi.CERTAIN, Level.AUTHENTICATED, ("low", "high", "top")),
    ],
)
def test_all_floors_that_hold_bind_and_the_highest_wins(phi, floor, floors):
    treatment = treat(compile_text(f"{FLOORS}rules:\n{REST}"), phi=phi)
    assert (treatment.floor, treatment.floors, treatment.tls) == (floor, floors, Level.CLEAR)


@pytest.mark.parametrize(
    ("phi", "floor", "overridden"),
    [
        (Phi.POSSIBLE, Level.ENCRYPTED, ()),
        (Phi.LIKELY, Level.ENCRYPTED, ("high",)),
        (Phi.CERTAIN, Level.AUTHENTICATED, ("high",)),
    ],
)
def test_an_override_sets_aside_what_it_names_and_no_more_and_is_recorded_with_its_reason(phi, floor, overridden):
    treatment = treat(compile_text(FLOORS + CONSENT + REST), phi=phi)
    assert (treatment.floor, treatment.overridden) == (floor, overridden)
    assert treatment.override_reason == ("warned preference on file" if overridden else "")


def test_an_override_serves_its_own_rule_only():
    other = Address.parse("pat@other.example")
    assert treat(compile_text(FLOORS + CONSENT + REST), to=other, phi=Phi.LIKELY).floor is Level.VERIFIED


def test_a_rule_carries_every_action_into_the_treatment():
    policy = compile_text("""policy: p
rules:
  - id: all
    deliver: { methods: [smime, tls, portal], tls: verified, within: 15m, otherwise: hold,
               expire: 2d, warn_after: 30m, priority: urgent }
    add_header: { X-Class: clinical }
    remove_header: X-Mailer
    route: smarthost
    sign: Clinic.example
    notify: privacy@clinic.example
""")
    assert treat(policy) == Treatment(
        methods=(MethodName.SMIME, MethodName.TLS, MethodName.PORTAL),
        tls=Level.VERIFIED,
        floor=Level.VERIFIED,
        rule="all",
        policy_version=policy.version,
        within=900.0,
        otherwise=Otherwise.HOLD,
        expire_after=172_800.0,
        warn_after=1800.0,
        priority=1,
        headers=(HeaderEdit(name="X-Class", value="clinical"), HeaderEdit(name="X-Mailer")),
        route="smarthost",
        sign_as="clinic.example",
        notify=("privacy@clinic.example",),
    )


def test_hold_and_reject_say_why_and_keep_the_floor():
    policy = compile_text(
        FLOORS + "rules:\n  - { id: h, when: { stream: bulk }, hold: { reason: 'look at it' } }\n"
        "  - { id: r, reject: { reason: 'Not by mail, please call' } }\n"
    )
    held, rejected = treat(policy, stream="bulk", phi=Phi.LIKELY), treat(policy)
    assert (held.action, held.reason, held.floor) == (Action.HOLD, "look at it", Level.VERIFIED)
    assert (rejected.action, rejected.reason) == (Action.REJECT, "Not by mail, please call")


def test_only_tags_that_decided_are_removed_from_the_subject():
    tags = '{ any: [ { subject: { tag: ["[secure]", "+encrypt+"] } }, { not: { subject: { tag: "[plain]" } } } ] }'
    policy = one_rule(tags)
    assert treat(policy, subject="[SECURE] a [plain] b").strip_subject_tags == ("[secure]",)
    assert treat(policy, subject="nothing").strip_subject_tags == ()


def test_tags_of_one_rule_are_not_removed_by_another():
    policy = compile_text(
        "policy: p\nrules:\n"
        '  - { id: a, when: { all: [ { subject: { tag: "[secure]" } }, { stream: bulk } ] }, deliver: {} }\n'
        '  - { id: b, when: { subject: { tag: "[plain]" } }, deliver: {} }\n' + REST
    )
    assert treat(policy, subject="[secure] [plain] x").strip_subject_tags == ("[plain]",)
    assert treat(policy, subject="[secure] x").strip_subject_tags == ()


def test_a_firm_floor_binds_a_rule_that_names_it_all_the_same():
    policy = compile_text(FLOORS + CONSENT + REST)
    firm = replace(policy, floors=tuple(replace(floor, overridable=False) for floor in policy.floors))
    treatment = treat(firm, phi=Phi.LIKELY)
    assert (treatment.floor, treatment.overridden, treatment.override_reason) == (Level.VERIFIED, (), "")


def test_what_is_remembered_of_treatments_is_bounded():
    words = [f"[{number}]" for number in range(13)]
    policy = one_rule(f"{{ subject: {{ tag: {words} }} }}".replace("'", '"'))
    for number in range(1, 4200):
        asked = [word for place, word in enumerate(words) if number >> place & 1]
        assert treat(policy, subject="".join(asked)).strip_subject_tags == tuple(asked)
        assert len(policy._treatments) <= 4096


@pytest.mark.parametrize(
    ("level", "subject_phi", "masked"),
    [("possible", Phi.POSSIBLE, True), ("likely", Phi.POSSIBLE, False), ("none", Phi.NONE, True)],
)
def test_a_subject_that_tells_as_much_as_the_rule_says_is_masked(level, subject_phi, masked):
    policy = compile_text(f"policy: p\nrules: [ {{ id: r, deliver: {{ methods: [tls], mask_subject: {level} }} }} ]")
    assert treat(policy, subject="Your result", subject_phi=subject_phi).mask_subject is masked
    assert treat(policy, subject="Your result", subject_phi=subject_phi) == treat(
        policy, subject="Another", subject_phi=subject_phi
    )


def test_a_subject_that_could_not_be_scanned_is_masked():
    policy = compile_text("policy: p\nrules: [ { id: r, deliver: { methods: [tls], mask_subject: certain } } ]")
    unreadable = (finding("unreadable: timeout", FindingGroup.UNREADABLE),)
    assert treat(policy, subject="", findings=unreadable).mask_subject
    assert not treat(policy, subject="Lunch", findings=unreadable).mask_subject
    assert not treat(policy, subject="").mask_subject


def test_equal_decisions_are_one_treatment_so_that_recipients_can_share_an_entry():
    policy = compile_text(FLOORS + CONSENT + REST)
    message = facts(phi=Phi.LIKELY)
    first, second = (policy.decide(message, Address.parse(f"{name}@mail.example")).treatment for name in "ab")
    assert first is second


# --- law 3 ------------------------------------------------------------


class Refuses:
    """A value that fails at every touch, as a bug in a reader would."""

    def __getattr__(self, name):
        raise RuntimeError("Jane Roe, 123-45-6789")


@pytest.mark.parametrize(
    "broken",
    [
        {"verdict": None},
        {"session": Refuses()},
        {"session": ClientSession(network="not an address")},
        {"headers": None},
        {"attachments": (None,)},
        {"received_at": float("inf")},
        {"received_at": float("nan")},
        {"received_at": "yesterday"},
        {"size": None},
        {"subject": 7},
        {"envelope": None},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_what_cannot_be_decided_is_held_at_the_highest_floor_without_a_word_of_the_message(broken):
    policy = one_rule(
        "{ any: [ { phi: certain }, { client: { network: 10.0.0.0/8 } }, { header: { name: X-A, present: true } },"
        " { attachment: { type: pdf } }, { time: { hours: 01:00-02:00 } }, { size: { over: 1GiB } },"
        " { subject: { matches: zzz } }, { sender: { domain: nowhere.example } } ] }"
    )
    message = replace(facts(session=ClientSession(network="192.0.2.1")), **broken)
    decision = policy.decide(message, PAT)
    assert decision.error
    assert decision.treatment.action is Action.HOLD
    assert decision.treatment.floor is policy.floor(message, PAT) is Level.AUTHENTICATED
    assert decision.treatment.policy_version == policy.version
    assert decision.treatment.tls is Level.AUTHENTICATED
    assert decision.treatment.reason == f"the policy could not be evaluated: {decision.error}"
    explanation = policy.explain(message, PAT)
    assert explanation.decision == decision
    failed = [trace for _, _, traces in explanation.steps for trace in traces if trace.detail.startswith("failed")]
    assert not any(trace.value for trace in failed)
    assert "Jane" not in repr(explanation)


def test_one_message_that_cannot_be_decided_does_not_spoil_the_next():
    policy = one_rule("{ header: { name: X-A, contains: x } }")
    assert policy.decide(replace(facts(), headers=None), PAT).error
    assert treat(policy, headers=[("X-A", "x")]).rule == "hit"


def test_a_subject_with_lone_surrogates_is_judged():
    assert treat(one_rule("{ subject: { matches: result } }"), subject="a \udcff result").rule == "hit"


# --- explain and version ----------------------------------------------


def test_an_explanation_has_every_condition_up_to_the_rule_that_decides():
    policy = compile_text(FLOORS + CONSENT + REST)
    explanation = policy.explain(facts(phi=Phi.LIKELY), Address.parse("pat@other.example"))
    assert [(step, holds) for step, holds, _ in explanation.steps] == [
        ("floor low", True), ("floor high", True), ("floor top", False), ("rule consented", False), ("rule rest", True),
    ]  # fmt: skip
    traces = {trace.path: trace for trace in explanation.steps[3][2]}
    assert (traces["when.recipient.domain"].value, traces["when.recipient.domain"].detail) == (False, "other.example")


def test_an_explanation_shows_neither_subject_nor_header_nor_mailbox():
    policy = one_rule(
        "{ any: [ { subject: { matches: roe } }, { header: { name: X-A, contains: roe } },"
        " { recipient: { address: jane@mail.example } } ] }"
    )
    shown = repr(policy.explain(facts(subject="Ms. roe", headers=[("X-A", "roe")]), PAT).steps)
    assert "Ms. roe" not in shown
    assert "pat@" not in shown


def test_the_version_follows_what_decides_and_the_contents_of_lists_and_nothing_else():
    text = f"policy: p\nlists: {{ a: [x.example, y.example], c: {{ file: c.csv }} }}\nrules:\n{REST}"
    csv = {"c": "address\npat@mail.example\n"}
    version = compile_text(text, csv=csv).version
    assert len(version) == 64
    assert (
        compile_text("# note\n" + text.replace("x.example, y.example", "y.example, x.example"), csv=csv).version
        == version
    )
    assert compile_text(text + "tests: []\n", csv=csv).version == version
    assert compile_text(text, csv={"c": "address\npam@mail.example\n"}).version != version
    assert compile_text(text.replace("opportunistic", "encrypted"), csv=csv).version != version
    assert compile_text(text.replace("x.example", "z.example"), csv=csv).version != version


def warnings_of(text):
    return [str(warning) for warning in compile_text(text, methods=frozenset({MethodName.TLS})).warnings]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("  - { id: a, when: { phi: none }, deliver: {} }\n", "policy.yaml:4:5: the rule `rest` never fires"),
        ("  - { id: a, when: { finding: { kind: heath } }, deliver: {} }\n", "did you mean `health`?"),
        ("  - { id: a, when: { finding: { sensitive: mental } }, deliver: {} }\n", "no sensitive kind `mental`"),
        (
            "  - { id: a, when: { phi: likely }, deliver: { methods: [tls, portal] } }\n",
            "never taken (add within: 15m)",
        ),
        (
            "  - { id: a, when: { phi: likely }, deliver: { methods: [tls, portal], within: 2d, expire: 1d } }\n",
            "expire before `within` has passed",
        ),
        (
            "  - { id: a, when: { phi: likely }, deliver: { methods: portal, tls: verified, otherwise: hold } }\n",
            "does not use the method tls",
        ),
    ],
)
def test_what_runs_but_hardly_as_meant_is_warned_of(rules, told):
    assert any(told in warning for warning in warnings_of(f"policy: p\nrules:\n{rules}{REST}"))


def test_lists_that_serve_no_purpose_are_warned_of():
    text = (
        "policy: p\nlists: { idle: [a.example], people: [pat@mail.example] }\nrules:\n"
        "  - { id: a, when: { recipient: { domain: { in: people } } }, deliver: {} }\n" + REST
    )
    told = warnings_of(text)
    assert "no rule uses the list `idle`" in told[0]
    assert "has addresses only" in told[1]
    assert len(told) == 2


# --- the default policy -----------------------------------------------


@pytest.fixture(scope="module")
def default():
    return load_policy(ROOT / "policies" / "main.yaml", methods=frozenset({MethodName.TLS}), now=NOW)


def test_the_default_policy_loads_where_only_tls_is_configured_and_says_what_is_missing(default):
    assert [warning.what.partition("names")[0] for warning in default.warnings] == [
        "the rule `sender-asked` ", "the rule `clinical-attachment` ", "the rule `phi` ",
    ]  # fmt: skip
    assert len(default.tests) >= 8


@pytest.mark.parametrize(
    ("to", "given", "rule", "floor"),
    [
        ("pat@mail.example", {"phi": Phi.LIKELY}, "phi", Level.VERIFIED),
        ("pat@gmail.com", {"findings": [finding()]}, "phi", Level.VERIFIED),
        ("pat@gmail.com", {}, "rest", Level.CLEAR),
        ("pat@gmial.com", {}, "near-miss", Level.CLEAR),
        ("pat@mercy.example", {"phi": Phi.CERTAIN}, "partners", Level.AUTHENTICATED),
        ("pat@a.labnet.example", {}, "partners", Level.AUTHENTICATED),
        ("pat@mail.example", {"subject": "+encrypt+ x"}, "sender-asked", Level.CLEAR),
        ("pat@mail.example", {"subject": "[secure]", "phi": Phi.LIKELY}, "sender-asked", Level.VERIFIED),
    ],
)
def test_the_default_policy_decides_as_designed(default, to, given, rule, floor):
    treatment = treat(default, to=Address.parse(to), **given)
    assert (treatment.rule, treatment.floor) == (rule, floor)
