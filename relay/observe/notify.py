"""Tell the service manager how we fare: the datagram protocol of sd_notify(3), also spoken to our own supervisor."""

import os
import socket
import time
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"


def notify(*assignments: str) -> bool:
    """Send assignments such as ``READY=1`` or ``STATUS=draining`` to ``$NOTIFY_SOCKET``.

    Never raises: a manager that is away must not stop the mail.

    Returns:
        Whether there is a manager and it took the message.
    """
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target.startswith(("/", "@")):
        return False
    address = f"\0{target[1:]}" if target.startswith("@") else target
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(0)
        try:
            channel.sendto("\n".join(assignments).encode(), address)
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
