"""Starts, watches, reloads and drains the processes of ``postern run``; it touches no mail and holds no key.

Children speak the protocol of sd_notify(3) to a socket of the supervisor's (``READY=1``, ``WATCHDOG=1``), just as each
would to systemd when it runs alone: one way of telling, whoever listens.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from relay.app import notices as channel
from relay.app.reloads import Outcome, Reloads, Result
from relay.core.errors import PosternError, Problem, ProblemsError
from relay.crew import Child, Place, Role, Roster, role_command

log = structlog.get_logger("supervisor")

EX_CONFIG: Final = 78
"""Exit status of a process whose configuration cannot be used, sysexits.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """How children are started and watched.

    Attributes:
        run_dir: where the notify socket lies, and how the last reload ended.
        look: seconds between looks at children and watched files.
        start_timeout: seconds a child may take until ``READY=1``.
        watchdog: seconds of silence after which a child is killed.
        drain_timeout: seconds a child may take to end after SIGTERM, then it is killed.
        first_pause: seconds before a child that ended twice in a row is started anew; doubled each time.
        longest_pause: seconds at most.
        steady_after: seconds a child must have lived for its next start to be immediate again.
        command: gives a role's command line.
    """

    run_dir: Path
    look: float = 2.0
    start_timeout: float = 60.0
    watchdog: float = 30.0
    drain_timeout: float = 45.0
    first_pause: float = 0.25
    longest_pause: float = 15.0
    steady_after: float = 30.0
    command: Callable[[Role, str, Path], Sequence[str]] = role_command


