"""The parameters of the DSN extension as they stand in MAIL and RCPT (RFC 3461 section 4).

Values are kept as they travel, in xtext, so that a next hop gets what the client gave (section 5.2.1); what may not
stand decoded in a notice is refused here. Nothing of a value is ever repeated in a reply.
"""

import functools
import re
from typing import Final

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+(?:2[0-9A-F]|[3-6][0-9A-F]|7[0-9A-E]))+\Z")
"""Section 4, decoded printable ASCII alone: sections 4.2 and 4.4 want it so."""
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")
"""As registered with IANA; section 4.2 asks for one of those."""
_MAX_ENVID: Final = 100
_MAX_ORCPT: Final = 500
_LISTED: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_NEVER: Final = frozenset({"NEVER"})

BAD_RET: Final = "RET must be FULL or HDRS"
BAD_ENVID: Final = f"ENVID must be printable ASCII in xtext, {_MAX_ENVID} characters at the most"
BAD_NOTIFY: Final = "NOTIFY must be NEVER alone, or SUCCESS, FAILURE and DELAY with commas between"
BAD_ORCPT: Final = f"ORCPT must be type;address in xtext, {_MAX_ORCPT} characters at the most"


def read_ret(value: str | None) -> str | None:
    """``FULL`` or ``HDRS`` in upper case; ``None``: it is neither."""
    word = (value or "").upper()
    return word if word in {"FULL", "HDRS"} else None


def read_envid(value: str | None) -> str | None:
    """The identifier as given; ``None``: it is not one."""
    return value if value and len(value) <= _MAX_ENVID and _XTEXT.match(value) else None


@functools.lru_cache(maxsize=64)  # few are asked for
def read_notify(value: str | None) -> frozenset[str] | None:
    """The words in upper case, not empty; ``None``: it is no lawful list of them."""
    words = frozenset((value or "").upper().split(","))
    return words if words == _NEVER or words <= _LISTED else None


def read_orcpt(value: str | None) -> str | None:
    r"""The address with its type as given; ``None``: it is not one.

    An address of type ``utf-8`` may come in UTF-8 where SMTPUTF8 is offered; it is kept as ``utf-8-addr-xtext``
    (``\x{F6}``), the form that every peer takes (RFC 6533 section 3).
    """
    kind, _, address = (value or "").partition(";")
    if kind.lower() == "utf-8":
        address = "".join(mark if mark.isascii() else f"\\x{{{ord(mark):X}}}" for mark in address)
    whole = f"{kind};{address}"
    return whole if len(whole) <= _MAX_ORCPT and _ADDRESS_TYPE.match(kind) and _XTEXT.match(address) else None
