"""What a policy would have made of yesterday's mail, by the little that the trail keeps of it."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from relay.cli import main, policy_history, policy_replay
from relay.core.address import Address
from relay.core.errors import StoreError
from relay.core.phi import Phi
from relay.observe.policy_history import PolicyFile, PolicyText
from relay.policy.replay import Decided, judge, wording
from tests.support.policies import REST, compile_text, facts

PAT = Address.parse("pat@mail.example")
HEAD = """policy: p
lists: { partners: [mercy.example] }
floor:
  - { id: likely, when: { phi: likely }, require: verified }
  - { id: drugs, when: { finding: { kind: health } }, require: encrypted }
rules:
"""
TAGGED = "  - { id: tagged, when: { subject: { tag: '[secure]' } }, deliver: { methods: [portal] } }\n"
PHI = "  - { id: phi, when: { phi: likely }, deliver: { methods: [tls], tls: verified } }\n"
OPTIONS = ("policy", "--method", "tls", "--method", "portal")
OLD = f"{HEAD}{TAGGED}{PHI}{REST}"


def asked(new, *, rule="rest", floors=(), old=OLD, phi=Phi.NONE, found=False, to=PAT):
    """The rule that decides and the copy's floor, or by what it cannot be told."""
    then = Decided(rule=rule, floors=frozenset(floors), wording=wording([old]) if old else None)
    outcome = judge(compile_text(new), wording([new]), facts(phi=phi), to, then, found=found)
    told = (outcome.treatment.rule, outcome.treatment.floor.word)
    return (*told, *outcome.unsure)


def test_what_stands_unchanged_is_as_it_was_then():
    assert asked(OLD) == ("rest", "clear")
    assert asked(OLD, rule="tagged") == ("tagged", "clear")
    assert asked(OLD, rule="phi", floors=["likely", "drugs"], phi=Phi.LIKELY, found=True) == ("phi", "verified")


def test_a_change_shows_on_the_mail_that_it_is_about():
    lower = OLD.replace("phi: likely }, deliver", "phi: certain }, deliver")
    assert asked(lower, rule="phi", floors=["likely"], phi=Phi.LIKELY) == ("rest", "verified")
    without = OLD.replace("  - { id: likely, when: { phi: likely }, require: verified }\n", "").replace(PHI, "")
    assert asked(without, rule="phi", floors=["likely"], phi=Phi.LIKELY) == ("rest", "clear")
    partners = (
        "  - { id: partners, when: { recipient: { domain: { in: partners } } }, deliver: { tls: authenticated } }\n"
    )
    new = OLD.replace(PHI, partners + PHI)
    assert asked(new, to=Address.parse("in@mercy.example")) == ("partners", "authenticated")
    assert asked(new) == ("rest", "clear")


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (("'[secure]'", "'[private]'"), {}),  # a condition that the trail cannot answer
        (("", ""), {"old": ""}),  # nobody knows how the policy read
        (("", ""), {"rule": ""}),  # no rule decided
    ],
)
def test_what_hangs_on_a_subject_cannot_be_told(change, more):
    assert asked(OLD.replace(*change), **more) == ("rest", "clear", "rule tagged")


def test_a_changed_rule_that_decided_then_is_taken_to_decide():
    changed = OLD.replace("'[secure]'", "'[private]'")
    assert asked(changed, rule="tagged") == ("tagged", "clear", "rule tagged")


def test_a_rule_behind_the_one_that_decided_then_is_not_known():
    moved = f"{HEAD}{PHI.replace('likely', 'certain')}{TAGGED}{REST}"
    old = f"{HEAD}{PHI}{TAGGED}{REST}"
    assert asked(moved, old=old, rule="phi", floors=["likely"], phi=Phi.LIKELY) == ("rest", "verified", "rule tagged")


def test_a_condition_with_a_list_that_was_changed_is_not_the_same():
    when = "{ all: [ { recipient: { in: partners } }, { subject: { tag: '[x]' } } ] }"
    both = f"  - {{ id: both, when: {when}, deliver: {{}} }}\n"
    old, to = f"{HEAD}{both}{REST}", Address.parse("in@mercy.example")
    assert asked(old, old=old, to=to) == ("rest", "clear")
    longer = old.replace("[mercy.example]", "[mercy.example, lab.example]")
    assert asked(longer, old=old, to=to) == ("rest", "clear", "rule both")
    assert asked(longer, old=old) == ("rest", "clear")  # the list alone tells that it does not hold


def test_findings_tell_when_there_were_none():
    new = OLD.replace("kind: health", "kind: [health, ssn]")
    assert asked(new) == ("rest", "clear")
    assert asked(new, found=True) == ("rest", "clear", "floor drugs")
    assert asked(new, found=True, floors=["drugs"]) == ("rest", "encrypted", "floor drugs")  # as it was


