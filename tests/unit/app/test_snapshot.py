"""A snapshot holds what was proved, under a name of its contents, whatever is edited meanwhile."""

import contextlib
import errno
import os
import socket
from argparse import Namespace
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.app import snapshot as snapshots
from relay.app import supervise
from relay.app.base import CLOCK, Site
from relay.app.supervise import freeze
from relay.cli import main
from relay.config.load import load
from relay.config.policies import RunningPolicy
from relay.config.stamps import stamps
from relay.core.decision import MethodName
from relay.core.errors import ProblemsError
from relay.observe import log
from tests.support.configs import furnish

METHODS = frozenset({MethodName.TLS})
CONFIG = """\
hostname: relay.clinic.example
data_dir: {base}/data
run_dir: {base}/run
keys_dir: {base}/keys
clients_dir: {base}/clients
policy: {base}/policies/main.yaml
workers: 2
listeners:
  - name: inside
    kind: relay
    address: 127.0.0.1
    port: 2525
    tls: none
    networks: [127.0.0.0/8]
    trust_networks: {{ 127.0.0.0/8: main-ehr }}
"""
WITH_LIST = """\
policy: listed
include: [more/rest.yaml]
lists:
  partners: { file: lists/partners.csv }
rules:
  - id: partners
    when: { recipient: { domain: { in: partners } } }
    deliver: { methods: [tls], tls: verified }
  - id: rest
    deliver: { methods: [tls], tls: opportunistic }
"""
REST = """\
policy: rest
rules:
  - id: lab
    when: { recipient: { domain: lab.example } }
    deliver: { methods: [tls], tls: encrypted }
"""


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    return furnish(tmp_path_factory.mktemp("etc"))


@pytest.fixture
def base(furnished, tmp_path):
    import shutil

    shutil.copytree(furnished, tmp_path / "postern", symlinks=True)
    (tmp_path / "postern.yaml").write_text(CONFIG.format(base=tmp_path / "postern"))
    return tmp_path / "postern"


def settings(base):
    return load(base.parent / "postern.yaml")


def version_of(root):
    return RunningPolicy(root, methods=METHODS, clock=CLOCK).version


def write(settings):
    policy = RunningPolicy(settings.policy, methods=METHODS, clock=CLOCK)
    return snapshots.write(settings, policy.version, policy.current.files, version_of=version_of)


def test_the_same_configuration_is_the_same_snapshot(base):
    first, _ = freeze(settings(base))
    second, _ = freeze(settings(base))
    assert first == second
    current = base / "run" / "config" / "current"
    assert current.resolve() == first.snapshot
    assert snapshots.read(current).settings.hostname == "relay.clinic.example"


def test_an_edit_after_the_freeze_changes_nothing_for_who_reads_the_snapshot(base):
    roster, _ = freeze(settings(base))
    before = snapshots.read(roster.snapshot).settings
    (base / "policies" / "main.yaml").write_text("not a policy")
    (base.parent / "postern.yaml").write_text("not a configuration")
    after = Site.of(snapshot=roster.snapshot, config=None).again().settings
    assert after == before
    assert after.policy.is_relative_to(roster.snapshot)
    assert version_of(after.policy)


def test_an_edit_while_it_is_being_proved_is_seen_afterwards(base, monkeypatch):
    """Who saves twice in a hurry must not find the first of the two running until the next edit."""
    main_file = base / "policies" / "main.yaml"

    def in_a_hurry(*what, **more):
        written = snapshots.write(*what, **more)
        main_file.write_text(main_file.read_text() + "# saved again\n")
        return written

    monkeypatch.setattr(supervise, "snapshots", Namespace(write=in_a_hurry, tuning_of=snapshots.tuning_of))
    _, proved = freeze(settings(base))
    assert stamps(tuple(stamp[0] for stamp in proved)) != proved


def test_another_policy_is_another_snapshot_and_the_old_one_stays_readable(base):
    first, _ = freeze(settings(base))
    text = (base / "policies" / "main.yaml").read_text()
    (base / "policies" / "main.yaml").write_text(text.replace("verified", "authenticated"))
    second, _ = freeze(settings(base))
    assert first.snapshot != second.snapshot
    assert first.listeners == second.listeners
    assert "verified" in snapshots.read(first.snapshot).settings.policy.read_text()
    assert "authenticated" in Site.of(snapshot=first.snapshot, config=None).again().settings.policy.read_text()


