"""The throw-away authority's certificates are good or bad in exactly the way they were asked to be."""

import socket
import ssl
import stat
import threading

import pytest

from relay.demo.authority import Certificate


def handshake(certificate: Certificate, root, name: str, client: Certificate | None = None) -> str:
    """Shake hands over a socket pair; the version reached, or the client's verification error."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate.cert, certificate.key)
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    here.verify_flags |= ssl.VERIFY_X509_STRICT
    here.load_verify_locations(root)
    if client is not None:
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(root)
        here.load_cert_chain(client.cert, client.key)
    near, far = socket.socketpair()
    near.settimeout(60)
    far.settimeout(60)

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as wrapped:
                wrapped.sendall(b"x")
        except OSError:
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with here.wrap_socket(near, server_hostname=name) as wrapped:
            assert wrapped.recv(1) == b"x"
            return wrapped.version() or ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        near.close()
        thread.join()


def test_a_good_certificate_verifies_under_strict_rules(authority):
    assert handshake(authority.issue("mx.example"), authority.root, "mx.example") == "TLSv1.3"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"expired": True}, "expired"),
        ({"not_yet": True}, "not yet valid"),
        ({"self_signed": True}, "self-signed"),
        ({"names": ("other.example",)}, "Hostname mismatch"),
        ({"client": True}, "unsuitable certificate purpose"),
    ],
)
def test_bad_certificates_are_bad_in_the_way_asked_for(authority, options, complaint):
    assert complaint in handshake(authority.issue("mx.example", **options), authority.root, "mx.example")


def test_the_untrusted_authority_is_not_trusted_but_sound(authority):
    certificate = authority.untrusted.issue("mx.example")
    assert "unable to get local issuer" in handshake(certificate, authority.root, "mx.example") or (
        "self-signed certificate in certificate chain" in handshake(certificate, authority.root, "mx.example")
    )
    assert handshake(certificate, authority.untrusted.root, "mx.example") == "TLSv1.3"


def test_a_client_certificate_is_accepted_by_a_server(authority):
    client = authority.issue("ehr", client=True)
    assert handshake(authority.issue("mx.example"), authority.root, "mx.example", client) == "TLSv1.3"


def test_addresses_are_named(authority):
    certificate = authority.issue("host", names=(), addresses=("127.0.0.7",))
    assert handshake(certificate, authority.root, "127.0.0.7") == "TLSv1.3"


def test_files_never_clash_and_keys_are_private(authority):
    first, second = authority.issue("*.same.example"), authority.issue("*.same.example")
    assert len({first.cert, first.key, second.cert, second.key}) == 4
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    assert first.cert.read_text().count("BEGIN CERTIFICATE") == 2
