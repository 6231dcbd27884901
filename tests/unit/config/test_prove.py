"""What only running would show: each proof finds its fault, and is silent when all is well."""

import asyncio
import datetime as dt
import ipaddress
import json
import os
import pwd
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import NameOID

from relay.cli import main, parts
from relay.config.load import load_with_places
from relay.config.proof_files import prove_certificate, prove_private
from relay.config.proof_system import (
    prove_directory,
    prove_dns,
    prove_listening,
    prove_reach,
    prove_space,
    prove_trusted_path,
)
from relay.config.prove import Extent, prove
from relay.config.secret import SecretFile
from relay.config.settings import NAMELESS, machine_name
from relay.core.errors import Problem, ProblemsError
from relay.demo.dns import DnsServer, Trouble
from tests.support.configs import furnish

LOOPBACK = ipaddress.ip_address("127.0.0.1")
CONFIG = """\
hostname: relay.clinic.example
data_dir: data
run_dir: run
limits: {{disk_reserve: 0}}
admin: {{port: 0}}
dns: {{nameservers: [127.0.0.1], port: {dns}, timeout: 1s, lifetime: 1s}}
listeners:
  - name: ehr
    kind: submission
    address: 127.0.0.1
    port: {port}
    certificate: tls/good.pem
    key: tls/good.key
dsn: {{postmaster: postmaster@clinic.example}}
"""


@pytest.fixture
def etc(tmp_path):
    return furnish(tmp_path)


def configure(etc, *, dns=53, port=0, more=""):
    path = etc / "postern.yaml"
    path.write_text(CONFIG.format(dns=dns, port=port) + more)
    return path


def proof_of(path, **extent):
    return prove(load_with_places(path), now=dt.datetime.now(dt.UTC), extent=Extent(**extent))


async def test_a_good_machine_gives_no_complaint(etc):
    async with DnsServer({"": {"NS": ["a.root.example."]}}) as server:
        path = configure(etc, dns=server.port)
        proof = await asyncio.to_thread(proof_of, path)
    assert (proof.errors, proof.warnings) == ((), ())


async def test_a_postmaster_whom_no_bounce_could_reach_is_told(etc):
    own = {"dsn": "postmaster@clinic.example", "to": "postmaster@relay.clinic.example"}
    route = "routes:\n  - {name: inside, domains: [relay.clinic.example], hosts: ['127.0.0.1:26'], internal: true}\n"
    async with DnsServer({"": {"NS": ["a.root.example."]}}) as server:
        told = []
        for more in ("", route):
            path = configure(etc, dns=server.port, more=more)
            path.write_text(path.read_text().replace(own["dsn"], own["to"]))
            told.append((await asyncio.to_thread(proof_of, path)).warnings)
    ((warning,), none) = told
    assert "mail for relay.clinic.example has no route out of here" in warning.what
    assert none == ()


def test_proving_leaves_nothing_behind(etc):
    path = configure(etc)
    before = sorted(etc.rglob("*"))
    proof_of(path, dns=False)
    assert sorted(etc.rglob("*")) == before


def test_a_port_in_use_is_told_with_its_line(etc):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = configure(etc, port=taken.getsockname()[1])
        proof = proof_of(path, dns=False)
    assert [(one.where, "another program listens there" in one.what) for one in proof.errors] == [(f"{path}:11", True)]


def test_ports_in_use_are_right_while_postern_runs(etc):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as control:
        control.bind(str(etc / "run" / "control.sock"))
        control.listen(1)
        proof = proof_of(configure(etc, port=taken.getsockname()[1]), dns=False)
    assert proof.errors == ()


def test_an_address_of_another_machine_is_told():
    found = list(prove_listening(ipaddress.ip_address("192.0.2.1"), 0, "x:1"))
    assert ["does not have the address" in one.problem.what for one in found] == [True]


async def test_nameservers_that_do_not_answer_rightly_are_told():
    async with DnsServer({"": Trouble.SERVFAIL}) as server:
        found = await asyncio.to_thread(lambda: list(prove_dns([LOOPBACK], server.port, 2.0, "x:1")))
    assert ["answers SERVFAIL" in one.problem.what for one in found] == [True]
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        found = list(prove_dns([LOOPBACK], silent.getsockname()[1], 0.2, "x:1"))
    assert ["does not answer within 0.2 s" in one.problem.what for one in found] == [True]
    assert not found[0].warning


async def test_one_nameserver_of_two_down_is_a_warning():
    async with DnsServer({"": {"NS": ["a.root.example."]}}) as server:
        servers = [LOOPBACK, ipaddress.ip_address("127.0.0.77")]
        found = await asyncio.to_thread(lambda: list(prove_dns(servers, server.port, 0.5, "x:1")))
    assert [(one.warning, "127.0.0.77" in one.problem.what) for one in found] == [(True, True)]


