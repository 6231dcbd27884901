"""``TLS-Required: No`` (RFC 8689) is heeded only where a rule allows it, and never lowers a floor."""

from dataclasses import replace

import pytest

from relay.core.address import Address
from relay.core.level import Level
from relay.core.phi import Phi
from tests.support.policies import compile_text, facts

PAT = Address.parse("pat@mail.example")
POLICY = """policy: p
floor:
  - { id: high, when: { phi: likely }, require: verified }
  - { id: top, when: { phi: certain }, require: authenticated }
rules:
  - { id: rest, deliver: { tls: opportunistic%s } }
"""
ALLOWING, SILENT = compile_text(POLICY % ", tls_required_no: true"), compile_text(POLICY % "")


def treat(policy, *values, phi=Phi.NONE, require_tls=False):
    given = facts(to=str(PAT), phi=phi)
    headers = (*given.headers, *(("tls-required", value) for value in values))
    given = replace(given, headers=headers, envelope=replace(given.envelope, require_tls=require_tls))
    decision = policy.decide(given, PAT)
    assert decision.error == ""
    return decision.treatment


@pytest.mark.parametrize("value", ["No", "no", " NO "])
def test_it_is_heeded_where_a_rule_allows_it_alone(value):
    assert treat(ALLOWING, value).passes_over
    assert not treat(SILENT, value).passes_over


@pytest.mark.parametrize("values", [(), ("yes",), ("No", "No"), ("no, really",), ("",)])
def test_anything_but_one_plain_no_is_not_heeded(values):
    assert not treat(ALLOWING, *values).passes_over


def test_another_header_with_a_no_is_not_it():
    given = replace(facts(to=str(PAT)), headers=(("x-required", "No"),))
    assert not ALLOWING.decide(given, PAT).treatment.passes_over
    with_another = replace(given, headers=(*given.headers, ("tls-required", "No")))
    assert ALLOWING.decide(with_another, PAT).treatment.passes_over


def test_requiretls_goes_before_it():
    assert not treat(ALLOWING, "No", require_tls=True).passes_over


@pytest.mark.parametrize(
    ("phi", "floor", "passes_over"),
    [(Phi.NONE, Level.CLEAR, True), (Phi.LIKELY, Level.VERIFIED, True), (Phi.CERTAIN, Level.AUTHENTICATED, False)],
)
def test_floors_stay_and_what_must_be_vouched_for_passes_over_nothing(phi, floor, passes_over):
    treatment = treat(ALLOWING, "No", phi=phi)
    assert (treatment.floor, treatment.passes_over) == (floor, passes_over)


def test_one_message_with_it_does_not_speak_for_the_next():
    assert treat(ALLOWING, "No").passes_over
    assert not treat(ALLOWING).passes_over
