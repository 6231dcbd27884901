"""Whose DKIM signature a received message bears (RFC 6376): asked of reports, which anyone can send."""

import asyncio
import base64
import hashlib
import re
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Final

from relay.core.address import normalise_domain
from relay.core.errors import AddressError, StoreUnavailableError
from relay.net.resolver import Found, Resolver
from relay.protect.dkim import relaxed_body, simple_body

_MAX_SIGNATURES: Final = 5
_LONGEST_SIGNATURE: Final = 4096
_MOST_NAMES: Final = 100
"""Names in ``h=``: the library looks for each in the whole header."""
_LONGEST_HEADER: Final = 128 * 1024
"""Octets of a header that is read: a report's has some thousands."""
_TAG: Final = re.compile(r"(?:\A|;)\s*(d|s|l)\s*=\s*([^;\s]+)\s*(?=;|\Z)")
_ALGORITHMS: Final = frozenset({b"rsa-sha256", b"ed25519-sha256"})
_EMPTY_HASH: Final = base64.b64encode(hashlib.sha256(b"").digest())
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
    body = _Body(content[header_size + 2 :])
    unsure = False
    for number, value in enumerate(header.get_all("DKIM-Signature", [])[:_MAX_SIGNATURES]):
        if len(str(value)) > _LONGEST_SIGNATURE:
            continue
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
            key = (f"{name}.".encode(), b"".join(answer.records[0].strings))
            if await asyncio.to_thread(_verifies, content[:header_size], body, number, key, tlsrpt=tlsrpt):
                return True
    if unsure:
        raise StoreUnavailableError("the key of a report's signature cannot be looked up now")
    return False


class _Body:
    """The hashes of one body, each made once for all signatures."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._made: dict[bytes, bytes] = {}

    def hash(self, form: bytes) -> bytes:
        """SHA-256 of it, in base64, in ``simple`` or ``relaxed`` form (RFC 6376 section 3.4)."""
        if form not in self._made:
            self._made[form] = base64.b64encode(hashlib.sha256(_FORMS[form](self._content)).digest())
        return self._made[form]


_FORMS: Final = {b"simple": simple_body, b"relaxed": relaxed_body}


def _verifies(header: bytes, body: _Body, number: int, key: tuple[bytes, bytes], *, tlsrpt: bool) -> bool:
    """Whether a signature verifies. The library sees the header alone: a body can cost it seconds, time and again."""
    import dkim  # noqa: PLC0415  4 MB that a process which gets no report does without

    name, record = key
    try:
        message = dkim.DKIM(header + b"\r\n", tlsrpt=tlsrpt)
        tags, names, fields = message.verify_headerprep(number)
        of_header, _, of_body = tags.get(b"c", b"simple").partition(b"/")
        # RFC 8301 section 3.1: SHA-1 verifies nothing.
        if len(names) > _MOST_NAMES or tags[b"a"] not in _ALGORITHMS:
            return False
        if body.hash(of_body or b"simple") != b"".join(tags[b"bh"].split()):
            return False
        # The body is what bh= says. The library has an empty one; what is signed is the field as it came, not the tags.
        tags |= {b"bh": _EMPTY_HASH, b"c": of_header + b"/relaxed"}
        found = message.verify_sig(
            tags, names, fields[number], lambda asked, **_: record if _dotted(asked) == name else None
        )
        return bool(found)
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