def test_the_ad_bit_of_a_nameserver_elsewhere_is_a_warning():
    servers = [LOOPBACK, ipaddress.ip_address("192.0.2.53"), ipaddress.ip_address("::1")]
    found = list(prove_trusted_path(servers, "x:1"))
    assert [(one.warning, "192.0.2.53" in one.problem.what) for one in found] == [(True, True)]


def test_too_little_space_is_told_before_mail_is_refused(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert list(prove_space(tmp_path / "not" / "yet", 0, "x:1")) == []
    assert [one.warning for one in prove_space(tmp_path, free * 3 // 4, "x:1")] == [True]
    assert [one.warning for one in prove_space(tmp_path, free * 2, "x:1")] == [False]


def test_directories_others_can_enter_are_told(tmp_path):
    tmp_path.chmod(0o755)
    assert [one.warning for one in prove_directory(tmp_path, "x:1", private=True)] == [True]
    assert list(prove_directory(tmp_path, "x:1", private=False)) == []
    tmp_path.chmod(0o777)
    assert [one.warning for one in prove_directory(tmp_path, "x:1", private=False)] == [False]
    tmp_path.chmod(0o700)
    assert list(prove_directory(tmp_path / "made" / "later", "x:1", private=True)) == []


def somebody(uid):
    """A user that owns nothing here and is in no group."""
    return pwd.struct_passwd(("somebody", "x", uid, uid, "", "/", "/bin/false"))


def test_directories_that_the_user_cannot_come_to_are_told_once():
    with tempfile.TemporaryDirectory() as made:
        base = Path(made)
        base.chmod(0o755)
        closed = base / "closed"
        run, data = closed / "run", closed / "data"
        run.mkdir(parents=True)
        places = [("x:1", run), ("x:2", data), ("x:3", base / "later" / "made")]
        closed.chmod(0o700)
        (found,) = prove_reach(places, somebody(4_000_000))
        assert (found.warning, found.problem.where) == (False, "x:1")
        assert found.problem.what == f"somebody cannot use {run}: {closed} is closed to it (mode 0700)"
        assert found.problem.hint == f"chmod o+x {closed}, or choose another place"
        closed.chmod(0o711)
        run.chmod(0o755)
        (found,) = prove_reach(places, somebody(4_000_000))
        assert found.problem.what == f"somebody cannot use {run}: {run} is closed to it (mode 0755)"
        assert found.problem.hint == f"chown somebody {run}"
        for owner in (somebody(run.stat().st_uid), somebody(0)):
            assert list(prove_reach(places, owner)) == []
        run.chmod(0o777)
        assert list(prove_reach(places, somebody(4_000_000))) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_check_holds_directories_against_the_user_that_postern_becomes(etc):
    etc.chmod(0o700)
    assert [one for one in proof_of(configure(etc), dns=False).errors if "closed" in one.what] == []
    (told,) = [one for one in proof_of(configure(etc, more="user: nobody\n"), dns=False).errors if "closed" in one.what]
    assert told.what.startswith("nobody cannot use ")


def test_a_missing_policy_is_told(etc):
    proof = proof_of(configure(etc, more="policy: policies/absent.yaml\n"), dns=False)
    assert ["absent.yaml" in one.where for one in proof.errors] == [True]


def test_a_client_file_others_can_change_is_told(etc):
    (etc / "clients" / "main-ehr.yaml").chmod(0o666)
    proof = proof_of(configure(etc), dns=False)
    assert [one.what for one in proof.errors] == ["others could change it (mode 0666)"]


def test_a_certificate_about_to_expire_is_a_warning(etc):
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=80)
    proof = prove(load_with_places(configure(etc)), now=soon, extent=Extent(dns=False))
    assert ["expires on" in one.what for one in proof.warnings] == [True]
    assert proof.errors == ()


def test_signing_keys_in_rotation_are_warned_of_only_when_none_signs(etc):
    key = "dkim: {{domains: [{{domain: clinic.example, keys: [{{selector: r1, key: signing/rsa.pem, {days}}}]}}]}}\n"
    path = configure(etc, more=key.format(days="valid_from: 2020-01-01"))
    assert proof_of(path, dns=False).warnings == ()
    path = configure(etc, more=key.format(days="valid_until: 2020-01-01"))
    assert ["no key of clinic.example signs today" in one.what for one in proof_of(path, dns=False).warnings] == [True]


def test_secrets_are_read_from_files_and_credentials(etc, monkeypatch):
    assert SecretFile(str(etc / "secrets" / "one")).read_text() == "a secret with spaces"
    inside = SecretFile("credential:one")
    assert inside.read_text({"CREDENTIALS_DIRECTORY": str(etc / "secrets")}) == "a secret with spaces"
    with pytest.raises(ProblemsError, match="CREDENTIALS_DIRECTORY is not set"):
        inside.read({})
    with pytest.raises(ProblemsError, match="one line") as caught:
        SecretFile(str(etc / "secrets" / "two-lines")).read_text()
    assert "two\n" not in str(caught.value)
    with pytest.raises(ProblemsError, match="larger than 1 MiB"):
        SecretFile("/dev/zero").read()


def check(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


async def test_check_says_all_is_right(etc, monkeypatch):
    monkeypatch.setattr(parts, "problems", lambda: ([], []))  # whatever is compiled here
    async with DnsServer({"": {"NS": ["a.root.example."]}}) as server:
        path = configure(etc, dns=server.port)
        result = await asyncio.to_thread(check, "--config", path)
        assert (result.exit_code, result.output) == (0, f"{path} is right, and this machine is ready for it.\n")
        result = await asyncio.to_thread(check, "--config", path, "--json")
        assert json.loads(result.output) == {"ok": True, "errors": [], "warnings": []}
        (etc / "clients" / "main-ehr.yaml").unlink()
        result = await asyncio.to_thread(check, "--config", path)
        assert result.exit_code == 0
        assert result.output.endswith(f"{path}: 1 warning.\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(("user", "becomes"), [("", ["nobody"]), ("user: nobody", [])])
async def test_root_is_told_what_the_service_would_meet(etc, monkeypatch, user, becomes):
    became = []
    monkeypatch.setattr("relay.privileges.become", became.append)  # these tests stay root
    async with DnsServer({"": {"NS": ["a.root.example."]}}) as server:
        path = configure(etc, dns=server.port)
        path.write_text(f"{path.read_text()}{user}\n")
        data = load_with_places(path).settings.data_dir
        await asyncio.to_thread(check, "--config", path)
        assert became == []  # all of it is root's own
        os.chown(data, pwd.getpwnam("nobody").pw_uid, -1)
        await asyncio.to_thread(check, "--config", path)
    assert became == becomes


async def test_check_says_what_the_installation_lacks(etc, monkeypatch):
    lacking = Problem(where="octets", what="plain Python", hint=""), Problem(where="words", what="damaged", hint="")
    monkeypatch.setattr(parts, "problems", lambda: (lacking[:1], lacking[1:]))
    async with DnsServer({"": {"NS": ["a.root.example."]}}) as server:
        path = configure(etc, dns=server.port)
        result = await asyncio.to_thread(check, "--config", path)
    assert result.exit_code == 1
    assert "warning: octets: plain Python" in result.output
    assert "error: words: damaged" in result.output


async def test_check_tries_the_tests_in_the_scans_tuning(etc):
    (etc / "tried.yaml").write_text("clients: { main-ehr: { tests: [{ text: asthma, verdict: likely }] } }\n")
    async with DnsServer({"": {"NS": ["a.root.example."]}}) as server:
        path = configure(etc, dns=server.port, more="scan: { tuning: tried.yaml }\n")
        result = await asyncio.to_thread(check, "--config", path)
    assert result.exit_code == 1
    assert "tried.yaml: clients.main-ehr: tests[1]: the verdict is none" in result.output
    (etc / "tried.yaml").unlink()


def test_check_tells_errors_and_fails(etc):
    path = configure(etc, more="logs: {}\n")
    result = check("--config", path)
    assert result.exit_code == 1
    assert f"error: {path}:15: logs is not a setting\n    did you mean log?\n" in result.output
    shown = json.loads(check("--config", path, "--json").output)
    assert shown["ok"] is False
    assert shown["errors"] == [{"where": f"{path}:15", "what": "logs is not a setting", "hint": "did you mean log?"}]


def test_check_without_a_configuration_is_one_clear_error(tmp_path):
    result = check("--config", tmp_path / "absent.yaml")
    assert result.exit_code == 1
    assert "there is no configuration here" in result.output
    assert "Traceback" not in result.output


def test_check_prints_schema_and_example():
    assert json.loads(check("--print-schema").output)["title"] == "Postern configuration"
    assert "#hostname: auto" in check("--print-example").output


def test_a_secret_of_another_user_is_told(etc):
    found = list(prove_private(etc / "secrets" / "one", "x:1", frozenset({os.geteuid() + 1})))
    assert ["belongs to user" in one.problem.what for one in found] == [True]
    assert list(prove_private(etc / "secrets" / "one", "x:1", frozenset({os.geteuid()}))) == []
    assert ["is not a file" in one.problem.what for one in prove_private(Path("/dev/null"), "x:1", frozenset({0}))] == [
        True
    ]


def test_a_key_locked_with_a_passphrase_is_told(etc):
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    (etc / "tls" / "good.key").write_bytes(locked)
    proof = proof_of(configure(etc), dns=False)
    assert ["locked with a passphrase" in one.what for one in proof.errors] == [True]


def certificate(key, *names):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - dt.timedelta(days=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=60))
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["relay.clinic.example"], []),
        (["x.example", "*.clinic.example"], []),
        (["RELAY.clinic.example"], []),
        (["*.example"], ["names *.example, not relay.clinic.example"]),
        (["clinic.example"], ["names clinic.example, not relay.clinic.example"]),
        ([], ["names nothing, not relay.clinic.example"]),
    ],
)
def test_the_names_of_a_certificate_are_held_against_ours(tmp_path, names, told):
    path = tmp_path / "made.pem"
    path.write_bytes(certificate(ec.generate_private_key(ec.SECP256R1()), *names))
    found = list(prove_certificate(path, None, "x:1", hostname="relay.clinic.example", now=dt.datetime.now(dt.UTC)))
    assert [one.problem.what.removeprefix(f"{path} ") for one in found] == told
    assert all(one.warning for one in found)


