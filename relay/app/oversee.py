"""``postern run``: lock the data directory, have the configuration proved, and hand the roster to the supervisor.

What proves a configuration has to load all that the other processes load, the scan's tables included: 50 MB that the
supervisor would keep for nothing until the next reload. So a process of its own proves, writes the snapshot and ends
(``relay.app.supervise``), and this module imports nothing of what it needs.
"""

import contextlib
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from relay.app.current import point_at
from relay.config.stamps import Stamp, stamps
from relay.core.errors import PosternError, Problem, ProblemsError
from relay.crew import REFUSED, Roster
from relay.observe import log as logs
from relay.observe import notify
from relay.privileges import become
from relay.store.sqlite.lock import DirectoryLock
from relay.supervisor import Supervisor, SupervisorOptions

log = structlog.get_logger("supervisor")

_PATIENCE: Final = 120.0
"""Seconds for each answer of a proof, which takes few: a file system that is away must not keep us from stopping."""


class ProofError(PosternError):
    """The process that proves gave no answer. This says nothing of the configuration: the next proof may well pass."""


class _Proof:
    """One process that reads and proves a configuration, and its two answers: where it leads, and what it comes to.

    Args:
        path: the configuration file.
        told: what became of the proofs before: the settings in force as ``running``, those in force first as
            ``started``, both empty at the start, and our ``ports``.
    """

    def __init__(self, path: Path, told: dict[str, Any]) -> None:
        self._path = path
        self._process = subprocess.Popen(  # noqa: S603  this Python, with arguments of our own
            # -P: we may be root, in anybody's directory, and take no code from there
            [sys.executable, "-P", "-m", "relay.app.supervise", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us
        )
        self._told = told

    def begin(self) -> dict[str, Any]:
        """Have it read; the few settings that the supervisor itself needs.

        Raises:
            ProblemsError: it cannot be read, or what is wrong with its values.
            ProofError: it died, or did not answer in time.
        """
        self._tell(self._told)
        return self._answer()

    def give_up(self) -> None:
        """Let it die: whoever waits for an answer gets none. From any thread."""
        self._process.kill()

    def complete(self) -> dict[str, Any]:
        """Become the configured user, prove and freeze.

        Raises:
            ProblemsError: everything that is wrong.
            ProofError: it died, or did not answer in time.
        """
        try:
            self._tell({"go": True})
            return self._answer()
        finally:
            self.end()

    def end(self) -> None:
        """Let the process go."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what it did not take before it died
                    pipe.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, what: dict[str, Any]) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended: the answer that does not come tells
                self._process.stdin.write(orjson.dumps(what, option=orjson.OPT_APPEND_NEWLINE))
                self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        line = self._line()
        if not line.endswith(b"\n"):
            self.end()
            status = self._process.returncode
            raise ProofError(
                f"{self._path}: the process that proves it ended with status {status}: its output says why"
            )
        answer: dict[str, Any] = orjson.loads(line)
        if "problems" in answer:
            self.end()
            raise ProblemsError(*(Problem(**problem) for problem in answer["problems"]))
        return answer

    def _line(self) -> bytes:
        if self._process.stdout is None:
            return b""
        if not select.select([self._process.stdout], [], [], _PATIENCE)[0]:
            self._process.kill()
            self.end()
            raise ProofError(f"{self._path}: it could not be proved in {_PATIENCE:.0f} s: is a disk or share away?")
        return self._process.stdout.readline()


class Configuration:
    """The configuration file as the supervisor knows it: proved at the start, and again at each reload.

    Attributes:
        bearings: the few settings that the supervisor itself needs.
    """

    def __init__(self, path: Path) -> None:
        """Begin to read it.

        Raises:
            ProblemsError: it cannot be read, or what is wrong with its values.
            ProofError: nobody could tell.
        """
        self._path = path
        self._told: dict[str, Any] = {"running": "", "started": "", "ports": []}
        self._proof: _Proof | None = _Proof(path, self._told)
        self._proving: _Proof | None = None
        self._is_forsaken = False
        self.bearings = self._proof.begin()
        self._stamps = stamps(())
        self._seen: tuple[Stamp, ...] | None = None

    def load(self) -> Roster:
        """Prove and freeze it. While an older one runs, why it is not replaced stands in the file :data:`REFUSED`.

        Raises:
            ProblemsError: everything that is wrong.
            ProofError: nobody could tell.
        """
        refused = Path(self.bearings["run_dir"]) / REFUSED
        before = stamps(tuple(stamp[0] for stamp in self._stamps))
        try:
            answer = self._proved()
        except (ProblemsError, ProofError) as error:
            if self._told["running"] and not self._is_forsaken:
                with contextlib.suppress(OSError):  # the log says it in any case
                    refused.write_text(f"{error}\n", encoding="utf-8")
            raise
        finally:
            self._proving = None
            self._stamps = before  # one refusal for each edit, and none for what was edited meanwhile
        refused.unlink(missing_ok=True)
        self._stamps = tuple((name, *rest) for name, *rest in answer["stamps"])
        running = answer["settings"]
        self._told = {
            "running": running,
            "started": self._told["started"] or running,
            "ports": answer["ports"],
        }
        self.bearings = answer["bearings"]
        configure_log(self.bearings)
        roster = answer["roster"]
        return Roster(**roster | {"snapshot": Path(roster["snapshot"])})

    def stay(self, roster: Roster, why: str) -> None:
        """An older roster stays in force: a process that is started again reads its snapshot, and it is not forgotten.

        The file :data:`REFUSED` says why.
        """
        try:
            point_at(roster.snapshot)
            (Path(self.bearings["run_dir"]) / REFUSED).write_text(f"{why}\n", encoding="utf-8")
        except OSError as error:
            log.error("run_dir tells of a configuration that is not in force", problem=str(error))

    def _proved(self) -> dict[str, Any]:
        begun, self._proof = self._proof, None
        self._proving = proof = begun or _Proof(self._path, self._told)
        if self._is_forsaken:
            proof.give_up()
        if begun is None:
            proof.begin()
        return proof.complete()

    def forsake(self) -> None:
        """Let a proof that is under way, and any later one, die: nobody has a use for it. From any thread."""
        self._is_forsaken = True
        if self._proving is not None:
            self._proving.give_up()

    def changed(self) -> bool:
        """Whether a policy file or one of its lists was edited since it was last loaded, and not since the last look.

        A file that is being written is let be: half of a list can be as sound as all of it, and protect fewer.
        """
        before, self._seen = self._seen, stamps(tuple(stamp[0] for stamp in self._stamps))
        return self._seen != self._stamps and self._seen == before

    def close(self) -> None:
        """Let go of a proof that was not asked for."""
        if self._proof is not None:
            self._proof.end()


def configure_log(bearings: dict[str, Any]) -> None:
    """Log as the settings say, under the supervisor's name.

    Raises:
        ProblemsError: the log file cannot be opened.
    """
    file = bearings["log"]["file"]
    options = logs.LogOptions(
        process="supervisor",
        level=bearings["log"]["level"],
        format=logs.Format(bearings["log"]["format"]),
        file=Path(file) if file else None,
    )
    try:
        logs.configure(options)
    except OSError as error:
        what, hint = f"the log cannot be opened: {error.strerror}", "see log.file, and who may write there"
        raise ProblemsError(Problem(where=str(file), what=what, hint=hint)) from error


async def run(path: Path) -> int:
    """Supervise until told to stop; the exit status.

    Raises:
        ProblemsError: the configuration cannot be used, or another Postern runs on the same directory.
        ProofError: whether it can be used could not be told.
    """
    configuration = Configuration(path)
    try:
        return await _run(configuration)
    finally:
        configuration.close()


async def _run(configuration: Configuration) -> int:
    bearings = configuration.bearings
    data_dir, run_dir, user = Path(bearings["data_dir"]), Path(bearings["run_dir"]), bearings["user"]
    for directory in (data_dir, run_dir):
        _make(directory, user)
    if user is not None:
        become(user)  # before anything is opened or logged to
    configure_log(bearings)
    with DirectoryLock(data_dir):
        supervisor = Supervisor(
            SupervisorOptions(
                run_dir=run_dir,
                watchdog=bearings["watchdog"],
                drain_timeout=bearings["drain"] + 15,
                longest_pause=bearings["restart_pause"],
            ),
            configuration.load,
            notify.notify,
            changed=configuration.changed,
            forsake=configuration.forsake,
            stay=configuration.stay,
        )
        return await supervisor.run()


def _make(directory: Path, user: str | None) -> None:
    """Make a directory for the user that Postern will run as; one that is there is left as it is."""
    try:
        if not directory.exists():
            directory.mkdir(mode=0o750, parents=True)
            if user is not None and os.geteuid() == 0:
                shutil.chown(directory, user)
    except (OSError, LookupError) as error:
        what = f"cannot be made: {error}"
        hint = "make it, and give it to the user Postern runs as"
        raise ProblemsError(Problem(where=str(directory), what=what, hint=hint)) from error
