"""Sealing at rest (law 7): AES-256-GCM in frames, AES-SIV for mailboxes, keyed digests.

A sealed object is a 28-byte header and its frames::

    "PS1" | key version, 4 bytes | flags, 1 byte (0) | salt, 20 bytes | frame 0 | frame 1 | ...

Each frame holds 64 KiB of the plain bytes (the last one may hold less, even none) and a 16-byte tag. The object's own
key is HKDF-Expand(purpose key, salt): no two objects share a key, so that the number of messages is not bounded by the
chance that two random nonce prefixes meet under one long-lived key. The nonce follows the STREAM construction (Hoang,
Reyhanitabar, Rogaway, Vizár, 2015): prefix (7 bytes, the salt's end), frame number (4), last-frame flag (1). The
associated data is header, purpose and context. Cutting, reordering, swapping between messages or purposes, and any
changed bit make opening fail.

The format is fixed by golden vectors in ``tests/unit/protect/vectors.json``.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from relay.core.errors import SealError
from relay.protect.keyring import KeyRing, KeyVersion, Random

FRAME_SIZE: Final = 64 * 1024
TAG_SIZE: Final = 16
SALT_SIZE: Final = 20
HEADER_SIZE: Final = 28
_SEALED_FRAME: Final = FRAME_SIZE + TAG_SIZE
_MAGIC: Final = b"PS1"
_ADDRESS_MAGIC: Final = b"PA1"
_ADDRESS_HEADER: Final = 7
_PREFIX: Final = 7
_MAX_FRAMES: Final = 2**32
_ONLY_FRAME: Final = b"\x00\x00\x00\x00\x01"
"""The end of the nonce of a frame that is first and last."""
_SHA256: Final = SHA256()


def sealed_version(sealed: bytes) -> int | None:
    """The key version a sealed object or address names, or ``None`` when it is neither; nothing is verified."""
    if len(sealed) < _ADDRESS_HEADER or sealed[:3] not in {_MAGIC, _ADDRESS_MAGIC}:
        return None
    return int.from_bytes(sealed[3:7], "big")


class _Object:
    """One object's cipher: its own key, nonce prefix and associated data."""

    __slots__ = ("_cipher", "_data", "_prefix")

    def __init__(self, cipher: AESGCM, prefix: bytes, data: bytes) -> None:
        self._cipher = cipher
        self._prefix = prefix
        self._data = data

    def seal(self, number: int, plain: bytes | memoryview, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(number, last=last), plain, self._data)

    def open(self, number: int, frame: bytes | memoryview, *, last: bool) -> bytes:
        try:
            return self._cipher.decrypt(self._nonce(number, last=last), frame, self._data)
        except InvalidTag:
            raise SealError("a sealed object does not authenticate: wrong context, or changed bytes") from None

    def _nonce(self, number: int, *, last: bool) -> bytes:
        if number >= _MAX_FRAMES:
            raise SealError("a sealed object has too many frames")
        return self._prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def _authenticate(keyed: HMAC, data: bytes) -> bytes:
    """HMAC-SHA256 by a copy of a keyed state.

    A third of the cost of ``hmac.digest``, which also gives up the interpreter lock for a few octets, and then queues
    for it behind every other thread.
    """
    state = keyed.copy()
    state.update(data)
    return state.finalize()


