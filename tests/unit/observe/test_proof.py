import json
import os
from dataclasses import replace

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.cli.proof import _end, _protection, _step
from relay.cli.proof_words import meanings
from relay.config.keyfiles import create_ring, load_ring
from relay.core.change import AuditEvent
from relay.core.decision import MethodName
from relay.core.fate import FateKind
from relay.core.level import Level
from relay.core.phi import Phi
from relay.core.ports import OutboxRow
from relay.observe.proof import Copy, Step, Story, tell
from relay.observe.segment_files import segment_days, segment_path
from relay.observe.segments import SegmentLog
from relay.protect.keyring import KeyRing
from relay.protect.sealing import RingVault
from tests.support.configs import furnish

NOON = 1_700_049_600.0
PROOF = {
    "level": "authenticated", "vouched_by": "mta-sts", "host": "mx.x.example", "address": "192.0.2.1",
    "tls_version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "certificate_sha256": "ab" * 32,
    "issuer": "CN=<Root>", "not_after": NOON + 9, "failure": "", "checked_by": "PKIX", "names": ["mx.x.example"],
    "chain": ["ab" * 32, "cd" * 32],
}  # fmt: skip
DECIDED = {
    "action": "deliver", "rule": "phi", "policy_version": "f" * 64, "methods": ["tls", "portal"], "tls": "verified",
    "floor": "verified", "floors": ["phi-floor"],
}  # fmt: skip


def event(kind, at, message="m1", **facts):
    return AuditEvent(kind=kind, at=NOON + at, message_id=message, facts=facts)


def history():
    accepted = {
        "client": "ehr", "network": "192.0.2.9", "tls_version": "TLSv1.3", "tls_cipher": "X", "size": 1234,
        "sender": "dr@clinic.example", "recipients": ["ann@x.example", "ben@y.example", "cyd@x.example"],
        "phi": "certain", "findings": {"mrn": 2}, "engine": "postern-scan 1",
    }  # fmt: skip
    waits = [{"numbers": [1], "why": "no host reached the level", "host": "mx.y.example", "reply": "", "status": ""}]
    return [
        event("accepted", 0, "m0", **accepted),
        event("accepted", 1, **accepted),
        event("decided", 1, entry="m1.1", numbers=[0, 2], destination="x.example", **DECIDED),
        event("decided", 1, entry="m1.2", numbers=[1], destination="y.example", **DECIDED),
        event("fate", 2, entry="m1.1", numbers=[0, 2], fate="delivered", reply="250 2.0.0 Ok", why="", proof=PROOF),
        event("attempt", 3, entry="m1.2", waits=waits, state="ready"),
        event("switched", 4, entry="m1.2", reason="the level was not reached"),
        event("alert", 5, alert="unsealed"),
    ]


def records():
    return [{"kind": one.kind, "at": one.at, "message_id": one.message_id, "facts": one.facts} for one in history()]


def test_each_copy_has_its_decision_its_way_and_its_end():
    story = tell(records(), "m1")
    first, second, third = story.copies
    assert [copy.recipient for copy in story.copies] == ["ann@x.example", "ben@y.example", "cyd@x.example"]
    assert {copy.decision["rule"] for copy in story.copies} == {"phi"}
    assert first.protection == third.protection == PROOF
    assert (first.fate["fate"], first.ended_at, first.steps) == ("delivered", NOON + 2, ())
    assert (second.fate, second.ended_at, second.protection) == ({}, 0.0, {})
    assert [step.kind for step in second.steps] == ["attempt", "switched"]
    assert [step.kind for step in story.others] == ["alert"]


def test_of_a_message_nobody_took_there_is_nothing_to_tell():
    assert tell(records(), "m9") is None
    assert tell([], "m1") is None


@pytest.fixture
def config(tmp_path):
    etc = furnish(tmp_path)
    keys, data = tmp_path / "ring", tmp_path / "kept"
    keys.mkdir(mode=0o700)
    ring = KeyRing.create(now=NOON, random=os.urandom)
    create_ring(keys, ring)
    file = etc / "postern.yaml"
    file.write_text(
        f"hostname: relay.clinic.example\ndata_dir: {data}\nkeys_dir: {keys}\nlisteners:\n"
        "  - {name: ehr, kind: submission, address: 127.0.0.1, port: 0, certificate: tls/good.pem, key: tls/good.key}\n"
    )
    write(data / "audit", ring, history())
    return file


