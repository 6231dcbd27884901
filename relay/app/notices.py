"""The socket that the supervisor's children tell it on, as each would tell systemd: sd_notify(3)."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from relay.core.errors import Problem, ProblemsError

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid of SCM_CREDENTIALS, unix(7)
_LONGEST: Final = 4096


def listen(path: Path) -> socket.socket:
    """A socket there that never waits, for notices with their sender's credentials.

    Raises:
        ProblemsError: it cannot be made.
    """
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        notices.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        notices.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        notices.close()
        what, hint = f"cannot listen there: {error}", "check run_dir; its path may have some 90 characters"
        raise ProblemsError(Problem(where=str(path), what=what, hint=hint)) from error
    return notices


def read(notices: socket.socket) -> Iterator[tuple[int, bytes]]:
    """What has come: the sender's pid as the kernel tells it (0: it does not), and the notice."""
    while True:
        try:
            data, ancillary, _, _ = notices.recvmsg(_LONGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
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
        yield pid, data
