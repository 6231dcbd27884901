"""Key files on disk: the key ring and DKIM keys. Private to their owner, written whole or not at all.

``keys_dir/ring.json`` is the ring. ``dkim.dir/DOMAIN/SELECTOR.pem`` is a signing key: PKCS #8 PEM, before which lines
may say from when and until when it signs (``Active-From: 2026-11-22T00:00:00Z``, ``Active-Until: ...``); PEM readers
pass over such lines (RFC 7468 section 2).
"""

import fcntl
import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from relay.config.delivery import DkimKeySettings, DkimSettings
from relay.core.address import normalise_domain
from relay.core.errors import AddressError, Problem, ProblemsError
from relay.protect.dkim import SigningKey
from relay.protect.keyring import KeyRing, dump_ring, parse_ring

RING_NAME: Final = "ring.json"
MAX_KEY_FILE: Final = 1 << 20
_SELECTOR: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z")
_LINE: Final = re.compile(r"^(Active-From|Active-Until):\s*(\S+)\s*$", re.MULTILINE)


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


# --- DKIM keys ----------------------------------------------------------


def load_signing_keys(directory: Path) -> tuple[SigningKey, ...]:
    """All keys ``postern dkim new`` made, by domain and selector; none when the directory is missing.

    Raises:
        ProblemsError: every key that cannot be used, at once.
    """
    keys: list[SigningKey] = []
    problems: list[Problem] = []
    for path in sorted(directory.glob("*/*.pem")):
        try:
            keys.append(read_signing_key(path, domain=path.parent.name, selector=path.stem))
        except ProblemsError as error:
            problems.extend(error.problems)
    if problems:
        raise ProblemsError(*problems)
    return tuple(keys)


def configured_signing_keys(settings: DkimSettings) -> tuple[SigningKey, ...]:
    """All signing keys: those in ``dkim.dir`` and those that ``dkim.domains`` names, its days at 00:00 UTC.

    Raises:
        ProblemsError: every key that cannot be used, at once; two of one selector.
    """
    keys: list[SigningKey] = []
    problems: list[Problem] = []
    try:
        keys.extend(load_signing_keys(settings.dir))
    except ProblemsError as error:
        problems.extend(error.problems)
    for domain in settings.domains:
        for one in domain.keys:
            try:
                keys.append(_configured(domain.domain, one))
            except ProblemsError as error:
                problems.extend(error.problems)
    names = [key.record_name for key in keys]
    problems.extend(
        Problem(where=name, what="two keys have this selector", hint="remove one of them")
        for name in sorted({name for name in names if names.count(name) > 1})
    )
    if problems:
        raise ProblemsError(*problems)
    return tuple(keys)


def _configured(domain: str, settings: DkimKeySettings) -> SigningKey:
    path = settings.key.path()
    # systemd guards its credentials itself and gives them modes of its own; SecretFile.read says when there are none.
    content = settings.key.read() if settings.key.credential or path is None else read_private(path)
    key = parse_signing_key(
        content,
        where=str(settings.key),
        domain=domain,
        selector=settings.selector,
        active_from=_midnight(settings.valid_from),
        active_until=_midnight(settings.valid_until),
    )
    if key.algorithm != settings.algorithm:
        what = f"is a key for {key.algorithm}, and the configuration says {settings.algorithm}"
        raise ProblemsError(Problem(where=str(settings.key), what=what, hint="mend dkim.domains"))
    return key


def _midnight(day: date | None) -> float | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def read_signing_key(
    path: Path, *, domain: str, selector: str, active_from: float | None = None, active_until: float | None = None
) -> SigningKey:
    """One private key file; times given here win over those written in it.

    Raises:
        ProblemsError: others can read it, or it is no RSA or Ed25519 key, or its name is no domain and selector.
    """
    content = read_private(path)
    return parse_signing_key(
        content, where=str(path), domain=domain, selector=selector, active_from=active_from, active_until=active_until
    )


def parse_signing_key(
    content: bytes,
    *,
    where: str,
    domain: str,
    selector: str,
    active_from: float | None = None,
    active_until: float | None = None,
) -> SigningKey:
    """A signing key from the bytes of its file; ``where`` names it in errors.

    Raises:
        ProblemsError: no RSA key of 1024 bits or more and no Ed25519 key, encrypted, or a wrong name or time.
    """
    hint = "make one with `postern dkim new`"
    try:
        domain = normalise_domain(domain)
        private = load_pem_private_key(content, None)
        times = {name: _time(text) for name, text in _LINE.findall(content.decode("ascii", "replace"))}
        if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
            raise ProblemsError(Problem(where=where, what="is neither an RSA nor an Ed25519 key", hint=hint))
        return SigningKey(
            domain=domain,
            selector=check_selector(selector),
            private=private,
            active_from=times.get("Active-From", 0.0) if active_from is None else active_from,
            active_until=times.get("Active-Until") if active_until is None else active_until,
        )
    except (AddressError, UnsupportedAlgorithm, TypeError) as error:
        what = "is encrypted: Postern starts unattended" if isinstance(error, TypeError) else str(error)
        raise ProblemsError(Problem(where=where, what=what, hint=hint)) from None
    except ValueError as error:
        own = str(error) if "RFC" in str(error) or "selector" in str(error) or "time" in str(error) else ""
        raise ProblemsError(Problem(where=where, what=own or "is not a PEM private key", hint=hint)) from None


def check_selector(text: str) -> str:
    """The selector when RFC 6376 section 3.1 allows it (lower case here).

    Raises:
        ValueError: it does not.
    """
    if not _SELECTOR.match(text):
        raise ValueError("the selector is not made of letters, digits, hyphens and dots")
    return text


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time in it is not like 2026-11-22T00:00:00Z") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def write_signing_key(directory: Path, key: SigningKey) -> Path:
    """Write a new key (0600) under ``directory/DOMAIN/SELECTOR.pem``; none is replaced.

    Raises:
        ProblemsError: there is one of that name, or it cannot be written.
    """
    path = directory / key.domain / f"{key.selector}.pem"
    write_private(path, dump_signing_key(key), replace=False)
    return path


def update_signing_key(directory: Path, key: SigningKey) -> None:
    """Write a key's file anew, with changed times."""
    write_private(directory / key.domain / f"{key.selector}.pem", dump_signing_key(key))


def dump_signing_key(key: SigningKey) -> bytes:
    """The text of a key's file."""
    lines = [f"Active-From: {_iso(key.active_from)}"]
    if key.active_until is not None:
        lines.append(f"Active-Until: {_iso(key.active_until)}")
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return "\n".join((*lines, "")).encode("ascii") + pem


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
