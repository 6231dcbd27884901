"""Starts, watches, reloads and drains the processes of ``postern run``; it touches no mail and holds no key.

Children speak the protocol of sd_notify(3) to a socket of the supervisor's (``READY=1``, ``WATCHDOG=1``), just as each
would to systemd when it runs alone: one way of telling, whoever listens.
"""

import asyncio
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from relay.core.errors import PosternError

log = structlog.get_logger("supervisor")

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid of SCM_CREDENTIALS, unix(7)
_LONGEST_NOTICE: Final = 4096
_STEADY_AFTER: Final = 30.0
"""Seconds a child must have lived for its next start to be immediate again."""
_FIRST_PAUSE: Final = 0.25


class Role(StrEnum):
    """What a process does. The order is that of starting; stopping is the reverse."""

    EXTRACT = "extract"
    ADMIN = "admin"
    WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Which processes shall run, from one snapshot of the configuration.

    Attributes:
        snapshot: the snapshot file every process of this roster reads.
        workers: how many workers.
        listeners: a digest of what listens; a change wants a new generation of workers.
    """

    snapshot: Path
    workers: int
    listeners: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """How children are watched.

    Attributes:
        run_dir: where the notify socket lies.
        look: seconds between looks at children and watched files.
        start_timeout: seconds a child may take until ``READY=1``.
        watchdog: seconds of silence after which a child is killed.
        drain_timeout: seconds a child may take to end after SIGTERM, then it is killed.
        longest_pause: seconds at most before a child that ends again and again is started anew.
    """

    run_dir: Path
    look: float = 2.0
    start_timeout: float = 60.0
    watchdog: float = 30.0
    drain_timeout: float = 45.0
    longest_pause: float = 15.0


@dataclass(slots=True)
class _Child:
    name: str
    role: Role
    roster: Roster
    process: asyncio.subprocess.Process
    started_at: float
    last_beat: float
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False


class Supervisor:
    """Keeps a roster of processes alive.

    Args:
        options: deadlines.
        load: reads and proves the whole configuration and writes its snapshot; called at start and on every SIGHUP.
            Raises a ``PosternError`` when anything is wrong, which at a reload leaves the running roster in place.
        changed: whether a watched file was edited: then a reload is tried as if asked for.
        tell: passes a state line on to whoever started us (systemd), such as ``READY=1``.
    """

    def __init__(
        self,
        options: SupervisorOptions,
        load: Callable[[], Roster],
        tell: Callable[[str], object],
        *,
        changed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._options = options
        self._load = load
        self._tell = tell
        self._changed = changed
        self._children: dict[int, _Child] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._failures: dict[str, int] = {}
        self._roster: Roster

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; the exit status.

        Raises:
            PosternError: the configuration cannot be used at all.
        """
        self._roster = self._load()
        loop = asyncio.get_running_loop()
        notices = self._listen()
        loop.add_reader(notices, self._read_notices, notices)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        try:
            await self._start_all()
            await self._watch()
        finally:
            self._tell("STOPPING=1")
            await self._stop_children(list(self._children.values()))
            loop.remove_reader(notices)
            notices.close()
            self._socket_path.unlink(missing_ok=True)
        return 0

    # --- starting --------------------------------------------------------

    @property
    def _socket_path(self) -> Path:
        return self._options.run_dir / "notify.sock"

    def _listen(self) -> socket.socket:
        self._socket_path.unlink(missing_ok=True)
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        notices.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        notices.bind(str(self._socket_path))
        self._socket_path.chmod(0o600)
        return notices

    async def _start_all(self) -> None:
        for role in (Role.EXTRACT, Role.ADMIN):
            await self._start(role.value, role)
        await asyncio.gather(*(self._start(name, Role.WORKER) for name in self._worker_names(self._roster)))
        if not self._stop.is_set():
            self._tell("READY=1")
            log.info("running", workers=self._roster.workers)

    @staticmethod
    def _worker_names(roster: Roster) -> list[str]:
        return [f"worker-{number}" for number in range(1, roster.workers + 1)]

    async def _start(self, name: str, role: Role) -> None:
        """Start one child and wait until it is ready, dead or late; a dead one is started again by its watcher."""
        loop = asyncio.get_running_loop()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relay.roles", role.value, "--name", name, "--snapshot", str(self._roster.snapshot),
            env=self._environment(), stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        child = _Child(name, role, self._roster, process, loop.time(), loop.time())
        self._children[process.pid] = child
        watcher = loop.create_task(self._outlive(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        waits = [loop.create_task(wait) for wait in (child.ready.wait(), self._stop.wait(), process.wait())]
        done, _ = await asyncio.wait(waits, timeout=self._options.start_timeout, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not done and process.returncode is None:
            log.error("not ready in time, killed", child=name, seconds=self._options.start_timeout)
            process.kill()

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "NOTIFY_SOCKET": str(self._socket_path),
            "WATCHDOG_USEC": str(int(self._options.watchdog * 1_000_000)),
            "POSTERN_SUPERVISOR": str(os.getpid()),
        }

    async def _outlive(self, child: _Child) -> None:
        """Wait for the child's end; start it again unless it was told to stop."""
        status = await child.process.wait()
        del self._children[child.process.pid]
        if child.stopping or self._stop.is_set():
            return
        lived = asyncio.get_running_loop().time() - child.started_at
        failures = 0 if lived > _STEADY_AFTER else self._failures.get(child.name, 0)
        self._failures[child.name] = failures + 1
        pause = min(_FIRST_PAUSE * 2 ** min(failures, 16), self._options.longest_pause) if failures else 0.0
        log.error("process ended, starting it again", child=child.name, status=status, pause=pause)
        try:
            await asyncio.wait_for(self._stop.wait(), pause)
        except TimeoutError:
            await self._start(child.name, child.role)

    # --- watching --------------------------------------------------------

    async def _watch(self) -> None:
        while not self._stop.is_set():
            waits = [asyncio.ensure_future(event.wait()) for event in (self._stop, self._reload)]
            await asyncio.wait(waits, timeout=self._options.look, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if (self._reload.is_set() or self._changed()) and not self._stop.is_set():
                self._reload.clear()
                await self._change()
            self._kill_silent()
            self._tell("WATCHDOG=1")

    def _kill_silent(self) -> None:
        now = asyncio.get_running_loop().time()
        for child in self._children.values():
            if child.ready.is_set() and now - child.last_beat > self._options.watchdog:
                log.error("process is silent, killed", child=child.name, seconds=round(now - child.last_beat))
                child.process.kill()
                child.last_beat = now

    def _read_notices(self, notices: socket.socket) -> None:
        while True:
            try:
                data, ancillary, _, _ = notices.recvmsg(_LONGEST_NOTICE, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            pid = next(
                (
                    _CREDENTIALS.unpack(raw)[0]
                    for level, kind, raw in ancillary
                    if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS
                ),
                0,
            )
            child = self._children.get(pid)
            if child is None:
                continue
            child.last_beat = asyncio.get_running_loop().time()
            if b"READY=1" in data.split(b"\n"):
                child.ready.set()

    # --- changing --------------------------------------------------------

    async def _change(self) -> None:
        """Reload: validate everything in this one process; swap by snapshot; new listeners want new workers."""
        self._tell("RELOADING=1")
        try:
            roster = await asyncio.to_thread(self._load)
        except PosternError as error:
            log.error("reload refused, the running configuration stays", problems=str(error))
            self._tell("READY=1")
            return
        old, self._roster = self._roster, roster
        if (roster.listeners, roster.workers) != (old.listeners, old.workers):
            await self._replace_workers()
        self._signal_reload()
        log.info("reloaded", snapshot=roster.snapshot.name)
        self._tell("READY=1")

    async def _replace_workers(self) -> None:
        outgoing = [child for child in self._children.values() if child.role is Role.WORKER]
        for child in outgoing:
            child.stopping = True
        await asyncio.gather(*(self._start(name, Role.WORKER) for name in self._worker_names(self._roster)))
        await self._stop_children(outgoing)

    def _signal_reload(self) -> None:
        for child in self._children.values():
            if not child.stopping and child.roster is not self._roster:
                child.roster = self._roster
                child.process.send_signal(signal.SIGHUP)

    async def _stop_children(self, children: Sequence[_Child]) -> None:
        """Drain in the reverse order of starting: workers, then those that serve them."""
        for role in reversed(Role):
            group = [child for child in children if child.role is role and child.process.returncode is None]
            for child in group:
                child.stopping = True
                child.process.terminate()
            ends = [asyncio.ensure_future(child.process.wait()) for child in group]
            if not ends:
                continue
            _, late = await asyncio.wait(ends, timeout=self._options.drain_timeout)
            for child in group:
                if child.process.returncode is None:
                    log.error("did not end in time, killed", child=child.name)
                    child.process.kill()
            if late:
                await asyncio.wait(late)
