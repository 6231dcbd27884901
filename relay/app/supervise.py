"""``postern run``: prove the configuration, freeze it, and hand the roster to the supervisor."""

import hashlib
from pathlib import Path
from typing import Final

import orjson
import structlog

from relay.app import snapshot as snapshots
from relay.app.base import CLOCK, CONFIGURED, configure_log
from relay.app.helper import engine_limits
from relay.app.stock import load_signers, open_vault
from relay.config.clients import load_clients
from relay.config.load import load
from relay.config.policies import RunningPolicy
from relay.config.settings import Settings
from relay.core.errors import Problem, ProblemsError
from relay.extract.engine import ScanEngine, load_judge
from relay.observe import exposition, notify
from relay.store import DirectoryLock
from relay.supervisor import Roster, Supervisor, SupervisorOptions

log = structlog.get_logger("supervisor")

_OF_LISTENERS: Final = ("listeners", "routes", "limits", "delivery", "dns", "tls", "scan", "hostname", "dsn", "auth")
"""Settings that a worker takes up only at its start: a change of them wants a new generation of workers."""
_FIXED: Final = ("data_dir", "run_dir", "keys_dir", "store", "user")
"""Settings that only a restart changes: what is on disk and who owns it."""


def freeze(settings: Settings) -> Roster:
    """Read all that the configuration names, run the policy's own tests, and write the snapshot.

    Raises:
        ProblemsError: everything that is wrong, so that nothing is taken up that a process would stumble over.
    """
    limits = engine_limits(settings)
    engine = ScanEngine(load_judge(lambda plain: plain, limits.scan), limits)
    problems: list[Problem] = []
    policy: RunningPolicy | None = None
    for read in (load_clients, load_signers, open_vault):
        try:
            read(settings.clients_dir if read is load_clients else settings)  # type: ignore[arg-type]  # each its own
        except ProblemsError as error:
            problems.extend(error.problems)
    try:
        policy = RunningPolicy(settings.policy, methods=CONFIGURED, clock=CLOCK, scan=engine.scan)
    except ProblemsError as error:
        problems.extend(error.problems)
    if policy is None or problems:
        raise ProblemsError(*problems)
    for warning in policy.current.warnings:
        log.warning("policy", where=warning.where, what=warning.what)
    directory = snapshots.write(settings, policy.version, policy.current.files)
    return Roster(snapshot=directory, workers=settings.workers, listeners=_digest(settings))


def _digest(settings: Settings) -> str:
    tree = settings.model_dump(mode="json", include=set(_OF_LISTENERS))
    return hashlib.sha256(orjson.dumps(tree, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Configuration:
    """The configuration file as the supervisor loads it: at start, and again at each SIGHUP."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.settings = load(path)

    def load(self) -> Roster:
        """Load, prove and freeze.

        Raises:
            ProblemsError: everything that is wrong.
        """
        settings = load(self._path)
        changed = [name for name in _FIXED if getattr(settings, name) != getattr(self.settings, name)]
        if changed:
            what = f"{', '.join(changed)} cannot be changed while running"
            raise ProblemsError(Problem(where=str(self._path), what=what, hint="restart Postern"))
        roster = freeze(settings)
        self.settings = settings
        configure_log(settings, "supervisor")
        return roster


async def run(path: Path) -> int:
    """Supervise until told to stop; the exit status.

    Raises:
        ProblemsError: the configuration cannot be used, or another Postern runs on the same directory.
    """
    configuration = Configuration(path)
    settings = configuration.settings
    configure_log(settings, "supervisor")
    for directory in (settings.data_dir, settings.run_dir):
        _make(directory)
    with DirectoryLock(settings.data_dir):
        exposition.prepare(settings.run_dir / "metrics")
        supervisor = Supervisor(
            SupervisorOptions(
                run_dir=settings.run_dir,
                watchdog=settings.process.watchdog,
                drain_timeout=settings.process.drain + 15,
                longest_pause=settings.process.restart_pause,
            ),
            configuration.load,
            notify.notify,
        )
        return await supervisor.run()


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be made: {error.strerror}"
        hint = "make it, and give it to the user Postern runs as"
        raise ProblemsError(Problem(where=str(directory), what=what, hint=hint)) from error
