"""Queue ids: short, sortable by time, safe to read aloud."""

from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32: no I, L, O, U
_RANDOM_BITS: Final = 50
ENTROPY_BYTES: Final = 7
"""How many random bytes :func:`queue_id` needs."""


def queue_id(now: float, entropy: bytes) -> str:
    """Return a new message's id: 20 characters, 10 of milliseconds since 1970 and 10 random ones.

    Ids sort by time to the millisecond. Two made in the same millisecond by the same machine or by different ones
    collide with a probability of 2**-50.

    Args:
        now: unix seconds, UTC.
        entropy: at least :data:`ENTROPY_BYTES` bytes from a cryptographic source: ids are shown to strangers.

    Raises:
        ValueError: fewer random bytes than needed, or a time outside 1970 to 10889.
    """
    if len(entropy) < ENTROPY_BYTES:
        raise ValueError(f"a queue id needs {ENTROPY_BYTES} random bytes")
    milliseconds = int(now * 1000)
    if not 0 <= milliseconds < 1 << 48:
        raise ValueError("the clock is outside the range of queue ids")
    number = (milliseconds << _RANDOM_BITS) | (
        int.from_bytes(entropy[:ENTROPY_BYTES], "big") & ((1 << _RANDOM_BITS) - 1)
    )
    characters = [""] * 20
    for place in range(19, -1, -1):
        characters[place] = _ALPHABET[number & 31]
        number >>= 5
    return "".join(characters)
