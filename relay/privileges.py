"""Become another user while keeping the one right that listening on ports below 1024 needs (capabilities(7))."""

import ctypes
import grp
import os
import pwd
from typing import Final

from relay.core.errors import Problem, ProblemsError

_CAP_NET_BIND_SERVICE: Final = 10
_PR_SET_KEEPCAPS: Final = 8
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_VERSION_3: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, capget(2)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def become(name: str) -> None:
    """Run as a user from here on, in all threads to come and all children, with ``CAP_NET_BIND_SERVICE`` alone.

    Nothing happens when this process is that user already.

    Raises:
        ProblemsError: there is no such user, or this process may not become it.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        what, hint = f"there is no user {name}", "make one, or leave user: out"
        raise ProblemsError(Problem(where="user", what=what, hint=hint)) from None
    if os.geteuid() == user.pw_uid:
        return
    if os.geteuid() != 0:
        what = f"only root can become {name}"
        raise ProblemsError(Problem(where="user", what=what, hint="start as root, or as that user"))
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _call(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([group.gr_gid for group in grp.getgrall() if name in group.gr_mem])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        mask = 1 << _CAP_NET_BIND_SERVICE
        header, data = _Header(_VERSION_3, 0), (_Data * 2)(_Data(mask, mask, mask), _Data())
        _call(libc.capset(ctypes.byref(header), ctypes.byref(data)))
        _call(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_NET_BIND_SERVICE, 0, 0))
    except OSError as error:
        what = f"cannot become {name}: {error.strerror}"
        raise ProblemsError(Problem(where="user", what=what, hint="start as root with all its rights")) from error
    os.environ |= {"HOME": user.pw_dir, "USER": name, "LOGNAME": name}


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
