"""TLS towards peers: the shared contexts, and the judgement of what a live connection reached (law 2)."""

import functools
import hashlib
import ssl
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from relay.core.errors import Problem, ProblemsError
from relay.core.level import Level, Proof, Voucher

_GOOD_VERSIONS: Final = frozenset({"TLSv1.2", "TLSv1.3"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """What is trusted.

    Attributes:
        system_trust: the operating system's roots are trusted.
        trust_files: PEM files with roots trusted besides.
        minimum: oldest version spoken.
    """

    system_trust: bool = True
    trust_files: tuple[str, ...] = ()
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2

    def __post_init__(self) -> None:
        if self.minimum < ssl.TLSVersion.TLSv1_2:
            raise ValueError("TLS before 1.2 protects nothing (RFC 8996)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsContexts:
    """The two contexts that all connections share: making one reads every trusted root.

    Attributes:
        verifying: refuses a certificate that does not chain to a trusted root or does not name the host (RFC 9525).
        encrypting: takes any certificate; what it gives is ``ENCRYPTED`` at the most.
    """

    verifying: ssl.SSLContext
    encrypting: ssl.SSLContext


def make_contexts(options: TlsOptions | None = None) -> TlsContexts:
    """Make both contexts: TLS 1.2 at the least (RFC 8996), no common-name fallback (RFC 9525 section 6.3).

    Raises:
        ProblemsError: a trust file cannot be read, or holds no certificate.
    """
    options = options or TlsOptions()
    verifying = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    verifying.minimum_version = options.minimum
    verifying.hostname_checks_common_name = False
    if options.system_trust:
        verifying.load_default_certs(ssl.Purpose.SERVER_AUTH)
    for path in options.trust_files:
        _trust(verifying, path)
    encrypting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    encrypting.minimum_version = options.minimum
    encrypting.check_hostname = False
    encrypting.verify_mode = ssl.CERT_NONE
    return TlsContexts(verifying=verifying, encrypting=encrypting)


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
    voucher: Voucher = Voucher.NOBODY,
    failure: str = "",
) -> Proof:
    """What a live connection reached, read from the TLS object itself after its handshake, not from what was meant.

    Args:
        tls: the connection's TLS object; ``None`` in the clear.
        host: the name the certificate had to show.
        address: the peer's IP address.
        voucher: who vouches for that name.
        failure: why the next level up was not reached, as far as it is known.
    """
    version = tls.version() if tls is not None else None
    if tls is None or version not in _GOOD_VERSIONS:
        return Proof(level=Level.CLEAR, host=host, address=address, failure=failure)
    verified = (
        tls.context.verify_mode is ssl.CERT_REQUIRED and tls.context.check_hostname and tls.server_hostname == host
    )
    level = Level.ENCRYPTED
    if verified:
        level = Level.VERIFIED if voucher is Voucher.NOBODY else Level.AUTHENTICATED
        failure = failure or ("" if level is Level.AUTHENTICATED else "nobody vouches for the host's name")
    der = tls.getpeercert(binary_form=True) or b""
    cipher = tls.cipher()
    fingerprint, issuer, not_after = _certificate(der) if der else ("", "", 0.0)
    return Proof(
        level=level,
        vouched_by=voucher if verified else Voucher.NOBODY,
        host=host,
        address=address,
        tls_version=version,
        cipher=cipher[0] if cipher else "",
        certificate_sha256=fingerprint,
        issuer=issuer,
        not_after=not_after,
        failure=failure,
    )


@functools.lru_cache(maxsize=4096)
def _certificate(der: bytes) -> tuple[str, str, float]:
    """Fingerprint, issuer (RFC 4514) and expiry of a leaf; what does not parse is empty, its fingerprint stands."""
    fingerprint = hashlib.sha256(der).hexdigest()
    try:
        certificate = x509.load_der_x509_certificate(der)
        return fingerprint, certificate.issuer.rfc4514_string()[:512], certificate.not_valid_after_utc.timestamp()
    except ValueError:
        return fingerprint, "", 0.0


def certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's reason in one clause, such as ``certificate has expired``; bounded, for proofs and logs."""
    return (error.verify_message or "the certificate does not verify")[:200]
