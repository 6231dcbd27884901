"""Files on disk: includes, lists, the tests inside, and the reload of a running policy."""

import itertools
import json
import os
import time
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.policies import RunningPolicy, builtin_lists, load_policy
from relay.core.address import Address, normalise_domain
from relay.core.decision import MethodName
from relay.core.errors import ProblemsError
from relay.core.phi import Phi, PhiVerdict
from relay.core.ports import ScanReport
from relay.policy import near, schema
from relay.policy.jsonschema import json_schema
from relay.policy.selftest import facts_of, run_tests
from relay.policy.source import parse
from tests.support.policies import NOW, REST, compile_text, facts

_MODELS = (schema.Condition, schema.MailboxCondition, schema.TimeCondition, schema.FindingCondition, schema.Floor)
WORDS = sorted({field.alias or name for model in _MODELS for name, field in model.model_fields.items()})
ROOT = Path(__file__).parents[3]
TLS = frozenset({MethodName.TLS})
PAT = Address.parse("pat@mail.example")


def scan(content, client=""):
    """A scan that finds PHI where the text says so."""
    head, _, body = content.decode().partition("\r\n\r\n")
    headers = tuple(tuple(line.split(": ", 1)) for line in head.split("\r\n") if ": " in line)
    subject = dict(headers).get("Subject", "")
    return ScanReport(
        verdict=PhiVerdict(phi=Phi.LIKELY if "HbA1c" in body else Phi.NONE), subject=subject, headers=headers
    )


@pytest.fixture
def room(tmp_path):
    (tmp_path / "main.yaml").write_text(
        "policy: p\ninclude: [more/a.yaml, more/b.yaml]\nlists: { people: { file: people.csv } }\n"
        "rules:\n  - { id: root, when: { recipient: { in: people } }, deliver: { tls: encrypted } }\n" + REST
    )
    (tmp_path / "people.csv").write_text("address\npat@mail.example\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.yaml").write_text(
        "include: common.yaml\nrules:\n  - { id: a, when: { stream: bulk }, deliver: { tls: verified } }\n"
    )
    (tmp_path / "more" / "b.yaml").write_text(
        "include: common.yaml\nfloor:\n  - { id: b, when: { phi: likely }, require: verified }\n"
    )
    (tmp_path / "more" / "common.yaml").write_text(
        "lists: { firms: [firm.example] }\n"
        "rules:\n  - { id: common, when: { recipient: { in: firms } }, deliver: { tls: authenticated } }\n"
    )
    return tmp_path


def test_rules_of_included_files_come_first_and_a_file_included_twice_counts_once(room):
    policy = load_policy(room / "main.yaml", methods=TLS, now=NOW)
    assert [rule.id for rule in policy.rules] == ["common", "a", "root", "rest"]
    assert [floor.id for floor in policy.floors] == ["b"]
    assert {Path(name).name for name in policy.files} == {"main.yaml", "a.yaml", "b.yaml", "common.yaml", "people.csv"}


def test_faults_of_all_files_are_told_at_once(room):
    (room / "more" / "a.yaml").write_text("rules:\n  - { id: a, deliver: { tls: verfied } }\n")
    (room / "people.csv").write_text("address\nnobody\n")
    (room / "more" / "b.yaml").write_text("rules: [\n")
    with pytest.raises(ProblemsError) as caught:
        load_policy(room / "main.yaml", methods=TLS, now=NOW)
    assert {Path(problem.where.split(":")[0]).name for problem in caught.value.problems} == {"a.yaml", "b.yaml"}


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a: &a [1,2]\nb: [*a, *a]\n", b"[" * 5000, b"- " * 3000, b"a: b: c", b"{a: 1}: 2", b""]
)
def test_a_file_that_is_no_policy_is_one_clear_error(tmp_path, content):
    (tmp_path / "main.yaml").write_bytes(content)
    with pytest.raises(ProblemsError) as caught:
        load_policy(tmp_path / "main.yaml", methods=TLS, now=NOW)
    assert all("main.yaml" in problem.where for problem in caught.value.problems)


def test_what_is_no_regular_file_is_not_read(room):
    (room / "people.csv").unlink()
    os.mkfifo(room / "people.csv")
    (room / "more" / "a.yaml").unlink()
    (room / "more" / "a.yaml").symlink_to("a.yaml")
    with pytest.raises(ProblemsError) as caught:
        load_policy(room / "main.yaml", methods=TLS, now=NOW)
    assert [problem.what.rpartition(": ")[2] for problem in caught.value.problems] == [
        "Too many levels of symbolic links",
        "not a file",
    ]


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_text_makes_the_reader_fail_but_with_problems(text):
    with pytest.raises(ProblemsError):
        compile_text(text)


mangled = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(["phi", "tls", "*.", "a.b"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["policy", "lists", "floor", "tests", "include", "mode"]), mangled), mangled)
def test_no_data_makes_the_compiler_fail_but_with_problems(data, when):
    rule = {"id": "a", "when": when, "deliver": {}}
    source = {"policy": "p", **data, "rules": [rule, {"id": "rest", "deliver": {}}]}
    assert all(problem.what and problem.where for problem in problems_of(json.dumps(source)))


