"""The verbs as an operator types them."""

import os
import threading

import apsw
import orjson
import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.cli.dkim import compare
from relay.config.keyfiles import load_ring, write_private
from relay.config.signing_keys import load_signing_keys
from relay.net.resolver import Answer, Found
from relay.observe.keyuse import count_use
from relay.observe.segment_files import segment_days, segment_path
from relay.observe.segments import SegmentLog
from relay.protect.dkim import SigningKey, public_text, record_text
from relay.protect.sealing import RingVault
from tests.unit.protect.test_dkim import ED, RSA
from tests.unit.protect.test_segments import DAY, NOON, Clock, rows


@pytest.fixture
def run(tmp_path):
    def invoke(*arguments, ok=True, given=None):
        verb, *rest = arguments
        places = {
            "keys": ["--keys-dir", str(tmp_path / "keys"), "--data-dir", str(tmp_path / "data")],
            "audit": ["--keys-dir", str(tmp_path / "keys"), "--audit-dir", str(tmp_path / "data" / "audit")],
            "dkim": ["--dir", str(tmp_path / "dkim")],
        }[verb]
        result = CliRunner().invoke(main, [verb, *places, *map(str, rest)], input=given)
        assert (result.exit_code == 0) == ok, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.output

    return invoke


def make_trail(tmp_path):
    ring = load_ring(tmp_path / "keys")
    clock = Clock()
    log = SegmentLog(tmp_path / "data" / "audit", vault=RingVault(ring, os.urandom), ring=lambda: ring, clock=clock)
    log.open()
    for day in range(2):
        clock.now = NOON + day * DAY
        log.append(rows(1 + 2 * day, 2 + 2 * day))
        log.sign()
    log.close()


# --- keys -------------------------------------------------------------------


def test_a_ring_is_made_rotated_and_shown(run, tmp_path):
    assert "ring.json" in run("keys", "init")
    run("keys", "init", ok=False)
    assert "Version 2" in run("keys", "rotate")
    assert "Audit key 2" in run("keys", "rotate", "--audit-key")
    status = orjson.loads(run("keys", "status", "--json"))
    assert [(one["number"], one["seals"]) for one in status["versions"]] == [(1, False), (2, True)]
    assert len(status["audit_keys"]) == 2
    shown = run("keys", "status")
    ring = load_ring(tmp_path / "keys")
    for version in (*ring.versions, *ring.audit_keys):
        assert version.secret.hex() not in shown
    assert ring.newest.fingerprint in shown


def test_a_ring_inside_the_data_is_refused(run, tmp_path):
    result = CliRunner().invoke(
        main, ["keys", "--keys-dir", str(tmp_path / "d" / "keys"), "--data-dir", str(tmp_path / "d"), "init"]
    )
    assert result.exit_code == 1
    assert "inside the data" in result.output


def test_without_a_ring_every_verb_says_so(run, tmp_path):
    for verb in (
        ["rotate"],
        ["status"],
        ["retire", "1"],
        ["recovery", "write", tmp_path / "copy", "--passphrase-file", tmp_path / "p"],
    ):
        assert "postern keys init" in run("keys", *verb, ok=False)
    assert not (tmp_path / "keys").exists()


def test_a_version_in_use_is_not_retired(run, tmp_path):
    run("keys", "init")
    make_trail(tmp_path)
    run("keys", "rotate")
    assert "still need it" in run("keys", "retire", 1, ok=False)
    used = orjson.loads(run("keys", "status", "--json"))["versions"]
    assert [one["sealed_objects"] > 0 for one in used] == [True, False]
    for path in sorted((tmp_path / "data" / "audit").iterdir()):
        path.unlink()
    run("keys", "retire", 1)
    assert [version.number for version in load_ring(tmp_path / "keys").versions] == [2]
    assert "rotate first" in run("keys", "retire", 2, ok=False)


def test_use_is_counted_in_databases_and_files(tmp_path):
    from tests.unit.protect.test_sealing import make_vault

    old, new = make_vault(1), make_vault(2)
    database = apsw.Connection(str(tmp_path / "q.db"))
    database.execute("CREATE TABLE t(a BLOB, b TEXT)")
    for vault in (old, old, new):
        database.execute("INSERT INTO t VALUES(?, ?)", (vault.seal("body", "m", b"x"), "text"))
    database.execute("INSERT INTO t VALUES(?, NULL)", (new.seal_address("a@b.example"),))
    database.close()
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies" / "m").write_bytes(old.seal("body", "m", b"y"))
    (tmp_path / "bodies" / "other").write_bytes(b"PS")
    assert count_use([tmp_path, tmp_path / "bodies"]) == {1: 3, 2: 2}


def test_a_recovery_copy_is_written_and_restored(run, tmp_path):
    run("keys", "init")
    ring = load_ring(tmp_path / "keys")
    write_private(tmp_path / "pass", b"six random words do well\n")
    run("keys", "recovery", "write", tmp_path / "copy", "--passphrase-file", tmp_path / "pass")
    run("keys", "recovery", "restore", tmp_path / "copy", "--passphrase-file", tmp_path / "pass", ok=False)
    (tmp_path / "keys" / "ring.json").unlink()
    wrong = run("keys", "recovery", "restore", tmp_path / "copy", ok=False, given="something else\n")
    assert "passphrase is wrong" in wrong
    assert "newest version is 1, made" in run(
        "keys", "recovery", "restore", tmp_path / "copy", given="six random words do well\n"
    )
    assert load_ring(tmp_path / "keys") == ring


