"""The supervisor over tiny processes: it starts, watches, replaces, reloads and drains them, and never goes alone."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from relay.app.reloads import Outcome, Result, last
from relay.core.errors import Problem, ProblemsError
from relay.crew import Roster
from relay.supervisor import EX_CONFIG, Supervisor, SupervisorOptions

ROLE = Path(__file__).parents[2] / "support" / "role.py"
ROOT = Path(__file__).parents[3]


class System:
    """A supervisor over tiny roles, what they said, and what it told its own manager."""

    def __init__(self, directory, **options):
        self.directory = directory
        self.fifo = directory / "said"
        os.mkfifo(self.fifo)
        self._pipe = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        self.said = asyncio.Queue()
        self.told = asyncio.Queue()
        self.edited = False
        self.loads = 0
        self.roster = self.snapshot("one")
        self.refusal = None
        self._rest = b""
        asyncio.get_running_loop().add_reader(self._pipe, self._read)
        defaults = {"run_dir": directory, "look": 0.02, "watchdog": 30.0, "first_pause": 0.01, "longest_pause": 0.05}
        self.options = SupervisorOptions(**{**defaults, "command": self._command, **options})
        self.away = threading.Event()  # what a load waits for
        self.away.set()
        self.stayed = []
        self.supervisor = Supervisor(
            self.options,
            self._load,
            self._tell,
            changed=self._changed,
            forsake=self.away.set,
            stay=lambda roster, why: self.stayed.append((roster, why)),
        )
        self.task = None

    def _command(self, _role, name, snapshot):
        return (sys.executable, str(ROLE), name, str(snapshot), str(self.fifo))

    def _read(self):
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self._pipe, 65536)
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self.said.put_nowait(tuple(line.decode().split()))

    def _load(self):
        self.loads += 1
        assert self.away.wait(60)
        if self.refusal is not None:
            raise self.refusal
        return self.roster

    def _tell(self, text):
        if text != "WATCHDOG=1":
            self.told.put_nowait(text)

    def _changed(self):
        edited, self.edited = self.edited, False
        return edited

    def snapshot(self, name, *, workers=2, listeners="same", portal="", **behave):
        directory = self.directory / name
        directory.mkdir()
        for role, words in behave.items():
            (directory / role.replace("_", "-")).write_text(words)
        return Roster(snapshot=directory, workers=workers, listeners=listeners, portal=portal)

    def start(self):
        self.task = asyncio.create_task(self.supervisor.run())

    async def hear(self, *words, count=1):
        """The next lines that begin with these words; others are dropped."""
        found = []
        while len(found) < count:
            line = await self.said.get()
            if all(have == want or want is None for have, want in zip(line, words, strict=False)):
                found.append(line)
        return found[0] if count == 1 else found

    async def hear_all(self, count):
        return [await self.said.get() for _ in range(count)]

    async def ready(self):
        assert await self.told.get() == "READY=1"

    def pids(self):
        return {child.name: child.process.pid for child in self.supervisor._children.values()}

    def reload(self):
        os.kill(os.getpid(), signal.SIGHUP)

    async def stop(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return await self.task

    async def aclose(self):
        if self.task is not None and not self.task.done():
            self.supervisor._stop.set()
            await self.task
        asyncio.get_running_loop().remove_reader(self._pipe)
        os.close(self._pipe)


@pytest.fixture
async def system(tmp_path):
    it = System(tmp_path)
    yield it
    await it.aclose()


def options(system, **changes):
    system.options = dataclasses.replace(system.options, **changes)
    system.supervisor._options = system.options


async def test_a_reload_asked_for_while_the_configuration_is_first_read_comes_after_the_start(system):
    first = system.supervisor._load

    def asked_meanwhile():
        if system.loads == 0:
            system.reload()
        return first()

    system.supervisor._load = asked_meanwhile
    before = signal.getsignal(signal.SIGHUP)
    system.start()
    await system.ready()
    assert await system.told.get() != "STOPPING=1"
    while system.loads < 2:
        await system.told.get()
    assert await system.stop() == 0
    signal.signal(signal.SIGHUP, before)


async def test_it_starts_in_order_is_ready_and_drains_in_reverse(system):
    system.start()
    names = [line[0] for line in await system.hear_all(4)]
    assert names[:2] == ["extract", "admin"]
    assert sorted(names[2:]) == ["worker-1", "worker-2"]
    await system.ready()
    assert await system.stop() == 0
    terms = [line[0] for line in await system.hear_all(4)]
    assert sorted(terms[:2]) == ["worker-1", "worker-2"]
    assert terms[2:] == ["admin", "extract"]
    assert system.told.get_nowait() == "STOPPING=1"
    assert not (system.directory / "notify.sock").exists()


async def test_a_later_role_waits_until_an_earlier_one_is_ready(system):
    system.roster = system.snapshot("two", extract="slow")
    os.mkfifo(f"{system.fifo}.go")
    system.start()
    assert (await system.hear_all(1))[0][0] == "extract"
    assert len(system.supervisor._children) == 1
    await asyncio.to_thread(lambda: Path(f"{system.fifo}.go").open("w").close())
    assert (await system.hear_all(1))[0][0] == "admin"
    await system.ready()


async def test_children_know_their_watchdog_and_not_that_of_the_supervisor(system, monkeypatch):
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    system.start()
    _, _, _, _, usec, pid = await system.hear("extract", "start")
    assert (usec, pid) == ("30000000", "-")


async def test_a_process_that_dies_is_started_again(system):
    system.start()
    await system.ready()
    first = system.pids()["worker-1"]
    os.kill(first, signal.SIGKILL)
    await system.hear("worker-1", "start")  # the first
    second = await system.hear("worker-1", "start")
    assert int(second[2]) != first
    assert sorted(system.pids()) == ["admin", "extract", "worker-1", "worker-2"]


async def test_one_that_dies_again_and_again_is_started_ever_later(system):
    pauses = []
    honest = system.supervisor._pause
    system.supervisor._pause = lambda failures: pauses.append(honest(failures)) or pauses[-1]
    system.start()
    await system.ready()
    (system.roster.snapshot / "admin").write_text("exit:1")
    os.kill(system.pids()["admin"], signal.SIGKILL)
    await system.hear("admin", "start", count=6)
    assert pauses[:5] == [0.0, 0.01, 0.02, 0.04, 0.05]
    (system.roster.snapshot / "admin").write_text("")
    await system.hear("admin", "start")


async def test_after_a_long_life_the_next_start_is_immediate_again(system):
    options(system, steady_after=0.0)
    pauses = []
    honest = system.supervisor._pause
    system.supervisor._pause = lambda failures: pauses.append(honest(failures)) or pauses[-1]
    system.start()
    await system.ready()
    for _ in range(3):
        pid = system.pids()["worker-2"]
        os.kill(pid, signal.SIGKILL)
        while system.pids().get("worker-2", pid) == pid:
            await system.hear("worker-2", "start")
            await asyncio.sleep(0)
    assert set(pauses) == {0.0}


async def test_it_is_not_ready_before_all_are_and_goes_on_trying(system):
    system.roster = system.snapshot("two", worker_2="exit:1")
    system.start()
    await system.hear("worker-2", "start", count=4)
    assert system.told.empty()
    (system.roster.snapshot / "worker-2").write_text("")
    await system.ready()


async def test_at_start_a_process_that_cannot_use_its_configuration_ends_the_start(system):
    system.roster = system.snapshot("two", worker_1=f"exit:{EX_CONFIG}")
    system.start()
    with pytest.raises(ProblemsError, match=r"worker-1.*its log says why"):
        await system.task
    assert system.supervisor._children == {}


async def test_a_configuration_that_cannot_be_used_at_all_starts_nothing(system):
    system.refusal = ProblemsError(Problem(where="postern.yaml:3", what="wrong"))
    system.start()
    with pytest.raises(ProblemsError, match=r"postern\.yaml:3"):
        await system.task
    assert system.said.empty()


HOLDER = """
import sys
from pathlib import Path
from relay.app.reloads import Reloads
with Reloads(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


async def test_in_the_run_dir_of_another_supervisor_it_touches_nothing(system):
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(system.directory), cwd=ROOT, stdin=pipe, stdout=pipe
    )
    assert await other.stdout.readline() == b"held\n"
    theirs = system.directory / "notify.sock"
    theirs.write_text("its children tell it here")
    system.start()
    with pytest.raises(ProblemsError, match="another Postern uses this run_dir"):
        await system.task
    assert (theirs.read_text(), system.loads) == ("its children tell it here", 0)
    other.stdin.close()
    assert await other.wait() == 0