def problems_of(text):
    try:
        compile_text(text, csv={"consented": "address\n"})
    except ProblemsError as error:
        return error.problems
    return ()


DEFAULT = (ROOT / "policies" / "main.yaml").read_text()

SLIPS = st.sampled_from(["", ":", "{", "]", "x", "\n", "- ", "*a", "~", "é", "0"])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, len(DEFAULT)), st.integers(0, 40), SLIPS)
def test_the_default_policy_with_a_slip_of_the_fingers_is_sound_or_told_of_by_line(place, gone, typed):
    for problem in problems_of(DEFAULT[:place] + typed + DEFAULT[place + gone :]):
        assert problem.where.startswith("policy.yaml:")


def test_aliases_cannot_be_made_to_expand_without_end():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    with pytest.raises(ProblemsError, match="too many values"):
        parse(bomb, "bomb.yaml")


def test_words_that_yaml_1_1_takes_for_booleans_and_times_stay_words():
    document = parse("a: [no, on, 08:30, 2026-01-31, 007, true, 12, ~]", "x.yaml")
    assert document.data == {"a": ["no", "on", "08:30", "2026-01-31", "007", True, 12, None]}


# --- tests inside -----------------------------------------------------

TESTED = f"""policy: p
rules:
  - {{ id: phi, when: {{ phi: likely }}, deliver: {{ tls: verified }} }}
{REST}tests:
  - name: a result
    message: {{ from: a@clinic.example, to: b@mail.example, subject: Hi, text: "HbA1c 8.1" }}
    expect: {{ rule: phi, tls: verified, floor: verified, methods: [tls], action: deliver, floors: [] }}
  - name: html is read, too
    message: {{ from: a@clinic.example, to: b@mail.example, html: "<p>HbA1c</p>" }}
    expect: {{ rule: RULE }}
"""


def test_tests_inside_pass_and_fail_with_what_came_out():
    assert all(result.passed for result in run_tests(compile_text(TESTED.replace("RULE", "phi")), scan))
    good, bad = run_tests(compile_text(TESTED.replace("RULE", "rest")), scan)
    assert good.passed
    assert [str(problem) for problem in bad.problems] == [
        "policy.yaml:9:5: test `html is read, too`: rule is phi, expected rest (decided by the rule `phi`, phi likely)"
    ]


def test_a_test_whose_message_cannot_be_built_fails():
    text = TESTED.replace("RULE", "phi").replace("to: b@mail.example, html", "to: nobody, html")
    assert [result.passed for result in run_tests(compile_text(text), scan)] == [True, False]


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ('headers: { Sender: "a b <" }', "a header or an attachment's type"),
        ("headers: { Content-Type: multipart/mixed }", "the header Content-Type comes from"),
        ("attachments: [ { name: a, type: message/delivery-status, text: x } ]", "a header or an attachment's type"),
        ('received: "yesterday"', "yesterday"),
    ],
)
def test_a_test_whose_message_the_library_cannot_write_fails_and_is_told_of(odd, told):
    text = TESTED.replace("RULE", "phi").replace("to: b@mail.example, html", f"to: b@mail.example, {odd}, html")
    failed = run_tests(compile_text(text), scan)[1]
    assert told in failed.problems[0].what


def test_a_time_without_a_zone_is_utc_on_every_machine(monkeypatch):
    text = TESTED.replace("RULE", "phi").replace("to: b@mail.example, html", "to: b@mail.example, received: TIME, html")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        given = [compile_text(text.replace("TIME", f"2026-03-02T09:00:00{zone}")) for zone in ("", "Z")]
        bare, utc = (facts_of(one.tests[1].test.message, scan, now=NOW)[0].received_at for one in given)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert bare == utc


# --- reload -----------------------------------------------------------


def change(path, text, step):
    """Write a file and move its time on, as a second edit a moment later would."""
    path.write_text(text)
    os.utime(path, ns=(step * 10**9, step * 10**9))


@pytest.fixture
def running(tmp_path):
    path = tmp_path / "main.yaml"
    change(path, TESTED.replace("RULE", "phi"), 1)
    return path, RunningPolicy(path, methods=TLS, clock=lambda: NOW, scan=scan)


def test_a_sound_change_is_taken_up(running):
    path, policy = running
    before = policy.version
    assert not policy.reload().changed
    change(path, TESTED.replace("RULE", "phi").replace("opportunistic", "encrypted"), 2)
    outcome = policy.reload()
    assert (outcome.changed, outcome.problems) == (True, ())
    assert outcome.version == policy.version != before
    assert policy.decide(facts(), PAT).treatment.floor.word == "encrypted" == policy.floor(facts(), PAT).word
    assert policy.explain(facts(), PAT).decision.treatment.policy_version == policy.version


