"""A directory like /etc/postern with everything a configuration can point at, good and bad."""

import os
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.demo.authority import Authority
from relay.protect.keyring import KeyRing, dump_ring

PLAIN = """\
policy: plain
rules:
  - id: all
    deliver: { methods: [tls], tls: verified }
"""
ROUTED = """\
policy: routed
rules:
  - id: by-smarthost
    when: { recipient: { domain: partner.example } }
    deliver: { methods: [tls], tls: verified, otherwise: hold }
    route: smart-host
  - id: rest
    deliver: { methods: [tls], tls: opportunistic }
"""
MISSPELT = """\
policy: misspelt
floor:
  - { id: ehr, when: { client: { name: [main-ehr, mian-ehr] } }, require: verified }
  - { id: kinds, when: { finding: { kind: [SSN, snn, health, "unreadable: encrypted"] } }, require: verified }
rules:
  - id: by-door
    when: { any: [ { client: { listener: her, identity: mian-ehr } }, { not: { client: { tenant: clinik } } } ] }
    deliver: { methods: [tls], tls: verified }
  - id: rest
    deliver: { methods: [tls], tls: opportunistic }
"""
CLIENT = """\
name: main-ehr
tenant: clinic
secret_sha256: {digest}
sender_domains: [clinic.example]
"""
TUNING = """\
patterns:
  - { kind: study-id, regex: 'STUDY-\\d{4}' }
clients:
  main-ehr: { without: [study-id] }
  mian-ehr: { weights: { thresholds: { likely: 0.5 } } }
"""
BAD_TUNING = """\
terms:
  - { kind: program, words: Bright Futures }
clients:
  main-ehr:
    without: [mrn]
    exclude: { regex: ['(?=a)'] }
    weights: { identifiers: { mrn: much } }
"""
BAD_CLIENTS = {
    "lab.yaml": "name: lab\ntenant: clinic\nsecret_sha256: {digest}\nsender_domains: [clinic..example]\nsecret: abc\n",
    "billing.yaml": "name: biling\ntenant: clinic\nsecret_sha256: {digest}\nsenders: [billing@clinic.example]\n",
    "nobody.yaml": "name: nobody\ntenant: clinic\nsecret_sha256: {digest}\n",
    "short.yaml": "name: short\ntenant: clinic\nsecret_sha256: abc\nsender_domains: ['*']\n",
}


def _private(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def _pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def furnish(base: Path) -> Path:
    """Fill ``base`` with certificates, keys, clients, policies and a key ring; umask does not matter."""
    for name in ("tls", "data", "run", "clients", "bad-clients", "policies", "signing", "secrets", "keys"):
        (base / name).mkdir()
        (base / name).chmod(0o750)
    authority = Authority(base / "ca")
    issued = {
        "good": authority.issue("relay.clinic.example"),
        "other": authority.issue("relay.clinic.example"),
        "expired": authority.issue("relay.clinic.example", expired=True),
        "early": authority.issue("relay.clinic.example", not_yet=True),
        "elsewhere": authority.issue("mail.other.example"),
    }
    for name, files in issued.items():
        shutil.copy(files.cert, base / "tls" / f"{name}.pem")
        _private(base / "tls" / f"{name}.key", files.key.read_bytes())
    (base / "tls" / "good.pem").chmod(0o600)
    _private(base / "tls" / "open.key", issued["good"].key.read_bytes(), 0o644)
    strong = rsa.generate_private_key(65537, 2048)
    _private(base / "signing" / "rsa.pem", _pem(strong))
    _private(base / "signing" / "open.pem", _pem(strong), 0o640)
    _private(base / "signing" / "weak.pem", _pem(rsa.generate_private_key(65537, 1024)))
    _private(base / "signing" / "ed25519.pem", _pem(ed25519.Ed25519PrivateKey.generate()))
    _private(base / "secrets" / "two-lines", b"one\ntwo\n")
    _private(base / "secrets" / "one", b"a secret with spaces\n")
    _private(base / "secrets" / "ring.json", b"{}")
    (base / "open-dkim" / "clinic.example").mkdir(parents=True)
    _private(base / "open-dkim" / "clinic.example" / "r1.pem", _pem(strong), 0o644)
    _private(base / "keys" / "ring.json", dump_ring(KeyRing.create(now=0.0, random=os.urandom)))
    (base / "policies" / "main.yaml").write_text(PLAIN)
    (base / "policies" / "routed.yaml").write_text(ROUTED)
    (base / "policies" / "misspelt.yaml").write_text(MISSPELT)
    (base / "policies" / "shadow.yaml").write_text("mode: shadow\n" + PLAIN)
    (base / "scan.yaml").write_text(TUNING)
    (base / "bad-scan.yaml").write_text(BAD_TUNING)
    _private(base / "clients" / "main-ehr.yaml", CLIENT.format(digest="a" * 64).encode(), 0o640)
    for name, text in BAD_CLIENTS.items():
        _private(base / "bad-clients" / name, text.format(digest="b" * 64).encode(), 0o640)
    return base
