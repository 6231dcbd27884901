"""Proofs about files: secrets private, keys that fit their certificates, certificates valid now."""

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from relay.config.secret import MAX_SECRET, SecretFile
from relay.core.errors import Problem, ProblemsError

EXPIRES_SOON: Final = timedelta(days=14)
_MIN_RSA: Final = 2048  # bits; RFC 8301 section 3.2 for signatures, NIST SP 800-131A for TLS


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, and whether Postern could run all the same."""

    problem: Problem
    warning: bool = False


def error(where: str, what: str, hint: str = "") -> Finding:
    """Something that keeps Postern from running rightly."""
    return Finding(Problem(where=where, what=what, hint=hint))


def warning(where: str, what: str, hint: str = "") -> Finding:
    """Something a person should know, though Postern runs."""
    return Finding(Problem(where=where, what=what, hint=hint), warning=True)


def prove_private(path: Path, where: str, owners: frozenset[int]) -> Iterator[Finding]:
    """A file that must be readable by us and by nobody else, owned by one of ``owners``."""
    try:
        status = path.stat()
        with path.open("rb") as file:
            file.read(1)
    except OSError as problem:
        yield error(where, f"{path} cannot be read: {problem.strerror}")
        return
    if not stat.S_ISREG(status.st_mode):
        yield error(where, f"{path} is not a file")
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        yield error(where, f"{path} can be used by others (mode {mode:04o})", f"chmod 600 {path}")
    if status.st_uid not in owners:
        yield error(
            where, f"{path} belongs to user {status.st_uid}", f"chown it to root or to who runs Postern: {path}"
        )


def prove_secret(secret: SecretFile, where: str, owners: frozenset[int]) -> Iterator[Finding]:
    """A secret's file is private; a systemd credential is, and can only be looked at inside its unit."""
    path = secret.path()
    if path is None:
        yield warning(where, f"{secret} is known only inside the systemd unit: not checked")
    elif secret.credential:
        if not os.access(path, os.R_OK):
            yield error(where, f"{secret} is not among the unit's credentials", "add LoadCredential= to the unit")
    else:
        yield from prove_private(path, where, owners)


def prove_password(secret: SecretFile, where: str, owners: frozenset[int]) -> Iterator[Finding]:
    """A private file with one line of text."""
    found = list(prove_secret(secret, where, owners))
    yield from found
    if not found:
        try:
            secret.read_text()
        except ProblemsError as problem:
            yield from (error(where, f"{one.where} {one.what}") for one in problem.problems)


def read_key(secret: SecretFile, where: str, owners: frozenset[int], found: list[Finding]) -> PrivateKeyTypes | None:
    """The private key in a secret's file; what is wrong goes to ``found``."""
    problems = list(prove_secret(secret, where, owners))
    found.extend(problems)
    try:
        content = secret.read()
    except ProblemsError:
        return None  # told above: it is why the file could not be proved
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        found.append(error(where, f"{secret} is locked with a passphrase", "remove it: openssl pkey -in OLD -out NEW"))
    except (ValueError, UnsupportedAlgorithm):
        found.append(error(where, f"{secret} is not a private key in PEM"))
    return None


def read_certificates(path: Path, where: str, found: list[Finding]) -> list[x509.Certificate]:
    """The certificates in a PEM file; what is wrong goes to ``found``."""
    try:
        with path.open("rb") as file:
            content = file.read(8 * MAX_SECRET)
        return x509.load_pem_x509_certificates(content)
    except OSError as problem:
        found.append(error(where, f"{path} cannot be read: {problem.strerror}"))
    except ValueError:
        found.append(error(where, f"{path} is not a certificate in PEM"))
    return []


def prove_certificate(
    path: Path, key: PrivateKeyTypes | None, where: str, *, hostname: str, now: datetime
) -> Iterator[Finding]:
    """A certificate of ours: valid now, fits its key, names the host (if one is given), its chain in order."""
    found: list[Finding] = []
    chain = read_certificates(path, where, found)
    yield from found
    if not chain:
        return
    yield from _prove_time(chain[0], path, where, now)
    if key is not None and _public(key) != _spki(chain[0]):
        yield error(where, f"the key does not belong to the certificate {path}", "take the two from one issue")
    public = chain[0].public_key()
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < _MIN_RSA:
        yield error(where, f"{path} has an RSA key of {public.key_size} bits", f"{_MIN_RSA} at least")
    names = _names(chain[0])
    if hostname and not any(_names_host(name, hostname) for name in names):
        listed = ", ".join(names) or "nothing"
        yield warning(where, f"{path} names {listed}, not {hostname}", "clients that check names will refuse it")
    if any(one.issuer != issuer.subject for one, issuer in itertools.pairwise(chain)):
        yield warning(where, f"the chain in {path} is not in order", "certificate first, then each one's issuer")


def _prove_time(certificate: x509.Certificate, path: Path, where: str, now: datetime) -> Iterator[Finding]:
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if now >= ends:
        yield error(where, f"{path} expired on {ends:%Y-%m-%d}", "renew it")
    elif now < begins:
        yield error(where, f"{path} is not valid before {begins:%Y-%m-%d %H:%M} UTC", "check this machine's clock")
    elif ends - now < EXPIRES_SOON:
        yield warning(where, f"{path} expires on {ends:%Y-%m-%d}", "renew it")


def prove_roots(path: Path, where: str, now: datetime) -> Iterator[Finding]:
    """A file of trusted roots: readable, and at least one of them valid now."""
    found: list[Finding] = []
    roots = read_certificates(path, where, found)
    yield from found
    if roots and not any(root.not_valid_before_utc <= now < root.not_valid_after_utc for root in roots):
        yield error(where, f"no certificate in {path} is valid now", "replace it")


def prove_dkim_key(secret: SecretFile, algorithm: str, where: str, owners: frozenset[int]) -> Iterator[Finding]:
    """A signing key: private, and of the kind it is said to be."""
    found: list[Finding] = []
    key = read_key(secret, where, owners, found)
    yield from found
    if key is None:
        return
    fits = isinstance(key, rsa.RSAPrivateKey if algorithm == "rsa" else ed25519.Ed25519PrivateKey)
    if not fits:
        yield error(
            where, f"{secret} is not a key for {algorithm}", "set algorithm to the key's kind, or name another key"
        )
    elif isinstance(key, rsa.RSAPrivateKey) and key.key_size < _MIN_RSA:
        yield error(where, f"{secret} has {key.key_size} bits", f"{_MIN_RSA} at least, RFC 8301")


def _public(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]


def _names_host(name: str, host: str) -> bool:
    """RFC 9525 section 6.3: equal, or a wildcard as the whole left-most label."""
    return name == host or (name.startswith("*.") and name[1:] == host[host.find(".") :])
