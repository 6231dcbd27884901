"""Certificate chains of any shape, for what is matched against them."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.demo.authority import Certificate
from relay.trust.dane import CERT, FULL, SHA2_256, Tlsa, public_key_info

DAY = dt.timedelta(days=1)


class Issued:
    """A certificate and its key."""

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key
        self.der = certificate.public_bytes(serialization.Encoding.DER)

    @property
    def spki(self):
        return self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def issue(name, issuer=None, *, names=None, ca=False, days=(-1, 30), key=None):
    """A certificate by ``issuer`` (or its own key), valid for days around today."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if ca:
        usage = x509.KeyUsage(
            digital_signature=False, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
    elif names is None or names:
        alternatives = [x509.DNSName(one) for one in (names or (name,))]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Issued(builder.sign(signer, hashes.SHA256()), key)


def tlsa_text(usage, selector, matching, der):
    """A TLSA record in master file form for a certificate."""
    import hashlib

    data = der if selector == CERT else public_key_info(der)
    if matching != FULL:
        data = (hashlib.sha256 if matching == SHA2_256 else hashlib.sha512)(data).digest()
    return f"{usage} {selector} {matching} {data.hex()}"


def tlsa(usage, selector, matching, der):
    """The same as a value."""
    text = tlsa_text(usage, selector, matching, der).split()
    return Tlsa(usage=usage, selector=selector, matching=matching, data=bytes.fromhex(text[3]))


def leaf_of(files: Certificate):
    """DER of the first certificate in a file, and of the last."""
    found = x509.load_pem_x509_certificates(files.cert.read_bytes())
    return [one.public_bytes(serialization.Encoding.DER) for one in found]