async def test_a_run_dir_whose_path_is_too_long_is_one_clear_error(system):
    deep = system.directory / ("d" * 120)
    deep.mkdir()
    options(system, run_dir=deep)
    system.start()
    with pytest.raises(ProblemsError, match="check run_dir"):
        await system.task


async def test_one_that_is_never_ready_is_killed_and_started_again(system):
    options(system, start_timeout=2.0)
    system.roster = system.snapshot("two", extract="mute")
    system.start()
    first, second = await system.hear("extract", "start", count=2)
    assert first[2] != second[2]
    assert system.told.empty()


async def test_a_silent_one_is_killed_and_replaced(system):
    options(system, watchdog=0.5)
    system.roster = system.snapshot("two", worker_1="silent")
    system.start()
    first, second = await system.hear("worker-1", "start", count=2)
    assert first[2] != second[2]


async def test_a_reload_tells_every_process_once(system):
    system.start()
    await system.ready()
    before = system.pids()
    system.roster = system.snapshot("two")
    system.reload()
    assert await system.told.get() == "RELOADING=1"
    await system.ready()
    await system.hear_all(4)  # starts
    assert sorted(await system.hear_all(4)) == [(name, "hup") for name in ("admin", "extract", "worker-1", "worker-2")]
    assert system.pids() == before
    os.kill(before["worker-1"], signal.SIGKILL)
    assert (await system.hear("worker-1", "start"))[3] == "two"


