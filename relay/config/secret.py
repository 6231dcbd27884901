"""Secrets live in files or systemd credentials; the configuration only says where."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.core.errors import Problem, ProblemsError

MAX_SECRET: Final = 1 << 20
"""Bytes; no password, key or certificate chain is larger."""

_PREFIX: Final = "credential:"


@dataclass(frozen=True, slots=True)
class SecretFile:
    """Where a secret is: an absolute path, or the name of a systemd credential (systemd.exec(5), LoadCredential=).

    Attributes:
        place: ``/etc/postern/keys/x`` or ``credential:NAME``.
    """

    place: str

    @property
    def credential(self) -> str:
        """The credential's name; empty for a path."""
        return self.place.removeprefix(_PREFIX) if self.place.startswith(_PREFIX) else ""

    def path(self, environ: Mapping[str, str] = os.environ) -> Path | None:
        """The file to read; ``None`` for a credential when not started by systemd with credentials."""
        if not self.credential:
            return Path(self.place)
        directory = environ.get("CREDENTIALS_DIRECTORY", "")
        return Path(directory, self.credential) if directory else None

    def read(self, environ: Mapping[str, str] = os.environ) -> bytes:
        """The secret's bytes as they are in the file.

        Raises:
            ProblemsError: not there, not readable, too large, or a credential outside systemd.
        """
        path = self.path(environ)
        if path is None:
            hint = "start through the systemd unit that loads it, or name a file instead"
            raise ProblemsError(Problem(where=self.place, what="CREDENTIALS_DIRECTORY is not set", hint=hint))
        try:
            with path.open("rb") as file:
                content = file.read(MAX_SECRET + 1)
        except OSError as error:
            raise ProblemsError(Problem(where=str(path), what=f"cannot be read: {error.strerror}")) from error
        if len(content) > MAX_SECRET:
            raise ProblemsError(Problem(where=str(path), what="is larger than 1 MiB: not a secret"))
        return content

    def read_text(self, environ: Mapping[str, str] = os.environ) -> str:
        """The secret as one line of text, its line end removed.

        Raises:
            ProblemsError: as for :meth:`read`, or not one line of UTF-8 text.
        """
        try:
            text = self.read(environ).decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise ProblemsError(Problem(where=self.place, what="is not UTF-8 text")) from error
        if not text or "\n" in text:
            raise ProblemsError(Problem(where=self.place, what="must hold the secret on one line and nothing else"))
        return text

    def __str__(self) -> str:
        return self.place


def parse_secret(text: object, base: Path) -> SecretFile:
    """Read a setting that names a secret's file; a relative path counts from ``base``.

    Raises:
        ValueError: the secret itself, or a credential name that could leave its directory.
    """
    if isinstance(text, SecretFile):
        return text
    if not isinstance(text, str) or not text:
        raise ValueError("must be the path of a file, or credential:NAME")
    if "\n" in text or "-----BEGIN" in text:
        raise ValueError("holds the secret itself: put it into a file and write the file's path or credential:NAME")
    if text.startswith(_PREFIX):
        name = text.removeprefix(_PREFIX)
        if not name or "/" in name or name in {".", ".."}:
            raise ValueError("is not the name of a systemd credential")
        return SecretFile(text)
    if "\0" in text:
        raise ValueError("is not a path")
    return SecretFile(str(Path(os.path.normpath(base / text))))
