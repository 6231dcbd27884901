"""What processes cost: their CPU time, dead children included, and their memory."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_UNIFIED: Final = Path("/sys/fs/cgroup/cgroup.controllers")
_BASE: Final = Path("/sys/fs/cgroup") if _UNIFIED.exists() else Path("/sys/fs/cgroup/cpuacct")


def pss(pid: int) -> float:
    """MB of a process's proportional set size.

    Raises:
        OSError: there is no such process.
    """
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    return int(rollup[rollup.index("Pss:") + 1]) / 1024


class Group:
    """Processes that are measured and ended together: a control group where one can be made, else a process tree.

    Only a control group counts children that nobody waited for; ``is_exact`` says which it is.
    """

    def __init__(self, name: str) -> None:
        self._roots: list[int] = []
        self._directory: Path | None = _BASE / f"postern-bench-{os.getpid()}-{name}"
        try:
            self._directory.mkdir(parents=True)
        except OSError:
            self._directory = None

    @property
    def is_exact(self) -> bool:
        return self._directory is not None

    @property
    def prefix(self) -> tuple[str, ...]:
        """A command that enters the group and becomes the command that follows it."""
        if self._directory is None:
            return ()
        return ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._directory / "cgroup.procs"))

    def adopt(self, pid: int) -> None:
        """Count a process that was started with :attr:`prefix`, and its descendants."""
        self._roots.append(pid)

    def start(self, command: list[str], **options) -> subprocess.Popen:  # noqa: ANN003  those of Popen
        process = subprocess.Popen([*self.prefix, *command], start_new_session=True, **options)
        self.adopt(process.pid)
        return process

    def pids(self) -> list[int]:
        if self._directory is not None:
            return [int(word) for word in (self._directory / "cgroup.procs").read_text().split()]
        parents = {pid: stat[1] for pid in _all_pids() if (stat := _stat(pid))}
        found = {pid for pid in self._roots if pid in parents}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        if self._directory is None:
            return sum(sum(stat[2:6]) for pid in self.pids() if (stat := _stat(pid))) / _TICK
        if _UNIFIED.exists():
            words = (self._directory / "cpu.stat").read_text().split()
            return int(words[words.index("usage_usec") + 1]) / 1e6
        return int((self._directory / "cpuacct.usage").read_text()) / 1e9

    def memory(self) -> float:
        """MB of proportional set size: pages shared by several processes count once."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += pss(pid)
        return total

    def end(self) -> None:
        """SIGTERM, then SIGKILL, for what is left of it."""
        for number, waits in ((signal.SIGTERM, 100), (signal.SIGKILL, 100)):
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            for _ in range(waits):
                if not self.pids():
                    break
                time.sleep(0.1)
        if self._directory is not None:
            with contextlib.suppress(OSError):
                self._directory.rmdir()


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> tuple[int, ...] | None:
    """(pid, parent, utime, stime, cutime, cstime) in ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (pid, int(fields[1]), *(int(field) for field in fields[11:15]))


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine used so far."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / _TICK