async def test_an_edited_file_is_a_reload(system):
    system.start()
    await system.ready()
    system.roster = system.snapshot("two")
    system.edited = True
    assert await system.told.get() == "RELOADING=1"
    await system.ready()
    assert system.loads == 2


@pytest.mark.parametrize("refusal", [ProblemsError(Problem(where="x", what="wrong")), RuntimeError("a fault of ours")])
async def test_a_refused_reload_changes_nothing(system, refusal):
    system.start()
    await system.ready()
    before = system.pids()
    await system.hear_all(4)
    system.refusal = refusal
    system.reload()
    assert await system.told.get() == "RELOADING=1"
    await system.ready()
    assert system.pids() == before
    assert system.said.empty()
    os.kill(before["worker-1"], signal.SIGKILL)
    assert (await system.hear("worker-1", "start"))[3] == "one"


async def test_how_each_reload_ended_is_told_to_whoever_asks(system):
    wrong = Problem(where="main.yaml:4", what="wrong", hint="mend it")
    system.start()
    await system.ready()
    assert last(system.directory) is None
    system.refusal = ProblemsError(wrong)
    await reloaded(system, system.roster)
    refused = last(system.directory)
    assert (refused.attempt, refused.outcome) == (1, Outcome(result=Result.REFUSED, problems=(wrong,)))
    system.refusal = None
    system.roster = dataclasses.replace(system.snapshot("two"), policy="v2")
    system.edited = True  # nobody asked
    assert await system.told.get() == "RELOADING=1"
    await system.ready()
    edited = last(system.directory)
    assert (edited.attempt, edited.outcome) == (2, Outcome(result=Result.RELOADED, version="v2"))
    assert refused.began < edited.began
    roster = system.snapshot("broken", portal="b")
    (roster.snapshot / "portal").write_text(f"exit:{EX_CONFIG}")
    await reloaded(system, roster)
    lame = last(system.directory).outcome
    assert (lame.result, [one.where for one in lame.problems]) == (Result.RELOADED, ["portal"])
    await reloaded(system, system.snapshot("worse", listeners="other", worker_1=f"exit:{EX_CONFIG}"))
    assert last(system.directory).outcome.result is Result.REFUSED
    assert await system.stop() == 0


