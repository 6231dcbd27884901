"""What was judged of a connection holds until its end: OpenSSL's own server asks in vain for a new handshake."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess

import pytest

from relay.net.tls import TlsOptions, make_contexts

NAME = "mx.good.example"
ALERT, HANDSHAKE = 21, 22
PATIENCE = 60
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@contextlib.contextmanager
def s_server(certificate):
    words = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-naccept", "1"]
    words += ["-cert", str(certificate.cert), "-key", str(certificate.key)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            port = next(int(found[1]) for line in process.stdout if (found := re.match(r"ACCEPT .*:(\d+)$", line)))
            yield process, port
        finally:
            process.kill()


class Client:
    """TLS in memory, over a socket: what kind of record it answers with is to be seen."""

    def __init__(self, context, port):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=NAME)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    def take(self):
        octets = self.socket.recv(65_536)
        assert octets, "the server went"
        self.incoming.write(octets)

    def shake(self):
        while True:
            try:
                return self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                self.take()

    def answer(self):
        """What it says to the next handshake message, as the first octet of a record."""
        while not self.outgoing.pending:
            self.take()
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.read(1)
        return self.outgoing.read()[0]


@pytest.mark.parametrize("kind", ["verifying", "encrypting", "any"])
def test_a_server_that_asks_for_a_new_handshake_gets_none(authority, kind):
    made = make_contexts(TlsOptions(system_trust=False, trust_files=(str(authority.root),)))
    context = ssl.create_default_context(cafile=authority.root) if kind == "any" else getattr(made, kind)
    with s_server(authority.issue(NAME)) as (process, port):
        client = Client(context, port)
        with client.socket:
            client.shake()
            client.socket.sendall(client.outgoing.read())
            process.stdin.write("r\n")
            process.stdin.flush()
            # One that is not told so begins it: the server does ask.
            assert client.answer() == (HANDSHAKE if kind == "any" else ALERT)
