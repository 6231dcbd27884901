"""``postern reload`` where no supervisor is asked; tests/e2e/test_reload_asked.py asks one."""

import json

import pytest
from click.testing import CliRunner

from relay.app import reloads
from relay.app.reloads import NotRunningError, Outcome, Record, Result
from relay.cli import main
from relay.core.errors import Problem
from tests.support.configs import furnish
from tests.unit.app.test_snapshot import CONFIG


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    directory = tmp_path_factory.mktemp("etc")
    path = directory / "postern.yaml"
    path.write_text(CONFIG.format(base=furnish(directory)))
    return path


def run(config, *arguments):
    return CliRunner().invoke(main, ["reload", "--config", str(config), *arguments])


def test_what_cannot_be_read_is_told_as_check_tells_it_and_nobody_is_asked(tmp_path):
    broken = tmp_path / "postern.yaml"
    broken.write_text("nonsense: [\n")
    checked = CliRunner().invoke(main, ["check", "--config", str(broken)])
    result = run(broken)
    assert (checked.exit_code, result.exit_code) == (1, 1)
    problems = checked.stdout.splitlines()[:-1]
    assert problems[0].startswith("error: ")
    assert result.stdout.splitlines() == [*problems, "Postern was not asked: what runs, runs on."]
    told = json.loads(run(broken, "--json").stdout)
    assert told["result"] == "refused"
    assert f"error: {told['problems'][0]['where']}: {told['problems'][0]['what']}" == problems[0]


def test_a_timeout_is_a_duration(config):
    result = run(config, "--timeout", "soon")
    assert result.exit_code == 1
    assert "such as 60s or 2m" in result.stderr


def test_where_nobody_supervises_that_is_said(config, monkeypatch):
    def ask(run_dir, seconds):
        assert seconds == 120.0
        raise NotRunningError(f"Postern does not run here ({run_dir})")

    monkeypatch.setattr(reloads, "ask", ask)
    result = run(config, "--timeout", "2m")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Postern does not run here (")


@pytest.mark.parametrize(
    ("result", "status", "told"),
    [
        (Result.RELOADED, 0, "warning: portal: does not run\n    its log\nreloaded: policy v1\n"),
        (
            Result.REFUSED,
            1,
            "error: portal: does not run\n    its log\nThe reload was refused: what ran before runs on.\n",
        ),
        (Result.FAILED, 1, "error: portal: does not run\n    its log\nThe reload failed: what ran before runs on.\n"),
    ],
)
def test_how_it_ended_is_told_and_is_the_exit_status(config, monkeypatch, result, status, told):
    problem = Problem(where="portal", what="does not run", hint="its log")
    outcome = Outcome(result=result, version="v1", problems=(problem,))
    monkeypatch.setattr(reloads, "ask", lambda *_: Record(attempt=3, began=1.0, at=2.0, outcome=outcome))
    shown = run(config)
    assert (shown.exit_code, shown.stdout) == (status, told)
    plain = run(config, "--json")
    assert plain.exit_code == status
    assert json.loads(plain.stdout) == {
        "attempt": 3, "began": 1.0, "at": 2.0, "result": result.value, "version": "v1",
        "problems": [{"where": "portal", "what": "does not run", "hint": "its log"}],
    }  # fmt: skip
