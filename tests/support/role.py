"""A tiny role: does nothing but live as the supervisor expects, or as the file ``behave`` beside its snapshot says.

It writes one line a thing it sees into the fifo given as its third argument: ``NAME start PID SNAPSHOT``, ``NAME hup``,
``NAME term``.
"""

import os
import signal
import socket
import sys
from pathlib import Path

del sys.path[0]  # this directory has modules named as those of the standard library
name, snapshot, fifo = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
behave = (snapshot / name).read_text().split() if (snapshot / name).exists() else []


def say(*words):
    pipe = os.open(fifo, os.O_WRONLY)
    os.write(pipe, (" ".join((name, *map(str, words))) + "\n").encode())
    os.close(pipe)


def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(os.environ["NOTIFY_SOCKET"])
        channel.send(text.encode())


def on_hup(*_):
    say("hup")


def on_term(*_):
    say("term")
    if "stubborn" not in behave:
        os._exit(0)


if "orphan" in behave:
    from relay.roles import die_with_supervisor

    die_with_supervisor()
elif "early-hup" not in behave:
    signal.signal(signal.SIGHUP, on_hup)
    signal.signal(signal.SIGTERM, on_term)
say("start", os.getpid(), snapshot.name, os.environ["WATCHDOG_USEC"], os.environ.get("WATCHDOG_PID", "-"))
for word in behave:
    if word.startswith("exit:"):
        os._exit(int(word.removeprefix("exit:")))
if "slow" in behave:  # until the test lets it go
    with Path(f"{fifo}.go").open():
        pass
    signal.signal(signal.SIGHUP, on_hup)
    signal.signal(signal.SIGTERM, on_term)
if "mute" not in behave:
    tell("READY=1")
while True:
    if "silent" in behave:
        signal.pause()
    else:
        tell("WATCHDOG=1")
        signal.sigtimedwait([], 0.02)
