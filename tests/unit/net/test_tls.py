import datetime as dt
import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.core.errors import ProblemsError
from relay.core.level import Level, Voucher
from relay.net.assurance import Assurance
from relay.net.memory import UnverifiedHosts
from relay.net.resolver import Resolver
from relay.net.tls import TlsOptions, _known, judge, make_contexts
from relay.trust.sessions import Fault
from relay.trust.tlsrpt import ResultType


def test_a_trust_file_that_cannot_be_used_gives_one_clear_error(tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    with pytest.raises(ProblemsError, match=r"empty\.pem: no certificate in it"):
        make_contexts(TlsOptions(system_trust=False, trust_files=(str(empty),)))
    with pytest.raises(ProblemsError, match=r"gone\.pem: cannot be read"):
        make_contexts(TlsOptions(system_trust=False, trust_files=(str(tmp_path / "gone.pem"),)))


def test_old_tls_cannot_be_asked_for():
    with pytest.raises(ValueError, match=r"before 1\.2"):
        TlsOptions(minimum=ssl.TLSVersion.TLSv1_1)


def test_the_contexts_say_what_they_promise():
    made = make_contexts()
    assert made.verifying.verify_mode is ssl.CERT_REQUIRED
    assert made.verifying.check_hostname
    assert not made.verifying.hostname_checks_common_name
    assert {made.verifying.minimum_version, made.encrypting.minimum_version} == {ssl.TLSVersion.TLSv1_2}


class Live:
    """A TLS object as it stands after a handshake."""

    def __init__(self, context, *, name="mx.x.example", version="TLSv1.3", der=b""):
        self.context, self.server_hostname, self._version, self._der = context, name, version, der

    def version(self):
        return self._version

    def cipher(self):
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    def getpeercert(self, *, binary_form):
        return self._der


@pytest.mark.parametrize(
    ("which", "more", "voucher", "level"),
    [
        ("verifying", {}, Voucher.NOBODY, Level.VERIFIED),
        ("verifying", {}, Voucher.ROUTE, Level.AUTHENTICATED),
        ("encrypting", {}, Voucher.ROUTE, Level.ENCRYPTED),
        ("verifying", {"name": "mx.y.example"}, Voucher.ROUTE, Level.ENCRYPTED),
        ("verifying", {"version": "TLSv1.1"}, Voucher.ROUTE, Level.CLEAR),
        ("verifying", {"version": None}, Voucher.ROUTE, Level.CLEAR),
    ],
)
def test_the_live_object_is_judged_and_not_what_was_meant(which, more, voucher, level):
    live = Live(getattr(make_contexts(), which), **more)
    proof = judge(live, host="mx.x.example", address="192.0.2.1", assurance=Assurance(voucher=voucher))
    assert proof.level is level
    assert proof.vouched_by is (Voucher.ROUTE if level is Level.AUTHENTICATED else Voucher.NOBODY)


def test_a_certificate_that_does_not_parse_keeps_its_fingerprint():
    proof = judge(Live(make_contexts().encrypting, der=b"junk"), host="mx.x.example", address="192.0.2.1")
    assert len(proof.certificate_sha256) == 64
    assert (proof.issuer, proof.not_after) == ("", 0.0)


def _certificate(names=b"", common="mx.x.example"):
    """A certificate of a stranger's making; ``names``: octets of its subject alternative names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(start).not_valid_after(start + dt.timedelta(days=90))
    if names:
        oid = x509.SubjectAlternativeName.oid
        made = made.add_extension(x509.UnrecognizedExtension(oid, names), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    "der",
    [
        pytest.param(_certificate(b"\x30\x04\xa3\x02\x05\x00"), id="x400Address"),
        pytest.param(_certificate(b"\x30\x04\xa5\x02\x05\x00"), id="ediPartyName"),
        pytest.param(_certificate().replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1), id="version 4"),
    ],
)
def test_an_odd_certificate_of_a_peer_that_openssl_takes_is_judged_like_any(der):
    proof = judge(Live(make_contexts().encrypting, der=der), host="mx.x.example", address="192.0.2.1")
    assert proof.level is Level.ENCRYPTED
    assert proof.certificate_sha256 == hashlib.sha256(der).hexdigest()
    assert proof.names == ()


def test_a_certificate_writes_no_lines_of_its_own_into_a_proof():
    common = "x\n  travelled    authenticated\r\x1b[2J\u202e\u2028"
    names = b"\x30\x09\x82\x07a\nb\x1b[2J"
    der = _certificate(names, common)
    proof = judge(Live(make_contexts().encrypting, der=der), host="mx.x.example", address="192.0.2.1")
    assert proof.issuer.replace("\\", "") == "CN=x\ufffd  travelled    authenticated\ufffd\ufffd[2J\ufffd\ufffd"
    assert proof.names == ("a\ufffdb\ufffd[2J",)


def test_certificates_of_an_unusual_size_are_read_and_not_kept():
    kept = []
    for size in (300, 60_000):
        der = _certificate(
            b"\x30\x82" + (size + 4).to_bytes(2, "big") + b"\x82\x82" + size.to_bytes(2, "big") + b"a" * size
        )
        before = _known.cache_info().currsize
        proof = judge(Live(make_contexts().encrypting, der=der), host="mx.x.example", address="192.0.2.1")
        assert proof.issuer == "CN=mx.x.example"
        assert proof.names == ("a" * 255,)
        kept.append(_known.cache_info().currsize - before)
    assert kept == [1, 0]


def test_unverified_hosts_are_forgotten_in_time_and_bounded():
    now = [0.0]
    expired = Fault(result=ResultType.CERTIFICATE_EXPIRED, detail="certificate has expired")
    memory = UnverifiedHosts(size=2, ttl=10, monotonic=lambda: now[0])
    for host in ("a", "b", "c"):
        memory.remember(host, expired)
    assert len(memory) == 2
    assert (memory.fault("a"), memory.fault("c")) == (None, expired)
    now[0] = 11
    assert memory.fault("c") is None


def test_a_machine_without_name_servers_gives_one_clear_error(monkeypatch):
    import dns.resolver

    def none_there(*_, **__):
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr("dns.resolver.BaseResolver.__init__", none_there)
    with pytest.raises(ProblemsError, match=r"resolv\.conf: no name server"):
        Resolver()
