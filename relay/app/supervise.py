"""``postern run``: prove the configuration, freeze it, and hand the roster to the supervisor."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
import structlog

from relay.app import scanning
from relay.app import snapshot as snapshots
from relay.app.base import CLOCK, configure_log
from relay.app.stock import load_signers, open_vault
from relay.config.clients import load_clients
from relay.config.load import load, load_with_places
from relay.config.methods import configured_methods
from relay.config.policies import RunningPolicy, Stamp, stamps
from relay.config.prove import Extent, missing_routes, ports_of, prove, prove_ports
from relay.config.settings import Settings
from relay.core.errors import Problem, ProblemsError
from relay.crew import Roster
from relay.observe import exposition, notify
from relay.privileges import become
from relay.store import DirectoryLock
from relay.supervisor import Supervisor, SupervisorOptions

log = structlog.get_logger("supervisor")

_OF_LISTENERS: Final = (
    "listeners", "routes", "limits", "delivery", "dns", "tls", "scan", "hostname", "dsn", "auth", "suppression",
    "returns", "portal",
)  # fmt: skip
"""Settings that a worker takes up only at its start: a change of them wants a new generation of workers."""
_FIXED: Final = ("data_dir", "run_dir", "keys_dir", "store", "node", "user")
"""Settings that only a restart changes: what is on disk and who owns it."""
_LATER: Final = ("admin", "audit", "metrics", "process")
"""Settings of which a reload takes up a part at the most: what is left waits for the next restart, and that is told."""


def freeze(settings: Settings) -> tuple[Roster, tuple[str, ...]]:
    """Read all that the configuration names, run the policy's own tests, and write the snapshot.

    Returns:
        The roster, and the files that the policy was read from.

    Raises:
        ProblemsError: everything that is wrong, so that nothing is taken up that a process would stumble over.
    """
    problems: list[Problem] = []
    policy: RunningPolicy | None = None
    for read in (load_clients, load_signers, open_vault):
        try:
            read(settings.clients_dir if read is load_clients else settings)  # type: ignore[arg-type]  # each its own
        except ProblemsError as error:
            problems.extend(error.problems)
    try:
        engine = scanning.engine(settings, lambda plain: plain)
        policy = RunningPolicy(settings.policy, methods=configured_methods(settings), clock=CLOCK, scan=engine.scan)
        problems.extend(missing_routes(policy.current.rules, settings))
    except ProblemsError as error:
        problems.extend(error.problems)
    if policy is None or problems:
        raise ProblemsError(*problems)
    for warning in policy.current.warnings:
        log.warning("policy", where=warning.where, what=warning.what)
    directory = snapshots.write(settings, policy.version, policy.current.files, version_of=_version_of(settings))
    portal = _digest(settings, ("portal",)) if settings.portal is not None and settings.portal.supervised else ""
    roster = Roster(
        snapshot=directory, workers=settings.workers, listeners=_digest(settings, _OF_LISTENERS), portal=portal
    )
    return roster, policy.current.files


def _version_of(settings: Settings) -> Callable[[Path], str]:
    return lambda root: RunningPolicy(root, methods=configured_methods(settings), clock=CLOCK).version


def _digest(settings: Settings, names: Sequence[str]) -> str:
    tree = settings.model_dump(mode="json", include=set(names))
    tree["tuning"] = snapshots.tuning_of(settings).hex()
    return hashlib.sha256(orjson.dumps(tree, option=orjson.OPT_SORT_KEYS)).hexdigest()


_LEAVING: Final = 5.0
"""Seconds for what listens at our start to leave: processes of a supervisor that was killed are told by the kernel."""
_LOOK: Final = 0.5
RUNNING: Final = Extent(ports=False, dns=False, policy=False, store=False, space=False)


def _proved(path: Path) -> tuple[Problem, ...]:
    """Prove on this machine what a running system can stumble over; the warnings.

    Ports are proved apart: most are ours already at a reload. And a DNS or database that is away for a moment must not
    keep the mail from being taken; nor a full disk the mail that is on it from leaving.

    Raises:
        ProblemsError: the errors.
    """
    proof = prove(load_with_places(path), now=datetime.now(UTC), extent=RUNNING)
    if proof.errors:
        raise ProblemsError(*proof.errors)
    return proof.warnings


class Configuration:
    """The configuration file as the supervisor loads it: at start, and again at each SIGHUP."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.settings = load(path)
        self._started = self.settings
        self._policy_files: tuple[str, ...] = ()
        self._stamps: tuple[Stamp, ...] = ()
        self._ports: frozenset[int] = frozenset()  # all that were ever ours: of a change that failed they are so still

    async def claim_ports(self) -> None:
        """Make sure that nobody listens where our processes will. Those of a killed supervisor get time to leave.

        Raises:
            ProblemsError: somebody does.
        """
        loaded, ends = load_with_places(self._path), time.monotonic() + _LEAVING
        while problems := prove_ports(loaded):
            if time.monotonic() > ends:
                raise ProblemsError(*problems)
            log.info("waiting for what listens there to leave", problems=[str(problem) for problem in problems])
            await asyncio.sleep(_LOOK)
        self._ports = ports_of(loaded.settings)

    def load(self) -> Roster:
        """Load, prove and freeze.

        Raises:
            ProblemsError: everything that is wrong.
        """
        refused = self.settings.run_dir / snapshots.REFUSED
        try:
            roster = self._load()
        except ProblemsError as error:
            with contextlib.suppress(OSError):  # the log says it in any case
                refused.parent.mkdir(parents=True, exist_ok=True)
                refused.write_text(f"{error}\n", encoding="utf-8")
            raise
        refused.unlink(missing_ok=True)
        return roster

    def _load(self) -> Roster:
        settings = load(self._path)
        changed = [name for name in _FIXED if getattr(settings, name) != getattr(self.settings, name)]
        if changed:
            what = f"{', '.join(changed)} cannot be changed while running"
            raise ProblemsError(Problem(where=str(self._path), what=what, hint="restart Postern"))
        if self._ports and (problems := prove_ports(load_with_places(self._path), ours=self._ports)):
            raise ProblemsError(*problems)
        for warning in _proved(self._path):
            log.warning("configuration", where=warning.where, what=warning.what, hint=warning.hint)
        later = [name for name in _LATER if getattr(settings, name) != getattr(self._started, name)]
        if settings.control.socket != self._started.control.socket:
            later.append("control.socket")
        if later:
            what = f"{', '.join(later)}: not all of it is taken up before the next restart"
            log.warning("configuration", where=str(self._path), what=what, hint="restart Postern when it suits")
        try:
            roster, self._policy_files = freeze(settings)
        finally:
            self._stamps = stamps(self._policy_files)
        self.settings = settings
        self._ports |= ports_of(settings)
        configure_log(settings, "supervisor")
        return roster

    def changed(self) -> bool:
        """Whether a policy file or one of its lists was edited since it was last looked at."""
        return self._stamps != stamps(self._policy_files)


async def run(path: Path) -> int:
    """Supervise until told to stop; the exit status.

    Raises:
        ProblemsError: the configuration cannot be used, or another Postern runs on the same directory.
    """
    configuration = Configuration(path)
    settings = configuration.settings
    for directory in (settings.data_dir, settings.run_dir):
        _make(directory, settings.user)
    if settings.user is not None:
        become(settings.user)  # before anything is opened or logged to
    configure_log(settings, "supervisor")
    with DirectoryLock(settings.data_dir):
        await configuration.claim_ports()
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
            changed=configuration.changed,
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
