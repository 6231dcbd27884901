"""DKIM signatures (RFC 6376) with RSA (RFC 8301) and Ed25519 (RFC 8463), relaxed/relaxed.

The bytes given must be exactly the bytes that are sent (CRLF line ends, before dot-stuffing): sign last. Headers and
body are canonicalised and the body hashed once for all signatures of a message. No ``l=``: it would let others append.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from relay.core.octets import holds

Algorithm: TypeAlias = Literal["rsa", "ed25519"]
PrivateKey: TypeAlias = RSAPrivateKey | Ed25519PrivateKey

MIN_RSA_BITS: Final = 1024  # RFC 8301 section 3.2; keys made here have 2048
OVERSIGNED: Final = (
    b"from", b"to", b"cc", b"subject", b"date", b"reply-to", b"message-id",
    b"mime-version", b"content-type", b"content-transfer-encoding",
)  # fmt: skip
"""Signed once more than they occur: nobody can add another of them (RFC 6376 section 8.15)."""
SIGNED: Final = frozenset((
    *OVERSIGNED, b"sender", b"in-reply-to", b"references", b"content-id", b"content-description",
    b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id",
    b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-post",
    b"list-owner", b"list-archive",
))  # fmt: skip
"""Signed wherever they occur (RFC 6376 section 5.4.1, and the MIME headers that say how the body is read)."""

_WSP_RUN: Final = re.compile(rb"[ \t]+")
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")
_ALGORITHM_TAG: Final = {"rsa": b"rsa-sha256", "ed25519": b"ed25519-sha256"}
_PADDING: Final = PKCS1v15()
_SHA256: Final = hashes.SHA256()
_LINE: Final = 72
_EMPTY_LINES: Final = tuple(b"\r\n" * (count + 1) for count in (16_384, 256, 16, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One domain's key under one selector.

    Attributes:
        domain: the ``d=`` domain, normalised.
        selector: the ``s=`` selector: its TXT record is at ``SELECTOR._domainkey.DOMAIN``.
        private: RSA or Ed25519.
        active_from: unix seconds from when it signs; publish its record before.
        active_until: unix seconds until when it signs; ``None``: no end. Keep its record for a week after.
    """

    domain: str
    selector: str
    private: PrivateKey = field(repr=False)
    active_from: float = 0.0
    active_until: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.private, RSAPrivateKey) and self.private.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key of {self.private.key_size} bits is too short (RFC 8301): 2048 are usual")

    @property
    def algorithm(self) -> Algorithm:
        """``rsa`` or ``ed25519``."""
        return "rsa" if isinstance(self.private, RSAPrivateKey) else "ed25519"

    @property
    def record_name(self) -> str:
        """Where the public key is published."""
        return f"{self.selector}._domainkey.{self.domain}"

    def is_active(self, now: float) -> bool:
        """Whether it may sign now."""
        return self.active_from <= now and (self.active_until is None or now < self.active_until)

    def sign(self, data: bytes) -> bytes:
        """The raw signature over canonicalised data; for Ed25519 over its SHA-256 (RFC 8463 section 3)."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(data, _PADDING, _SHA256)
        return self.private.sign(hashlib.sha256(data).digest())


def public_text(key: SigningKey) -> str:
    """The ``p=`` value in base64: DER SubjectPublicKeyInfo for RSA, 32 raw bytes for Ed25519 (RFC 8463 section 4.2).

    RFC 6376 section 3.6.1 names RSAPublicKey, but its own appendix C and every verifier use SubjectPublicKeyInfo.
    """
    public = key.private.public_key()
    if key.algorithm == "ed25519":
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    else:
        raw = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(raw).decode("ascii")


def record_text(key: SigningKey) -> str:
    """The whole TXT record as one text; ``t=s`` is left out, so that subdomains may be signed for."""
    return f"v=DKIM1; k={key.algorithm}; h=sha256; p={public_text(key)}"


def record_strings(text: str) -> tuple[str, ...]:
    """A record cut into the strings of at most 255 octets that a TXT record is made of (RFC 1035 section 3.3.14)."""
    return tuple(text[i : i + 255] for i in range(0, len(text), 255))


# --- canonicalisation ---------------------------------------------------


def simple_body(body: bytes) -> bytes:
    """The body in simple form (RFC 6376 section 3.4.3)."""
    return _without_empty_end(body if body.endswith(b"\r\n") else body + b"\r\n")


def relaxed_body(body: bytes) -> bytes:
    """The body in relaxed form (RFC 6376 section 3.4.4)."""
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    while holds(body, b"  "):
        body = body.replace(b"  ", b" ")
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    if holds(body, b" \r\n"):
        body = body.replace(b" \r\n", b"\r\n")
    body = _without_empty_end(body)
    return b"" if body == b"\r\n" else body


def _without_empty_end(body: bytes) -> bytes:
    """The body without its last empty lines; in few steps, as a stranger may send megabytes of them."""
    end = len(body)
    for lines in _EMPTY_LINES:
        while body.endswith(lines, 0, end):
            end -= len(lines) - 2
    return body[:end]


def relaxed_value(value: bytes) -> bytes:
    """A header's value in relaxed form, without its final CRLF (RFC 6376 section 3.4.2)."""
    if b"\r\n" in value:
        value = value.replace(b"\r\n", b"")
    if b"\t" in value or b"  " in value:
        value = _WSP_RUN.sub(b" ", value)
    return value.strip(b" ")


