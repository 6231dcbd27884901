"""Tell the service manager how we fare: the datagram protocol of sd_notify(3), also spoken to our own supervisor."""

import os
import socket
import time
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"

_kept: dict[str, socket.socket] = {}


def keep() -> bool:
    """Connect to ``$NOTIFY_SOCKET`` for good: for a process that is about to become a user who may not.

    Returns:
        Whether there is a manager to connect to.
    """
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target.startswith(("/", "@")):
        return False
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    channel.settimeout(0)
    try:
        channel.connect(_address(target))
    except OSError:
        channel.close()
        return False
    _kept[target] = channel
    return True


def _address(target: str) -> str:
    return f"\0{target[1:]}" if target.startswith("@") else target


def notify(*assignments: str) -> bool:
    """Send assignments such as ``READY=1`` or ``STATUS=draining`` to ``$NOTIFY_SOCKET``.

    Never raises: a manager that is away must not stop the mail.

    Returns:
        Whether there is a manager and it took the message.
    """
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target.startswith(("/", "@")):
        return False
    data = "\n".join(assignments).encode()
    try:
        if target in _kept:
            _kept[target].send(data)
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(0)
            channel.sendto(data, _address(target))
    except OSError:
        return False
    return True


def reloading() -> bool:
    """Say that a reload begins; ``READY`` ends it. ``Type=notify-reload`` needs the time too (sd_notify(3))."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def status(text: str) -> bool:
    """Set the line that ``systemctl status`` shows."""
    return notify("STATUS=" + " ".join(text.split()))


def watchdog_interval() -> float | None:
    """Seconds between the heartbeats that are due: half of what the manager allows; ``None`` when it wants none.

    ``WATCHDOG_PID``, where set, must be ours (sd_watchdog_enabled(3)).
    """
    allowed, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not allowed.isdigit() or int(allowed) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(allowed) / 2_000_000
