"""Proofs about the machine: addresses to listen on, directories, space, nameservers, users."""

import contextlib
import errno
import grp
import ipaddress
import os
import pwd
import secrets
import socket
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.resolver

from relay.config.proof_files import Finding, error, warning
from relay.config.types import IPAddress
from relay.config.units import format_size

_ENTER, _WRITE = 1, 2  # of three bits of a mode, chmod(2)
_ACCESS_LIST: Final = "system.posix_acl_access"
_LISTENING: Final = {
    errno.EACCES: ("this user may not listen there", "ports below 1024 need CAP_NET_BIND_SERVICE: see systemd/"),
    errno.EADDRINUSE: ("another program listens there", "stop it, or choose another port: ss -ltnp shows which"),
    errno.EADDRNOTAVAIL: ("this machine does not have the address", "use one that `ip address` shows, or 0.0.0.0"),
    errno.EAFNOSUPPORT: ("this machine has no IPv6", "use an IPv4 address"),
}


IN_USE: Final = frozenset({errno.EADDRINUSE})
"""Right while Postern itself runs."""
PASSING: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
"""May pass by itself: who listens there may leave, and an address may be on its way (RFC 4862 section 5.4)."""


def prove_listening(
    address: IPAddress, port: int, where: str, *, passed: Collection[int] = frozenset()
) -> Iterator[Finding]:
    """An address and port that a server could listen on; errors in ``passed`` (errno) are none."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((str(address), port))
            listener.listen(1)
    except OSError as problem:
        what, hint = _LISTENING.get(problem.errno or 0, (str(problem.strerror), ""))
        if problem.errno in passed:
            return
        yield error(where, f"cannot listen on {address} port {port}: {what}", hint)


def answers(path: Path) -> bool:
    """Whether a server listens on a Unix socket: whether Postern runs here already."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def prove_directory(path: Path, where: str, *, private: bool) -> Iterator[Finding]:
    """A directory that can be written to, or made; ``private``: that others had better not look into."""
    there = nearest(path)
    if there != path:
        if not there.is_dir():
            yield error(where, f"{path} cannot be made: {there} is not a directory")
        elif not os.access(there, os.W_OK | os.X_OK):
            yield error(where, f"{path} does not exist and {there} may not be written to", f"make it: mkdir {path}")
        return
    if not path.is_dir():
        yield error(where, f"{path} is not a directory")
        return
    probe = path / f".postern-check-{secrets.token_hex(8)}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        probe.unlink()
    except OSError as problem:
        yield error(where, f"{path} cannot be written to: {problem.strerror}", "give it to the user that runs Postern")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o002:
        yield error(where, f"everyone may write to {path} (mode {mode:04o})", f"chmod 750 {path}")
    elif private and mode & 0o007:
        yield warning(where, f"everyone may look into {path} (mode {mode:04o})", f"chmod 750 {path}")


def prove_reach(places: Iterable[tuple[str, Path]], user: pwd.struct_passwd) -> Iterator[Finding]:
    """Directories that a user can come to, and write to where they are there; each obstacle is told once.

    What root may is asked of nobody: root may all, and becomes this user after the proof. An access list on the way
    (acl(5)) may allow what the mode does not say: then nothing is said here either.
    """
    groups = {user.pw_gid, *(group.gr_gid for group in grp.getgrall() if user.pw_name in group.gr_mem)}
    told = set()
    for where, path in places:
        for one in (*reversed(path.parents), path):
            if not one.exists():
                break
            need = _ENTER if one != path else _ENTER | _WRITE
            if _may(one, user.pw_uid, groups, need):
                continue
            if one not in told:
                told.add(one)
                mode = stat.S_IMODE(one.stat().st_mode)
                what = f"{user.pw_name} cannot use {path}: {one} is closed to it (mode {mode:04o})"
                hint = f"chown {user.pw_name} {one}" if one == path else f"chmod o+x {one}, or choose another place"
                yield error(where, what, hint)
            break


def _may(directory: Path, uid: int, groups: set[int], need: int) -> bool:
    status = directory.stat()
    if uid == 0:
        return True
    with contextlib.suppress(OSError):  # a file system without extended attributes has no such lists
        if _ACCESS_LIST in os.listxattr(directory):
            return True
    shift = 6 if status.st_uid == uid else 3 if status.st_gid in groups else 0
    return status.st_mode >> shift & need == need


def nearest(path: Path) -> Path:
    """The path, or what of it exists."""
    return next(one for one in (path, *path.parents) if one.exists() or one == one.parent)


def prove_space(path: Path, reserve: int, where: str) -> Iterator[Finding]:
    """Free space under a directory, over the reserve."""
    status = os.statvfs(nearest(path))
    free = status.f_bavail * status.f_frsize
    told = f"{format_size(free - free % (1 << 20))} are free under {path}"
    if free <= reserve:
        hint = "free some, or lower limits.disk_reserve"
        yield error(where, f"{told}, within the reserve of {format_size(reserve)}: no mail would be taken", hint)
    elif free < 2 * reserve:
        yield warning(where, f"{told}, close to the reserve of {format_size(reserve)}")


def prove_dns(nameservers: Sequence[IPAddress], port: int, timeout: float, where: str) -> Iterator[Finding]:
    """Nameservers that answer a question about the root; none: those of the system."""
    servers = [str(server) for server in nameservers]
    if not servers:
        try:
            servers = [str(server) for server in dns.resolver.Resolver().nameservers]
        except dns.resolver.NoResolverConfiguration:
            yield error(where, "the system names no nameserver", "list some under dns.nameservers")
            return
        port = 53
    silent = [(server, why) for server in servers if (why := _question(server, port, timeout))]
    for server, why in silent:
        tell = error if len(silent) == len(servers) else warning
        yield tell(where, f"the nameserver {server} port {port} {why}", "check that it runs and lets us ask")


def _question(server: str, port: int, timeout: float) -> str:
    """Why a nameserver is of no use; empty when it is."""
    query = dns.message.make_query(".", "NS")
    try:
        code = dns.query.udp(query, server, timeout=timeout, port=port, ignore_unexpected=True).rcode()
    except (dns.exception.DNSException, OSError):
        return f"does not answer within {timeout:g} s"
    refused = code in (dns.rcode.SERVFAIL, dns.rcode.REFUSED)
    return f"answers {dns.rcode.to_text(code)}" if refused else ""


def prove_trusted_path(nameservers: Sequence[IPAddress], where: str) -> Iterator[Finding]:
    """The AD bit is believed only from nameservers on this machine, or it is said."""
    servers = [str(server) for server in nameservers]
    if not servers:
        try:
            servers = [str(server) for server in dns.resolver.Resolver().nameservers]
        except dns.resolver.NoResolverConfiguration:
            return
    for server in servers:
        if not ipaddress.ip_address(server).is_loopback:
            what = f"the AD bit of {server} is believed, and whoever is between could forge it"
            yield warning(where, what, "use a validating nameserver on this machine")


def prove_user(name: str, where: str) -> Iterator[Finding]:
    """A Unix user that exists."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        yield error(where, f"there is no user {name}", f"useradd --system {name}")


def prove_group(name: str, where: str) -> Iterator[Finding]:
    """A Unix group that exists."""
    try:
        grp.getgrnam(name)
    except KeyError:
        yield error(where, f"there is no group {name}", f"groupadd --system {name}")
