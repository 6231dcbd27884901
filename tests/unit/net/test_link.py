"""A link against the standard library's TLS: whatever way the octets are cut, the words are the same."""

import asyncio
import ssl
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.link import Link

NAME = "mx.good.example"


class Wire:
    """A transport that keeps what is written; its other end is a TLS server in memory."""

    def __init__(self, link, server):
        self.link, self.server = link, server
        self.written, self.sent = bytearray(), 0
        self.closed = False
        link.connection_made(self)

    def write(self, data):
        self.sent += 1
        self.written += data

    def close(self):
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.link.connection_lost, None)

    abort = close

    def get_write_buffer_size(self):
        return 0

    def carry(self, cut=65_536):
        """Move octets to and fro, so many at a time, until nobody has any left."""
        while True:
            out, self.written = bytes(self.written), bytearray()
            self.server.incoming.write(out)
            self.server.step()
            back = self.server.outgoing.read()
            for at in range(0, len(back), cut):
                if not self.closed:
                    self.link.data_received(back[at : at + cut])
            if not (out or back):
                return


class Server:
    """The peer's side of TLS."""

    def __init__(self, context):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.stands, self.heard, self.ended, self.alert = False, b"", False, ""

    def step(self):
        try:
            if not self.stands:
                self.tls.do_handshake()
                self.stands = True
            while piece := self.tls.read(65_536):
                self.heard += piece
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.alert = self.alert or error.reason


class Ear(asyncio.Protocol):
    def __init__(self):
        self.heard, self.told = b"", []

    def data_received(self, data):
        self.heard += data

    def eof_received(self):
        self.told.append("eof")

    def connection_lost(self, exc):
        self.told.append(exc)


@pytest.fixture(scope="module")
def sides(authority):
    certificate = authority.issue(NAME)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate.cert, certificate.key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(authority.root)
    return SimpleNamespace(client=client, server=server)


def begun(sides, name=NAME, cut=65_536):
    ear = Ear()
    link = Link(ear)
    wire = Wire(link, Server(sides.server))
    shaken = link.secure(sides.client, name)
    wire.carry(cut)
    link.flush()
    wire.carry(cut)
    return SimpleNamespace(ear=ear, link=link, wire=wire, shaken=shaken, server=wire.server)


@given(
    cut=st.integers(1, 400),
    words=st.lists(st.binary(min_size=1, max_size=40_000), max_size=3),
    answers=st.lists(st.binary(min_size=1, max_size=40_000), max_size=3),
)
def test_words_arrive_however_they_are_cut(sides, cut, words, answers):
    async def talk():
        it = begun(sides, cut=cut)
        assert it.shaken.result() is None
        assert it.link.tls is not None
        for word in words:
            it.link.write(word)
        it.wire.carry(cut)
        assert it.server.heard == b"".join(words)
        for answer in answers:
            _say(it.server.tls, answer)
        it.wire.carry(cut)
        assert it.ear.heard == b"".join(answers)
        assert it.ear.told == []

    asyncio.run(talk())


def _say(tls, data):
    rest = memoryview(data)
    while rest:
        rest = rest[tls.write(rest) :]


async def test_the_handshakes_last_octets_leave_with_the_first_words(sides):
    ear = Ear()
    link = Link(ear)
    wire = Wire(link, Server(sides.server))
    shaken = link.secure(sides.client, NAME)
    with pytest.raises(RuntimeError, match="nothing is said while TLS begins"):
        link.write(b"MAIL FROM:<>\r\n")
    wire.server.incoming.write(bytes(wire.written))
    wire.server.step()
    wire.written, wire.sent = bytearray(), 0
    link.data_received(wire.server.outgoing.read())
    assert shaken.result() is None
    assert wire.sent == 0
    link.write(b"EHLO relay.example\r\n")
    assert wire.sent == 1
    wire.carry()
    assert wire.server.heard == b"EHLO relay.example\r\n"


async def test_a_wrong_name_ends_it_with_an_alert_and_without_a_tls_object(sides):
    it = begun(sides, name="mx.other.example")
    assert isinstance(it.shaken.exception(), ssl.SSLCertVerificationError)
    assert it.link.is_closing
    assert it.link.tls is None
    assert it.server.alert == "SSLV3_ALERT_BAD_CERTIFICATE"
    await asyncio.sleep(0)
    assert it.ear.told == [None]


