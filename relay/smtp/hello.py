"""What a server's answer to EHLO offers (RFC 5321 section 4.1.1.1)."""

import functools
from typing import Final

from relay.core.outcome import PeerFeatures
from relay.core.reply import Reply

_MAX_SIZE_DIGITS: Final = 20  # RFC 1870 section 4


def features(reply: Reply) -> PeerFeatures:
    """The extensions that the lines after the first name; what is not known is passed over."""
    return _features(reply.lines[1:])


@functools.lru_cache(maxsize=512)
def _features(lines: tuple[str, ...]) -> PeerFeatures:
    """Kept, for a server says the same each time."""
    offered: dict[str, str] = {}
    mechanisms: set[str] = set()
    for line in lines:
        keyword, _, parameters = line.strip().partition(" ")
        keyword = keyword.lower()
        if keyword.startswith("auth="):  # as servers wrote it before RFC 2554
            keyword, parameters = "auth", f"{keyword.removeprefix('auth=')} {parameters}"
        if keyword == "auth":
            mechanisms.update(parameters.upper().split())
        offered[keyword] = parameters.strip()
    size = offered.get("size", "")
    limit = int(size) if size.isascii() and size.isdigit() and len(size) <= _MAX_SIZE_DIGITS else 0
    return PeerFeatures(
        pipelining="pipelining" in offered,
        eight_bit_mime="8bitmime" in offered,
        smtputf8="smtputf8" in offered,
        dsn="dsn" in offered,
        require_tls="requiretls" in offered,
        starttls="starttls" in offered,
        chunking="chunking" in offered,
        size=limit or None,
        size_offered="size" in offered,
        auth=frozenset(mechanisms),
    )
