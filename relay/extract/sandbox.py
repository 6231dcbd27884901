"""What the helper gives up before it reads a stranger's bytes: the network, privileges, memory and time.

Each step works where kernel and privileges allow; what could not be given up is reported by name, so that it is logged
rather than assumed.
"""

import ctypes
import os
import resource
from collections.abc import Callable
from typing import Final

_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_PR_SET_DUMPABLE: Final = 4
_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_PR_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def leave_network() -> None:
    """Enter a network namespace of its own, without interfaces; unprivileged by way of a user namespace.

    Unix sockets with a path still work: they belong to the file system.

    Raises:
        OSError: the kernel allows neither.
    """
    libc = _libc()
    if libc.unshare(_CLONE_NEWNET) != 0:
        _check(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET))


def no_new_privileges() -> None:
    """Nothing started from here gains privileges, nobody reads this process's memory, no core file is written.

    Raises:
        OSError: the kernel refuses.
    """
    libc = _libc()
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent() -> None:
    """Be killed when the parent goes, so that no job outlives its helper.

    Raises:
        OSError: the kernel refuses.
    """
    _check(_libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))


def become(uid: int, gid: int) -> None:
    """Run as another user for good; a death signal asked for before is asked for anew, as the kernel forgets it.

    Raises:
        OSError: not privileged to.
    """
    libc, wanted, parent = _libc(), ctypes.c_int(), os.getppid()
    _check(libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(wanted), 0, 0, 0))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _check(libc.prctl(_PR_SET_PDEATHSIG, wanted.value, 0, 0, 0))
    if wanted.value and os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), wanted.value)


def limit_memory(octets: int) -> None:
    """Bound the address space; an allocation beyond it is a ``MemoryError``."""
    resource.setrlimit(resource.RLIMIT_AS, (octets, octets))


def limit_files() -> None:
    """No file written from here may hold an octet."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def allow_cpu(seconds: int) -> None:
    """CPU time from now on; beyond it the kernel ends the process (SIGXCPU)."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    upto = int(usage.ru_utime + usage.ru_stime) + 1 + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (upto, hard))


def give_up(steps: dict[str, Callable[[], None]]) -> list[str]:
    """Take each step; the names of those that this kernel or user does not allow."""
    missing = []
    for name, step in steps.items():
        try:
            step()
        except (OSError, ValueError):
            missing.append(name)
    return missing
