import hashlib
import json
import os
import stat
import threading
from datetime import datetime

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.config.clients import changing, generate_secret, load_client, load_clients, write_client
from relay.config.reception import ClientSettings
from relay.core.errors import ProblemsError

SHA = "ab" * 32


def client(name="main-ehr", **more) -> ClientSettings:
    values = {"name": name, "tenant": "clinic", "secret_sha256": SHA, "sender_domains": ["clinic.example"], **more}
    return ClientSettings.model_validate(values)


def postern(*arguments, code=0) -> str:
    result = CliRunner().invoke(main, ["client", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def add(directory, name="ehr", *more) -> dict:
    shown = postern(
        "--clients-dir", directory, "add", name, "--tenant", "clinic", "--domain", "clinic.example", "--json", *more
    )
    return json.loads(shown)


def test_what_is_written_is_read_back(tmp_path):
    written = client(senders=["Dr.Who@Clinic.example"], networks=["10.0.0.0/8"], message_size="10MiB", stream="bulk")
    write_client(tmp_path / "clients", written, replace=False)
    found = load_clients(tmp_path / "clients")
    assert found.get("main-ehr") == written
    assert found.get("lab") is None
    assert [one.name for one in found] == ["main-ehr"]


def test_no_directory_yet_means_no_clients(tmp_path):
    assert len(load_clients(tmp_path / "absent")) == 0


def test_a_file_is_private_to_owner_and_group_whatever_the_umask(tmp_path):
    mask = os.umask(0)
    try:
        path = write_client(tmp_path, client(), replace=False)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    write_client(tmp_path, client(), replace=False)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProblemsError, match="No space left"):
        write_client(tmp_path, client(tenant="other"), replace=True)
    assert load_client(tmp_path / "main-ehr.yaml").tenant == "clinic"
    assert [path.name for path in tmp_path.iterdir()] == ["main-ehr.yaml"]


def test_file_and_directory_are_synced_before_the_command_ends(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(handle):
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_client(tmp_path, client(), replace=False)
    assert synced == [False, True]


def test_of_two_that_add_one_name_at_once_one_is_told(tmp_path):
    start, outcomes = threading.Barrier(8), []

    def attempt(tenant):
        start.wait(timeout=60)
        try:
            write_client(tmp_path, client(tenant=tenant), replace=False)
            outcomes.append(tenant)
        except ProblemsError as error:
            outcomes.append("exists already" in str(error))

    threads = [threading.Thread(target=attempt, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [one for one in outcomes if isinstance(one, str)]
    assert len(winners) == 1
    assert outcomes.count(True) == 7
    assert load_client(tmp_path / "main-ehr.yaml").tenant == winners[0]


def test_faults_of_all_files_are_told_at_once(tmp_path):
    (tmp_path / "one.yaml").write_text("name: one\n")
    (tmp_path / "two.yaml").write_text("name: [\n")
    with pytest.raises(ProblemsError) as caught:
        load_clients(tmp_path)
    assert {problem.where.split("/")[-1].split(":")[0] for problem in caught.value.problems} == {"one.yaml", "two.yaml"}


def test_drafts_and_other_files_are_not_clients(tmp_path):
    for name in (".main-ehr.0123", ".hidden.yaml", "README.md"):
        (tmp_path / name).write_text("not a client")
    assert len(load_clients(tmp_path)) == 0


def test_secrets_have_256_bits_and_never_repeat():
    secrets = {generate_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(secret.isalnum() and secret.isascii() and len(secret) == 43 for secret in secrets)


def test_add_prints_the_secret_once_and_keeps_only_its_digest(tmp_path):
    shown = add(tmp_path)
    kept = (tmp_path / "ehr.yaml").read_text()
    assert shown["secret"] not in kept
    assert load_client(tmp_path / "ehr.yaml").secret_sha256 == hashlib.sha256(shown["secret"].encode()).hexdigest()
    for verb in (("list",), ("list", "--json"), ("show", "ehr"), ("show", "ehr", "--json")):
        told = postern("--clients-dir", tmp_path, *verb)
        assert "ehr" in told
        assert shown["secret"] not in told
        assert load_client(tmp_path / "ehr.yaml").secret_sha256 not in told


def test_add_refuses_nonsense_in_one_go(tmp_path):
    told = postern("--clients-dir", tmp_path, "add", "Main EHR", "--tenant", "clinic", "--network", "10.0.0.1/8",
                   "--per-minute", "0", "--message-size", "10MB", code=1)  # fmt: skip
    for word in ("name:", "networks", "messages_per_minute: is too small: 1 at least", "message_size: is not a size"):
        assert word in told
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


def test_a_client_that_may_send_as_nobody_is_refused(tmp_path):
    assert "may send as nobody" in postern("--clients-dir", tmp_path, "add", "ehr", "--tenant", "clinic", code=1)


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "", "a\0b"])
def test_a_name_cannot_leave_the_directory(tmp_path, name):
    inside = tmp_path / "clients"
    inside.mkdir()
    (tmp_path / "evil.yaml").write_text("name: evil\n")
    postern("--clients-dir", inside, "add", name, "--tenant", "clinic", "--domain", "clinic.example", code=1)
    for verb in ("show", "remove", "rotate"):
        postern("--clients-dir", inside, verb, name, code=1)
    assert (tmp_path / "evil.yaml").exists()
    assert not list(inside.iterdir())


def test_rotate_keeps_the_old_secret_for_a_while(tmp_path):
    first = add(tmp_path)
    second = json.loads(postern("--clients-dir", tmp_path, "rotate", "ehr", "--overlap", "2h", "--json"))
    kept = load_client(tmp_path / "ehr.yaml")
    digests = [hashlib.sha256(shown["secret"].encode()).hexdigest() for shown in (second, first)]
    assert [kept.secret_sha256, kept.previous_secret_sha256] == digests
    assert kept.previous_until == datetime.fromisoformat(second["previous_until"])
    postern("--clients-dir", tmp_path, "rotate", "ehr", "--overlap", "0")
    assert load_client(tmp_path / "ehr.yaml").previous_secret_sha256 is None
    assert "is not a duration" in postern("--clients-dir", tmp_path, "rotate", "ehr", "--overlap", "soon", code=2)


def test_an_overlap_without_end_is_refused(tmp_path):
    add(tmp_path)
    told = postern("--clients-dir", tmp_path, "rotate", "ehr", "--overlap", "999999999999999y", code=2)
    assert "longer than 1y" in told


def test_who_changes_a_client_waits_for_whoever_is_at_it(tmp_path):
    add(tmp_path)
    done = threading.Event()

    def rotate():
        postern("--clients-dir", tmp_path, "rotate", "ehr")
        done.set()

    with changing(tmp_path):
        before = (tmp_path / "ehr.yaml").read_bytes()
        thread = threading.Thread(target=rotate)
        thread.start()
        assert not done.wait(0.2)
        assert (tmp_path / "ehr.yaml").read_bytes() == before
    thread.join(60)
    assert done.is_set()
    assert (tmp_path / "ehr.yaml").read_bytes() != before


def test_remove_takes_it_away_and_names_the_others_when_wrong(tmp_path):
    add(tmp_path, "ehr")
    add(tmp_path, "lab")
    assert "there are: ehr, lab" in postern("--clients-dir", tmp_path, "remove", "erh", code=1)
    postern("--clients-dir", tmp_path, "remove", "ehr")
    assert [one.name for one in load_clients(tmp_path)] == ["lab"]


def test_a_client_that_a_listener_trusts_a_network_as_is_not_removed(tmp_path):
    """The reload would be refused, and who believed the client shut out would be wrong."""
    config = tmp_path / "postern.yaml"
    trusting = (
        "hostname: relay.clinic.example\nclients_dir: {base}/clients\nlisteners:\n"
        "  - {{name: inside, kind: relay, address: 127.0.0.1, port: 2525, tls: none, networks: [10.0.0.0/8], "
        "trust_networks: {{10.0.0.0/8: {name}}}}}\n"
    )
    for name in ("ehr", "lab"):
        add(tmp_path / "clients", name)
    config.write_text(trusting.format(base=tmp_path, name="ehr"))
    told = postern("--config", config, "remove", "ehr", code=1)
    assert "the listener inside trusts 10.0.0.0/8 as ehr" in told
    config.write_text(trusting.format(base=tmp_path, name="lab"))
    postern("--config", config, "remove", "ehr")
    assert [one.name for one in load_clients(tmp_path / "clients")] == ["lab"]


def test_the_configuration_says_where_clients_are(tmp_path):
    (tmp_path / "postern.yaml").write_text(
        "clients_dir: people\nlisteners: [{name: a, kind: relay, address: '::1', tls: none, networks: ['::1/128']}]\n"
    )
    shown = postern(
        "--config", tmp_path / "postern.yaml", "add", "ehr", "--tenant", "clinic", "--sender", "a@b.example"
    )
    assert str(tmp_path / "people" / "ehr.yaml") in shown
    assert "there is no configuration here" in postern("--config", tmp_path / "absent.yaml", "list", code=1)
