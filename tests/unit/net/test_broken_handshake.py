"""A TLS that breaks is a failure of TLS, wherever and however it breaks: never a trouble of the network."""

import contextlib
import socket
import ssl
import struct
from dataclasses import replace

import pytest

from relay.core.level import Level
from relay.core.outcome import Stage, Trouble
from relay.core.ports import ConnectError
from relay.demo.behaviour import PeerBehaviour
from relay.net.options import ConnectorOptions, Route, RouteHost
from tests.support.listening import Listening, presenting
from tests.support.net import PATIENT, net, transaction
from tests.unit.net.test_link import Server

GOOD, MX = "good.example", "mx.good.example"
ALERT = bytes.fromhex("15030300020250")  # fatal, internal_error (RFC 8446 section 6)


def reset(writer):
    """End with RST in place of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Breaking(Listening):
    """A server whose TLS breaks as it is told; without TLS it speaks plain SMTP and takes every message."""

    def __init__(self, authority, how, version=None, *, implicit=False):
        self.how, self.implicit = how, implicit
        self.context = presenting(authority, MX)
        if version is not None:
            self.context.maximum_version = version
        if how == "wants a client certificate":
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(authority.root)
        self.taken = 0

    async def _serve(self, reader, writer):
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await (self.handshake if self.implicit else self.smtp)(reader, writer)
        finally:
            writer.transport.abort()

    async def smtp(self, reader, writer):
        writer.write(b"220 mx.good.example ESMTP\r\n")
        while line := await reader.readline():
            verb = line.split()[0].upper()
            answer = b"250 2.0.0 Ok\r\n"
            if verb == b"EHLO":
                answer = b"250-mx.good.example\r\n250 STARTTLS\r\n"
            elif verb == b"STARTTLS":
                writer.write(b"220 2.0.0 Go\r\n")
                await self.handshake(reader, writer)
                return
            elif verb == b"DATA":
                writer.write(b"354 Go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                self.taken += 1
            writer.write(answer)

    async def handshake(self, reader, writer):
        if self.how in ("resets", "ends", "alerts"):
            await reader.readexactly(5)  # the head of the ClientHello's record
            if self.how == "alerts":
                writer.write(ALERT)
                await writer.drain()
            if self.how == "resets":
                reset(writer)
            return
        if self.how == "answers and ends":
            await self.answer_and_end(reader, writer)
            return
        await writer.start_tls(self.context)
        if self.how == "resets after it":
            reset(writer)
        elif self.how == "wants a client certificate":
            await reader.read()

    async def answer_and_end(self, reader, writer):
        """TLS by hand, so that the answer to EHLO and the end come at once."""
        side = Server(self.context)
        while not side.heard:
            side.incoming.write(await reader.read(65_536))
            side.step()
            writer.write(side.outgoing.read())
        side.tls.write(b"250 mx.good.example\r\n")
        with contextlib.suppress(ssl.SSLWantReadError):
            side.tls.unwrap()
        writer.write(side.outgoing.read())
        await reader.read()


@contextlib.asynccontextmanager
async def meeting(authority, server):
    """A connector for which ``good.example`` is that server."""
    async with server, net(authority, PeerBehaviour()) as it:
        it.connector._options = replace(it.connector._options, port=server.port)
        yield it


IN_IT = ("resets", "ends", "alerts")
AFTER_IT = ("resets after it", "ends after it")


@pytest.mark.parametrize(
    ("how", "version"),
    [
        *((how, None) for how in IN_IT),
        *((how, ssl.TLSVersion.TLSv1_2) for how in AFTER_IT),
        *((how, ssl.TLSVersion.TLSv1_3) for how in (*AFTER_IT, "wants a client certificate")),
    ],
)
async def test_a_tls_that_breaks_after_220_is_a_failure_of_tls(authority, how, version):
    server = Breaking(authority, how, version)
    async with meeting(authority, server) as it:
        for floor, before in ((Level.CLEAR, 0), (Level.ENCRYPTED, 9), (Level.VERIFIED, 9)):
            with pytest.raises(ConnectError) as caught:
                await it.connector.connect(GOOD, floor=floor, tls_failures=before)
            failure = caught.value.failures[-1]
            assert (failure.trouble, failure.stage) == (Trouble.BELOW_FLOOR, Stage.TLS), failure
        assert server.taken == 0
        session = await it.connector.connect(GOOD, floor=Level.CLEAR, tls_failures=1)
        result = await session.transact(transaction())
        await session.close()
    assert result.results[0].delivered
    assert (result.proof.level, result.proof.downgraded) == (Level.CLEAR, True)
    assert server.taken == 1


async def test_the_alert_with_which_a_server_ends_tls_is_told(authority):
    async with meeting(authority, Breaking(authority, "alerts")) as it:
        with pytest.raises(ConnectError) as caught:
            await it.connector.connect(GOOD, floor=Level.VERIFIED)
    assert "alert internal error" in caught.value.failures[-1].detail


@pytest.mark.parametrize("how", [*IN_IT, *AFTER_IT, "wants a client certificate"])
async def test_a_smarthost_with_tls_from_the_first_octet_is_classed_alike(authority, how):
    async with Breaking(authority, how, implicit=True) as server:
        way = Route(hosts=(RouteHost(host=MX, port=server.port),), internal=True, implicit_tls=True)
        options = ConnectorOptions(helo="relay.clinic.example", deadlines=PATIENT, routes={"smarthost": way})
        async with net(authority, PeerBehaviour(), options=options) as it:
            with pytest.raises(ConnectError) as caught:
                await it.connector.connect("route:smarthost", floor=Level.CLEAR, tls_failures=9)
    assert (caught.value.failures[-1].trouble, caught.value.failures[-1].stage) == (Trouble.BELOW_FLOOR, Stage.TLS)


async def test_a_server_that_ends_once_it_has_answered_over_tls_is_no_failure_of_tls(authority):
    """Its TLS stood: that it is away now must neither raise the alarm of a fall nor spend the copy's ``within``."""
    async with meeting(authority, Breaking(authority, "answers and ends", None)) as it:
        told = []
        it.connector._seen = told.append
        with pytest.raises(ConnectError) as caught:
            await it.connector.connect(GOOD, floor=Level.ENCRYPTED)
        failure = caught.value.failures[-1]
        assert (failure.trouble, failure.detail) == (Trouble.NETWORK, "the connection ended")
        assert told == []
