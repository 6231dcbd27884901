"""Signed return addresses (VERP): who sends a bounce there has seen a copy that we sent, and it says which one.

The local part is ``r-DAY-KEY-MESSAGE-ENTRY[.RECIPIENT]-MAC``: the day it was made, the key version, the queue id, the
entry's number, and, where the copy went to one recipient, that one's number. The MAC is HMAC-SHA256 (RFC 2104) over all
of it and the domain, cut to 100 bits (RFC 2104 section 5 asks for 80 at least), under a key derived for this purpose
alone. All is in letters and digits that survive a system which folds case.
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.core.address import Address
from relay.protect.keyring import KeyRing

_PURPOSE: Final = "return-path"
_DAY: Final = 86_400
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32, as in queue ids
_VALUES: Final = {mark: place for place, mark in enumerate(_ALPHABET)}
_DAY_MARKS: Final = 4
_MAC_MARKS: Final = 20
_MAC_BITS: Final = 5 * _MAC_MARKS
_LONGEST: Final = 64  # octets of a local part, RFC 5321 section 4.5.3.1.1
_NUMBERS: Final = r"[0-9]{1,6}"
_FORM: Final = re.compile(
    rf"r-([{_ALPHABET}]{{{_DAY_MARKS}}})-([{_ALPHABET}]{{1,7}})-([{_ALPHABET}]{{20}})-({_NUMBERS})(?:\.({_NUMBERS}))?"
    rf"-([{_ALPHABET}]{{{_MAC_MARKS}}})\Z"
)
_ENTRY: Final = re.compile(rf"([0-9A-HJKMNP-TV-Z]{{20}})\.({_NUMBERS})\Z")


class NoReturn(StrEnum):
    """Why an address takes nothing back."""

    FORGED = "forged"
    """We did not make it, or its key is gone from the ring."""
    EXPIRED = "expired"
    """We made it, and its time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnPath:
    """What a return address is about.

    Attributes:
        entry_id: the entry.
        number: the recipient's; ``None`` where the copy went to several.
        day: when it was made, in days since 1970.
    """

    entry_id: str
    number: int | None
    day: int


class ReturnPaths:
    """Makes return addresses and knows its own.

    Args:
        ring: gives the key ring as it is now.
        lifetime: seconds after which an address takes nothing back.
    """

    def __init__(self, ring: Callable[[], KeyRing], lifetime: float) -> None:
        self._ring = ring
        self._days = max(1, -int(-lifetime // _DAY))
        self._keys: tuple[KeyRing | None, dict[int, bytes]] = (None, {})

    def make(self, entry_id: str, number: int | None, domain: str, now: float) -> Address | None:
        """The return address of a copy; ``None`` for an entry whose name does not fit into one.

        Args:
            entry_id: the entry.
            number: the recipient's, where the copy goes to one alone.
            domain: the return domain, in A-labels.
            now: unix seconds.
        """
        found = _ENTRY.match(entry_id)
        if found is None:
            return None
        version = self._ring().newest.number
        place = found[2] if number is None else f"{found[2]}.{number}"
        day = max(0, int(now // _DAY))
        stem = f"r-{_marks(day, _DAY_MARKS)}-{_marks(version)}-{found[1].lower()}-{place}"
        local = f"{stem}-{self._mac(version, stem, domain)}"
        return Address(local, domain) if len(local) <= _LONGEST else None

    def read(self, address: Address, now: float) -> ReturnPath | NoReturn:
        """What an address at a return domain is about, or why it is none of ours. Compares in constant time."""
        local = address.local.lower()
        found = _FORM.match(local)
        if found is None:
            return NoReturn.FORGED
        day, version, message, entry, number, mac = found.groups()
        known = self._mac(_value(version), local[: -_MAC_MARKS - 1], address.domain)
        if not hmac.compare_digest(known or "-", mac):
            return NoReturn.FORGED
        made = _value(day)
        today = int(now // _DAY)
        if not made - 1 <= today <= made + self._days:
            return NoReturn.EXPIRED
        number_read = None if number is None else int(number)
        return ReturnPath(entry_id=f"{message.upper()}.{entry}", number=number_read, day=made)

    def _mac(self, version: int, stem: str, domain: str) -> str:
        """The MAC in letters and digits; empty when the key is not in the ring."""
        key = self._key(version)
        if key is None:
            return ""
        digest = hmac.digest(key, f"{stem}@{domain}".encode(), "sha256")
        return _marks(int.from_bytes(digest, "big") >> (256 - _MAC_BITS), _MAC_MARKS)

    def _key(self, version: int) -> bytes | None:
        ring, keys = self._keys
        current = self._ring()
        if ring is not current:
            keys = {one.number: one.derive(_PURPOSE) for one in current.versions}
            self._keys = (current, keys)
        return keys.get(version)


def _marks(number: int, length: int = 0) -> str:
    marks = ""
    while number or not marks:
        marks = _ALPHABET[number & 31] + marks
        number >>= 5
    return marks.rjust(length, _ALPHABET[0])


def _value(marks: str) -> int:
    value = 0
    for mark in marks:
        value = value * 32 + _VALUES[mark]
    return value
