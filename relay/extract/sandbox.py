"""What the helper gives up before it reads a stranger's bytes: the network, privileges, memory and time.

Each step works where kernel and privileges allow; what could not be given up is reported by name, so that it is logged
rather than assumed.
"""

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Callable
from typing import Final

_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_PR_SET_DUMPABLE: Final = 4
_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_PR_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # landlock(7), equal on every architecture
_LANDLOCK_ALL_FS: Final = (
    1 << 13
) - 1  # the file rights of its first version: to execute, write, read, list, make, remove
_OPEN_FILES: Final = 64
_X32: Final = 0x4000_0000  # system calls of the x32 ABI on x86_64: the same calls by other numbers
_MACHINES: Final = {
    # machine: (AUDIT_ARCH, system calls that a job never needs and an intruder would: sockets, programs, processes,
    # other processes' memory, namespaces, mounts, keys, kernel interfaces)
    "x86_64": (0xC000003E, (41, 42, 43, 49, 50, 53, 288, 56, 57, 58, 435, 59, 322, 101, 310, 311, 165, 166, 272, 308,
                            321, 323, 248, 249, 250, 298, 304, 425, 246, 320, 175, 313)),
    "aarch64": (0xC00000B7, (198, 199, 200, 201, 202, 203, 242, 220, 435, 221, 281, 117, 270, 271, 40, 39, 97, 268, 280,
                             282, 217, 218, 219, 241, 265, 425, 104, 294, 105, 273)),
}  # fmt: skip


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


def forbid_files() -> None:
    """No path may be opened any more, for reading or writing (Landlock); what is open stays usable.

    Raises:
        OSError: a kernel without Landlock.
    """
    libc = _libc()
    handled = ctypes.c_uint64(_LANDLOCK_ALL_FS)
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0:
        _check(-1)
    try:
        _check(libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)


def forbid_calls() -> None:
    """No sockets, programs, processes or kernel interfaces any more: such a system call answers EPERM (seccomp).

    Raises:
        OSError: a kernel without seccomp, or a machine whose numbers are not known here.
    """
    if platform.machine() not in _MACHINES:
        raise OSError(f"no list of system calls for {platform.machine()}")
    arch, calls = _MACHINES[platform.machine()]
    # struct sock_filter {code, jt, jf, k}: load the architecture, then the number; a listed one is refused.
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, arch), (0x06, 0, 0, 0x0005_0001), (0x20, 0, 0, 0)]
    program += [(0x35, len(calls) + 1, 0, _X32)]
    program += [(0x15, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    program += [(0x06, 0, 0, 0x7FFF_0000), (0x06, 0, 0, 0x0005_0001)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    _check(_libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header), 0, 0))


def limit_memory(octets: int) -> None:
    """Bound the address space; an allocation beyond it is a ``MemoryError``."""
    resource.setrlimit(resource.RLIMIT_AS, (octets, octets))


def limit_files() -> None:
    """No file written from here may hold an octet, and few may be open."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


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
