"""TCP ports for servers that are started a moment after their port was chosen."""

import contextlib
import errno
import random
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_LOWEST: Final = 10_000
_HIGHEST: Final = 65_535
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES: Final = 200


def free_port(*hosts: str, udp: bool = False) -> int:
    """A port that nobody has on any of these addresses now, and that no client is given meanwhile.

    A port that the system chooses is one that it may also give to the next connection that anybody opens (ip(7),
    ``ip_local_port_range``), before the server that it was chosen for has bound it. So this one lies outside that
    range.

    Args:
        hosts: the addresses; 127.0.0.1 if none is given.
        udp: whether it must be free over UDP too.

    Raises:
        OSError: none was found.
    """
    chance = random.SystemRandom()
    places = _ports_of_no_client()
    for _ in range(_TRIES):
        port = chance.choice(places)
        if _is_free(port, hosts or ("127.0.0.1",), udp=udp):
            return port
    raise OSError(errno.EADDRINUSE, "no port is free on all of " + ", ".join(hosts or ("127.0.0.1",)))


def _ports_of_no_client() -> Sequence[int]:
    """What is left of all ports by the system's range for clients; where it leaves nothing, all of them."""
    try:
        low, high = map(int, _RANGE.read_text().split())
    except (OSError, ValueError):
        low, high = 32_768, 60_999
    left = [*range(_LOWEST, low), *range(high + 1, _HIGHEST + 1)]
    return left or range(_LOWEST, _HIGHEST + 1)


def _is_free(port: int, hosts: Sequence[str], *, udp: bool) -> bool:
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM) if udp else (socket.SOCK_STREAM,)
    with contextlib.ExitStack() as stack:
        try:
            for host in hosts:
                for kind in kinds:
                    stack.enter_context(socket.socket(type=kind)).bind((host, port))
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            return False
    return True
