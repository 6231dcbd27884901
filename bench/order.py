"""Whether a message is on the disk before its 250: what strace sees of one session.

One session sends one message after the other. Between the 354 and the 250 of each, some process of the contender must
have come back from an fsync or fdatasync (law 1).
"""

import asyncio
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from cases import Case, SinkTls
from contenders import Contender
from once import Load, Tools, staged

_MESSAGES: Final = 40
_CASE: Final = Case(name="order", tls=SinkTls.NONE)
_CALLS: Final = "fsync,fdatasync,write,writev,sendto,sendmsg"
_SYNCED: Final = re.compile(r"\b(?:fsync|fdatasync)\b.*= 0$")
_SAID: Final = re.compile(r"\b(?:write|writev|sendto|sendmsg)\(.*?\"(?:[^\"]*\\r\\n)?(\d{3}) ")
_WAIT: Final = 15.0


async def orders(contender: Contender, tools: Tools) -> str:
    """In words, such as ``40 of 40 after an fsync``."""
    try:
        async with staged(contender, _CASE, _MESSAGES + 20, tools) as stage:
            await (
                await Load.make(stage.clients, stage.port, _CASE, 0, 20)
            ).fire()  # so that all its processes are there
            await stage.sink.has(20)
            trace = tools.sink.with_name("trace")
            pids = stage.contender.pids()
            tracer = _start(pids, trace)
            try:
                await _hold(pids)
                await (await Load.make(stage.clients, stage.port, _CASE, 20, _MESSAGES, sessions=1)).fire()
            finally:
                tracer.send_signal(signal.SIGINT)
                await asyncio.to_thread(tracer.wait)
            replies, synced = count(trace)
    except RuntimeError as error:
        return f"not seen: {error}"
    return f"{synced} of {replies} after an fsync"


def _start(pids: list[int], trace: Path) -> subprocess.Popen:
    command = ["strace", "-f", "-qq", "-s", "200", "-e", f"trace={_CALLS}", "-o", str(trace)]
    attached = (part for pid in pids for part in ("-p", str(pid)))
    return subprocess.Popen([*command, *attached], stderr=subprocess.DEVNULL)


async def _hold(pids: list[int]) -> None:
    """Wait until they are all traced."""
    end = time.monotonic() + _WAIT
    while not all(_traced(pid) for pid in pids):
        if time.monotonic() > end:
            raise RuntimeError("strace does not get hold of the processes")
        await asyncio.sleep(0.05)


def _traced(pid: int) -> bool:
    try:
        return "TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def count(trace: Path) -> tuple[int, int]:
    """How many final replies stand in a trace, and before how many of them an fsync came back since the 354."""
    replies = synced = 0
    waiting = done = False
    for line in trace.read_text(errors="replace").splitlines():
        if _SYNCED.search(line):
            done = True
        elif said := _SAID.search(line):
            if said[1] == "354":
                waiting, done = True, False
            elif waiting and said[1] == "250":
                replies += 1
                synced += done
                waiting = False
    return replies, synced