async def test_told_to_stop_while_a_configuration_is_proved_it_stops(system):
    system.start()
    await system.ready()
    system.away.clear()
    system.reload()
    assert await system.told.get() == "RELOADING=1"
    assert await system.stop() == 0
    assert system.away.is_set()


async def test_changed_listeners_bring_new_workers_before_the_old_ones_go(system):
    system.start()
    await system.ready()
    old = system.pids()
    await system.hear_all(4)
    system.roster = system.snapshot("two", listeners="other", workers=3)
    system.reload()
    lines = await system.hear_all(7)
    assert sorted(line[0] for line in lines[:3]) == ["worker-1", "worker-2", "worker-3"]
    assert {line[1] for line in lines[:3]} == {"start"}
    assert sorted(lines[3:5]) == [("worker-1", "term"), ("worker-2", "term")]
    assert [line[:2] for line in lines[5:]] == [("extract", "term"), ("extract", "start")]
    await system.told.get()
    await system.ready()
    new = system.pids()
    assert new["admin"] == old["admin"]
    assert await system.hear_all(1) == [("admin", "hup")]
    assert sorted(new) == ["admin", "extract", "worker-1", "worker-2", "worker-3"]
    assert not set(new.values()) & {old["worker-1"], old["worker-2"], old["extract"]}


@pytest.mark.parametrize("behaviour", [f"exit:{EX_CONFIG}", "exit:1", "mute"])
async def test_new_workers_that_do_not_run_leave_the_old_ones_at_work(system, behaviour):
    system.start()
    await system.ready()
    old = system.pids()
    options(system, start_timeout=1.0)
    system.roster = system.snapshot("two", listeners="other", worker_1=behaviour)
    system.reload()
    assert await system.told.get() == "RELOADING=1"
    await system.ready()
    assert system.pids() == old
    os.kill(old["worker-1"], signal.SIGKILL)
    while (await system.hear("worker-1", "start"))[3] != "one":
        pass
    ((stays, why),) = system.stayed
    assert (stays.snapshot.name, bool(why)) == ("one", True)


async def reloaded(system, roster):
    system.roster = roster
    system.reload()
    assert await system.told.get() == "RELOADING=1"
    await system.ready()


async def test_the_portal_runs_where_it_is_configured_and_starts_anew_with_its_settings(system):
    system.start()
    await system.ready()
    assert "portal" not in system.pids()
    await reloaded(system, system.snapshot("with", portal="a"))
    first = system.pids()
    assert "portal" in first
    await reloaded(system, system.snapshot("other", portal="b"))
    second = system.pids()
    assert second["portal"] != first["portal"]
    await reloaded(system, system.snapshot("without"))
    assert system.pids() == {name: pid for name, pid in first.items() if name != "portal"}


async def test_a_portal_that_cannot_run_with_its_new_settings_leaves_the_mail_alone(system):
    system.roster = system.snapshot("with", portal="a")
    system.start()
    await system.ready()
    old = system.pids()
    roster = system.snapshot("broken", portal="b")
    (roster.snapshot / "portal").write_text(f"exit:{EX_CONFIG}")
    await reloaded(system, roster)
    left = {name: pid for name, pid in system.pids().items() if name != "portal"}
    assert left == {name: pid for name, pid in old.items() if name != "portal"}
    assert await system.stop() == 0


async def test_a_process_without_ears_yet_is_told_of_a_reload_once_it_is_ready(system):
    system.start()
    await system.ready()
    os.mkfifo(f"{system.fifo}.go")
    (system.roster.snapshot / "admin").write_text("slow early-hup")
    os.kill(system.pids()["admin"], signal.SIGKILL)
    _, slow = await system.hear("admin", "start", count=2)
    system.roster = system.snapshot("two")
    system.reload()
    await system.told.get()
    await system.ready()
    await asyncio.to_thread(lambda: Path(f"{system.fifo}.go").open("w").close())
    await system.hear("admin", "hup")
    assert system.pids()["admin"] == int(slow[2])


