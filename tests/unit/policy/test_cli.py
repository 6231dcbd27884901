"""``postern policy`` from outside."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.core.phi import Phi, PhiVerdict
from relay.core.ports import ScanReport
from tests.support.policies import REST

ROOT = Path(__file__).parents[3]

POLICY = f"""policy: p
floor: [ {{ id: f, when: {{ phi: likely }}, require: verified }} ]
rules:
  - {{ id: phi, when: {{ phi: likely }}, deliver: {{ methods: [tls, portal], within: 5m }} }}
{REST}tests:
  - name: a result
    message: {{ from: a@clinic.example, to: b@mail.example, text: HbA1c }}
    expect: {{ rule: RULE }}
"""


def scan(content, client=""):
    phi = Phi.LIKELY if b"HbA1c" in content else Phi.NONE
    return ScanReport(verdict=PhiVerdict(phi=phi), subject="", headers=())


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.setattr("relay.cli.policy._scan", lambda options: scan)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(POLICY.replace("RULE", "phi"))
    (tmp_path / "failing.yaml").write_text(POLICY.replace("RULE", "rest"))
    (tmp_path / "broken.yaml").write_text(POLICY.replace("require: verified", "require: verfied"))
    (tmp_path / "m.eml").write_bytes(b"Subject: Jane\r\n\r\nHbA1c 8.1\r\n")

    def run(*arguments):
        return CliRunner().invoke(main, ["policy", "--config", "none.yaml", *arguments])

    return run


def test_check_says_sound_and_warns(cli):
    result = cli("check", "good.yaml")
    assert result.exit_code == 0
    assert "warning: good.yaml:4:" in result.output
    assert "p: sound (2 rules, 1 floors, 1 tests passed; version " in result.output
    assert "warning" not in cli("--method", "tls", "--method", "portal", "check", "good.yaml").output


def test_the_methods_are_those_of_the_configuration(cli, tmp_path, monkeypatch):
    only_portal = "policy: p\nrules:\n  - { id: all, deliver: { methods: [portal] } }\n"
    (tmp_path / "portal.yaml").write_text(only_portal)
    listener = "{ name: a, kind: relay, address: '::1', tls: none, networks: ['::1/128'] }"
    secure = "{ origin: 'http://localhost:8080', mail_from: secure@clinic.example }"
    (tmp_path / "plain.yml").write_text(f"policy: portal.yaml\nlisteners: [{listener}]\n")
    (tmp_path / "portal.yml").write_text(f"policy: portal.yaml\nlisteners: [{listener}]\nportal: {secure}\n")
    there = CliRunner().invoke(main, ["policy", "--config", "portal.yml", "check"])
    assert (there.exit_code, there.output.startswith("p: sound")) == (0, True), there.output
    missing = CliRunner().invoke(main, ["policy", "--config", "plain.yml", "check"])
    assert missing.exit_code == 1
    assert "portal" in missing.output
    named = CliRunner().invoke(main, ["policy", "--config", "plain.yml", "--method", "portal", "check"])
    assert named.exit_code == 0, named.output


def test_a_rule_whose_route_the_configuration_does_not_have_could_not_go_live(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("policy: p\nrules:\n  - { id: all, deliver: {}, route: smart-host }\n")
    listener = "{ name: a, kind: relay, address: '::1', tls: none, networks: ['::1/128'] }"
    plain = f"policy: p.yaml\nlisteners: [{listener}]\n"
    (tmp_path / "none.yml").write_text(plain)
    (tmp_path / "routed.yml").write_text(plain + "routes: [{ name: smart-host, hosts: [mx.clinic.example] }]\n")
    missing = CliRunner().invoke(main, ["policy", "--config", "none.yml", "check", "--json"])
    told = json.loads(missing.output)
    assert (missing.exit_code, told["sound"]) == (1, False)
    assert "the rule all takes the route smart-host" in told["errors"][0]["what"]
    there = CliRunner().invoke(main, ["policy", "--config", "routed.yml", "check"])
    assert (there.exit_code, there.output.startswith("p: sound")) == (0, True), there.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--to", "nonsense"], "--to nonsense: the address has no domain"),
        (["--to", "pat@mail.example", "--from", "nonsense"], "--from nonsense: the address has no domain"),
        (["--to", "pat@mail.example", "--network", "10.1.0.0/16"], "--network 10.1.0.0/16: is not an IP address"),
    ],
)
def test_explain_names_the_option_that_is_wrong(cli, arguments, told):
    result = cli("explain", "m.eml", "--policy", "good.yaml", *arguments)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {told}"), result.output


def test_explain_takes_the_null_sender_and_brackets(cli):
    result = cli("explain", "m.eml", "--policy", "good.yaml", "--from", "<>", "--to", "<pat@mail.example>")
    assert result.exit_code == 0, result.output


def test_check_tells_faults_and_failing_tests_and_fails(cli):
    broken, failing = cli("check", "broken.yaml"), cli("check", "failing.yaml")
    assert (broken.exit_code, failing.exit_code) == (1, 1)
    assert "error: broken.yaml:2:42: `verfied` is not a value of `require` (did you mean `verified`?)" in broken.output
    assert "error: failing.yaml:7:5: test `a result`: rule is phi, expected rest" in failing.output


def test_check_speaks_json(cli):
    good, broken = json.loads(cli("check", "good.yaml", "--json").output), cli("check", "broken.yaml", "--json")
    assert (good["sound"], good["tests"]) == (True, {"passed": 1, "all": 1})
    assert json.loads(broken.output)["errors"][0]["where"] == "broken.yaml:2:42"
    assert broken.exit_code == 1


def test_test_names_each(cli):
    good, failing = cli("test", "good.yaml"), cli("test", "failing.yaml")
    assert good.output == "pass  a result\n1 of 1 tests passed\n"
    assert failing.exit_code == 1
    assert "FAIL  a result" in failing.output
    assert json.loads(cli("test", "failing.yaml", "--json").output)[0]["passed"] is False
    assert cli("test", "broken.yaml").exit_code == 1


def test_explain_shows_the_rule_that_decides_and_each_conditions_value(cli):
    result = cli("explain", "m.eml", "--policy", "good.yaml", "--from", "a@clinic.example", "--to", "pat@mail.example")
    assert result.exit_code == 0, result.output
    lines = result.output.replace("│", " ").splitlines()
    assert lines[0] == "pat@mail.example: deliver by tls, portal by rule phi; floor verified"
    assert "floor f: holds" in result.output
    assert "when.phi: yes  likely" in result.output
    assert "rule rest" not in result.output, "rules after the one that decides were not looked at"
    assert "Jane" not in result.output


def test_explain_speaks_json_for_each_recipient(cli):
    given = ("--to", "a@mail.example", "--to", "b@firm.example", "--client", "ehr", "--received", "2026-03-02T09:00")
    output = json.loads(cli("explain", "m.eml", "--policy", "good.yaml", "--json", *given).output)
    assert [(one["recipient"], one["rule"], one["floor"]) for one in output] == [
        ("a@mail.example", "phi", "verified"), ("b@firm.example", "phi", "verified"),
    ]  # fmt: skip
    assert output[0]["steps"][0] == {
        "step": "floor f", "holds": True, "conditions": [{"path": "when.phi", "value": True, "detail": "likely"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("check",), "there is no configuration here"),
        (("check", "none.yaml"), "there is no such file"),
        (("explain", "m.eml", "--policy", "good.yaml", "--to", "nobody"), "the address has no domain"),
        (("explain", "m.eml", "--policy", "broken.yaml", "--to", "a@mail.example"), "did you mean `verified`?"),
        (("explain", "none.eml", "--to", "a@mail.example"), "No such file"),
    ],
)
def test_bad_input_is_one_clear_error(cli, arguments, told):
    result = cli(*arguments)
    assert result.exit_code != 0
    assert told in result.output
    assert "Traceback" not in result.output


def test_schema_prints_what_ships(cli):
    assert cli("schema").output == (ROOT / "conf" / "policy.schema.json").read_text()


def test_in_a_checkout_the_default_policy_is_found(cli, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "hipaa-outbound" in cli("check", "--json").output or "policies/main.yaml" in cli("check").output


def test_looking_makes_no_store_that_the_service_could_not_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listener = "{ name: a, kind: relay, address: '::1', tls: none, networks: ['::1/128'] }"
    (tmp_path / "p.yml").write_text(f"data_dir: data\nrun_dir: run\nlisteners: [{listener}]\n")
    history = CliRunner().invoke(main, ["policy", "--config", "p.yml", "history", "--json"])
    assert (history.exit_code, json.loads(history.output)) == (0, [])
    check = CliRunner().invoke(main, ["store", "--config", "p.yml", "check"])
    assert (check.exit_code, "there is no queue here" in check.output) == (1, True)
    assert [one.name for one in tmp_path.iterdir()] == ["p.yml"]