class _VersionKeys:
    """One version's derived keys, each derived once."""

    __slots__ = ("_purposes", "_siv", "_siv_data", "_version", "address_header", "header", "keyed_digest")

    def __init__(self, version: KeyVersion) -> None:
        number = version.number.to_bytes(4, "big")
        self._version = version
        self._purposes: dict[str, tuple[HMAC, bytes]] = {}
        self._siv = AESSIV(version.derive("address", 64))
        self.header = _MAGIC + number + b"\x00"
        self.address_header = _ADDRESS_MAGIC + number
        self._siv_data = [self.address_header]
        self.keyed_digest = HMAC(version.derive("digest"), _SHA256)

    def object(self, purpose: str, context: str, header: bytes) -> tuple[AESGCM, bytes, bytes]:
        """The cipher of the object that begins with this header, its nonces' prefix, and its associated data."""
        known = self._purposes.get(purpose)
        if known is None:
            name = purpose.encode("utf-8")
            keyed = HMAC(self._version.derive("seal/" + purpose), _SHA256)
            known = self._purposes.setdefault(purpose, (keyed, b"%c%b" % (len(name), name)))
        keyed, named = known
        # HKDF-Expand to one block (RFC 5869 section 2.3): T(1) = HMAC(PRK, info | 0x01).
        key = _authenticate(keyed, header[-SALT_SIZE:] + b"\x01")
        return AESGCM(key), header[-_PREFIX:], header + named + context.encode("utf-8")

    def seal_address(self, plain: bytes) -> bytes:
        return self.address_header + self._siv.encrypt(plain, self._siv_data)

    def open_address(self, sealed: bytes) -> bytes:
        return self._siv.decrypt(sealed[_ADDRESS_HEADER:], self._siv_data)


class _Keys:
    """A ring's derived keys; replaced as a whole when the ring changes."""

    __slots__ = ("by_number", "newest", "newest_first")

    def __init__(self, ring: KeyRing) -> None:
        self.newest_first = tuple(_VersionKeys(version) for version in reversed(ring.versions))
        self.newest = self.newest_first[0]
        self.by_number = dict(zip((v.number for v in reversed(ring.versions)), self.newest_first, strict=True))