def test_not_and_any_are_told_as_far_as_they_can_be():
    def rule(when):
        return OLD.replace(PHI, f"  - {{ id: hit, when: {when}, deliver: {{ tls: verified }} }}\n")

    assert asked(rule("{ any: [ { size: { over: 1KiB } }, { subject: { tag: '[x]' } } ] }")) == ("hit", "verified")
    assert asked(rule("{ any: [ { size: { over: 1GiB } }, { subject: { tag: '[x]' } } ] }")) == (
        "rest",
        "clear",
        "rule hit",
    )
    assert asked(rule("{ all: [ { size: { over: 1GiB } }, { subject: { tag: '[x]' } } ] }")) == ("rest", "clear")
    assert asked(rule("{ not: { header: { name: X-A, present: true } } }")) == ("rest", "clear", "rule hit")
    assert asked(rule("{ not: { size: { over: 1GiB } } }")) == ("hit", "verified")


def test_included_rules_come_before_those_of_the_root():
    read = wording(["policy: p\nrules: [ { id: a }, { id: b } ]\n", "rules: [ { id: c } ]\n"])
    assert read.before == {"a": {"c"}, "b": {"a", "c"}, "c": set()}


# --- from outside ---------------------------------------------------------


def record(kind, message, **more):
    return {"kind": kind, "message_id": message, "at": 1_772_441_100.0, "facts": more}


def copy(message, to, rule, floor, phi="none", **more):
    session = dict.fromkeys(("client", "tenant", "listener", "network", "identity"), "")
    given = {"sender": "", "size": 9, "stream": "bulk", "phi": phi, "subject_phi": "none", "recipients": [to]}
    yield record("accepted", message, **session, **given, findings={}, findings_truncated=False)
    decided = {"rule": rule, "floor": floor, "floors": [], "action": "deliver", "methods": ["tls"], **more}
    yield record("decided", message, numbers=[0], policy_version="one", **decided)


@pytest.fixture
def replay(tmp_path, monkeypatch):
    trail = [
        *copy("m1", "in@mercy.example", "phi", "verified", "likely", floors=["likely"]),
        *copy("m2", "in@mercy.example", "phi", "verified", "likely", floors=["likely"]),
        *copy("m3", "pat@mail.example", "rest", "clear"),
        *copy("m4", "pat@mail.example", "gone", "clear"),
        record("decided", "m5", numbers=[0]),  # taken before the time that is asked about
    ]

    def text_of(_settings, version):
        if version != "one":
            raise StoreError("unknown")
        return PolicyText(version="one", name="p", files=(PolicyFile(name="a", size=1, sha256="", text=OLD),))

    settings = SimpleNamespace(audit=SimpleNamespace(dir=tmp_path))
    monkeypatch.setattr("relay.config.load.load", lambda _: settings)
    monkeypatch.setattr("relay.app.stock.open_vault", lambda _: None)
    monkeypatch.setattr("relay.observe.trail.show", lambda *_, **__: iter(trail))
    monkeypatch.setattr(policy_history, "text_of", text_of)
    higher = OLD.replace("id: likely, when: { phi: likely }", "id: likely, when: { phi: certain }")
    (tmp_path / "new.yaml").write_text(higher.replace(PHI, ""))

    def run(*arguments):
        result = CliRunner().invoke(main, [*OPTIONS, "--config", str(tmp_path / "none"), "replay", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    run.file = str(tmp_path / "new.yaml")
    return run


def test_replay_shows_what_falls_and_what_cannot_be_told(replay):
    out = replay(replay.file, "--since", "2026-03-01")
    assert "asked about mail since 2026-03-01:\n4 copies: 1 as before, 3 change\n" in out
    row = next(line for line in out.splitlines() if "FALLS" in line)
    assert "phi: deliver by tls, floor verified" in row
    assert "rest: deliver by tls, floor clear" in row
    assert "mercy.example" in row
    assert row.rstrip().endswith("m1")
    assert "whether the rule tagged matches cannot be told for 1 copy, such as m4: taken to be as it was then" in out
    assert "pat@" not in out
    told = json.loads(replay(replay.file, "--json"))
    assert [(one["copies"], one["falls"], one["domains"]) for one in told["changed"]] == [
        (2, True, {"mercy.example": 2}),
        (1, False, {"mail.example": 1}),
    ]
    assert (told["same"], [one["by"] for one in told["unsure"]]) == (1, ["rule tagged"])


def test_many_domains_are_counted():
    row = policy_replay._Row()
    row.domains.update({f"{letter}.example": 9 - number for number, letter in enumerate("abcde")})
    assert policy_replay._domains(row) == "a.example, b.example, c.example and 2 more"
