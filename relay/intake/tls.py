"""Server-side TLS contexts for listeners (RFC 8314, RFC 9325)."""

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.intake.listener import ListenerOptions

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
LEGACY_VERSIONS: Final = frozenset({"SSLv3", "TLSv1", "TLSv1.1"})
"""What :func:`server_context` admits only with ``legacy``; each use is logged and counted."""


def server_context(certificate: Path, key: Path, *, minimum: str = "1.2", legacy: bool = False) -> ssl.SSLContext:
    """Build the context of a listener; share it between all its connections, for building one takes 40 ms.

    Args:
        certificate: PEM, the leaf and then its intermediates.
        key: PEM, the leaf's private key, not encrypted.
        minimum: ``1.2`` or ``1.3``.
        legacy: take TLS 1.0 and 1.1 too, with the ciphers and signatures they need.

    Raises:
        ProblemsError: a file that cannot be read, or a key that does not belong to the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[minimum]
    if legacy:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        # The system's OpenSSL policy may forbid what the operator has asked for here by name.
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.options |= ssl.OP_NO_SSLv3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        what = "the key does not belong to the certificate, or one of the two is not PEM"
        raise ProblemsError(Problem(where=str(certificate), what=what, hint=f"check it against {key}")) from error
    except OSError as error:
        what = f"the certificate or its key cannot be read: {error.strerror}"
        raise ProblemsError(Problem(where=str(certificate), what=what, hint=f"and {key}")) from error
    return context


async def upgrade(
    transport: asyncio.Transport, protocol: asyncio.Protocol, context: ssl.SSLContext, options: "ListenerOptions"
) -> asyncio.Transport | None:
    """Shake hands after STARTTLS; the transport that goes on, or ``None`` where the peer has gone.

    Raises:
        OSError: it came to nothing, also by its deadline (``TimeoutError``) or in TLS (``ssl.SSLError``).
    """
    return await asyncio.get_running_loop().start_tls(
        transport,
        protocol,
        context,
        server_side=True,
        ssl_handshake_timeout=options.command_timeout,
        ssl_shutdown_timeout=options.close_timeout,
    )


def describe(transport: asyncio.BaseTransport) -> tuple[str, str]:
    """TLS version and cipher suite of a live connection."""
    tls = transport.get_extra_info("ssl_object")
    cipher = tls.cipher()
    return tls.version() or "", cipher[0] if cipher else ""


def reason(error: BaseException) -> str:
    """Why a handshake failed, in OpenSSL's words where it has some."""
    return str(getattr(error, "reason", None) or type(error).__name__)


def _no_password() -> str:
    """OpenSSL would ask the terminal for the password of an encrypted key."""
    return ""
