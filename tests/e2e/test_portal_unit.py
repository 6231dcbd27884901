"""The portal's unit, run by hand: its line, users, umask and directories, where no systemd is process 1.

What systemd itself thinks of the unit is in ``unit/admin/test_packaging.py``: ``systemd-analyze``, verify and security.
"""

import configparser
import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
RELAY, PORTAL = 64_900, 64_902
"""Users and groups of the relay and of the portal; numbers alone will do for the kernel."""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes the users of the units"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is missing: apt-get install util-linux"),
]


def become(user, *groups):
    more = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ["setpriv", f"--reuid={user}", f"--regid={user}", more, "--no-new-privs", "--inh-caps=-all",
            "--bounding-set=-all"]  # fmt: skip


def can(user, *words, groups=()):
    done = subprocess.run([*become(user, *groups), *words], capture_output=True, timeout=120, check=False)
    return done.returncode == 0


@pytest.fixture
def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string((ROOT / "systemd/postern-portal.service").read_text())
    return parser["Service"]


@pytest.fixture
def place():
    """Directories as ``postern.tmpfiles.conf`` makes them, below one that all may pass."""
    with tempfile.TemporaryDirectory(prefix="postern-unit-") as name:
        place = Path(name)
        place.chmod(0o755)
        for path, mode, user, group in (
            ("etc", 0o755, 0, 0),
            ("etc/keys", 0o700, RELAY, RELAY),
            ("etc/portal-keys", 0o750, 0, PORTAL),
            ("var", 0o755, 0, 0),
            ("var/postern", 0o700, RELAY, RELAY),
            ("var/postern-portal", 0o2770, PORTAL, PORTAL),
            ("run", 0o2711, RELAY, RELAY),
            ("run/metrics", 0o2770, RELAY, PORTAL),
        ):
            (place / path).mkdir()
            os.chown(place / path, user, group)
            (place / path).chmod(mode)
        yield place


def configured(place):
    """As docs/portal.md says for a user of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "hostname": "relay.clinic.example",
        "data_dir": str(place / "var/postern"),
        "run_dir": str(place / "run"),
        "keys_dir": str(place / "etc/keys"),
        "listeners": [{
            "name": "ehr", "kind": "relay", "address": "127.0.0.1", "port": 0, "tls": "none",
            "networks": ["127.0.0.0/8"], "trust_networks": {"127.0.0.0/8": "ehr"},
        }],
        "portal": {"origin": f"http://localhost:{port}", "mail_from": "secure@clinic.example", "port": port,
                   "supervised": False, "dir": str(place / "var/postern-portal"),
                   "keys_dir": str(place / "etc/portal-keys")},
    }  # fmt: skip
    config = place / "etc/postern.yaml"
    config.write_text(yaml.safe_dump(settings))
    made = [sys.executable, "-m", "relay", "portal", "--config", str(config), "init"]
    subprocess.run(made, cwd=ROOT, check=True, capture_output=True, timeout=120)
    ring = place / "etc/portal-keys/ring.json"
    os.chown(ring, 0, PORTAL)
    ring.chmod(0o640)
    return config, port


def started(unit, config, place):
    """The unit's own line, with its user and umask; the socket on which it says that it is ready."""
    line = shlex.split(unit["ExecStart"].replace("/etc/postern/postern.yaml", str(config)))
    assert line[0] == "/opt/postern/bin/postern"
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(place / "notify"))
    os.chown(place / "notify", PORTAL, PORTAL)
    told.settimeout(120)
    environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(place / "notify"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*become(PORTAL), sys.executable, "-m", "relay", *line[1:]],
        cwd=place,
        env=environment,
        umask=int(unit["UMask"], 8),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    return process, told


def opened(pid):
    """What a process has open now."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(link.readlink()))
    return found


def test_the_unit_s_line_serves_as_its_own_user_and_sees_nothing_of_the_relay(unit, place):
    assert unit["User"] == unit["Group"] == "postern-portal"
    if not can(PORTAL, sys.executable, "-c", "import ssl"):
        pytest.skip("another user cannot run this Python: it lies where only root may look")
    config, port = configured(place)
    process, told = started(unit, config, place)
    try:
        assert b"READY=1" in told.recv(4096), process.stderr.read().decode()
        page = httpx.get(f"http://localhost:{port}/sign-in", timeout=60)
        assert page.status_code == 200
        assert "Sign in" in page.text
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{PORTAL}\t{PORTAL}\t{PORTAL}\t{PORTAL}" in status
        assert f"Gid:\t{PORTAL}\t{PORTAL}\t{PORTAL}\t{PORTAL}" in status
        assert "CapEff:\t0000000000000000" in status
        files = opened(process.pid)
        assert any(str(place / "var/postern-portal") in name for name in files)
        assert not [name for name in files if name.startswith((f"{place}/var/postern/", f"{place}/etc/keys"))]
        shared = place / "var/postern-portal/portal.db"
        assert (shared.stat().st_uid, shared.stat().st_gid, shared.stat().st_mode & 0o777) == (PORTAL, PORTAL, 0o660)
        for hidden in ("var/postern", "etc/keys"):
            assert not can(PORTAL, "ls", str(place / hidden))
            assert can(RELAY, "ls", str(place / hidden))
        write = f"import sqlite3; sqlite3.connect({str(shared)!r}).execute('BEGIN IMMEDIATE')"
        assert can(RELAY, sys.executable, "-c", write, groups=[PORTAL]), "workers put messages in by its group"
        assert not can(RELAY, sys.executable, "-c", write), "and nobody else does"
        assert not can(PORTAL, "sh", "-c", f"echo x >> {place / 'etc/portal-keys/ring.json'}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait(60)
        process.stderr.close()
        told.close()


def test_a_configuration_that_cannot_be_used_ends_with_the_code_that_stops_restarts(unit, place):
    if not can(PORTAL, sys.executable, "-c", "import ssl"):
        pytest.skip("another user cannot run this Python: it lies where only root may look")
    config, _ = configured(place)
    (place / "etc/portal-keys/ring.json").unlink()
    process, told = started(unit, config, place)
    try:
        _, error = process.communicate(timeout=120)
        assert process.returncode == int(unit["RestartPreventExitStatus"]), error
    finally:
        process.kill()
        told.close()