@pytest.mark.parametrize("linked", [False, True])
def test_includes_and_lists_are_frozen_where_they_are_named_also_behind_links(base, linked):
    shared = base.parent / "shared" if linked else base / "policies"
    for name, text in {"more/rest.yaml": REST, "lists/partners.csv": "domain\npartner.example\n"}.items():
        (shared / name).parent.mkdir(parents=True, exist_ok=True)
        (shared / name).write_text(text)
        if linked:
            (base / "policies" / name).parent.mkdir()
            (base / "policies" / name).symlink_to(shared / name)
    (base / "policies" / "main.yaml").write_text(WITH_LIST)
    made = settings(base)
    frozen = snapshots.read(write(made)).settings.policy
    assert version_of(frozen) == version_of(made.policy)
    (shared / "lists" / "partners.csv").write_text("domain\nother.example\n")
    assert version_of(frozen) != version_of(made.policy)


def test_an_edit_between_proof_and_copy_is_refused(base):
    made = settings(base)
    policy = RunningPolicy(made.policy, methods=METHODS, clock=CLOCK)
    made.policy.write_text(made.policy.read_text().replace("verified", "opportunistic"))
    with pytest.raises(ProblemsError, match="edited while it was read"):
        snapshots.write(made, policy.version, policy.current.files, version_of=version_of)
    assert not (base / "run" / "config" / "current").exists()


def test_old_snapshots_are_forgotten_and_those_just_in_force_are_not(base):
    made = settings(base)
    written = []
    for number in range(6):
        made.policy.write_text(made.policy.read_text().replace("policy: plain", f"policy: plain{number}"))
        made.policy.write_text(f"# {number}\n" + made.policy.read_text().replace("id: all", f"id: all{number}"))
        written.append(write(made))
        os.utime(written[-1], (number, number))
    left = {path.name for path in (base / "run" / "config").iterdir() if not path.is_symlink()}
    assert left == {path.name for path in written[-4:]}


def test_a_snapshot_taken_up_again_counts_as_new(base):
    made = settings(base)
    text = made.policy.read_text()
    first = write(made)
    os.utime(first, (1, 1))
    for number in range(3):
        made.policy.write_text(text.replace("id: all", f"id: all{number}"))
        os.utime(write(made), (2 + number, 2 + number))
    made.policy.write_text(text)
    assert write(made) == first
    for number in range(3, 6):
        made.policy.write_text(text.replace("id: all", f"id: all{number}"))
        write(made)
    assert first.exists(), "processes may still be starting with it"


@pytest.mark.parametrize("damage", ["settings.json", "policy-root"])
def test_a_damaged_snapshot_is_one_clear_error(base, damage):
    roster, _ = freeze(settings(base))
    (roster.snapshot / damage).unlink()
    with pytest.raises(ProblemsError, match="the snapshot cannot be read"):
        snapshots.read(roster.snapshot)


def test_a_place_that_cannot_be_written_is_one_clear_error(base):
    (base / "run" / "config").write_text("a file")
    with pytest.raises(ProblemsError, match="check run_dir"):
        write(settings(base))


def test_everything_wrong_is_told_at_once(base):
    (base / "policies" / "main.yaml").write_text("rules: none\n")
    (base / "keys" / "ring.json").write_text("{}")
    with pytest.raises(ProblemsError) as caught:
        freeze(settings(base))
    assert len(caught.value.problems) >= 2


def test_a_rule_whose_route_is_nowhere_is_refused_at_start_and_reload(base):
    policy = base / "policies" / "main.yaml"
    policy.write_text(policy.read_text().replace("id: all\n", "id: all\n    route: partner-gatewey\n"))
    assert "partner-gatewey" in policy.read_text()
    with pytest.raises(ProblemsError, match="partner-gatewey, which the configuration does not have"):
        freeze(settings(base))


def test_what_waits_for_a_restart_is_told_at_each_reload_until_then(base, monkeypatch):
    told = []
    monkeypatch.setattr(supervise, "configure_log", lambda *_: None)
    monkeypatch.setattr(supervise.log, "warning", lambda event, **fields: told.append(fields.get("what", "")))
    config = base.parent / "postern.yaml"
    configuration = supervise.Configuration(config)
    configuration.load()
    assert not any("restart" in what for what in told)
    config.write_text(config.read_text() + "audit: { retention: 7y }\ncontrol: { operators: [root, nobody] }\n")
    for _ in range(2):
        told.clear()
        configuration.load()
        assert [what for what in told if "restart" in what] == [
            "audit: not all of it is taken up before the next restart"
        ]


