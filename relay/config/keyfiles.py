"""Key files on disk, private to their owner and written whole or not at all; ``keys_dir/ring.json`` is the ring."""

import fcntl
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from relay.core.errors import Problem, ProblemsError
from relay.protect.keyring import KeyRing, dump_ring, parse_ring

RING_NAME: Final = "ring.json"
MAX_KEY_FILE: Final = 1 << 20


# --- private files ------------------------------------------------------


def read_private(path: Path, *, group: bool = False) -> bytes:
    """A secret file's bytes, of which only its owner may know anything; with ``group`` its group may read it too.

    Raises:
        ProblemsError: missing, unreadable, too large, not a plain file, another's, or one that others can read.
    """
    try:
        # A pipe must not keep us waiting; what was opened is what is judged, so that nothing can be swapped in between.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_private(path, os.fstat(descriptor), group=group)
            content = b"".join(iter(lambda: os.read(descriptor, MAX_KEY_FILE), b""))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    return content


def _check_private(path: Path, status: os.stat_result, *, group: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _problem(path, "is not a plain file")
    if status.st_size > MAX_KEY_FILE:
        raise _problem(path, "is larger than 1 MiB: not a key")
    if status.st_mode & (0o037 if group else 0o077):
        mode = stat.S_IMODE(status.st_mode)
        hint = f"chmod {'640' if group else '600'} {path}"
        raise _problem(path, f"others can read or change it (mode {mode:04o})", hint)
    if status.st_uid not in {0, os.geteuid()}:
        raise _problem(path, "belongs to another user", _whose(status.st_uid))


def _whose(owner: int) -> str:
    """What to do about another user's key: root, who may be anybody, has only taken the wrong name for the command."""
    if os.geteuid() == 0:
        with suppress(KeyError):
            return f"run the command as its owner: runuser -u {pwd.getpwuid(owner).pw_name} -- postern ..."
    return "give it to the user Postern runs as"


def write_private(path: Path, content: bytes, *, replace: bool = True, group: bool = False) -> None:
    """Write a file only its owner can read: whole and synced under its name, or not at all.

    Args:
        path: where; its directory is made (0700) when it is missing.
        content: what.
        replace: whether an existing file may be replaced.
        group: whether its group may read it too.

    Raises:
        ProblemsError: it cannot be written, or is there already and must not be replaced.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _inherit_owner(descriptor, path)
            if group:
                os.fchmod(descriptor, 0o640)
            with open(descriptor, "wb") as file:  # noqa: PTH123  # made with its mode, never readable in between
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            if replace:
                draft.replace(path)
            else:
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise _problem(path, "is there already and is not replaced") from error
    except OSError as error:
        raise _problem(path, f"cannot be written: {error.strerror}") from error


def _inherit_owner(descriptor: int, path: Path) -> None:
    """What root writes belongs to whom the file it replaces, or its directory, belongs: the service must read it."""
    if os.geteuid() == 0:
        model = (path if path.exists() else path.parent).stat()
        os.fchown(descriptor, model.st_uid, model.st_gid)


def give_to(directory: Path, user: str | None) -> None:
    """Make a directory (0700) that belongs to the user Postern runs as; only root can, for others it does nothing.

    Raises:
        ProblemsError: there is no such user, or the directory cannot be made.
    """
    try:
        missing = not directory.exists()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if missing and user is not None and os.geteuid() == 0:
            shutil.chown(directory, user)
    except LookupError as error:
        raise _problem(directory, f"there is no Unix user {user}", "mend the setting user") from error
    except OSError as error:
        raise _problem(directory, f"cannot be made: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    """Bring a directory's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _problem(path: Path, what: str, hint: str = "") -> ProblemsError:
    return ProblemsError(Problem(where=str(path), what=what, hint=hint))


# --- the key ring -------------------------------------------------------


def ring_path(keys_dir: Path) -> Path:
    """Where the ring is."""
    return keys_dir / RING_NAME


def load_ring(keys_dir: Path) -> KeyRing:
    """The ring in a directory.

    Raises:
        ProblemsError: missing, damaged, or readable by others.
    """
    path = ring_path(keys_dir)
    if not path.exists():
        raise _problem(path, "there is no key ring", "make one with `postern keys init`, once")
    return parse_ring(read_private(path), where=str(path))


def load_portal_ring(keys_dir: Path) -> KeyRing:
    """The portal's own ring; its group may read it, for workers seal what the portal's user opens.

    Raises:
        ProblemsError: missing, damaged, or readable by others.
    """
    path = ring_path(keys_dir)
    if not path.exists():
        raise _problem(path, "the portal has no key ring", "make it with `postern portal init`, once")
    return parse_ring(read_private(path, group=True), where=str(path))


def create_ring(keys_dir: Path, ring: KeyRing) -> Path:
    """Write a new ring; one that is there is never replaced.

    Raises:
        ProblemsError: there is one, or it cannot be written.
    """
    write_private(ring_path(keys_dir), dump_ring(ring), replace=False)
    return ring_path(keys_dir)


def update_ring(keys_dir: Path, ring: KeyRing, *, portal: bool = False) -> None:
    """Replace the ring by a rotated one; call it under :func:`ring_lock`. Whose group may read the portal's still may.

    Raises:
        ProblemsError: the ring there is another installation's, or it cannot be written.
    """
    path = ring_path(keys_dir)
    if (load_portal_ring if portal else load_ring)(keys_dir).id != ring.id:
        raise _problem(path, "is another installation's key ring and is not replaced")
    shared = portal and bool(path.stat().st_mode & stat.S_IRGRP)
    write_private(path, dump_ring(ring), group=shared)


@contextmanager
def ring_lock(keys_dir: Path) -> Iterator[None]:
    """Only one process changes the ring at a time.

    Raises:
        ProblemsError: another one is doing so now.
    """
    path = keys_dir / ".lock"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _problem(path, f"cannot be locked: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _problem(path, "another process is changing the key ring", "try again when it is done") from error
        yield
    finally:
        os.close(descriptor)
