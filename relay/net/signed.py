"""Whose DKIM signature a received message bears (RFC 6376): asked of reports, which anyone can send."""

import asyncio
import re
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Final

from relay.core.address import normalise_domain
from relay.core.errors import AddressError, StoreUnavailableError
from relay.net.resolver import Found, Resolver

_MAX_SIGNATURES: Final = 5
_LONGEST_HEADER: Final = 128 * 1024
"""Octets of a header that is read: a report's has some thousands."""
_TAG: Final = re.compile(r"(?:\A|;)\s*(d|s|l)\s*=\s*([^;\s]+)\s*(?=;|\Z)")
_PARSER: Final = BytesHeaderParser(policy=compat32)
_AUTHOR: Final = re.compile(r"@([^\s@<>,;\"]{1,255})>?\s*\Z")


async def is_signed_by_its_author(content: bytes, resolver: Resolver, *, tlsrpt: bool = False) -> bool:
    """Whether a signature of the author's domain, or of one above or below it, verifies over the whole message.

    Args:
        content: the message.
        resolver: finds the keys.
        tlsrpt: it is a report about TLS: keys for those alone (``s=tlsrpt``, RFC 8460 section 3) are good too.

    Raises:
        StoreUnavailableError: a key cannot be looked up now, and no other signature verifies; ask again later.
    """
    end = content.find(b"\r\n\r\n")
    header_size = len(content) if end < 0 else end + 2
    if header_size > _LONGEST_HEADER:
        return False
    header = _PARSER.parsebytes(content[:header_size])
    authors = header.get_all("From", [])
    author = _domain_of(str(authors[0])) if len(authors) == 1 else ""
    keys: dict[bytes, bytes] = {}
    unsure = False
    for number, value in enumerate(header.get_all("DKIM-Signature", [])[:_MAX_SIGNATURES]):
        tags = {match[1]: match[2] for match in _TAG.finditer(str(value))}
        domain, selector = tags.get("d", "").lower(), tags.get("s", "").lower()
        # One with l= covers a part of the body alone: RFC 8460 section 3 forbids it, and it would prove no report.
        if not author or not selector or "l" in tags or not _are_related(author, domain):
            continue
        name = f"{selector}._domainkey.{domain}"
        answer = await resolver.lookup(name, "TXT")
        if answer.found is Found.FAILED:
            unsure = True
        elif answer.found is Found.FOUND:
            keys[f"{name}.".encode()] = b"".join(answer.records[0].strings)
            if await asyncio.to_thread(_verifies, content, number, keys, tlsrpt=tlsrpt):
                return True
    if unsure:
        raise StoreUnavailableError("the key of a report's signature cannot be looked up now")
    return False


def _verifies(content: bytes, number: int, keys: dict[bytes, bytes], *, tlsrpt: bool) -> bool:
    import dkim  # noqa: PLC0415  4 MB that a process which gets no report does without

    try:
        message = dkim.DKIM(content, tlsrpt=tlsrpt)
        return bool(message.verify(number, dnsfunc=lambda name, **_: keys.get(_dotted(name))))
    except Exception:  # noqa: BLE001  whatever a library makes of a stranger's bytes: it did not verify
        return False


def _dotted(name: bytes) -> bytes:
    return name.lower().rstrip(b".") + b"."


def _domain_of(author: str) -> str:
    match = _AUTHOR.search(author)
    try:
        return normalise_domain(match[1]) if match else ""
    except AddressError:
        return ""


def _are_related(author: str, domain: str) -> bool:
    """Aligned as in DMARC's relaxed mode, without a list of public suffixes: a bare top-level domain never is."""
    return "." in domain and (author == domain or author.endswith(f".{domain}") or domain.endswith(f".{author}"))