async def test_ports_that_others_listen_on_are_refused_at_start_and_reload_and_our_own_are_not(base, monkeypatch):
    monkeypatch.setattr(supervise, "configure_log", lambda *_: None)
    monkeypatch.setattr(supervise, "_LEAVING", 0.0)
    config, inuse = base.parent / "postern.yaml", r"port \d+: another program listens there"
    with contextlib.ExitStack() as stack:
        ours, admin, theirs = (stack.enter_context(listening()) for _ in range(3))
        ports = [one.getsockname()[1] for one in (ours, admin, theirs)]
        config.write_text(config.read_text().replace("2525", str(ports[0])) + f"admin: {{ port: {ports[1]} }}\n")
        with pytest.raises(ProblemsError, match=inuse) as caught:
            await supervise.Configuration(config).claim_ports()
        assert len(caught.value.problems) == 2
        ours.close()
        admin.close()
        configuration = supervise.Configuration(config)
        await configuration.claim_ports()
        ours = stack.enter_context(listening(ports[0]))
        configuration.load()  # our own listen there by now
        sound = config.read_text()
        config.write_text(sound.replace(str(ports[0]), str(ports[2])))
        with pytest.raises(ProblemsError, match=inuse):
            configuration.load()
        theirs.close()
        configuration.load()  # its workers may fail all the same, and those of before stay
        config.write_text(sound)
        configuration.load()


class WaitsError(Exception):
    pass


@pytest.mark.parametrize(("trouble", "raised"), [
    (errno.EACCES, ProblemsError), (errno.EADDRINUSE, WaitsError), (errno.EADDRNOTAVAIL, WaitsError)
])  # fmt: skip
async def test_a_start_waits_for_a_port_only_where_waiting_can_help(base, monkeypatch, trouble, raised):
    def bind(_socket, _address):
        raise OSError(trouble, os.strerror(trouble))

    async def sleep(_seconds):
        raise WaitsError

    monkeypatch.setattr(socket.socket, "bind", bind)
    monkeypatch.setattr(supervise.asyncio, "sleep", sleep)
    with pytest.raises(raised):
        await supervise.Configuration(base.parent / "postern.yaml").claim_ports()


def listening(port=0):
    """A socket that listens as workers do."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", port))
    one.listen()
    return one


def test_whom_bounces_suppress_is_taken_up_by_a_new_generation(base):
    first, _ = freeze(settings(base))
    config = base.parent / "postern.yaml"
    config.write_text(config.read_text() + "suppression: { hard_bounce: 3d }\n")
    second, _ = freeze(settings(base))
    assert first.listeners != second.listeners


@pytest.mark.parametrize(("old", "new"), [("hostname:", "hostnam:"), ("policies/main.yaml", "policies/none.yaml")])
def test_run_with_a_broken_configuration_is_one_clear_error(base, old, new):
    config = base.parent / "postern.yaml"
    config.write_text(config.read_text().replace(old, new))
    try:
        done = CliRunner().invoke(main, ["run", "--config", str(config)])
    finally:
        log.shutdown()  # set up before the policy was read, it must not stay for other tests
    assert done.exit_code == 78  # EX_CONFIG, sysexits.h
    assert Path(str(config)).name in done.stderr or "none.yaml" in done.stderr
    assert "Traceback" not in done.output + done.stderr


def test_the_scans_tuning_is_frozen_and_an_edit_of_it_wants_new_workers(base):
    (base / "scan.yaml").write_text("")
    config = base.parent / "postern.yaml"
    config.write_text(config.read_text() + f"\nscan:\n  tuning: {base / 'scan.yaml'}\n")
    first, _ = freeze(settings(base))
    (base / "scan.yaml").write_text("# another\n")
    frozen = snapshots.read(first.snapshot).settings.scan.tuning
    assert frozen.is_relative_to(first.snapshot)
    assert frozen.read_text() == ""
    second, _ = freeze(settings(base))
    assert second.listeners != first.listeners
    assert snapshots.read(second.snapshot).settings.scan.tuning.read_text() == "# another\n"


@pytest.mark.parametrize("content", ["patterns: 3\n", "\tnot YAML", None])
def test_a_tuning_that_cannot_be_used_is_refused_with_its_place(base, content):
    file = base / "own-scan.yaml"
    if content is not None:
        file.write_text(content)
    config = base.parent / "postern.yaml"
    config.write_text(config.read_text() + f"\nscan:\n  tuning: {file}\n")
    with pytest.raises(ProblemsError) as caught:
        freeze(settings(base))
    assert str(file) in str(caught.value)
