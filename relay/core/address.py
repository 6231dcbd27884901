"""Mailboxes and domains (RFC 5321 section 4.1.2, RFC 6531 section 3.3, RFC 5890)."""

import functools
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final, Self

import idna

from relay.core.errors import AddressError

_MAX_LOCAL: Final = 64  # octets, RFC 5321 section 4.5.3.1.1
_MAX_DOMAIN: Final = 255  # octets, RFC 5321 section 4.5.3.1.2
_MAX_PATH: Final = 254  # octets without the angle brackets, RFC 5321 section 4.5.3.1.3
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
_DOT_STRING: Final = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*\Z")
_QUOTED: Final = re.compile(r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"\Z')


@functools.lru_cache(maxsize=16384)
def normalise_domain(text: str) -> str:
    """Return the domain in lower-case A-labels, or an address literal as ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``.

    One trailing dot is accepted and removed. Comparison of domains is comparison of these strings.

    Raises:
        AddressError: not a domain of RFC 5321 section 2.3.5 nor a literal of section 4.1.3.
    """
    if text.startswith("[") and text.endswith("]"):
        return _normalise_literal(text[1:-1])
    name = text.removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise AddressError("the domain is not a valid internationalised name") from error
    name = name.lower()
    if not name or len(name) > _MAX_DOMAIN or not all(_LABEL.match(label) for label in name.split(".")):
        raise AddressError("the domain is not a valid host name")
    return name


def _normalise_literal(inner: str) -> str:
    try:
        if inner[:5].lower() == "ipv6:":
            if "%" in inner:  # a zone, behind which anything might stand: RFC 5321 section 4.1.3 knows none
                raise AddressError("the address literal names a zone")
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError as error:
        raise AddressError("the address literal is not an IP address") from error


def _least_quoted(local: str) -> str:
    """A quoted local part in the form with the least quoting, which is the same mailbox (RFC 5321 section 4.1.2)."""
    text = re.sub(r"\\(.)", r"\1", local[1:-1])
    return text if _DOT_STRING.match(text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _folded(letter: str) -> str:
    """The small letter of a capital one, where each is the other's only counterpart."""
    small = letter.lower()
    return small if small.upper() == letter else letter


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: local part as written (its case is the owner's business) but for needless quoting, domain normalised.

    Equality folds only the domain. ``str()`` gives the form for the wire.
    """

    local: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``local@domain`` without angle brackets.

        Raises:
            AddressError: with a text that does not repeat the address.
        """
        local, at, domain = text.rpartition("@")
        if not at or not local:
            raise AddressError("the address has no domain or no local part")
        if not (_DOT_STRING.match(local) or _QUOTED.match(local)):
            raise AddressError("the local part is not a dot-string or quoted string")
        if local.startswith('"'):
            local = _least_quoted(local)
        if len(local.encode("utf-8", "surrogatepass")) > _MAX_LOCAL:
            raise AddressError("the local part is longer than 64 octets")
        address = cls(local, normalise_domain(domain))
        if len(local.encode("utf-8", "surrogatepass")) + 1 + len(address.domain) > _MAX_PATH:
            raise AddressError("the address is longer than 254 octets")
        return address

    @property
    def is_ascii(self) -> bool:
        """Whether the mailbox can be sent to a server without SMTPUTF8 (RFC 6531)."""
        return self.local.isascii()

    @property
    def key(self) -> str:
        """The form under which the mailbox is looked up: wholly lower case, as all large providers treat it.

        What Unicode's lower case makes of two different letters (the Kelvin sign is a ``k``, the capital I with a dot
        two letters) is left as it is: nobody gets another's mailbox by a letter that looks like one of theirs.
        """
        local = self.local.lower() if self.local.isascii() else "".join(map(_folded, self.local))
        return f"{local}@{self.domain}"

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


@dataclass(frozen=True, slots=True)
class ReversePath:
    """The argument of MAIL FROM: a mailbox, or the null sender ``<>`` (RFC 5321 section 4.5.5)."""

    address: Address | None = field(default=None)

    @property
    def is_null(self) -> bool:
        """Whether nothing may ever be returned to it: it is the sender of bounces."""
        return self.address is None

    @property
    def domain(self) -> str:
        """The sending domain, empty for the null sender."""
        return self.address.domain if self.address else ""

    def __str__(self) -> str:
        return str(self.address) if self.address else ""


NULL_SENDER: Final = ReversePath(None)
