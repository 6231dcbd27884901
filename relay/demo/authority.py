"""A throw-away certificate authority: certificates in every state that a relay meets, good and bad."""

import datetime as dt
import functools
import ipaddress
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY: Final = dt.timedelta(days=1)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Files of one certificate.

    Attributes:
        cert: PEM, the leaf first, then its issuer.
        key: PEM of the private key (PKCS #8), readable by its owner alone.
    """

    cert: Path
    key: Path


class Authority:
    """A root of trust that lives in a directory: EC P-256 keys, which are quick to make.

    Attributes:
        root: PEM of the root certificate: what a relay that trusts this authority is configured with.
    """

    def __init__(self, directory: Path, *, name: str = "Postern demo root") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._numbers = itertools.count(1)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _distinguished(name)
        self._certificate = self._make_root()
        self.root = directory / "root.pem"
        self.root.write_bytes(_pem(self._certificate))

    @functools.cached_property
    def untrusted(self) -> "Authority":
        """A second authority that nobody trusts; its files lie in ``untrusted/`` below this one's."""
        return Authority(self._directory / "untrusted", name="Untrusted root")

    def issue(
        self,
        name: str,
        *,
        names: Iterable[str] | None = None,
        addresses: Iterable[str] = (),
        expired: bool = False,
        not_yet: bool = False,
        self_signed: bool = False,
        client: bool = False,
    ) -> Certificate:
        """Make a certificate; each call gives new files, also for a name used before.

        Args:
            name: the subject's common name.
            names: DNS names it is for; by default ``name`` alone.
            addresses: IP addresses it is for.
            expired: ended yesterday.
            not_yet: begins tomorrow.
            self_signed: signed by its own key, not by this authority.
            client: for clients (extended key usage clientAuth), not for servers.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _distinguished(name)
        alternatives = _alternatives((name,) if names is None else names, addresses)
        builder = _builder(subject, key, _validity(expired=expired, not_yet=not_yet))
        builder = builder.issuer_name(subject if self_signed else self._name)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = _constrain(builder, key if self_signed else self._key, authority=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        return self._save(name, certificate, key, self_signed=self_signed)

    def _save(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, self_signed: bool
    ) -> Certificate:
        stem = f"{_UNSAFE.sub('_', name)}-{next(self._numbers)}"
        files = Certificate(cert=self._directory / f"{stem}.pem", key=self._directory / f"{stem}.key")
        files.cert.write_bytes(_pem(certificate) + (b"" if self_signed else _pem(self._certificate)))
        files.key.touch(mode=0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _make_root(self) -> x509.Certificate:
        builder = _builder(self._name, self._key, _validity(expired=False, not_yet=False)).issuer_name(self._name)
        return _constrain(builder, self._key, authority=True).sign(self._key, hashes.SHA256())


def _distinguished(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _validity(*, expired: bool, not_yet: bool) -> tuple[dt.datetime, dt.datetime]:
    now = dt.datetime.now(dt.UTC)
    if expired:
        return now - 30 * _DAY, now - _DAY
    if not_yet:
        return now + _DAY, now + 30 * _DAY
    return now - _DAY, now + 90 * _DAY


def _alternatives(names: Iterable[str], addresses: Iterable[str]) -> list[x509.GeneralName]:
    listed: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    return listed + [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, validity: tuple[dt.datetime, dt.datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _constrain(
    builder: x509.CertificateBuilder, signer: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.CertificateBuilder:
    """Add what RFC 5280 section 4.2.1 asks of each kind, so that strict verifiers accept it."""
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(usage, critical=True)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