def test_short_keys_and_muddled_chains_are_told(etc):
    weak, other = rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256R1())
    path = etc / "weak.pem"
    path.write_bytes(certificate(weak, "a.example") + (etc / "tls" / "good.pem").read_bytes() + certificate(other))
    found = list(prove_certificate(path, weak, "x:1", hostname="a.example", now=dt.datetime.now(dt.UTC)))
    assert ["1024 bits" in found[0].problem.what, found[0].warning] == [True, False]
    assert ["not in order" in found[1].problem.what, found[1].warning] == [True, True]


@pytest.fixture
def nameless(monkeypatch):
    machine_name.cache_clear()
    monkeypatch.setattr(socket, "gethostname", lambda: "relay1")
    yield monkeypatch
    machine_name.cache_clear()


def test_the_machine_is_asked_for_its_full_name(nameless):
    nameless.setattr(socket, "getfqdn", lambda: "Relay1.Clinic.example")
    assert machine_name() == "relay1.clinic.example"


@pytest.mark.parametrize("name", ["relay1", "not_a..name", "x.-y"])
def test_a_machine_without_a_full_name_is_nameless(nameless, name):
    nameless.setattr(socket, "getfqdn", lambda: name)
    assert machine_name() == NAMELESS


def test_a_resolver_that_never_answers_does_not_stop_the_start(nameless):
    release = threading.Event()
    nameless.setattr(socket, "getfqdn", lambda: str(release.wait(30)))
    try:
        assert machine_name(0.05) == NAMELESS
    finally:
        release.set()


