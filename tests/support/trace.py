"""System calls of a running site as strace saw them, each with the places in the order where it began and ended."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.system import children, until

CALLS = "read,recvfrom,write,writev,sendto,sendmsg,fsync,fdatasync"
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")


@dataclass
class Call:
    """One system call; ``began`` and ``ended`` are places in the order of the trace."""

    thread: int
    name: str
    text: str
    began: int
    ended: int | None = None

    @property
    def succeeded(self):
        return self.ended is not None and " = -1 " not in self.text


def command(strace, file):
    """The prefix that traces a program and all it starts, and leaves it our own child."""
    return (strace, "-D", "-f", "-y", "-q", "--seccomp-bpf", "-s", "1024", "-e", f"trace={CALLS}", "-o", str(file))


def parse(text):
    """Calls in the order in which they began."""
    calls, open_calls = [], {}
    for place, line in enumerate(text.splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, resumed, name, rest = int(match[1]), match[2], match[3], match[4]
        if resumed:
            call = open_calls.pop((thread, resumed), None)
            if call is not None:
                call.text += rest
                call.ended = place
        else:
            call = Call(thread, name, rest, place)
            calls.append(call)
            if rest.endswith("<unfinished ...>"):
                call.text = rest.removesuffix("<unfinished ...>")
                open_calls[thread, name] = call
            else:
                call.ended = place
    return calls


def worker_threads(site):
    """The process id of the one worker, and the ids of its threads."""
    (pid,) = children(site)["postern: worker-1"]
    return pid, {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}


async def finished(file, pid):
    """The trace, once its tracer has seen the end of this process: its main thread's, which is told after all others'.

    To wait for the whole program's end would be to wait for a line that strace, detached, does not always write.
    """
    end = f"{pid} +++ exited".encode()
    await until(lambda: re.search(rb"(?m)^" + re.escape(end), file.read_bytes().replace(b"  ", b" ")))
    return file.read_text(errors="replace")
