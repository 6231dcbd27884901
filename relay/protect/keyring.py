"""The key ring as a value, and its file format (law 7).

A ring holds numbered 256-bit master secrets. The newest seals; all of them open. What is used is never a master secret
but a key derived from it for one purpose (HKDF-SHA256, RFC 5869). The ring also holds the Ed25519 seeds that sign the
heads of the audit trail.
"""

import base64
import binascii
import dataclasses
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.core.errors import Problem, ProblemsError

Random = Callable[[int], bytes]
"""Gives that many bytes from a cryptographic random source, as ``os.urandom`` does."""

FORMAT: Final = "postern-keyring-1"
SECRET_SIZE: Final = 32
MAX_NUMBER: Final = 2**32 - 1
_HINT: Final = "restore it from a backup or with `postern keys recovery restore`"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """One numbered secret of a ring.

    Attributes:
        number: 1 and up; a number is never used twice.
        created_at: unix seconds, UTC.
        secret: 32 bytes, never shown.
    """

    number: int
    created_at: float
    secret: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell secrets apart and give nothing away about them."""
        return hmac.digest(self.secret, b"postern key fingerprint", "sha256")[:8].hex()

    def derive(self, purpose: str, length: int = SECRET_SIZE) -> bytes:
        """The key for one purpose: HKDF-SHA256 with the purpose as info (RFC 5869 section 3.2)."""
        info = b"postern/1/" + purpose.encode("utf-8")
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(self.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """All secrets one installation seals with. Immutable: rotation gives a new ring.

    Attributes:
        id: 16 hex digits, made with the ring; two installations never share it.
        versions: sealing secrets, lowest number first; never empty.
        audit_keys: Ed25519 seeds that sign audit heads, lowest number first; never empty.
    """

    id: str
    versions: tuple[KeyVersion, ...]
    audit_keys: tuple[KeyVersion, ...]

    @classmethod
    def create(cls, *, now: float, random: Random) -> Self:
        """A new ring with one version and one audit key."""
        return cls(id=random(8).hex(), versions=(_new(1, now, random),), audit_keys=(_new(1, now, random),))

    @property
    def newest(self) -> KeyVersion:
        """The version that seals."""
        return self.versions[-1]

    @property
    def audit_key(self) -> KeyVersion:
        """The seed that signs audit heads now."""
        return self.audit_keys[-1]

    def version(self, number: int) -> KeyVersion | None:
        """The version of that number, or ``None`` when it is not (or no longer) in the ring."""
        return next((version for version in self.versions if version.number == number), None)

    def rotated(self, *, now: float, random: Random) -> Self:
        """A ring with one more version, which seals from then on; the others still open."""
        return dataclasses.replace(self, versions=(*self.versions, _new(self.newest.number + 1, now, random)))

    def audit_rotated(self, *, now: float, random: Random) -> Self:
        """A ring with one more audit key; heads that older ones signed still verify."""
        return dataclasses.replace(self, audit_keys=(*self.audit_keys, _new(self.audit_key.number + 1, now, random)))

    def without(self, number: int) -> Self:
        """A ring without an old version: what was sealed under it can never be opened again.

        Raises:
            ValueError: it is the newest, or not in the ring.
        """
        if number == self.newest.number:
            raise ValueError("the newest version seals; rotate first")
        if self.version(number) is None:
            raise ValueError(f"version {number} is not in the ring")
        return dataclasses.replace(self, versions=tuple(v for v in self.versions if v.number != number))


def _new(number: int, now: float, random: Random) -> KeyVersion:
    return KeyVersion(number=number, created_at=now, secret=random(SECRET_SIZE))


def dump_ring(ring: KeyRing) -> bytes:
    """The ring as the JSON text of ``ring.json``: secrets in base64, each with its fingerprint against bit rot."""
    document = {
        "format": FORMAT,
        "id": ring.id,
        "versions": [_dump_version(version) for version in ring.versions],
        "audit_keys": [_dump_version(version) for version in ring.audit_keys],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _dump_version(version: KeyVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        "created_at": version.created_at,
        "secret": base64.b64encode(version.secret).decode("ascii"),
        "fingerprint": version.fingerprint,
    }


def parse_ring(data: bytes, *, where: str) -> KeyRing:
    """Read what :func:`dump_ring` wrote; ``where`` names the file in the error.

    Raises:
        ProblemsError: damaged, of another format, or a secret that does not match its fingerprint.
    """
    try:
        return _read_ring(orjson.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # The text of a JSON or key error could quote a secret: only our own texts are repeated.
        own = str(error) if type(error) is ValueError else "it is not the JSON of a key ring"
        raise ProblemsError(Problem(where=where, what=f"the key ring cannot be read: {own}", hint=_HINT)) from None


def _read_ring(document: dict[str, Any]) -> KeyRing:
    if document["format"] != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    return KeyRing(
        id=_hex_id(document["id"]),
        versions=_parse_versions(document["versions"]),
        audit_keys=_parse_versions(document["audit_keys"]),
    )


def _hex_id(text: str) -> str:
    if len(text) != 16 or text.lower() != text or len(bytes.fromhex(text)) != 8:
        raise ValueError("its id is damaged")
    return text


def _parse_versions(items: list[dict[str, Any]]) -> tuple[KeyVersion, ...]:
    versions = tuple(_parse_version(item) for item in items)
    numbers = [version.number for version in versions]
    if not numbers or numbers != sorted(set(numbers)):
        raise ValueError("its versions are missing or out of order")
    return versions


def _parse_version(item: dict[str, Any]) -> KeyVersion:
    number = item["number"]
    if not isinstance(number, int) or not 1 <= number <= MAX_NUMBER:
        raise ValueError("a version number is out of range")
    try:
        secret = base64.b64decode(item["secret"], validate=True)
    except binascii.Error:
        secret = b""
    version = KeyVersion(number=number, created_at=float(item["created_at"]), secret=secret)
    if len(secret) != SECRET_SIZE or not hmac.compare_digest(version.fingerprint, item["fingerprint"]):
        raise ValueError(f"the secret of version {number} does not match its fingerprint")
    return version