def split_content(content: bytes) -> tuple[bytes, bytes]:
    """Header section (without the CRLF of its last line) and body; an empty line at the very start means no headers."""
    if content.startswith(b"\r\n"):
        return b"", content[2:]
    header, _, body = content.partition(b"\r\n\r\n")
    return header, body


class _Canonical(NamedTuple):
    """What all signatures of one message share."""

    names: bytes
    headers: bytes
    body_hash: bytes


def _canonicalise(content: bytes) -> _Canonical:
    header, body = split_content(content)
    names: list[bytes] = []
    lines: list[bytes] = []
    # From the bottom up, as a verifier takes repeated headers (RFC 6376 section 5.4.2).
    for line in reversed(_FIELD_END.split(header)):
        name, colon, value = line.partition(b":")
        lowered = name.rstrip(b" \t").lower()
        if colon and lowered in SIGNED:
            names.append(lowered)
            lines.append(lowered + b":" + relaxed_value(value) + b"\r\n")
    names.extend(OVERSIGNED)
    digest = hashlib.sha256(relaxed_body(body)).digest()
    return _Canonical(_fold_names(tuple(names)), b"".join(lines), base64.b64encode(digest))


@functools.lru_cache(maxsize=256)  # a system's messages have the same few lists
def _fold_names(names: tuple[bytes, ...]) -> bytes:
    """The ``h=`` list, folded after a colon (RFC 6376 section 3.5 allows white space there)."""
    lines: list[bytes] = []
    line = b" h=" + names[0]
    for name in names[1:]:
        if len(line) + len(name) + 2 > _LINE:
            lines.append(line + b":")
            line = b"  " + name
        else:
            line += b":" + name
    return b"\r\n".join((*lines, line))


# --- signing ------------------------------------------------------------


def sign(content: bytes, keys: Sequence[SigningKey], *, at: float) -> bytes:
    """The ``DKIM-Signature`` headers to put before ``content``, one a key, in the order of ``keys``.

    Args:
        content: the message exactly as it will be sent.
        keys: who signs; none gives ``b""``.
        at: the signing time, unix seconds.
    """
    if not keys:
        return b""
    canonical = _canonicalise(content)
    return b"".join(_signature(canonical, key, int(at)) for key in keys)


