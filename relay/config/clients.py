"""The systems that may send: one YAML file each in ``clients_dir``, read together and written atomically."""

import fcntl
import hashlib
import os
import secrets
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from relay.config import document
from relay.config.load import validate
from relay.config.reception import ClientSettings
from relay.core.errors import Problem, ProblemsError

MAX_CLIENTS: Final = 10_000
_SUFFIX: Final = ".yaml"
_MODE: Final = 0o640
_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 43  # 62 ** 43 is just over 2 ** 256


def generate_secret() -> str:
    """A new secret of 256 random bits, in letters and digits, which survive any configuration dialogue."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def digest(secret: str) -> str:
    """SHA-256 (hex): enough for generated secrets, which no dictionary holds."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDirectory:
    """All clients, by name."""

    clients: Mapping[str, ClientSettings] = field(default_factory=dict)

    def get(self, name: str) -> ClientSettings | None:
        """The client of that name, or ``None``."""
        return self.clients.get(name)

    def __iter__(self) -> Iterator[ClientSettings]:
        return iter(self.clients.values())

    def __len__(self) -> int:
        return len(self.clients)


def load_clients(directory: Path) -> ClientDirectory:
    """Read every ``*.yaml`` of the directory; one that does not exist yet holds no clients.

    Raises:
        ProblemsError: all that is wrong in all the files.
    """
    paths = _files(directory)
    if len(paths) > MAX_CLIENTS:
        raise ProblemsError(Problem(where=str(directory), what=f"holds more than {MAX_CLIENTS} clients"))
    clients: dict[str, ClientSettings] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            client = load_client(path)
        except ProblemsError as error:
            problems.extend(error.problems)
        else:
            clients[client.name] = client
    if problems:
        raise ProblemsError(*problems)
    return ClientDirectory(clients=clients)


def load_client(path: Path) -> ClientSettings:
    """Read one client's file.

    Raises:
        ProblemsError: all that is wrong in it.
    """
    found = document.read(path)
    client = validate(found, ClientSettings, path.parent)
    if client.name != path.stem:
        what, hint = f"the name {client.name} is not the file's", f"name the file {client.name}{_SUFFIX}"
        raise ProblemsError(Problem(where=found.where(("name",)), what=what, hint=hint))
    return client


def _files(directory: Path) -> list[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ProblemsError(Problem(where=str(directory), what=f"cannot be read: {error.strerror}")) from error
    return [directory / name for name in names if name.endswith(_SUFFIX) and not name.startswith(".")]


def write_client(directory: Path, client: ClientSettings, *, replace: bool) -> Path:
    """Write a client's file so that a crash leaves the old one or the new one whole; mode 0640.

    The file is made with the directory's group, so that the user Postern runs as can read what root wrote.

    Raises:
        ProblemsError: it exists (without ``replace``), or cannot be written.
    """
    path = directory / f"{client.name}{_SUFFIX}"
    values = client.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(
        {key: value for key, value in values.items() if value != []}, sort_keys=False, allow_unicode=True, width=120
    )
    fresh = directory / f".{client.name}.{secrets.token_hex(8)}"
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        _write_synced(fresh, text.encode("utf-8"), directory.stat().st_gid)
        _put(fresh, path, replace=replace)
        sync_directory(directory)
    except FileExistsError:
        hint = "choose another name, or use `postern client rotate` for a new secret"
        raise ProblemsError(Problem(where=str(path), what="exists already", hint=hint)) from None
    except OSError as error:
        raise ProblemsError(Problem(where=str(path), what=f"cannot be written: {error.strerror}")) from error
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _put(fresh: Path, path: Path, *, replace: bool) -> None:
    if replace:
        fresh.replace(path)
    else:
        os.link(fresh, path)  # fails when the name is taken, unlike rename: two at once cannot overwrite one another


def _write_synced(path: Path, content: bytes, group: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        if os.fstat(handle).st_gid != group:
            os.fchown(handle, -1, group)
        os.fchmod(handle, _MODE)
        file.write(content)
        file.flush()
        os.fsync(handle)


def sync_directory(directory: Path) -> None:
    """Make names just changed in a directory last a power cut.

    Raises:
        OSError: as from open and fsync.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def changing(directory: Path) -> Iterator[None]:
    """One command at a time reads a client and writes it again; others wait for it, which takes moments.

    Raises:
        ProblemsError: the directory cannot be locked.
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # no client is there, which is told where it is looked for
        yield
        return
    except OSError as error:
        raise ProblemsError(Problem(where=str(directory), what=f"cannot be read: {error.strerror}")) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise ProblemsError(Problem(where=str(directory), what=f"cannot be locked: {error.strerror}")) from error
        yield
    finally:
        os.close(handle)


def remove_client(directory: Path, name: str) -> None:
    """Remove a client's file; a running Postern lets it in until it reloads.

    Raises:
        ProblemsError: there is none, or it cannot be removed.
    """
    with changing(directory):
        path = client_path(directory, name)
        try:
            path.unlink()
            sync_directory(directory)
        except OSError as error:
            raise ProblemsError(Problem(where=str(path), what=f"cannot be removed: {error.strerror}")) from error


def client_path(directory: Path, name: str) -> Path:
    """The file of an existing client.

    Raises:
        ProblemsError: no such client; with the names there are.
    """
    paths = {path.stem: path for path in _files(directory)}
    if name not in paths:
        hint = f"there are: {', '.join(sorted(paths))}" if paths else "add one with `postern client add`"
        raise ProblemsError(Problem(where=str(directory), what=f"no client has the name {name}", hint=hint))
    return paths[name]
