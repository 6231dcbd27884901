"""Codes from an app: TOTP (RFC 6238) over HOTP (RFC 4226), with the parameters that every app knows."""

import base64
import hmac
from typing import Final
from urllib.parse import quote, urlencode

SECRET_OCTETS: Final = 20
"""160 bits, as RFC 4226 section 4 recommends."""
STEP: Final = 30
DIGITS: Final = 6
_DRIFT: Final = 1  # steps before and after that are taken (RFC 6238 section 5.2)


def new_secret(octets: bytes) -> str:
    """The secret in base32, as apps take it."""
    return base64.b32encode(octets).decode("ascii")


def hotp(secret: str, counter: int) -> str:
    """The code of one counter (RFC 4226 section 5.3)."""
    mac = hmac.digest(base64.b32decode(secret), counter.to_bytes(8, "big"), "sha1")
    offset = mac[-1] & 0x0F
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def fitting_step(secret: str, code: str, *, now: float, after: int) -> int | None:
    """The time step whose code this is, if it is later than the last one used; all are compared, in constant time.

    Args:
        secret: base32.
        code: as typed; spaces do not count.
        now: unix seconds.
        after: the last step that was used: a code is good once.
    """
    typed = "".join(code.split()).encode("utf-8", "surrogatepass")
    current = int(now) // STEP
    found = None
    for step in range(current - _DRIFT, current + _DRIFT + 1):
        if hmac.compare_digest(hotp(secret, step).encode("ascii"), typed) and step > after:
            found = step
    return found


def address(secret: str, *, issuer: str, account: str) -> str:
    """The ``otpauth:`` address that apps open, by a link or from a picture."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='@')}"
    return f"otpauth://totp/{label}?{urlencode({'secret': secret, 'issuer': issuer}, quote_via=quote)}"


def spaced(secret: str) -> str:
    """The secret in groups of four, to be typed."""
    return " ".join(secret[place : place + 4] for place in range(0, len(secret), 4))