def write(directory, ring, events):
    log = SegmentLog(directory, vault=RingVault(ring, os.urandom), ring=lambda: ring, clock=lambda: NOON)
    log.open()
    log.append([OutboxRow(seq=number, events=(one,)) for number, one in enumerate(events, 1)])
    log.sign()
    log.close()


def run(config, *arguments):
    return CliRunner().invoke(main, ["proof", "--config", str(config), *arguments])


def test_the_page_tells_how_each_copy_was_protected(config):
    done = run(config, "m1")
    assert done.exit_code == 0, done.output
    for words in (
        "delivered on 2023-11-15 12:00:02 UTC", "mx.x.example [192.0.2.1]", "PKIX", "mta-sts", "ab" * 32, "phi-floor",
        "not yet: it is in the queue", "no host reached the level", "mrn 2", "the trail is             whole",
    ):  # fmt: skip
        assert words in done.output
    assert "ann@" not in done.output
    assert "x.example" in done.output
    assert "ann@x.example" in run(config, "m1", "--mailboxes").output


def test_the_words_of_the_page_are_explained_on_it_and_no_others(config):
    told = run(config, "m1").output.partition("What the words mean")[2]
    names = [line[2:26].strip() for line in told.splitlines() if line.strip()]
    assert names == [
        "data certain", "tls", "portal", "verified", "authenticated", "delivered", "policy", "least level",
        "head of the chain",
    ]  # fmt: skip
    assert "What the words mean" in run(config, "m1", "--html").output


def test_every_fate_level_method_and_verdict_has_its_meaning():
    def story(**facts):
        copies = (Copy(number=0, recipient="x", decision=facts.get("decision", {}), fate=facts.get("fate", {})),)
        return Story(message_id="m", at=0.0, accepted=facts.get("accepted", {}), copies=copies)

    plain = len(meanings(story()))
    for facts in (
        *({"fate": {"fate": kind.value}} for kind in FateKind),
        *({"decision": {"floor": level.word}} for level in Level),
        *({"decision": {"methods": [method.value]}} for method in MethodName),
        *({"accepted": {"phi": phi.word}} for phi in Phi),
    ):
        assert len(meanings(story(**facts))) == plain + 1, facts


def test_a_copy_in_the_clear_has_no_empty_rows_about_a_certificate():
    fate = {"fate": "delivered", "proof": {"level": "clear", "host": "mx", "address": "::1", "failure": "no STARTTLS"}}
    copy = Copy(number=0, recipient="x.example", fate=fate)
    assert _protection(copy) == [("travelled", "clear, to mx [::1]"), ("TLS", "none"), ("why not more", "no STARTTLS")]


def test_a_copy_that_was_refused_did_not_travel():
    """A bounce names the connection over which the copy was offered; of the portal's protection it says nothing."""
    refused = {"fate": "bounced", "proof": PROOF, "method": "portal"}
    copy = Copy(number=0, recipient="x.example", fate=refused)
    assert [name for name, _ in _end(copy)][:3] == ["ended", "because", "offered"]
    story = Story(message_id="m", at=0.0, accepted={}, copies=(copy,))
    assert "offered" in dict(meanings(story))
    came_back = replace(copy, steps=(Step(at=NOON, kind="notified", facts={}),))  # the notice was taken, then returned
    assert [name for name, _ in _end(came_back)][2:4] == ["protected by", "travelled"]
    assert "offered" not in dict(meanings(replace(story, copies=(came_back,))))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"cause": "hard-bounce", "evidence": "550"}, "suppressed: hard-bounce"),
        ({"alert": "undeliverable-notice", "why": "refused: 550"}, "suppressed: undeliverable-notice; refused: 550"),
        ({}, "suppressed"),
    ],
)
def test_what_happened_besides_says_why(facts, told):
    assert _step(Step(at=NOON, kind="suppressed", facts=facts)) == told


def test_who_let_a_held_message_go_stands_beside_why():
    facts = {
        "operation": "release",
        "operator": "ada",
        "uid": 1000,
        "reason": "the clinic confirmed it",
        "outcome": "ready",
    }
    assert _step(Step(at=NOON, kind="operator", facts=facts)) == "operator: the clinic confirmed it; release; by ada"
    assert "ada" not in _step(Step(at=NOON, kind="alert", facts=facts)), "only the record of the act names who"


