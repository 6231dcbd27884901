"""DKIM keys on disk: ``dkim.dir/DOMAIN/SELECTOR.pem`` is a signing key.

PKCS #8 PEM, before which lines may say from when and until when it signs (``Active-From: 2026-11-22T00:00:00Z``,
``Active-Until: ...``); PEM readers pass over such lines (RFC 7468 section 2).
"""

import re
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
from relay.config.keyfiles import read_private, write_private
from relay.core.address import normalise_domain
from relay.core.errors import AddressError, Problem, ProblemsError
from relay.protect.dkim import SigningKey

_SELECTOR: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z")
_LINE: Final = re.compile(r"^(Active-From|Active-Until):\s*(\S+)\s*$", re.MULTILINE)


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
