"""Content-Transfer-Encodings undone as octets stream by (RFC 2045)."""

import binascii
from typing import Final, Protocol

_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
_NOT_BASE64: Final = bytes(value for value in range(256) if value not in _BASE64)
_LONGEST_LINE: Final = 64 * 1024  # octets of quoted-printable that are kept to wait for a line's end


class Decoder(Protocol):
    """Undoes an encoding. What is not well formed gives the best reading of it, never an exception."""

    def feed(self, piece: bytes) -> bytes:
        """What the next octets give."""

    def finish(self) -> bytes:
        """What is left at the end."""


def decoder(encoding: str) -> Decoder:
    """A decoder; octets pass as they are for an encoding that is not known."""
    if encoding == "base64":
        return _Base64()
    if encoding == "quoted-printable":
        return _QuotedPrintable()
    return _Identity()


class _Identity:
    def feed(self, piece: bytes) -> bytes:
        return piece

    def finish(self) -> bytes:
        return b""


class _Base64:
    """Octets outside the alphabet are passed over (RFC 2045 section 6.8); encodings that were joined are all read."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        *ended, rest = (self._held + piece.translate(None, _NOT_BASE64)).split(b"=")
        whole = len(rest) - len(rest) % 4
        self._held = rest[whole:]
        return b"".join(map(_quads, ended)) + binascii.a2b_base64(rest[:whole])

    def finish(self) -> bytes:
        data, self._held = self._held, b""
        return _quads(data)


def _quads(data: bytes) -> bytes:
    whole = len(data) - (1 if len(data) % 4 == 1 else 0)  # six bits alone make no octet
    return binascii.a2b_base64(data[:whole] + b"=" * (-whole % 4))


class _QuotedPrintable:
    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        data = self._held + piece
        end = data.rfind(b"\n") + 1
        if not end and len(data) > _LONGEST_LINE:  # no line is so long: pass on what holds no half escape
            end = max(data.rfind(b"=", len(data) - 3), 0) or len(data)
        self._held = data[end:]
        return binascii.a2b_qp(data[:end])

    def finish(self) -> bytes:
        data, self._held = self._held, b""
        return binascii.a2b_qp(data)
