"""DANE for SMTP: which TLSA records can be used, and whether a certificate chain matches them (RFC 7672, RFC 7671)."""

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

PKIX_TA, PKIX_EE, DANE_TA, DANE_EE = range(4)
"""Certificate usages, RFC 6698 section 2.1.1; the first two are not used for SMTP (RFC 7672 section 3.1.3)."""
CERT, SPKI = range(2)
"""Selectors: the whole certificate, or its SubjectPublicKeyInfo."""
FULL, SHA2_256, SHA2_512 = range(3)
"""Matching types."""
_DIGEST_SIZE: Final = {SHA2_256: 32, SHA2_512: 64}
_MAX_RECORDS: Final = 64
_MAX_CHAIN: Final = 16
_MAX_ANCHORS: Final = 4
"""Anchors that a chain is led to: each may cost a hundred signatures, and nothing else is done meanwhile. A domain that
changes its authority names two or three."""
_USAGE_NAMES: Final = {DANE_TA: "DANE-TA", DANE_EE: "DANE-EE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tlsa:
    """One TLSA record."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        name = _USAGE_NAMES.get(self.usage, "TLSA")
        return f"{name} {self.usage} {self.selector} {self.matching}"


class MismatchError(Exception):
    """No record matches the chain; its text is one clause for operators."""


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """The records that can authenticate an SMTP server.

    Of several digests for one usage and selector only the strongest counts (RFC 7671 section 9): else an attacker who
    can break the weaker one would choose it.
    """
    good = [record for record in list(records)[:_MAX_RECORDS] if _is_usable(record)]
    strongest: dict[tuple[int, int], int] = {}
    for record in good:
        kind = (record.usage, record.selector)
        strongest[kind] = max(strongest.get(kind, FULL), record.matching)
    return tuple(record for record in good if record.matching in (FULL, strongest[(record.usage, record.selector)]))


def _is_usable(record: Tlsa) -> bool:
    if record.usage not in _USAGE_NAMES or record.selector not in (CERT, SPKI):
        return False
    if record.matching != FULL:
        return len(record.data) == _DIGEST_SIZE.get(record.matching)
    try:
        load = x509.load_der_x509_certificate if record.selector == CERT else load_der_public_key
        load(record.data)
    except Exception:  # noqa: BLE001  whatever a parser makes of a stranger's bytes: they cannot be used
        return False
    return True


def match(chain: Sequence[bytes], records: Iterable[Tlsa], *, names: Sequence[str], now: float) -> Tlsa:
    """The record that the chain matches.

    A DANE-EE record binds the server's key itself: neither names nor dates are looked at (RFC 7672 section 3.1.1). With
    DANE-TA the chain must lead to the anchor in force now, and the leaf must bear one of the names (section 3.2.2).

    Args:
        chain: DER certificates as the server sent them, the leaf first.
        records: what :func:`usable` gave.
        names: names that the leaf may bear.
        now: unix seconds.

    Raises:
        MismatchError: none does.
    """
    chain = chain[:_MAX_CHAIN]
    if not chain:
        raise MismatchError("the server showed no certificate")
    reason = "its certificate matches none of its TLSA records"
    tried: set[bytes] = set()
    for record in sorted(records, key=lambda one: -one.usage):
        if record.usage == DANE_EE and _selected(chain[0], record) == record.data:
            return record
        if record.usage != DANE_TA:
            continue
        for anchor in _anchors(chain, record):
            if anchor in tried:
                continue
            if len(tried) == _MAX_ANCHORS:
                raise MismatchError(reason)
            tried.add(anchor)
            fault = _chain_fault(chain, anchor, names, now)
            if not fault:
                return record
            reason = f"its certificate matches a TLSA record, but {fault}"
    raise MismatchError(reason)


def _anchors(chain: Sequence[bytes], record: Tlsa) -> list[bytes]:
    """Certificates above the leaf that the record names; a whole certificate in the record needs not be sent."""
    found = [der for der in chain[1:] if _selected(der, record) == record.data]
    if not found and (record.selector, record.matching) == (CERT, FULL):
        return [record.data]
    return found


def _selected(der: bytes, record: Tlsa) -> bytes:
    try:
        selected = der if record.selector == CERT else public_key_info(der)
    except ValueError:
        return b""
    if record.matching == FULL:
        return selected
    digest = hashlib.sha256 if record.matching == SHA2_256 else hashlib.sha512
    return digest(selected).digest()


def _chain_fault(chain: Sequence[bytes], anchor: bytes, names: Sequence[str], now: float) -> str:
    """Why the chain does not lead to the anchor under one of the names; empty when it does."""
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        between = [x509.load_der_x509_certificate(der) for der in chain[1:] if der != anchor]
        store = Store([x509.load_der_x509_certificate(anchor)])
        name = _borne(leaf, names)
    except Exception:  # noqa: BLE001  a stranger's bytes: what cannot be read does not match
        return "a certificate of the chain cannot be read"
    builder = PolicyBuilder().store(store).time(dt.datetime.fromtimestamp(now, dt.UTC).replace(tzinfo=None))
    # The web's rules for issuers hold; for the leaf only its names: private authorities leave out the usages.
    leaf_policy = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    builder = builder.extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=leaf_policy)
    try:
        builder.build_server_verifier(x509.DNSName(name)).verify(leaf, between)
    except (VerificationError, ValueError):
        return "the chain does not lead to it under the host's name"
    return ""


def _borne(leaf: x509.Certificate, names: Sequence[str]) -> str:
    """The first of the names that the leaf seems to bear: its chain is looked at once, and not for each name anew.

    A leaf that bears two is good under both or under none. What it truly bears is for the verifier to say.
    """
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    borne = {name.lower() for name in found.get_values_for_type(x509.DNSName)}
    return next((name for name in names if name in borne or f"*.{name.partition('.')[2]}" in borne), "")


def public_key_info(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, octet for octet (RFC 5280 section 4.1).

    Raises:
        ValueError: not a certificate.
    """
    outer = _contents(der, 0)
    tbs = _contents(der, outer[0])
    at = tbs[0]
    fields: list[tuple[int, int]] = []
    while at < tbs[1] and len(fields) < 8:
        end = _contents(der, at)[1]
        fields.append((at, end))
        at = end
    if fields and der[fields[0][0]] == 0xA0:  # the version, absent in version 1
        fields.pop(0)
    if len(fields) < 6:
        raise ValueError("not a certificate")
    start, end = fields[5]  # after serialNumber, signature, issuer, validity, subject
    return der[start:end]


def _contents(der: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the element at an offset begin and end."""
    if at + 2 > len(der):
        raise ValueError("not DER")
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4 or begin + count > len(der):
            raise ValueError("not DER")
        size = int.from_bytes(der[begin : begin + count], "big")
        begin += count
    if begin + size > len(der):
        raise ValueError("not DER")
    return begin, begin + size