def test_json_and_html_tell_the_same(config):
    told = json.loads(run(config, "m1", "--json").output)
    assert told["copies"][0]["fate"]["proof"] == PROOF
    assert told["trail"]["whole"]
    assert len(told["trail"]["hash"]) == 64
    page = run(config, "m1", "--html").output
    assert page.startswith("<!doctype html>")
    assert "CN=&lt;Root&gt;" in page
    assert "<Root>" not in page
    assert "@media print" in page


def test_an_unknown_message_and_a_changed_trail_are_told(config, tmp_path):
    missing = run(config, "m9")
    assert (missing.exit_code, missing.output) == (1, missing.stderr)
    assert "tells of no such message" in missing.stderr
    audit = tmp_path / "kept" / "audit"
    segment = segment_path(audit, segment_days(audit)[0])
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    done = run(config, "m1")
    assert done.exit_code == 1
    assert "NOT whole" in done.output or "Error" in done.output


def test_what_follows_in_the_portal_is_the_end_and_what_it_travelled_on_stays():
    notified = {"entry": "m1.1", "numbers": [0], "fate": "notified", "why": "", "method": "portal", "proof": PROOF}
    read = {"numbers": [0], "fate": "read", "why": "opened by an authenticated reader", "method": "portal"}
    records = [
        {"kind": one.kind, "at": one.at, "message_id": "m1", "facts": one.facts}
        for one in (
            event("accepted", 0, recipients=["ann@x.example"], sender="dr@clinic.example"),
            event("decided", 0, entry="m1.1", numbers=[0], **DECIDED),
            event("portal", 1, numbers=[0], event="deposited"),
            event("fate", 2, **notified),
            event("fate", 3, **read),
            event("portal", 4, numbers=[0], event="downloaded"),
        )
    ]
    (copy,) = tell(records, "m1").copies
    assert (copy.fate["fate"], copy.ended_at, copy.protection) == ("read", NOON + 3, PROOF)
    assert [step.kind for step in copy.steps] == ["portal", "notified", "portal"]


@pytest.fixture
def nodes(config, tmp_path):
    """This node took the message and delivered a copy; another one, whose clock is behind, delivered the rest."""
    config.write_text(config.read_text() + "store: postgresql://postern@127.0.0.1/postern\nnode: relay1\n")
    waits = [{"numbers": [1], "why": "no route", "host": "", "reply": "", "status": ""}]
    theirs = [
        event("attempt", -5, entry="m1.2", waits=waits, state="ready"),
        event("held", -4, entry="m1.2", reason="asked for"),
        event("fate", -3, entry="m1.2", numbers=[1], fate="delivered", reply="250 Ok", why="", proof=PROOF),
    ]
    write(tmp_path / "relay2", load_ring(tmp_path / "ring"), theirs)
    return config, tmp_path / "relay2"


def test_one_node_s_trail_does_not_say_of_a_copy_that_it_waits(nodes):
    """Another node may have delivered it long ago: what this trail does not know it does not say."""
    config, _ = nodes
    told = run(config, "m1").output
    assert "not yet: it is in the queue" not in told
    assert "not by this node" in told
    assert "what relay1 did" in told
    plain = json.loads(run(config, "m1", "--json").output)
    assert (plain["node"], plain["other_nodes_missing"], plain["other_trails"]) == ("relay1", True, [])
    assert "another node may have taken it" in run(config, "m9").stderr


def test_the_trails_of_several_nodes_tell_one_story(nodes):
    config, other = nodes
    done = run(config, "m1", "--trail", str(other))
    assert done.exit_code == 0, done.output
    assert "not by this node" not in done.output
    assert done.output.count("the trail is             whole") == 2
    plain = json.loads(run(config, "m1", "--json", "--trail", str(other)).output)
    assert plain["copies"][1]["fate"]["fate"] == "delivered"
    assert {step["kind"] for step in plain["copies"][1]["steps"]} == {"attempt", "held", "switched"}
    assert plain["other_nodes_missing"] is False
    assert [one["directory"] for one in plain["other_trails"]] == [str(other)]


def test_another_node_s_trail_that_is_not_whole_shows_in_the_exit_status(nodes):
    config, other = nodes
    segment = segment_path(other, segment_days(other)[0])
    segment.write_bytes(segment.read_bytes()[:-40])
    done = run(config, "m1", "--trail", str(other))
    assert done.exit_code == 1
    assert "NOT whole" in done.output
    (theirs,) = json.loads(run(config, "m1", "--json", "--trail", str(other)).output)["other_trails"]
    assert any(str(segment) in fault for fault in theirs["faults"])