def _signature(canonical: _Canonical, key: SigningKey, at: int) -> bytes:
    value = b" v=1; a=%b; c=relaxed/relaxed; d=%b;\r\n s=%b; t=%d;\r\n%b;\r\n bh=%b;\r\n b=" % (
        _ALGORITHM_TAG[key.algorithm],
        key.domain.encode("ascii"),
        key.selector.encode("ascii"),
        at,
        canonical.names,
        canonical.body_hash,
    )
    data = canonical.headers + b"dkim-signature:" + relaxed_value(value)
    signature = base64.b64encode(key.sign(data))
    folded = b"\r\n  ".join(signature[i : i + _LINE] for i in range(0, len(signature), _LINE))
    return b"DKIM-Signature:" + value + folded + b"\r\n"


# --- choosing -----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which keys sign a message.

    Attributes:
        keys: one an algorithm, of one domain; empty when no key is active.
        domain: their domain; empty when there is none.
        aligned: whether the domain is the author's or a parent of it (DMARC relaxed alignment, RFC 7489 section 3.1.1).
        reason: why nothing signs, or why the signature is not the one wished for; empty when all is well.
    """

    keys: tuple[SigningKey, ...] = ()
    domain: str = ""
    aligned: bool = False
    reason: str = ""


class SignerSet:
    """All signing keys of an installation; immutable, replaced as a whole on reload.

    Args:
        keys: any number a domain; of those active at a time the one that became active last signs, for each algorithm.
        default: the domain that signs for authors whose domain has no key; empty: nobody does.
    """

    __slots__ = ("_by_domain", "_default")

    def __init__(self, keys: Iterable[SigningKey], *, default: str = "") -> None:
        by_domain: dict[str, list[SigningKey]] = {}
        for key in keys:
            by_domain.setdefault(key.domain, []).append(key)
        # The newest last: `_active` lets the last of each algorithm win.
        self._by_domain = {
            domain: tuple(sorted(group, key=lambda key: (key.active_from, key.selector)))
            for domain, group in by_domain.items()
        }
        self._default = default

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that have a key, active or not."""
        return tuple(sorted(self._by_domain))

    def select(self, author_domain: str, *, now: float, sign_as: str = "") -> Selection:
        """Who signs: ``sign_as`` when a policy names it, else the author's domain or its nearest parent with a key.

        Args:
            author_domain: the domain of the From header, normalised; empty when there is none.
            now: unix seconds.
            sign_as: the treatment's DKIM identity (a domain), or empty.
        """
        if sign_as:
            chosen = self._nearest(sign_as, now)
            if chosen:
                return _selection(chosen, author_domain, "")
            reason = f"no active DKIM key for {sign_as}, which the policy names"
        else:
            reason = f"no active DKIM key for {author_domain or 'a message without an author'}"
        own = self._nearest(author_domain, now)
        if own:
            return _selection(own, author_domain, reason if sign_as else "")
        fallback = self._active(self._default, now)
        return _selection(fallback, author_domain, reason) if fallback else Selection(reason=reason)

    def sign(self, content: bytes, *, author_domain: str, now: float, sign_as: str = "") -> tuple[bytes, Selection]:
        """The signature headers for ``content`` (empty when nobody signs), and who signed."""
        selection = self.select(author_domain, now=now, sign_as=sign_as)
        return sign(content, selection.keys, at=now), selection

    def _active(self, domain: str, now: float) -> tuple[SigningKey, ...]:
        newest = {key.algorithm: key for key in self._by_domain.get(domain, ()) if key.is_active(now)}
        return tuple(newest[name] for name in ("rsa", "ed25519") if name in newest)

    def _nearest(self, domain: str, now: float) -> tuple[SigningKey, ...]:
        while domain:
            if domain in self._by_domain and (keys := self._active(domain, now)):
                return keys
            domain = domain.partition(".")[2]
        return ()


def _selection(keys: tuple[SigningKey, ...], author_domain: str, reason: str) -> Selection:
    domain = keys[0].domain
    aligned = author_domain == domain or author_domain.endswith("." + domain)
    if not aligned and not reason:
        reason = f"the signature's domain {domain} is not aligned with the author's"
    return Selection(keys=keys, domain=domain, aligned=aligned, reason=reason)