# --- dkim -------------------------------------------------------------------


def test_new_keys_are_written_and_their_records_printed(run, tmp_path):
    printed = run("dkim", "new", "Clinic.Example", "--selector", "s1")
    keys = load_signing_keys(tmp_path / "dkim")
    assert [(key.selector, key.algorithm) for key in keys] == [("s1-ed", "ed25519"), ("s1", "rsa")]
    assert "s1._domainkey.clinic.example. 3600 IN TXT (" in printed
    assert all(len(text) <= 255 for text in printed.split('"')[1::2])
    flat = "".join(printed.split('"')[1::2])
    assert all(public_text(key) in flat for key in keys)
    assert "there already" in run("dkim", "new", "clinic.example", "--selector", "s1", ok=False)


def test_a_second_key_waits_while_the_first_signs(run, tmp_path):
    run("dkim", "new", "clinic.example", "--selector", "one", "--algorithm", "rsa")
    run("dkim", "new", "clinic.example", "--selector", "two", "--algorithm", "rsa")
    roles = {one["selector"]: one["role"] for one in orjson.loads(run("dkim", "show", "--json"))}
    assert roles == {"one": "signs", "two": "waits"}
    run("dkim", "new", "clinic.example", "--selector", "zero", "--algorithm", "ed25519", "--activate-in", "0")
    shown = run("dkim", "show", "clinic.example")
    assert "BEGIN" not in shown
    assert "ed25519: signs" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["new", "bad-.example"],
        ["new", "a.example", "--selector", "UNDER_SCORE"],
        ["new", "a.example", "--activate-in", "soon"],
        ["check"],
        ["check", "nobody.example"],
    ],
)
def test_what_cannot_be_is_told_in_one_line(run, arguments):
    assert run("dkim", *arguments, ok=False).startswith("Error: ")


def test_without_keys_show_says_how_to_make_one(run):
    assert "postern dkim new" in run("dkim", "show")


def published(*texts):
    class Txt:
        def __init__(self, text):
            self.strings = tuple(text[i : i + 255].encode() for i in range(0, len(text), 255))

    return Answer(found=Found.FOUND, records=tuple(map(Txt, texts)))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (published(record_text(RSA)), ""),
        (published(f"p={public_text(RSA)}"), ""),
        (published(record_text(RSA).replace("p=", "p= ").replace("; ", " ;\t")), ""),
        (published(record_text(RSA), "v=spf1 -all"), "more than one"),
        (published(), "no record"),
        (Answer(found=Found.NXDOMAIN), "no record"),
        (Answer(found=Found.FAILED, detail="SERVFAIL"), "does not answer: SERVFAIL"),
        (published("v=DKIM1; k=rsa; p="), "revoked"),
        (published("v=DKIM1; k=rsa"), "no key"),
        (published(record_text(ED)), "another key"),
        (published(record_text(RSA).replace("k=rsa", "k=ed25519")), "k=ed25519"),
        (published(record_text(RSA).replace("sha256", "sha1")), "sha256"),
        (published(record_text(RSA) + "; t=y:s"), "testing"),
        (published(record_text(RSA).replace("DKIM1", "DKIM2")), "not a DKIM1"),
    ],
)
def test_records_are_compared_with_the_key(answer, fault):
    found = compare(RSA, answer)
    assert fault in found
    assert bool(fault) == bool(found)


def test_dns_is_asked(run, tmp_path):
    run("dkim", "new", "clinic.example", "--selector", "s1", "--algorithm", "rsa")
    (key,) = load_signing_keys(tmp_path / "dkim")
    with served({key.record_name: record_text(key)}) as address:
        assert "published as it should be" in run("dkim", "check", "--server", address)
    with served({}) as address:
        assert "no record" in run("dkim", "check", "clinic.example", "--server", address, ok=False)


class served:  # noqa: N801  # reads as a word in `with`
    """A name server on loopback, in a thread of its own."""

    def __init__(self, records):
        self.records = records

    def __enter__(self):
        import socket

        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.answer)
        self.thread.start()
        return f"127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *raised):
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join(10)
        self.socket.close()

    def answer(self):
        import dns.flags
        import dns.message
        import dns.rcode
        import dns.rrset

        while True:
            question, peer = self.socket.recvfrom(4096)
            if not question:
                return
            query = dns.message.from_wire(question)
            response = dns.message.make_response(query)
            response.flags |= dns.flags.RA
            name = query.question[0].name
            text = self.records.get(str(name).rstrip("."))
            if text is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
            else:
                strings = " ".join(f'"{text[i : i + 255]}"' for i in range(0, len(text), 255))
                response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", strings))
            self.socket.sendto(response.to_wire(), peer)


# --- audit --------------------------------------------------------------------


