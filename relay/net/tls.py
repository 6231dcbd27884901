"""TLS towards peers: the shared contexts, and the judgement of what a live connection reached (law 2)."""

import functools
import hashlib
import ssl
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from relay.core.errors import Problem, ProblemsError
from relay.core.level import Level, Proof, Voucher
from relay.net.assurance import NOTHING, Assurance
from relay.net.chain import peer_chain
from relay.trust.dane import MismatchError, match, public_key_info
from relay.trust.sessions import Fault
from relay.trust.tlsrpt import ResultType

_GOOD_VERSIONS: Final = frozenset({"TLSv1.2", "TLSv1.3"})
SP800_52R2: Final = (
    "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_AES_128_CCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-CCM", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256",
)  # fmt: skip
"""Suites of NIST SP 800-52 rev. 2 section 3.3.1 with forward secrecy and authenticated encryption. Choosing from them
is not a FIPS 140 validation: that is a matter of the cryptographic library that runs."""
_MAX_NAMES: Final = 20
_USUAL: Final = 8192
"""Octets of a certificate that is remembered; those of large services, with a hundred names, have half as many."""
_MAX_CHAIN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """What is trusted.

    Attributes:
        system_trust: the operating system's roots are trusted.
        trust_files: PEM files with roots trusted besides.
        minimum: oldest version spoken.
        suites: OpenSSL names of the only cipher suites taken; empty: those of the library.
        client: certificate and key, PEM files, shown to servers that ask; empty: none is shown.
    """

    system_trust: bool = True
    trust_files: tuple[str, ...] = ()
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    suites: tuple[str, ...] = ()
    client: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.minimum < ssl.TLSVersion.TLSv1_2:
            raise ValueError("TLS before 1.2 protects nothing (RFC 8996)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsContexts:
    """The two contexts that all connections share: making one reads every trusted root.

    Attributes:
        verifying: refuses a certificate that does not chain to a trusted root or does not name the host (RFC 9525).
        encrypting: takes any certificate; what it gives is ``ENCRYPTED`` at the most.
        suites: OpenSSL names of the only cipher suites that count; empty: all that the contexts agree on.
    """

    verifying: ssl.SSLContext
    encrypting: ssl.SSLContext
    suites: frozenset[str] = frozenset()


def make_contexts(options: TlsOptions | None = None) -> TlsContexts:
    """Make both contexts: TLS 1.2 at the least (RFC 8996), no common-name fallback (RFC 9525 section 6.3).

    Raises:
        ProblemsError: a trust file cannot be read, or holds no certificate.
    """
    options = options or TlsOptions()
    verifying = _context(options)
    verifying.hostname_checks_common_name = False
    if options.system_trust:
        verifying.load_default_certs(ssl.Purpose.SERVER_AUTH)
    for path in options.trust_files:
        _trust(verifying, path)
    encrypting = _context(options)
    encrypting.check_hostname = False
    encrypting.verify_mode = ssl.CERT_NONE
    return TlsContexts(verifying=verifying, encrypting=encrypting, suites=frozenset(options.suites))


def _context(options: TlsOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = options.minimum
    # A server of TLS 1.2 could ask for a new handshake, and another certificate, after its connection was judged.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if options.suites:
        # Python cannot choose the suites of TLS 1.3: those are judged when the connection stands.
        context.set_ciphers(":".join(name for name in options.suites if not name.startswith("TLS_")))
    if options.client is not None:
        _show(context, *options.client)
    return context


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        what = "the client certificate and its key do not fit, or are not PEM"
        raise ProblemsError(Problem(where=certificate, what=what, hint="give the key it was issued for")) from error
    except OSError as error:
        raise ProblemsError(
            Problem(where=certificate, what=f"it or its key cannot be read: {error.strerror}")
        ) from error


def _trust(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        problem = Problem(where=path, what="no certificate in it", hint="it must hold roots in PEM form")
        raise ProblemsError(problem) from error
    except OSError as error:
        raise ProblemsError(Problem(where=path, what=f"cannot be read: {error.strerror}")) from error


def judge(
    tls: ssl.SSLObject | None,
    *,
    host: str,
    address: str,
    assurance: Assurance = NOTHING,
    failure: str = "",
    now: float = 0.0,
) -> Proof:
    """What a live connection reached, read from the TLS object itself after its handshake, not from what was meant.

    Args:
        tls: the connection's TLS object; ``None`` in the clear.
        host: the name the certificate had to show.
        address: the peer's IP address.
        assurance: who vouches for that name, and by what the certificate is checked.
        failure: why the next level up was not reached, as far as it is known.
        now: unix seconds: DANE trust anchors are checked for it.
    """
    version = tls.version() if tls is not None else None
    if tls is None or version not in _GOOD_VERSIONS:
        return Proof(level=Level.CLEAR, host=host, address=address, failure=failure)
    chain = peer_chain(tls)
    checked_by, fault = _check(tls, chain, host, assurance, now)
    level = Level.ENCRYPTED
    if checked_by:
        level = Level.VERIFIED if assurance.voucher is Voucher.NOBODY else Level.AUTHENTICATED
        fault = "" if level is Level.AUTHENTICATED else "nobody vouches for the host's name"
    der = tls.getpeercert(binary_form=True) or b""
    cipher = tls.cipher()
    leaf = _Leaf() if not der else _known(der) if len(der) <= _USUAL else _certificate(der)
    return Proof(
        level=level,
        vouched_by=assurance.voucher if checked_by else Voucher.NOBODY,
        host=host,
        address=address,
        tls_version=version,
        cipher=cipher[0] if cipher else "",
        certificate_sha256=leaf.fingerprint,
        issuer=leaf.issuer,
        not_after=leaf.not_after,
        failure=failure or fault,
        checked_by=checked_by,
        names=leaf.names,
        chain=tuple(_fingerprint(one) for one in chain[:_MAX_CHAIN]),
    )


def _check(
    tls: ssl.SSLObject, chain: tuple[bytes, ...], host: str, assurance: Assurance, now: float
) -> tuple[str, str]:
    """What the certificate was checked by, or why it did not pass; one of the two is empty, or both."""
    if assurance.tlsa:
        try:
            return str(match(chain, assurance.tlsa, names=assurance.names, now=now)), ""
        except MismatchError as error:
            return "", str(error)
    if assurance.pins:
        pinned = bool(chain) and not assurance.pins.isdisjoint(_pin_forms(chain[0]))
        return ("pin", "") if pinned else ("", "its certificate is not one of those pinned")
    context = tls.context
    verified = context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname and tls.server_hostname == host
    return ("PKIX", "") if verified else ("", "")


def _pin_forms(leaf: bytes) -> tuple[str, ...]:
    """What a pin may name of a leaf: the certificate, and its public key."""
    try:
        return _fingerprint(leaf), _fingerprint(public_key_info(leaf))
    except ValueError:
        return (_fingerprint(leaf),)


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """What a proof says of a leaf."""

    fingerprint: str = ""
    issuer: str = ""
    not_after: float = 0.0
    names: tuple[str, ...] = ()


def _certificate(der: bytes) -> _Leaf:
    """Fingerprint, issuer (RFC 4514), expiry and names; what does not parse is empty, its fingerprint stands."""
    fingerprint = _fingerprint(der)
    try:
        certificate = x509.load_der_x509_certificate(der)
        return _Leaf(
            fingerprint=fingerprint,
            issuer=_printable(certificate.issuer.rfc4514_string()[:512]),
            not_after=certificate.not_valid_after_utc.timestamp(),
            names=_names(certificate),
        )
    except Exception:  # noqa: BLE001  a stranger's bytes: OpenSSL takes what this parser has many exceptions for
        return _Leaf(fingerprint=fingerprint)


_known: Final = functools.lru_cache(maxsize=4096)(_certificate)
"""For certificates of a usual size: the octets are kept, and a hostile server makes a new one for each connection."""


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    return tuple(_printable(name[:255]) for name in found.value.get_values_for_type(x509.DNSName)[:_MAX_NAMES])


def _printable(text: str) -> str:
    """What a stranger wrote, fit to stand in a line: a proof is shown and filed, and its other lines are ours."""
    return text if text.isprintable() else "".join(mark if mark.isprintable() else "\ufffd" for mark in text)


_FAULTS: Final = {
    10: ResultType.CERTIFICATE_EXPIRED,
    18: ResultType.CERTIFICATE_NOT_TRUSTED,  # self-signed
    19: ResultType.CERTIFICATE_NOT_TRUSTED,  # a self-signed one in the chain
    20: ResultType.CERTIFICATE_NOT_TRUSTED,  # no issuer to be found
    21: ResultType.CERTIFICATE_NOT_TRUSTED,  # the leaf alone, by no one known
    62: ResultType.CERTIFICATE_HOST_MISMATCH,
    64: ResultType.CERTIFICATE_HOST_MISMATCH,  # of an address
}
"""OpenSSL's verify results (x509_vfy.h) in the words of RFC 8460 section 4.3.1; all others are validation failures."""


def certificate_fault(error: ssl.SSLCertVerificationError) -> Fault:
    """OpenSSL's reason in one clause, such as ``certificate has expired``; bounded, for proofs, logs and reports."""
    result = _FAULTS.get(error.verify_code, ResultType.VALIDATION_FAILURE)
    return Fault(result=result, detail=(error.verify_message or "the certificate does not verify")[:200])
