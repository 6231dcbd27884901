"""Content under a data key of its own, in pieces that open each by itself, so that any range of it can be streamed.

The key seals one thing and is never used again, so a piece's nonce is its place: what (7 octets), number (4), whether
it is the last (1), after the STREAM construction that :mod:`relay.protect.sealing` follows too. Associated data is the
context. Cut, reordered or swapped pieces do not authenticate. Who shreds the key has shredded the content.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.core.errors import SealError

KEY_SIZE: Final = 32
PIECE_SIZE: Final = 64 * 1024
_CONTENT: Final = b"content"
_HEADERS: Final = b"headers"


def piece_count(size: int) -> int:
    """How many pieces content of this many octets has: one at the least."""
    return max(1, -(-size // PIECE_SIZE))


class DataKey:
    """A key that seals the content and the headers of one deposit.

    Args:
        key: 32 random octets, never used for anything else.
        context: what it belongs to.
    """

    __slots__ = ("_cipher", "_data")

    def __init__(self, key: bytes, context: str) -> None:
        self._cipher = AESGCM(key)
        self._data = context.encode("utf-8")

    def seal(self, content: bytes) -> list[bytes]:
        """The content's pieces in order; each 16 octets longer than what it holds."""
        view = memoryview(content)
        last = piece_count(len(content)) - 1
        return [
            self._cipher.encrypt(
                _nonce(_CONTENT, number, last=number == last),
                view[number * PIECE_SIZE : (number + 1) * PIECE_SIZE],
                self._data,
            )
            for number in range(last + 1)
        ]

    def open(self, number: int, sealed: bytes, *, last: bool) -> bytes:
        """One piece.

        Raises:
            SealError: it is not this one, or its bytes were changed.
        """
        return self._open(_nonce(_CONTENT, number, last=last), sealed)

    def seal_headers(self, plain: bytes) -> bytes:
        """What the headers said; to be sealed once."""
        return self._cipher.encrypt(_nonce(_HEADERS, 0, last=True), plain, self._data)

    def open_headers(self, sealed: bytes) -> bytes:
        """What :meth:`seal_headers` sealed.

        Raises:
            SealError: as for :meth:`open`.
        """
        return self._open(_nonce(_HEADERS, 0, last=True), sealed)

    def _open(self, nonce: bytes, sealed: bytes) -> bytes:
        try:
            return self._cipher.decrypt(nonce, sealed, self._data)
        except InvalidTag:
            raise SealError("a piece does not authenticate: another one's, or changed bytes") from None


def _nonce(what: bytes, number: int, *, last: bool) -> bytes:
    return what + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
