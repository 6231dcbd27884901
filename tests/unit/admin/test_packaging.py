"""The units and the Dockerfile: checked by the tools that read them, for no engine runs here."""

import asyncio
import configparser
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from relay.admin.http import HttpOptions, HttpServer, application
from tests.support.peers import require

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "systemd").glob("*.service"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def instructions():
    """(keyword, rest) of each instruction, continued lines joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], " ".join(line.split(None, 1)[1].split())) for line in lines]


def last(keyword):
    return [rest for word, rest in instructions() if word == keyword][-1]


# --- systemd ----------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_score_under_two(unit):
    result = run(require("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=19", str(unit))
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr


@pytest.mark.peers
def test_units_are_understood_whole(tmp_path):
    for place in ("etc/systemd/system", "opt/postern/bin", "bin"):
        (tmp_path / place).mkdir(parents=True)
    for program in ("opt/postern/bin/postern", "bin/kill"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    for unit in UNITS:
        (tmp_path / "etc/systemd/system" / unit.name).write_text(unit.read_text())
    names = ["postern.service", "postern@worker.service", "postern@admin.service", "postern@extract.service"]
    names.append("postern-portal.service")
    result = run(
        require("systemd-analyze"), "verify", f"--root={tmp_path}", "--man=no", "--recursive-errors=no", *names
    )
    assert (result.returncode, result.stderr.strip()) == (0, "")


@pytest.mark.peers
def test_sysusers_and_tmpfiles_are_understood(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/:/bin/sh\npostern:x:900:900::/:/bin/sh\npostern-portal:x:902:902::/:/bin/sh\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\npostern:x:900:\npostern-operators:x:901:\npostern-portal:x:902:\n")
    users = run(
        require("systemd-sysusers"), f"--root={tmp_path}", "--dry-run", str(ROOT / "systemd/postern.sysusers.conf")
    )
    assert users.returncode == 0, users.stderr
    files = run(
        require("systemd-tmpfiles"), f"--root={tmp_path}", "--create", str(ROOT / "systemd/postern.tmpfiles.conf")
    )
    assert files.returncode == 0, files.stderr
    assert (tmp_path / "run/postern").stat().st_mode & 0o7777 == 0o2711
    assert (tmp_path / "etc/postern/keys").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "var/lib/postern-portal").stat().st_mode & 0o7777 == 0o2770


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_start_what_exists_and_stop_on_a_bad_configuration(unit):
    from click.testing import CliRunner

    from relay import roles
    from relay.cli import main

    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(unit.read_text())
    service = parser["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    assert service["RestartPreventExitStatus"] == str(roles.EX_CONFIG)
    program, verb, *options = shlex.split(service["ExecStart"])
    assert program == "/opt/postern/bin/postern"
    assert verb == "run"
    known = CliRunner().invoke(main, ["run", "--help"]).output
    assert all(option in known for option in options if option.startswith("--"))


# --- container --------------------------------------------------------


def test_hadolint_finds_nothing():
    result = run(Path(sys.executable).parent / "hadolint", "--failure-threshold", "style", ROOT / "Dockerfile")
    assert (result.returncode, result.stdout) == (0, "")


def test_the_image_is_slim_debian_locked_and_not_root():
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.1[1-9]-slim-[a-z]+", base) for base in bases)
    steps = [part for word, rest in instructions() if word == "RUN" for part in rest.split("&&")]
    pip = [step for step in steps if re.search(r"/pip install ", step)]
    assert pip
    assert all("--require-hashes" in part or "--no-index" in part for part in pip)
    user, _, group = last("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert last("STOPSIGNAL") == "SIGTERM"
    assert not [rest for word, rest in instructions() if word == "ADD"]


def test_everything_that_is_copied_exists_and_is_in_the_context():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in allowed


async def test_the_health_check_asks_what_we_answer():
    _, _, command = last("HEALTHCHECK").partition("CMD ")
    _, flag, code = json.loads(command)
    assert flag == "-c"

    async def ask(port):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code.replace(":8025/", f":{port}/"), stderr=asyncio.subprocess.DEVNULL
        )
        return await asyncio.wait_for(process.wait(), 60)

    async def nothing():
        return b""

    server = HttpServer(HttpOptions(port=0), application(nothing, {}))
    await server.start()
    assert await ask(server.port) == 0
    await server.stop()
    assert await ask(server.port) != 0
    assert HttpOptions().port == 8025