@pytest.mark.parametrize(
    "broken", ["rules: [", TESTED.replace("RULE", "rest"), TESTED.replace("RULE", "phi").replace("likely", "likly")]
)
def test_a_change_that_does_not_compile_or_fails_its_tests_leaves_the_running_policy(running, broken):
    path, policy = running
    before = policy.version
    change(path, broken, 2)
    outcome = policy.reload()
    assert not outcome.changed
    assert outcome.problems
    assert policy.version == before
    assert policy.reload().problems == (), "told once for each change"
    change(path, TESTED.replace("RULE", "phi").replace("opportunistic", "verified"), 3)
    assert policy.reload().changed


def test_a_new_include_that_is_at_fault_is_looked_at_again_when_it_is_mended(running):
    path, policy = running
    change(path, "include: more.yaml\n" + TESTED.replace("RULE", "phi"), 2)
    assert "no such file" in policy.reload().problems[0].what
    change(path.parent / "more.yaml", "rules: [ { id: more, when: { stream: bulk }, hold: { reason: wait } } ]\n", 3)
    assert policy.reload().changed
    assert policy.current.rules[0].id == "more"


def test_a_policy_in_shadow_mode_is_sound_and_cannot_be_in_force(running):
    path, policy = running
    change(path, "mode: shadow\n" + TESTED.replace("RULE", "phi"), 2)
    assert load_policy(path, methods=TLS, now=NOW).mode == "shadow"
    assert "decides nothing" in policy.reload().problems[0].what
    assert policy.current.mode == "enforce"


def test_a_policy_that_vanishes_keeps_running_and_a_first_one_must_be_sound(running, tmp_path):
    path, policy = running
    path.unlink()
    assert policy.reload().problems
    assert policy.decide(facts(), PAT).error == ""
    with pytest.raises(ProblemsError):
        RunningPolicy(tmp_path / "none.yaml", methods=TLS, clock=lambda: NOW)


def test_a_changed_list_file_is_taken_up(room):
    policy = RunningPolicy(room / "main.yaml", methods=TLS, clock=lambda: NOW)
    assert policy.decide(facts(), PAT).treatment.rule == "root"
    change(room / "people.csv", "address\n", 2)
    assert policy.reload().changed
    assert policy.decide(facts(), PAT).treatment.rule == "rest"


def test_an_edit_while_the_policy_is_read_is_seen_at_the_next_look(tmp_path):
    path = tmp_path / "main.yaml"
    change(path, TESTED.replace("RULE", "phi"), 1)
    edited = TESTED.replace("RULE", "phi").replace("opportunistic", "encrypted")
    at_once = iter([lambda: change(path, edited, 2)])

    def clock() -> float:
        """Asked for once the files are read, before they are compiled."""
        next(at_once, lambda: None)()
        return NOW

    policy = RunningPolicy(path, methods=TLS, clock=clock, scan=scan)
    assert policy.floor(facts(), PAT).word != "encrypted"
    assert policy.reload().changed
    assert policy.floor(facts(), PAT).word == "encrypted"


# --- what ships -------------------------------------------------------


def test_the_schema_for_editors_is_current_and_takes_the_default_policy():
    shipped = (ROOT / "conf" / "policy.schema.json").read_text()
    assert shipped == json_schema(), "run: postern policy schema > conf/policy.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(shipped))
    data = parse((ROOT / "policies" / "main.yaml").read_text(), "main.yaml").data
    assert list(validator.iter_errors(data)) == []
    data["rules"][0]["when"] = {"phi": "likely", "stream": "bulk"}
    assert not validator.is_valid(data)


def test_the_shipped_list_of_personal_mail_services_is_sound():
    lines = [line for line in builtin_lists()["consumer-mailbox-providers"].splitlines() if line and line[0] != "#"]
    assert len(lines) == len(set(lines)) >= 150
    assert all(normalise_domain(line) == line and "." in line for line in lines)
    assert {"gmail.com", "icloud.com", "proton.me", "web.de"} <= set(lines)


@pytest.mark.parametrize(
    ("left", "right", "slips"),
    [("gmail.com", "gmial.com", 1), ("gmail.com", "gmal.com", 1), ("a", "", 1), ("ca", "abc", 3), ("abc", "abc", 0)],
)
def test_distance(left, right, slips):
    assert near.distance(left, right) == near.distance(right, left) == slips


@given(name=st.text("abc.", max_size=9), slips=st.integers(0, 2))
def test_what_is_left_of_a_name_with_letters_left_out(name, slips):
    places = range(len(name))
    left = {
        "".join(letter for place, letter in enumerate(name) if place not in gone)
        for number in range(slips + 1)
        for gone in itertools.combinations(places, number)
    }
    assert near._shortened(name, slips) == left


def test_the_index_of_neighbours_agrees_with_comparing_every_member():
    members = ["gmail.com", "hotmail.com", "protonmail.com", "mail.com"]
    index = near.Neighbours(members)
    compared = [member for member in members if len(member.partition(".")[0]) >= 5]
    for member in members:
        for place in range(len(member)):
            for letter in "gx.":
                for typed in (member[:place] + letter + member[place:], member[:place] + letter + member[place + 1 :]):
                    reach = [m for m in compared if near.distance(typed, m) <= (2 if len(m) >= 13 else 1)]
                    assert bool(index.nearest(typed)) == (bool(reach) and typed not in members), typed