async def test_one_that_does_not_end_is_killed(system):
    options(system, drain_timeout=0.2)
    system.roster = system.snapshot("two", worker_2="stubborn")
    system.start()
    await system.ready()
    pid = system.pids()["worker-2"]
    assert await system.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_told_to_stop_while_it_starts_it_stops(system):
    system.roster = system.snapshot("two", admin="mute")
    system.start()
    await system.hear("admin", "start")
    assert await system.stop() == 0
    assert system.supervisor._children == {}
    assert system.told.get_nowait() == "STOPPING=1"


async def test_told_to_stop_while_new_workers_start_it_stops(system):
    system.start()
    await system.ready()
    system.roster = system.snapshot("two", listeners="other", worker_1="mute")
    system.reload()
    while (await system.hear("worker-1", "start"))[3] != "two":
        pass
    assert await system.stop() == 0
    assert system.supervisor._children == {}


async def test_words_of_strangers_are_not_heeded(system):
    import socket

    system.roster = system.snapshot("two", extract="mute")
    read, heard = system.supervisor._read_notices, asyncio.Event()

    def listen(notices):
        read(notices)
        heard.set()

    system.supervisor._read_notices = listen
    system.start()
    await system.hear("extract", "start")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.connect(str(system.directory / "notify.sock"))
        stranger.send(b"READY=1")
    await heard.wait()
    assert not system.supervisor._places[0].is_ready


_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from relay.crew import Roster
from relay.supervisor import Supervisor, SupervisorOptions
directory, role = Path(sys.argv[1]), sys.argv[2]
options = SupervisorOptions(
    run_dir=directory,
    command=lambda kind, name, snapshot: (sys.executable, role, name, str(snapshot), str(directory / "said")),
)
roster = Roster(snapshot=directory / "one", workers=1, listeners="")
raise SystemExit(asyncio.run(Supervisor(options, lambda: roster, print).run()))
"""


async def test_children_end_with_a_supervisor_that_is_killed(tmp_path):
    (tmp_path / "one").mkdir()
    for name in ("extract", "admin", "worker-1"):
        (tmp_path / "one" / name).write_text("orphan")
    os.mkfifo(tmp_path / "said")
    pipe = os.open(tmp_path / "said", os.O_RDWR | os.O_NONBLOCK)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUPERVISOR, str(tmp_path), str(ROLE), cwd=ROOT, stdout=asyncio.subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    said = b""
    heard = asyncio.Event()
    loop.add_reader(pipe, heard.set)
    while said.count(b"\n") < 3:
        await heard.wait()
        with contextlib.suppress(BlockingIOError):
            said += os.read(pipe, 4096)
        heard.clear()
    loop.remove_reader(pipe)
    os.close(pipe)
    watched = [os.pidfd_open(int(line.split()[2])) for line in said.splitlines()]
    process.kill()
    await process.wait()
    for descriptor in watched:
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_a_helper_that_does_not_start_anew_keeps_no_further_reload_away(system, monkeypatch):
    """A reload that mends it must be heard: until then what needs the helper is judged as unreadable."""

    async def renew(role, *, wanted=True, it=system.supervisor._renew):
        patience = system.options.start_timeout
        options(system, start_timeout=0.3)  # the helper alone has so little time
        troubles = await it(role, wanted=wanted)
        options(system, start_timeout=patience)
        return troubles

    monkeypatch.setattr(system.supervisor, "_renew", renew)
    system.start()
    await system.ready()
    system.roster = system.snapshot("two", listeners="other", extract="exit:1")
    system.reload()
    await system.hear("extract", "start", None, "two", count=3)
    system.roster = system.snapshot("three", listeners="third")
    system.reload()
    await system.hear("extract", "start", None, "three")
    assert await system.stop() == 0
