"""Names in a policy's conditions that nobody has: told of wherever a policy is proved, and no others are."""

import re
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.app.supervise import freeze
from relay.cli import main
from relay.config.load import load
from relay.config.policies import load_policy
from relay.config.proof_names import unknown_names
from relay.core.decision import MethodName
from tests.support.configs import furnish

SCAN = Path(__file__).parents[3] / "relay" / "scan"
CONFIG = """\
policy: policies/main.yaml
clients_dir: clients
data_dir: data
run_dir: run
listeners: [{ name: ehr, kind: relay, address: "::1", tls: none, networks: ["::1/128"] }]
"""


@pytest.fixture
def etc(tmp_path):
    etc = furnish(tmp_path)
    (etc / "postern.yaml").write_text(CONFIG)
    return etc


def told(etc, condition, more=""):
    (etc / "postern.yaml").write_text(CONFIG + more)
    rule = f"  - {{ id: a, when: {condition}, deliver: {{}} }}\n"
    (etc / "policies" / "main.yaml").write_text(f"policy: p\nrules:\n{rule}  - {{ id: rest, deliver: {{}} }}\n")
    settings = load(etc / "postern.yaml")
    policy = load_policy(settings.policy, methods=frozenset({MethodName.TLS}), now=0.0)
    return [one.what for one in unknown_names(policy, settings)]


@pytest.mark.parametrize(
    ("condition", "nobody"),
    [
        ("{ client: { name: main-ehr, listener: ehr, tenant: clinic, identity: whoever } }", []),
        ("{ client: { name: Main-EHR } }", ["Main-EHR"]),
        ("{ not: { any: [ { client: { tenant: [clinic, clinics] } } ] } }", ["clinics"]),
        ("{ client: { listener: mta } }", ["mta"]),
        ("{ finding: { kind: [SSN, Health, dea, hl7v2, drug, 'unreadable: timeout'] } }", []),
        ("{ finding: { kind: [icd-10] } }", ["icd-10"]),
        ("{ finding: { kind: study-id } }", ["study-id"]),
    ],
)
def test_what_nobody_has_is_told_and_nothing_else(etc, condition, nobody):
    assert [re.findall("`(.*)`", one) for one in told(etc, condition)] == [[word] for word in nobody]


def test_kinds_of_the_operators_own_are_known(etc):
    assert told(etc, "{ finding: { kind: study-id } }", "scan: { tuning: scan.yaml }\n") == []


def test_nothing_is_said_of_clients_whose_files_cannot_be_read(etc):
    (etc / "clients" / "main-ehr.yaml").write_text("name: [")
    assert told(etc, "{ client: { name: nobody, tenant: nowhere } }") == []


def test_a_condition_that_was_told_of_already_is_told_of_once(etc):
    assert told(etc, "{ finding: { kind: heath } }") == []  # the policy's own warnings ask: did you mean `health`?


def test_every_kind_that_the_scan_names_is_known(etc):
    kinds = set()
    for path in SCAN.glob("*.py"):
        kinds |= set(re.findall(r'(?:\bkind=|\bHit\(\s*|MANNER: Final = )"([a-z0-9-]+)"', path.read_text()))
    for one in (resources.files("relay.scan") / "data").iterdir():
        if one.name.endswith(".txt"):
            kinds |= set(re.findall(r"(?m)^@.*\bkind=([a-z0-9-]+)", one.read_text()))
    kinds.discard("public")  # what is public says nothing, and is no finding
    assert len(kinds) > 50
    assert told(etc, f"{{ finding: {{ kind: [{', '.join(sorted(kinds))}] }} }}") == []


def test_policy_check_and_start_warn(etc, monkeypatch):
    monkeypatch.chdir(etc)
    assert told(etc, "{ client: { name: mian-ehr } }")
    result = CliRunner().invoke(main, ["policy", "--config", "postern.yaml", "check"])
    assert result.exit_code == 0, result.output
    assert "no client is `mian-ehr`: this never holds (did you mean `main-ehr`?)" in result.output
    logged = []
    monkeypatch.setattr("relay.app.supervise.log.warning", lambda _event, **facts: logged.append(facts["what"]))
    freeze(load(etc / "postern.yaml"))
    assert "no client is `mian-ehr`: this never holds" in logged


def test_policy_check_refuses_what_a_start_refuses(etc, monkeypatch):
    monkeypatch.chdir(etc)
    result = CliRunner().invoke(main, ["policy", "--config", "postern.yaml", "check", "policies/shadow.yaml"])
    assert (result.exit_code, "`mode: shadow` decides nothing" in result.output) == (1, True), result.output
