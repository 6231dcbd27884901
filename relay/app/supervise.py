"""Proving a configuration for the supervisor, and freezing it: a process that ends when that is done."""

from relay import plainlog  # noqa: F401, I001  before structlog

import asyncio
import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
import structlog

from relay.app import scanning
from relay.app import snapshot as snapshots
from relay.app.base import CLOCK, configure_log, log_options
from relay.app.stock import load_signers, open_vault
from relay.config.clients import load_clients
from relay.config.load import load, load_with_places
from relay.config.methods import configured_methods
from relay.config.policies import RunningPolicy
from relay.config.proof_names import unknown_names
from relay.config.prove import Extent, missing_routes, ports_of, prove, prove_ports
from relay.config.settings import Settings
from relay.config.snapshot import from_snapshot, snapshot
from relay.config.stamps import Stamp
from relay.core.errors import Problem, ProblemsError
from relay.crew import Roster
from relay.observe import exposition
from relay.privileges import become

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


def freeze(settings: Settings) -> tuple[Roster, tuple[Stamp, ...]]:
    """Read all that the configuration names, run the policy's own tests, and write the snapshot.

    Returns:
        The roster, and the files that the policy was read from, as they stood before: who edits one meanwhile is seen.

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
    for warning in (*policy.current.warnings, *unknown_names(policy.current, settings)):
        log.warning("policy", where=warning.where, what=warning.what)
    directory = snapshots.write(settings, policy.version, policy.current.files, version_of=_version_of(settings))
    portal = _digest(settings, ("portal",)) if settings.portal is not None and settings.portal.supervised else ""
    roster = Roster(
        snapshot=directory,
        workers=settings.workers,
        listeners=_digest(settings, _OF_LISTENERS),
        portal=portal,
        policy=policy.version,
    )
    return roster, policy.stamps


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
    """The configuration file as it is loaded at start, and again at each SIGHUP.

    Attributes:
        settings: in force; before the first :meth:`load` those of the file.
        stamps: of the policy files that they were proved with.
        ports: all that were ever ours: of a change that failed they are so still.

    Args:
        path: the file.
        running: the settings in force, if any are.
        started: those that were in force first.
        ports: what proofs before left in :attr:`ports`.
    """

    def __init__(
        self, path: Path, running: Settings | None = None, started: Settings | None = None, ports: Collection[int] = ()
    ) -> None:
        self._path = path
        self.settings = running or load(path)
        self._started = started or self.settings
        self.stamps: tuple[Stamp, ...] = ()
        self.ports = frozenset(ports)

    async def claim_ports(self) -> None:
        """Make sure that nobody listens where our processes will. Those of a killed supervisor get time to leave.

        Raises:
            ProblemsError: somebody does, or we may not listen there.
        """
        loaded, ends = load_with_places(self._path), time.monotonic() + _LEAVING
        while problems := prove_ports(loaded):
            if prove_ports(loaded, passing=True) or time.monotonic() > ends:
                raise ProblemsError(*problems)
            log.info("waiting for what listens there to leave", problems=[str(problem) for problem in problems])
            await asyncio.sleep(_LOOK)
        self.ports = ports_of(loaded.settings)

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
        if self.ports and (problems := prove_ports(load_with_places(self._path), ours=self.ports)):
            raise ProblemsError(*problems)
        for warning in _proved(self._path):
            log.warning("configuration", where=warning.where, what=warning.what, hint=warning.hint)
        later = [name for name in _LATER if getattr(settings, name) != getattr(self._started, name)]
        if settings.control.socket != self._started.control.socket:
            later.append("control.socket")
        if later:
            what = f"{', '.join(later)}: not all of it is taken up before the next restart"
            log.warning("configuration", where=str(self._path), what=what, hint="restart Postern when it suits")
        roster, self.stamps = freeze(settings)
        self.settings = settings
        self.ports |= ports_of(settings)
        configure_log(settings, "supervisor")
        return roster


def main(path: Path) -> int:
    """Prove a configuration for the supervisor (:mod:`relay.app.oversee`), which asks and is answered in lines of JSON.

    It tells first what was proved before; the answer is where the configuration leads (:func:`_bearings`). The second
    line, if it comes, asks for the proof; the answer is the roster and what the next proof is to be told. In place of
    either answer stand the problems.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing else may stand between answers
    with contextlib.suppress(BrokenPipeError):  # the supervisor is gone
        try:
            told = orjson.loads(sys.stdin.buffer.readline())
            running, started = _settings(told["running"]), _settings(told["started"])
            configuration = Configuration(path, running, started, told["ports"])
            _say(answers, _bearings(configuration.settings))
            if sys.stdin.buffer.readline():
                with _ending_with_the_supervisor():
                    complete = _complete(configuration, is_first=not told["running"])
                _say(answers, complete)
        except ProblemsError as error:
            _say(answers, {"problems": [asdict(problem) for problem in error.problems]})
    return 0


@contextlib.contextmanager
def _ending_with_the_supervisor() -> Iterator[None]:
    """End at once when the supervisor does.

    Whoever is started next has a proof of his own, and must not find his links and files replaced by one that nobody
    waits for any more.
    """
    done = threading.Event()

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # nothing more comes but the end; not through the buffer, which would lock it
        if not done.is_set():
            os._exit(os.EX_TEMPFAIL)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _say(answers: BinaryIO, what: Mapping[str, Any]) -> None:
    answers.write(orjson.dumps(what, default=str, option=orjson.OPT_APPEND_NEWLINE))


def _settings(content: str) -> Settings | None:
    return from_snapshot(content.encode()) if content else None


def _bearings(settings: Settings) -> dict[str, Any]:
    """The few settings that the supervisor needs itself."""
    return {
        "data_dir": settings.data_dir,
        "run_dir": settings.run_dir,
        "user": settings.user,
        "watchdog": settings.process.watchdog,
        "drain": settings.process.drain,
        "restart_pause": settings.process.restart_pause,
        "log": asdict(log_options(settings, "supervisor")),
    }


def _complete(configuration: Configuration, *, is_first: bool) -> dict[str, Any]:
    settings = configuration.settings
    if settings.user is not None:
        become(settings.user)  # as the supervisor did, before anything is opened or logged to
    try:
        configure_log(settings, "supervisor")
    except ProblemsError as error:
        if is_first:
            raise
        log.warning("the log in force cannot be opened, the new one is tried", problems=str(error))
    if is_first:
        asyncio.run(configuration.claim_ports())
        exposition.prepare(settings.run_dir / "metrics")
    roster = configuration.load()
    return {
        "roster": asdict(roster),
        "stamps": configuration.stamps,
        "ports": sorted(configuration.ports),
        "settings": snapshot(configuration.settings)[1].decode(),
        "bearings": _bearings(configuration.settings),
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