class RingVault:
    """The port ``Vault`` over a key ring. Safe to use from several threads.

    Args:
        ring: seals under its newest version, opens under any.
        random: the source of salts, such as ``os.urandom``.
        reload: gives the ring as it is now. Asked when something is sealed under a version later than all in hand:
            another process took up a rotation first.
    """

    __slots__ = ("_keys", "_random", "_reload", "_ring")

    def __init__(self, ring: KeyRing, random: Random, *, reload: Callable[[], KeyRing] | None = None) -> None:
        self._ring = ring
        self._random = random
        self._reload = reload
        self._keys = _Keys(ring)

    @property
    def ring(self) -> KeyRing:
        """The ring in use."""
        return self._ring

    def adopt(self, ring: KeyRing) -> None:
        """Use a rotated ring from now on (a reload while running).

        Raises:
            SealError: it is another installation's ring, or older than the one in use.
        """
        if ring.id != self._ring.id:
            raise SealError("the new key ring belongs to another installation; the one in use stays")
        if ring.newest.number < self._ring.newest.number:
            raise SealError("the new key ring is older than the one in use, which stays")
        self._ring, self._keys = ring, _Keys(ring)

    def _keys_of(self, sealed: bytes) -> _VersionKeys:
        number = int.from_bytes(sealed[3:7], "big")
        keys = self._keys.by_number.get(number)
        if keys is None and self._reload is not None and number > self._ring.newest.number:
            self.adopt(self._reload())
            keys = self._keys.by_number.get(number)
        if keys is None:
            raise SealError(f"key version {number} is not in the key ring: restore the ring it was sealed under")
        return keys

    # --- objects

    def seal(self, purpose: str, context: str, plain: bytes) -> bytes:
        """Seal bytes; the result is ``28 + len(plain) + 16`` octets a frame of 64 KiB.

        Raises:
            ValueError: a purpose longer than 255 octets.
        """
        keys = self._keys.newest
        header = keys.header + self._random(SALT_SIZE)
        cipher, prefix, data = keys.object(purpose, context, header)
        if len(plain) <= FRAME_SIZE:
            return header + cipher.encrypt(prefix + _ONLY_FRAME, plain, data)
        sealer = _Object(cipher, prefix, data)
        sealed = [sealer.seal(number, frame, last=last) for number, frame, last in _slices(plain, 0, FRAME_SIZE)]
        return b"".join((header, *sealed))

    def open(self, purpose: str, context: str, sealed: bytes) -> bytes:
        """Open what :meth:`seal` or :meth:`seal_frames` gave.

        Raises:
            SealError: wrong purpose or context, changed bytes, or a key version not in the ring.
        """
        opener = self._opener(purpose, context, sealed[:HEADER_SIZE])
        if len(sealed) <= HEADER_SIZE + _SEALED_FRAME:
            return opener.open(0, sealed[HEADER_SIZE:], last=True)
        frames = _slices(sealed, HEADER_SIZE, _SEALED_FRAME)
        return b"".join(opener.open(number, frame, last=last) for number, frame, last in frames)

    def seal_frames(self, purpose: str, context: str, plain: Iterable[bytes]) -> Iterator[bytes]:
        """Seal a stream of chunks of any size: yields the header, then each frame; holds two frames in memory."""
        keys = self._keys.newest
        header = keys.header + self._random(SALT_SIZE)
        sealer = _Object(*keys.object(purpose, context, header))
        yield header
        for number, (frame, last) in enumerate(_frames(plain, FRAME_SIZE)):
            yield sealer.seal(number, frame, last=last)

    def open_frames(self, purpose: str, context: str, sealed: Iterable[bytes]) -> Iterator[bytes]:
        """Open a stream of chunks of any size, frame by frame.

        Each frame is authentic when it is yielded, but only the end of the iteration proves that none is missing: act
        on the whole only then.

        Raises:
            SealError: as :meth:`open`, at the first frame that fails.
        """
        chunks = iter(sealed)
        head = b""
        while len(head) < HEADER_SIZE:
            chunk = next(chunks, None)
            if chunk is None:
                break
            head += chunk
        opener = self._opener(purpose, context, head[:HEADER_SIZE])
        frames = _frames(itertools.chain((head[HEADER_SIZE:],), chunks), _SEALED_FRAME)
        for number, (frame, last) in enumerate(frames):
            yield opener.open(number, frame, last=last)

    def _opener(self, purpose: str, context: str, header: bytes) -> _Object:
        if len(header) < HEADER_SIZE or header[:3] != _MAGIC:
            raise SealError("not a sealed object: it is cut short or damaged at its beginning")
        return _Object(*self._keys_of(header).object(purpose, context, header))

    # --- mailboxes and digests

    def seal_address(self, text: str) -> bytes:
        """Seal a mailbox with AES-256-SIV (RFC 5297): equal text gives equal bytes under one key version."""
        return self._keys.newest.seal_address(text.encode("utf-8", "surrogatepass"))

    def open_address(self, sealed: bytes) -> str:
        """The mailbox.

        Raises:
            SealError: changed bytes, or a key version not in the ring.
        """
        if len(sealed) < _ADDRESS_HEADER + TAG_SIZE or sealed[:3] != _ADDRESS_MAGIC:
            raise SealError("not a sealed address: it is cut short or damaged at its beginning")
        try:
            return self._keys_of(sealed).open_address(sealed).decode("utf-8", "surrogatepass")
        except InvalidTag:
            raise SealError("a sealed address does not authenticate: its bytes were changed") from None

    def address_tokens(self, text: str) -> tuple[bytes, ...]:
        """The sealed mailbox under every version of the ring, newest first, for look-ups."""
        plain = text.encode("utf-8", "surrogatepass")
        return tuple(keys.seal_address(plain) for keys in self._keys.newest_first)

    def digest(self, text: str) -> str:
        """32 hex digits: HMAC-SHA256 under the newest version, cut to 128 bits; equal within one version."""
        return _authenticate(self._keys.newest.keyed_digest, text.encode("utf-8", "surrogatepass"))[:16].hex()


def _slices(whole: bytes, start: int, size: int) -> Iterator[tuple[int, memoryview, bool]]:
    """Cut bytes from ``start`` on into numbered frames without copying; the last is marked so and may be shorter."""
    view = memoryview(whole)
    last = (len(whole) - start - 1) // size
    for number in range(last + 1):
        yield number, view[start + number * size : start + (number + 1) * size], number == last


def _frames(chunks: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Cut a stream into frames of ``size``; the last, and only the last, is marked so and may be shorter or empty."""
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        # A full frame is kept back until more bytes come: it may be the last.
        while len(pending) > size:
            yield bytes(pending[:size]), False
            del pending[:size]
    yield bytes(pending), True
