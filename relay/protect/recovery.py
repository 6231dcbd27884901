"""The encrypted recovery copy of a key ring, to be kept apart from the machine: on paper, in a safe.

scrypt (RFC 7914) makes a key of the passphrase; AES-256-GCM seals the ring under it. The copy is text in lines of 64
characters between two marks, so that it survives mail, print and retyping.
"""

import base64
import binascii
import hashlib
import re
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.core.errors import Problem, ProblemsError
from relay.protect.keyring import KeyRing, Random, dump_ring, parse_ring

MIN_PASSPHRASE: Final = 12
"""Characters; six random words are better."""
_MAGIC: Final = b"PR1"
_LOG_N: Final = 17
_R: Final = 8
_P: Final = 1
_MAX_LOG_N: Final = 20
_HEADER: Final = 3 + 3 + 16 + 12
_BEGIN: Final = b"-----BEGIN POSTERN KEY RING-----"
_END: Final = b"-----END POSTERN KEY RING-----"
_ARMOUR: Final = re.compile(re.escape(_BEGIN) + rb"([A-Za-z0-9+/=\s]+)" + re.escape(_END))


def write_recovery(ring: KeyRing, passphrase: str, *, random: Random, log_n: int = _LOG_N) -> bytes:
    """The recovery copy as ASCII text.

    Args:
        ring: what to keep.
        passphrase: at least 12 characters.
        random: a cryptographic random source.
        log_n: scrypt's cost as a power of two; 17 takes 128 MiB and some tenths of a second.

    Raises:
        ValueError: a passphrase that is too short.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise ValueError(f"the passphrase has fewer than {MIN_PASSPHRASE} characters")
    header = _MAGIC + bytes((log_n, _R, _P)) + random(16) + random(12)
    sealed = AESGCM(_key(passphrase, header)).encrypt(header[22:34], dump_ring(ring), header)
    text = base64.b64encode(header + sealed)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return b"\n".join((_BEGIN, *lines, _END, b""))


def read_recovery(copy: bytes, passphrase: str, *, where: str) -> KeyRing:
    """The ring in a recovery copy; ``where`` names the file in errors.

    Raises:
        ProblemsError: not a recovery copy, damaged, or a wrong passphrase.
    """
    match = _ARMOUR.search(copy)
    try:
        raw = base64.b64decode(b"".join(match[1].split()), validate=True) if match else b""
    except binascii.Error:
        raw = b""
    if len(raw) <= _HEADER or raw[:3] != _MAGIC or not 10 <= raw[3] <= _MAX_LOG_N or raw[4:6] != bytes((_R, _P)):
        raise ProblemsError(Problem(where=where, what="is not a recovery copy of a key ring, or is damaged"))
    header = raw[:_HEADER]
    try:
        plain = AESGCM(_key(passphrase, header)).decrypt(header[22:34], raw[_HEADER:], header)
    except InvalidTag:
        what = "the passphrase is wrong, or the recovery copy is damaged"
        raise ProblemsError(Problem(where=where, what=what, hint="try again, letter by letter")) from None
    return parse_ring(plain, where=where)


def _key(passphrase: str, header: bytes) -> bytes:
    n = 1 << header[3]
    secret = passphrase.encode("utf-8", "surrogateescape")
    return hashlib.scrypt(secret, salt=header[6:22], n=n, r=_R, p=_P, maxmem=(n + 64) * _R * 160, dklen=32)
