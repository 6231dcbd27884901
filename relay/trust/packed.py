"""How far what a stranger packed may unfold: reports come as gzip, and a small one may be a bomb."""

import zlib
from dataclasses import dataclass

from relay.core.errors import PosternError


class PackedError(PosternError):
    """It is damaged, or unfolds too far; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What unfolding ends at.

    Attributes:
        most: octets in any case.
        ratio: times the octets that came, once they unfold to more than ``free``.
        free: octets that anything may unfold to.
    """

    most: int
    ratio: int
    free: int = 1024 * 1024

    def of(self, packed: int) -> int:
        """Octets that so many may unfold to."""
        return min(self.most, max(packed * self.ratio, self.free))


def inflate(data: bytes, bounds: Bounds) -> bytes:
    """Unfold gzip (RFC 1952), and never further than one octet past its bounds.

    Raises:
        PackedError: it is damaged, ends early, or unfolds too far.
    """
    most = bounds.of(len(data))
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise PackedError("its gzip data is damaged") from error
    if len(plain) > most:
        raise PackedError("it unfolds to far more than a report holds")
    if not unpacker.eof:
        raise PackedError("its gzip data ends early")
    return plain