def test_a_name_other_servers_would_refuse_is_a_warning(etc):
    path = configure(etc)
    path.write_text(path.read_text().replace("relay.clinic.example", "relay.localdomain"))
    assert ["is not a full name" in one.what for one in proof_of(path, dns=False).warnings][:1] == [True]


PORTAL_STORE = """\
portal:
  origin: https://secure.clinic.example
  mail_from: secure@clinic.example
  supervised: false
  store: postgresql://portal@127.0.0.1:{port}/portal
"""


def test_a_database_that_the_portal_has_for_itself_is_proved(etc):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listened on: nobody answers there
        path = configure(etc, more=PORTAL_STORE.format(port=closed.getsockname()[1]))
        wrongs = [one for one in proof_of(path, dns=False).errors if "database cannot be used" in one.what]
        unasked = [one for one in proof_of(path, dns=False, store=False).errors if "database cannot" in one.what]
    assert len(wrongs) == 1
    assert wrongs[0].where.endswith(f"postern.yaml:{lines(path, 'store: postgresql')}")
    assert unasked == []


def test_the_disk_of_the_portal_has_its_reserve_too(etc):
    more = PORTAL_STORE.partition("  store:")[0]
    path = configure(etc, more=more)
    path.write_text(path.read_text().replace("disk_reserve: 0", "disk_reserve: 1024TiB"))
    wrongs = [one for one in proof_of(path, dns=False).errors if "within the reserve" in one.what]
    assert len(wrongs) == 2
    assert any("portal" in one.what for one in wrongs)
    assert not [one for one in proof_of(path, dns=False, space=False).errors if "within the reserve" in one.what]


def lines(path, text):
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)
