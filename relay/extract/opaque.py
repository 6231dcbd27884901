"""What is protected or signs, told by how it looks: a label alone hides nothing from the scan."""

from typing import Final

_SIGNATURES: Final = frozenset(
    {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}
)
_SEQUENCE: Final = 0x30  # X.690 section 8.9: what a CMS signature begins with (RFC 5652 section 3)
_LENGTHS: Final = range(0x80, 0x85)  # section 8.1.3: a length that is open, or stands in the next octets
_BEGIN, _END = b"-----BEGIN PGP SIGNATURE-----", b"-----END PGP SIGNATURE-----"
_MESSAGE: Final = b"-----BEGIN PGP MESSAGE-----"


def is_signature(data: bytes, content_type: str) -> bool:
    """Whether a part is the signature that its label says it is: there is nothing to read in it."""
    if content_type not in _SIGNATURES:
        return False
    text = data.strip()
    if text.startswith(_BEGIN) and text.endswith(_END):
        return True
    return data[:1] == bytes((_SEQUENCE,)) and len(data) > 1 and data[1] in _LENGTHS


def holds_pgp_message(data: bytes) -> bool:
    """Whether text has an encrypted OpenPGP message in it (RFC 9580 section 6.2)."""
    return _MESSAGE in data