@pytest.fixture
def trail(run, tmp_path):
    run("keys", "init")
    make_trail(tmp_path)
    return tmp_path / "data" / "audit"


def test_records_are_shown_by_domain(run, trail):
    lines = run("audit", "show", "--message", "m2", "--json").splitlines()
    assert [orjson.loads(line)["facts"]["recipients"] for line in lines] == [["patients.example", "x.example"]] * 2
    assert "jane.roe" not in run("audit", "show")
    assert "--message: it is empty" in run("audit", "show", "--message", "", ok=False)  # a script's unset variable
    assert "jane.roe@patients.example" in run("audit", "show", "--mailboxes")
    assert len(run("audit", "show", "--since", "2023-11-15T12:00:03").splitlines()) == 4
    assert len(run("audit", "show", "--until", "2023-11-15T12:00:03").splitlines()) == 4
    assert run("audit", "show", "--since", "1d").startswith("No record matches")
    assert "neither a day" in run("audit", "show", "--since", "yesterday", ok=False)


def test_the_whole_story_of_a_mailbox_is_found_by_its_address(run, trail):
    story = [
        orjson.loads(line)
        for line in run("audit", "show", "--recipient", "<Jane.Roe@PATIENTS.example>", "--json").splitlines()
    ]
    assert {record["message_id"] for record in story} == {"m1", "m2", "m3", "m4"}
    assert len(story) == 8
    assert run("audit", "show", "--recipient", "ehr@clinic.example").startswith("No record")  # it sent, and got none
    assert run("audit", "show", "--recipient", "someone.else@patients.example").startswith("No record")
    assert "--recipient jane.roe: the address has no domain" in run(
        "audit", "show", "--recipient", "jane.roe", ok=False
    )
    assert "--recipient: it is empty" in run("audit", "show", "--recipient", " ", ok=False)


def test_a_whole_trail_verifies_and_a_changed_one_says_where(run, trail):
    assert "The trail is whole." in run("audit", "verify")
    assert orjson.loads(run("audit", "verify", "--json"))["whole"] is True
    path = segment_path(trail, segment_days(trail)[0])
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert f"{path}, octet 6: frame 0" in run("audit", "verify", ok=False)


def test_an_export_is_checked_elsewhere(run, trail, tmp_path):
    out = tmp_path / "out.jsonl"
    assert "Wrote 8 records" in run("audit", "export", "--from", "2023-11-15", "--to", "2023-11-16", "--out", out)
    assert out.stat().st_mode & 0o077 == 0
    assert "not replaced" in run(
        "audit", "export", "--from", "2023-11-15", "--to", "2023-11-16", "--out", out, ok=False
    )
    key = orjson.loads(run("keys", "status", "--json"))["audit_keys"][0]["id"]
    for arguments in ([], ["--key", key]):
        result = CliRunner().invoke(main, ["audit", "check-export", str(out), *arguments])
        assert result.exit_code == 0, result.output
        assert key in result.output
    assert CliRunner().invoke(main, ["audit", "check-export", str(out), "--key", "0" * 16]).exit_code == 1
    out.write_bytes(out.read_bytes().replace(b'"rule":"phi"', b'"rule":"psi"', 1))
    assert CliRunner().invoke(main, ["audit", "check-export", str(out)]).exit_code == 1
    assert "no segment" in run(
        "audit", "export", "--from", "2020-01-01", "--to", "2020-01-02", "--out", tmp_path / "n", ok=False
    )
    assert "2020-01-01 is before 2020-01-02" in run(
        "audit", "export", "--from", "2020-01-02", "--to", "2020-01-01", "--out", tmp_path / "n", ok=False
    )
    assert not list(tmp_path.glob(".*part"))


def test_legal_holds(run, trail):
    run("audit", "hold", "add", "case-7", "--from", "2023-11-01", "--reason", "inquiry")
    assert "case-7: 2023-11-01 to 9999-12-31" in run("audit", "hold", "list")
    run("audit", "hold", "add", "case-7", "--from", "2023-11-01", "--reason", "inquiry", ok=False)
    run("audit", "hold", "add", "bad", "--from", "2023-11-02", "--to", "2023-11-01", "--reason", "x", ok=False)
    run("audit", "hold", "release", "case-7", given="y\n", ok=False)  # it wants a reason
    said = ["--reason", "closed", "--by", "Ann Lee"]
    assert "Released" in run("audit", "hold", "release", "case-7", *said, given="y\n")
    assert run("audit", "hold", "list") == "No holds.\n"
    assert "by Ann Lee: closed" in run("audit", "hold", "list", "--all")


def test_hold_list_says_what_is_wrong_with_the_file(run, trail):
    run("audit", "hold", "add", "case-7", "--from", "2023-11-01", "--reason", "inquiry")
    path = trail / "holds.json"
    [item] = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps([{**item, "released_at": 1.0}]))
    said = run("audit", "hold", "list", ok=False)
    assert "case-7: 2023-11-01" in said
    assert "not under our key ring" in said


def test_signing_keys_name_what_they_are():
    key = SigningKey(domain="a.example", selector="s", private=ED.private)
    assert key.record_name == "s._domainkey.a.example"