async def test_words_in_the_clear_after_tls_began_break_it(sides):
    ear = Ear()
    link = Link(ear)
    wire = Wire(link, Server(sides.server))
    shaken = link.secure(sides.client, NAME)
    link.data_received(b"250 2.1.0 Ok\r\n")
    assert isinstance(shaken.exception(), ssl.SSLError)
    assert wire.closed
    assert ear.heard == b""


@pytest.mark.parametrize("how", ["eof_received", "connection_lost"])
async def test_an_end_in_the_handshake_fails_it(sides, how):
    ear = Ear()
    link = Link(ear)
    Wire(link, Server(sides.server))
    shaken = link.secure(sides.client, NAME)
    link.eof_received() if how == "eof_received" else link.connection_lost(None)
    assert isinstance(shaken.exception(), ConnectionResetError)
    assert link.tls is None


async def test_tls_is_not_begun_on_what_has_ended(sides):
    ear = Ear()
    link = Link(ear)
    wire = Wire(link, Server(sides.server))
    link.eof_received()
    assert isinstance(link.secure(sides.client, NAME).exception(), ConnectionResetError)
    assert wire.sent == 0


async def test_an_alert_in_place_of_an_answer_is_told_with_its_reason(sides):
    it = begun(sides)
    record = b"\x17\x03\x03\x00\x20" + b"x" * 32  # what no key of this connection made
    it.link.data_received(record)
    await asyncio.sleep(0)
    assert [type(one) for one in it.ear.told] == [ssl.SSLError]
    assert it.wire.closed
    it.link.write(b"MAIL FROM:<>\r\n")
    it.wire.carry()
    assert it.server.heard == b""


async def test_a_peer_that_breaks_tls_and_reads_no_more_does_not_keep_the_connection(sides, monkeypatch):
    monkeypatch.setattr("relay.net.link._FAREWELL", 0.0)
    it, aborted = begun(sides), asyncio.Event()
    monkeypatch.setattr(it.wire, "close", lambda: None, raising=False)  # what is unsent waits for the peer
    monkeypatch.setattr(it.wire, "abort", aborted.set, raising=False)
    it.link.data_received(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    await asyncio.wait_for(aborted.wait(), 60)


async def test_the_end_of_tls_is_told_and_heard(sides):
    it = begun(sides)
    it.link.write(b"QUIT\r\n")
    it.link.close()
    it.wire.carry()
    assert (it.server.heard, it.server.ended, it.wire.closed) == (b"QUIT\r\n", True, True)

    it = begun(sides)
    it.server.tls.write(b"221 2.0.0 bye\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        it.server.tls.unwrap()
    it.wire.carry()
    assert it.ear.heard == b"221 2.0.0 bye\r\n"
    assert it.ear.told == ["eof"]
    assert it.wire.closed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("cut", [1, 65_536])
async def test_the_last_words_bring_the_end_of_tls_along_and_are_answered(sides, version, cut):
    sides.server.maximum_version = version
    try:
        it = begun(sides)
    finally:
        sides.server.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    sent = it.wire.sent
    it.link.part(b"QUIT\r\n")
    assert it.wire.sent == sent + 1
    answer = b"221 2.0.0 bye\r\n"
    it.server.incoming.write(bytes(it.wire.written))
    it.wire.written = bytearray()
    assert it.server.tls.read() == b"QUIT\r\n"  # a peer that has not looked yet at what came behind it
    it.server.tls.write(answer)
    it.wire.carry(cut)
    assert it.ear.heard == answer
    assert it.server.ended
    it.link.close()
    assert (it.wire.sent, it.wire.closed) == (sent + 1, True)


async def test_last_words_in_the_clear_are_words():
    link = Link(Ear())
    wire = Wire(link, None)
    link.part(b"QUIT\r\n")
    assert (bytes(wire.written), wire.closed) == (b"QUIT\r\n", False)


async def test_a_connection_that_has_ended_has_no_last_words(sides):
    it = begun(sides)
    it.link.close()
    it.wire.written.clear()
    it.link.part(b"QUIT\r\n")
    assert bytes(it.wire.written) == b""


async def test_what_comes_after_the_end_is_not_heard(sides):
    it = begun(sides)
    it.link.abort()
    it.server.tls.write(b"250 2.0.0 Ok\r\n")
    it.link.data_received(it.server.outgoing.read())
    assert it.ear.heard == b""
    assert it.link.tls is None
