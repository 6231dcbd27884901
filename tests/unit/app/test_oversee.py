"""The supervisor has configurations proved in a process of their own, and loads nothing of what that needs."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay.app import oversee
from relay.app.current import CURRENT
from relay.app.snapshot import read
from relay.core.errors import ProblemsError
from relay.crew import REFUSED, Role, role_command
from relay.supervisor import EX_CONFIG
from tests.support.configs import furnish
from tests.unit.app.test_snapshot import CONFIG

HEAVY = ["pydantic", "psycopg", "dkim", "rich", "apsw", "cryptography", "re2", "relay.scan", "relay.config.settings"]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    return furnish(tmp_path_factory.mktemp("etc"))


@pytest.fixture
def config(furnished, tmp_path, monkeypatch):
    monkeypatch.setattr(oversee, "configure_log", lambda _bearings: None)
    shutil.copytree(furnished, tmp_path / "postern", symlinks=True)
    path = tmp_path / "postern.yaml"
    path.write_text(CONFIG.format(base=tmp_path / "postern").replace("port: 2525", "port: 0"))
    return path


@pytest.fixture
def configuration(config):
    made = oversee.Configuration(config)
    yield made
    made.close()


def loaded(*modules):
    """Which of the heavy modules a new process has after it imported these."""
    script = f"import sys, {', '.join(modules)}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())


def test_a_supervisor_loads_neither_settings_nor_scan_nor_database():
    assert loaded("relay.plainlog", "relay.app.oversee") == set()


def test_a_worker_loads_no_driver_and_no_verifier_that_most_have_no_use_for():
    modules = loaded("relay.plainlog", "relay.roles", "relay.app.worker", "relay.app.admin")
    assert {"rich", "psycopg", "dkim"} & modules == set()
    assert "apsw" in modules


def test_rich_is_found_by_who_wants_it_after_it_was_hidden_from_the_log():
    script = "import relay.plainlog, structlog.dev, rich.console; print(structlog.dev.rich)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "None"


def test_a_reload_knows_what_was_proved_before(configuration, config):
    first = configuration.load()
    assert (first.workers, first.snapshot.parent.name) == (2, "config")
    assert not configuration.changed()
    sound = config.read_text()
    config.write_text(sound.replace("postern/data", "postern/elsewhere"))
    with pytest.raises(ProblemsError, match="data_dir cannot be changed while running"):
        configuration.load()
    config.write_text(sound.replace("workers: 2", "workers: 3"))
    assert configuration.load().workers == 3


def test_an_edited_policy_is_noticed_and_told_as_wrong_once(configuration, config):
    configuration.load()
    policy = config.parent / "postern" / "policies" / "main.yaml"
    policy.write_text(policy.read_text() + "nonsense: [\n")
    assert not configuration.changed()
    assert configuration.changed()
    with pytest.raises(ProblemsError, match=r"main\.yaml") as caught:
        configuration.load()
    assert all(problem.what for problem in caught.value.problems)
    assert not configuration.changed()


def test_a_list_that_is_being_written_is_not_taken_up_before_it_rests(configuration, config):
    """Its first half would be as sound as the whole, and its floors would protect fewer."""
    folder = config.parent / "postern" / "policies"
    rows = folder / "patients.csv"
    rows.write_text("address\nann@mail.example\n")
    (folder / "main.yaml").write_text(
        "policy: p\nlists:\n  patients: { file: patients.csv }\n"
        "floor:\n  - { id: theirs, when: { recipient: { in: patients } }, require: verified }\n"
        "rules:\n  - { id: rest, deliver: { methods: [tls], tls: opportunistic } }\n"
    )
    configuration.load()
    assert not configuration.changed()
    rows.write_text("address\n")
    assert not configuration.changed()
    with rows.open("a") as file:
        file.write("ann@mail.example\n")
        file.flush()
        assert not configuration.changed()
        file.write("ben@mail.example\n")
    assert not configuration.changed()
    assert configuration.changed()
    configuration.load()
    assert not configuration.changed()


def test_a_reload_mends_a_log_that_cannot_be_opened_any_more(config, tmp_path):
    sound = config.read_text()
    (tmp_path / "logs").mkdir()
    config.write_text(sound + f"log: {{ file: {tmp_path}/logs/log }}\n")
    configuration = oversee.Configuration(config)
    configuration.load()
    shutil.rmtree(tmp_path / "logs")
    config.write_text(sound + f"log: {{ file: {tmp_path}/log }}\n")
    assert configuration.load().workers == 2


def test_a_file_that_cannot_be_read_is_a_problem_with_its_place(tmp_path):
    with pytest.raises(ProblemsError, match=r"postern\.yaml"):
        oversee.Configuration(tmp_path / "postern.yaml")


def test_a_proof_that_dies_says_nothing_of_the_configuration(configuration):
    process = configuration._proof._process
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it takes no question any more
    with pytest.raises(oversee.ProofError, match=r"the process that proves it ended with status -9"):
        configuration.load()
    assert configuration.load().workers == 2  # the next is asked anew


def test_why_a_reload_was_not_taken_up_stands_there_until_one_is(configuration, config):
    refused = Path(configuration.bearings["run_dir"], REFUSED)
    configuration.load()
    assert not refused.exists()
    sound = config.read_text()
    config.write_text(sound + "nonsense: [\n")
    with pytest.raises(ProblemsError):
        configuration.load()
    assert "postern.yaml" in refused.read_text()
    config.write_text(sound)
    configuration.load()
    assert not refused.exists()


def test_an_older_roster_that_stays_is_what_all_live_by_however_many_newer_ones_fail(configuration, config):
    run_dir, stays = Path(configuration.bearings["run_dir"]), configuration.load()
    sound = config.read_text()
    for limit in range(20, 26):
        config.write_text(f"{sound}limits: {{ received_hops: {limit} }}\n")
        newer = configuration.load()
        configuration.stay(stays, "listeners: it does not run")
        assert (run_dir / "config" / CURRENT).resolve() == stays.snapshot.resolve() != newer.snapshot.resolve()
        assert "it does not run" in (run_dir / REFUSED).read_text()
    assert read(stays.snapshot).settings.limits.received_hops not in range(20, 26)
    configuration.load()
    assert not (run_dir / REFUSED).exists()


def test_a_reload_whose_proof_dies_is_told_by_the_metric_too(configuration, config, monkeypatch):
    refused = Path(configuration.bearings["run_dir"], REFUSED)
    configuration.load()
    monkeypatch.setattr(oversee._Proof, "begin", lambda proof: proof.give_up())
    with pytest.raises(oversee.ProofError, match="ended with status -9"):
        configuration.load()
    assert "the process that proves it ended with status -9" in refused.read_text()
    monkeypatch.undo()
    configuration.load()
    assert not refused.exists()


def test_a_proof_ends_with_the_supervisor_that_asked_for_it(configuration, config):
    """Its links and files would else replace those of the supervisor that was started after it."""
    process = configuration._proof._process
    config.unlink()
    os.mkfifo(config)  # as a share that is away: the proof waits in the middle
    configuration._proof._tell({"go": True})
    with config.open("wb"):  # opens when it is being read
        process.stdin.close()  # as the kernel does for a supervisor that is killed
        assert process.wait(60) == os.EX_TEMPFAIL


def test_a_proof_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(oversee, "_PATIENCE", 0.25)
    path = tmp_path / "postern.yaml"
    os.mkfifo(path)  # as a share that is away: whoever reads it waits
    with pytest.raises(oversee.ProofError, match=r"postern\.yaml: it could not be proved in 0 s"):
        oversee.Configuration(path)


def test_a_proof_that_nobody_waits_for_any_more_dies(configuration, config):
    configuration.load()
    config.unlink()
    os.mkfifo(config)
    with ThreadPoolExecutor() as threads:
        loading = threads.submit(configuration.load)
        with config.open("wb"):  # opens when it is being read; and no word comes
            configuration.forsake()
            with pytest.raises(oversee.ProofError, match="ended with status -9"):
                loading.result(60)


def test_no_code_is_taken_from_the_directory_it_is_started_in(config, tmp_path, monkeypatch):
    """It may be anybody's, and who proves or starts first is root."""
    (tmp_path / "orjson.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    configuration = oversee.Configuration(config)
    assert configuration.load().workers == 2
    command = role_command(Role.ADMIN, "admin", tmp_path / "none")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "snapshot cannot be read" in done.stdout + done.stderr) == (EX_CONFIG, True)
