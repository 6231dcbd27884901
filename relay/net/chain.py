"""The certificates that a peer sent: public API from Python 3.13, until then a private call, made here alone."""

import ssl
from typing import Any, Final

_DER: Final = 2  # _ssl.ENCODING_DER


def peer_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """DER certificates as the peer sent them, the leaf first; empty when it sent none."""
    public: Any = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return tuple(public() or ())
    private: Any = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)
    if private is not None:
        return tuple(certificate.public_bytes(_DER) for certificate in private() or ())
    leaf = tls.getpeercert(binary_form=True)
    return (leaf,) if leaf else ()
