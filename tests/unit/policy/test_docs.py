"""docs/policy.md is true to the code: each word is there, nothing else is, and each example compiles."""

import re
from pathlib import Path

import pytest

from relay.policy import schema
from relay.policy.source import parse
from tests.support.policies import REST, compile_text

DOCS = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
ROWS = re.findall(r"^\| `([a-z_.]+)` \| (.+?) \| (.+?) \|$", DOCS, re.MULTILINE)
HEAD = """policy: p
lists:
  partners: [mercy.example]
  people: { builtin: consumer-mailbox-providers }
  consented: [pat@mail.example]
floor: [ { id: phi-floor, when: { phi: likely }, require: verified, overridable: true } ]
"""


def keys(model, prefix=""):
    return {f"{prefix}{field.alias or name}" for name, field in model.model_fields.items()}


def words():
    leaves = {
        "client": schema.ClientCondition,
        "sender": schema.MailboxCondition,
        "recipient": schema.MailboxCondition,
        "recipient.domain": schema.DomainMatch,
        "subject": schema.SubjectCondition,
        "header": schema.HeaderCondition,
        "size": schema.SizeCondition,
        "finding": schema.FindingCondition,
        "attachment": schema.AttachmentCondition,
        "time": schema.TimeCondition,
        "lists": schema.ListSource,
        "floor": schema.Floor,
        "deliver": schema.Deliver,
        "portal": schema.Portal,
        "hold": schema.Hold,
        "reject": schema.Reject,
        "override": schema.Override,
        "message": schema.SampleMessage,
        "expect": schema.Expectation,
    }
    found = set().union(*(keys(model, f"{name}.") for name, model in leaves.items()))
    plain = keys(schema.Condition) - {name for name in leaves if name != "floor"}
    return found | plain | keys(schema.Rule) | keys(schema.PolicyFile)


def test_every_word_of_the_format_is_documented_and_no_other():
    assert {name for name, _, _ in ROWS} - {"clinic", "date", "expiry"} == words()


def section(title):
    text = DOCS.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_.]+)` \| .+? \| `(.+)` \|$", text, re.MULTILINE)
    assert rows
    return rows


@pytest.mark.parametrize(("name", "example"), section("Conditions"), ids=lambda value: value)
def test_every_condition_has_an_example_that_compiles_and_uses_it(name, example):
    assert name.rpartition(".")[2] in example
    compile_text(f"{HEAD}rules:\n  - {{ id: a, when: {example}, deliver: {{}} }}\n{REST}")


@pytest.mark.parametrize(("name", "example"), section("Rules"), ids=lambda value: value)
def test_every_action_has_an_example_that_compiles_and_uses_it(name, example):
    assert name.rpartition(".")[2] in example
    rule = {"id": "id: a", "deliver": "deliver: {}"}
    key = example.partition(":")[0]
    if key in {"hold", "reject"}:
        del rule["deliver"]
    if key == "portal":
        rule["deliver"] = "deliver: { methods: [tls, portal], within: 15m }"
    rule[key] = example
    body = "\n".join(f"    {line}" for line in rule.values())
    compile_text(f"{HEAD}rules:\n  -\n{body}\n{REST}")


@pytest.mark.parametrize(("name", "example"), section("Tests"), ids=lambda value: value)
def test_every_part_of_a_test_has_an_example_that_reads(name, example):
    given = {"from": "a@clinic.example", "to": "b@mail.example"}
    side, _, key = name.partition(".")
    assert example.startswith(f"{key}:")
    values = parse(example, "docs").data
    if side == "message":
        schema.SampleMessage.model_validate(given | values)
    else:
        schema.Expectation.model_validate(values)


def test_the_default_policy_in_the_repository_is_what_the_docs_speak_of():
    assert "policies/main.yaml" in DOCS
    assert "conf/policy.schema.json" in DOCS
