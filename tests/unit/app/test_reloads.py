"""Who asks for a reload hears of one that began after the question; nobody but a supervisor is signalled."""

import stat
import subprocess
import sys
import time

import pytest

from relay.app import reloads
from relay.app.reloads import NoAnswerError, NotRunningError, Outcome, Reloads, Result
from relay.core.errors import PosternError, Problem, ProblemsError

_SUPERVISOR = """
import signal, sys
from pathlib import Path
from relay.app.reloads import Outcome, Reloads, Result
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM])
with Reloads(Path(sys.argv[1])) as reloads:
    reloads.begin()  # one that is under way when the first signal comes
    print("up", flush=True)
    while signal.sigwait([signal.SIGHUP, signal.SIGTERM]) == signal.SIGHUP:
        if "ends" in sys.argv:
            break
        if "mute" in sys.argv:
            continue
        reloads.end(Outcome(result=Result.RELOADED, version="before"))
        reloads.begin()
        reloads.end(Outcome(result=Result.RELOADED, version="after"))
"""
"""Hears SIGHUP only when it waits for it, as the real one hears it between two reloads."""
GOOD = Outcome(result=Result.RELOADED, version="v1")


@pytest.fixture
def supervisor(tmp_path):
    """Starts a process that does as the supervisor does, and ends it after the test."""
    started = []

    def start(*how):
        process = subprocess.Popen(
            [sys.executable, "-c", _SUPERVISOR, str(tmp_path), *how], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def test_the_kernel_names_the_supervisor_as_long_as_it_lives(tmp_path, supervisor):
    assert reloads.supervisor_of(tmp_path) == 0
    process = supervisor()
    assert reloads.supervisor_of(tmp_path) == process.pid
    process.kill()
    process.wait(60)
    assert reloads.supervisor_of(tmp_path) == 0


def test_a_reload_that_was_under_way_does_not_count(tmp_path, supervisor):
    supervisor()
    record = reloads.ask(tmp_path, 60)
    assert (record.attempt, record.outcome.version) == (2, "after")
    assert reloads.ask(tmp_path, 60).attempt > record.attempt


def test_a_stranger_whose_pid_stands_in_the_files_is_not_signalled(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:  # fmt: skip
        assert stranger.stdout.readline() == "up\n"
        for name in ("postern.lock", "reload.lock", "reload.json"):
            (tmp_path / name).write_text(f"{stranger.pid}\n")
        with pytest.raises(NotRunningError, match=r"Postern does not run here"):
            reloads.ask(tmp_path, 60)
        stranger.communicate("\n", 60)
    assert stranger.returncode == 0  # SIGHUP would have ended it


def test_a_supervisor_that_does_not_answer_is_told_of(tmp_path, supervisor):
    supervisor("mute")
    with pytest.raises(NoAnswerError, match=r"^no answer within 0.2 s: look into the log$"):
        reloads.ask(tmp_path, 0.2)


def test_a_supervisor_that_ends_meanwhile_is_not_waited_for(tmp_path, supervisor):
    supervisor("ends")
    with pytest.raises(NoAnswerError, match="ended before it had reloaded"):
        reloads.ask(tmp_path, 3600)


def test_a_run_directory_has_one_supervisor(tmp_path, supervisor):
    supervisor()
    with pytest.raises(ProblemsError, match="another Postern uses this run_dir"), Reloads(tmp_path):
        pass


def test_the_record_is_for_its_owner_and_numbers_the_reloads(tmp_path):
    with Reloads(tmp_path) as own:
        for attempt in (1, 2):
            before = time.monotonic()
            own.begin()
            own.end(GOOD)
            record = reloads.last(tmp_path)
            assert (record.attempt, record.outcome) == (attempt, GOOD)
            assert before <= record.began <= time.monotonic()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"reload.lock": 0o600, "reload.json": 0o600}
    with Reloads(tmp_path):
        assert reloads.last(tmp_path) is None  # what another supervisor said is no answer of this one


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path):
    with Reloads(tmp_path) as own:
        (tmp_path / "reload.json").mkdir()
        own.begin()
        own.end(GOOD)
        (tmp_path / "reload.json").rmdir()
        own.end(GOOD)
        assert reloads.last(tmp_path).outcome == GOOD


@pytest.mark.parametrize(
    ("error", "result", "what"),
    [
        (ProblemsError(Problem(where="x:1", what="wrong", hint="mend it")), Result.REFUSED, "wrong"),
        (PosternError("the proof died"), Result.FAILED, "the proof died"),
        (TimeoutError(), Result.FAILED, "the new workers were not ready in time, the old ones stay"),
        (RuntimeError("box@clinic.example"), Result.FAILED, "it failed inside"),
    ],
)
def test_only_what_is_fit_to_be_shown_is_told(error, result, what):
    outcome = Outcome.of(error)
    assert (outcome.result, outcome.problems[0].what) == (result, what)


def test_what_is_written_is_read_back(tmp_path):
    outcome = Outcome.of(ProblemsError(Problem(where="a:1", what="wrong", hint="so"), Problem(where="b", what="bad")))
    with Reloads(tmp_path) as own:
        own.begin()
        own.end(outcome)
    assert reloads.last(tmp_path).outcome == outcome