class Supervisor:
    """Keeps a roster of processes alive.

    Args:
        options: deadlines.
        load: reads and proves the whole configuration and writes its snapshot; called at start and on every SIGHUP.
            Raises a ``PosternError`` when anything is wrong, which at a reload leaves the running roster in place.
        changed: whether a watched file was edited: then a reload is tried as if asked for.
        forsake: makes a ``load`` that is under way raise: called when we are told to stop meanwhile.
        stay: told of the roster that stays although a newer one was loaded, and why.
        tell: passes a state line on to whoever started us (systemd), such as ``READY=1``.
    """

    def __init__(
        self,
        options: SupervisorOptions,
        load: Callable[[], Roster],
        tell: Callable[[str], object],
        *,
        changed: Callable[[], bool] = lambda: False,
        forsake: Callable[[], None] = lambda: None,
        stay: Callable[[Roster, str], object] = lambda _roster, _why: None,
    ) -> None:
        self._options = options
        self._load = load
        self._tell = tell
        self._changed = changed
        self._forsake = forsake
        self._stay = stay
        self._children: dict[int, Child] = {}
        self._places: list[Place] = []
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._reloads = Reloads(options.run_dir)
        self._roster: Roster

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; the exit status.

        Raises:
            PosternError: the configuration cannot be used at all.
        """
        # Until the loop hears signals: what changed since the configuration was read is taken up after the start.
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        # Before anything is written into run_dir, which may be that of another Postern; until nobody uses it any more.
        with contextlib.ExitStack() as claim:
            claim.enter_context(self._reloads)
            self._roster = self._load()
            loop = asyncio.get_running_loop()
            notices = channel.listen(self._socket_path)
            loop.add_reader(notices, self._read_notices, notices)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            loop.add_signal_handler(signal.SIGHUP, self._reload.set)
            beat = loop.create_task(self._beat())
            try:
                if await self._start_all():
                    await self._watch()
            finally:
                self._stop.set()
                self._tell("STOPPING=1")
                for role in reversed(Role):  # workers first, then those that serve them
                    await self._close([place for place in self._places if place.role is role])
                await beat
                loop.remove_reader(notices)
                notices.close()
                self._socket_path.unlink(missing_ok=True)
                claim.close()  # while SIGHUP is heard: who asks for a reload signals whoever holds it
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    loop.remove_signal_handler(number)
        return 0

    # --- starting --------------------------------------------------------

    @property
    def _socket_path(self) -> Path:
        return self._options.run_dir / "notify.sock"

    async def _start_all(self) -> bool:
        """Start every process, and wait until all are ready; ``False``: told to stop meanwhile.

        Raises:
            ProblemsError: one of them cannot run with this configuration.
        """
        for role in (Role.EXTRACT, Role.ADMIN):
            if not await self._up([self._open(role.value, role)]):
                return False
        last = [self._open(Role.PORTAL.value, Role.PORTAL)] if self._roster.portal else []
        if not await self._up([*last, *(self._open(name, Role.WORKER) for name in self._worker_names())]):
            return False
        self._tell("READY=1")
        log.info("running", workers=self._roster.workers)
        return True

    def _worker_names(self) -> list[str]:
        return [f"worker-{number}" for number in range(1, self._roster.workers + 1)]

    def _open(self, name: str, role: Role) -> Place:
        place = Place(name, role, self._roster)
        self._places.append(place)
        place.task = asyncio.get_running_loop().create_task(self._keep(place))
        return place

    async def _up(self, places: Sequence[Place]) -> bool:
        """Wait until all are ready; ``False``: told to stop meanwhile.

        Raises:
            ProblemsError: a process says that it cannot run with this configuration.
        """

        def known() -> bool:
            return self._stop.is_set() or all(one.is_ready for one in places) or any(one.refused for one in places)

        while not known():
            self._news.clear()
            await self._news.wait()
        for place in places:
            if place.refused:
                hint = "its log says why"
                raise ProblemsError(Problem(where=place.name, what="cannot run with this configuration", hint=hint))
        return not self._stop.is_set()

    # --- one process after the other in a place ----------------------------

    async def _keep(self, place: Place) -> None:
        """Start a process, and another each time one ends, until the place is retired."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not place.retired.is_set():
            began = loop.time()
            status = await self._live(place)
            self._news.set()
            if place.retired.is_set():
                return
            failures = 1 if loop.time() - began > self._options.steady_after else failures + 1
            pause = self._pause(failures)
            log.error("process ended, starting it again", child=place.name, status=status, pause=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(place.retired.wait(), pause)

    def _pause(self, failures: int) -> float:
        if failures < 2:
            return 0.0
        return min(self._options.first_pause * 2.0 ** min(failures - 2, 16), self._options.longest_pause)

    async def _live(self, place: Place) -> int | str:
        """One process from start to end; its exit status, or why it could not be started."""
        roster = place.roster
        try:
            process = await asyncio.create_subprocess_exec(
                *self._options.command(place.role, place.name, roster.snapshot),
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            return str(error)
        child = Child(place.name, roster, process, asyncio.get_running_loop().time())
        child.stale = place.roster is not roster
        place.child = self._children[process.pid] = child
        if place.retired.is_set():
            child.signal(signal.SIGTERM)
        ended = asyncio.ensure_future(process.wait())
        await self._until_ready(child, ended)
        status = await ended
        if status == EX_CONFIG and not child.ready.is_set():
            place.refused = True
        del self._children[process.pid]
        place.child = None
        return status

    async def _until_ready(self, child: Child, ended: asyncio.Future[int]) -> None:
        ready = asyncio.ensure_future(child.ready.wait())
        either: set[asyncio.Future[Any]] = {ready, ended}
        done, _ = await asyncio.wait(either, timeout=self._options.start_timeout, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not done:
            log.error("not ready in time, killed", child=child.name, seconds=self._options.start_timeout)
            child.signal(signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}  # ours, not theirs
        return inherited | {
            "NOTIFY_SOCKET": str(self._socket_path),
            "WATCHDOG_USEC": str(int(self._options.watchdog * 1_000_000)),
            "POSTERN_SUPERVISOR": str(os.getpid()),
        }

    async def _close(self, places: Sequence[Place]) -> None:
        """Retire places: their processes drain, and are killed when they take too long."""
        for place in places:
            place.retired.set()
            if place.child is not None:
                place.child.signal(signal.SIGTERM)
        tasks = [place.task for place in places if place.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._options.drain_timeout)
            for place in places:
                if place.child is not None:
                    log.error("did not end in time, killed", child=place.name)
                    place.child.signal(signal.SIGKILL)
            if late:
                await asyncio.wait(late)
        self._places = [place for place in self._places if place not in places]

    # --- watching --------------------------------------------------------

    async def _beat(self) -> None:
        """Tell that we live, and kill whoever does not."""
        while not self._stop.is_set():
            self._kill_silent()
            self._tell("WATCHDOG=1")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._options.look)
        self._news.set()

    def _kill_silent(self) -> None:
        now = asyncio.get_running_loop().time()
        for child in self._children.values():
            if child.ready.is_set() and now - child.last_beat > self._options.watchdog:
                log.error("process is silent, killed", child=child.name, seconds=round(now - child.last_beat))
                child.signal(signal.SIGKILL)
                child.last_beat = now

    def _read_notices(self, notices: socket.socket) -> None:
        for pid, notice in channel.read(notices):
            child = self._children.get(pid)
            if child is None:
                continue
            child.last_beat = asyncio.get_running_loop().time()
            if b"READY=1" in notice.split(b"\n"):
                self._is_ready(child)

    def _is_ready(self, child: Child) -> None:
        if child.stale:
            child.stale = False
            child.signal(signal.SIGHUP)
        if not child.ready.is_set():
            child.ready.set()
            self._news.set()

    # --- changing --------------------------------------------------------

    async def _watch(self) -> None:
        while not self._stop.is_set():
            waits = [asyncio.ensure_future(event.wait()) for event in (self._stop, self._reload)]
            await asyncio.wait(waits, timeout=self._options.look, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if (self._reload.is_set() or self._changed()) and not self._stop.is_set():
                self._reload.clear()
                self._tell("RELOADING=1")
                self._reloads.begin()
                self._reloads.end(await self._change())
                self._tell("READY=1")

    async def _change(self) -> Outcome:
        """Reload: prove everything before anybody hears of it; swap by snapshot; new listeners want new workers."""
        try:
            roster = await self._loaded()
        except PosternError as error:
            log.error("reload refused, the running configuration stays", problems=str(error))
            return Outcome.of(error)
        except Exception as error:
            log.exception("reload failed inside, the running configuration stays")
            return Outcome.of(error)
        old, self._roster = self._roster, roster
        try:
            if has_new := (roster.listeners, roster.workers) != (old.listeners, old.workers):
                await self._replace_workers()
        except (PosternError, TimeoutError) as error:
            self._roster = old
            log.error("the new workers do not run, the old ones stay", problems=str(error))
            outcome = Outcome.of(error)
            self._stay(old, "; ".join(map(str, outcome.problems)))
            return outcome
        troubles: list[Problem] = []
        if has_new:  # it reads its limits and the scan's tuning at its start alone
            troubles += await self._renew(Role.EXTRACT)
        if roster.portal != old.portal:  # it takes its settings up at its start alone, and no two share its port
            troubles += await self._renew(Role.PORTAL, wanted=bool(roster.portal))
        for place in self._places:
            self._inform(place)
        log.info("reloaded", snapshot=roster.snapshot.name)
        return Outcome(result=Result.RELOADED, version=roster.policy, problems=tuple(troubles))

    async def _loaded(self) -> Roster:
        loading = asyncio.create_task(asyncio.to_thread(self._load))
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((loading, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not loading.done():
            self._forsake()
        return await loading

    async def _replace_workers(self) -> None:
        """Start a new generation, and only when all of it is ready retire the old one.

        Raises:
            PosternError: the new one cannot run; it is gone again.
            TimeoutError: it was not ready in time; it is gone again.
        """
        outgoing = [place for place in self._places if place.role is Role.WORKER]
        incoming = [self._open(name, Role.WORKER) for name in self._worker_names()]
        try:
            async with asyncio.timeout(self._options.start_timeout):
                ready = await self._up(incoming)
        except (PosternError, TimeoutError):
            await self._close(incoming)
            raise
        if ready:
            await self._close(outgoing)

    async def _renew(self, role: Role, *, wanted: bool = True) -> Sequence[Problem]:
        """Start the one process of a role anew, or end it; why it does not run.

        One that cannot run is tried again and again, as any process is: neither mail nor the next reload waits for it.
        While no helper runs, what needs it is judged as unreadable: protection rises, it never falls.
        """
        await self._close([place for place in self._places if place.role is role])
        if not wanted:
            return ()
        try:
            async with asyncio.timeout(self._options.start_timeout):
                await self._up([self._open(role.value, role)])
        except (PosternError, TimeoutError) as error:
            log.error("it does not run with the new settings", child=role.value, problems=str(error) or "not in time")
            what = "does not run with the new settings, and is tried again"
            return (Problem(where=role.value, what=what, hint="its log says why"),)
        return ()

    def _inform(self, place: Place) -> None:
        """Let the place's process, and those that follow it, know the roster in force."""
        place.roster = self._roster
        child = place.child
        if child is None or child.roster is self._roster:
            return
        child.roster = self._roster
        if child.ready.is_set():
            child.signal(signal.SIGHUP)
        else:
            child.stale = True
