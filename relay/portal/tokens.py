"""Tokens that browsers and links hold, and what the store knows of them: digests."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Final

Entropy = Callable[[int], bytes]
"""Gives that many octets from a cryptographic random source, as ``os.urandom`` does."""

TOKEN_OCTETS: Final = 32


def new_token(entropy: Entropy) -> str:
    """256 random bits, URL-safe."""
    return base64.urlsafe_b64encode(entropy(TOKEN_OCTETS)).rstrip(b"=").decode("ascii")


def digest(token: str) -> str:
    """What the store knows a token by. Tokens are random, so no salt and no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_of(cookie: str) -> str:
    """The token of forms that belongs to a cookie's value: only pages shown to its browser hold it.

    It is derived one way, so that a page that leaks gives away no cookie. The cookie has the ``__Host-`` prefix, so
    that nobody but this host can have set it.
    """
    return hmac.digest(cookie.encode("utf-8", "surrogatepass"), b"postern portal csrf", "sha256").hex()


def same(left: str, right: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))


def digits(count: int, entropy: Entropy) -> str:
    """A code of so many decimal digits, each equally likely: what would bias it is thrown away."""
    space = 10**count
    octets = (space.bit_length() + 7) // 8 + 1
    limit = (1 << 8 * octets) // space * space
    while (number := int.from_bytes(entropy(octets), "big")) >= limit:
        pass
    return f"{number % space:0{count}d}"
