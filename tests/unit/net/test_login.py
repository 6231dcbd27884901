"""A smarthost that takes the password by one mechanism or another, or asks without end."""

import base64
import contextlib
import ssl

import pytest

from relay.core.level import Level
from relay.core.outcome import Stage, Trouble
from relay.core.ports import ConnectError
from relay.demo.behaviour import PeerBehaviour
from relay.net.options import ConnectorOptions, Route, RouteHost
from tests.support.listening import Listening, presenting
from tests.support.net import PATIENT, net

MX = "mx.good.example"
CHALLENGE = base64.b64encode(b"<1@mx.good.example>")


class Smarthost(Listening):
    """TLS from the first octet, AUTH as it is told: what it answers to each line after EHLO, in turn."""

    def __init__(self, authority, offers, *answers):
        self._tls = presenting(authority, MX)
        self.offers, self.answers = offers, iter(answers)
        self.heard = []

    async def _serve(self, reader, writer):
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                writer.write(b"220 mx.good.example ESMTP\r\n")
                await reader.readline()
                writer.write(b"250-mx.good.example\r\n250 " + self.offers + b"\r\n")
                while line := await reader.readline():
                    self.heard.append(line.rstrip(b"\r\n"))
                    writer.write(b"221 bye\r\n" if line == b"QUIT\r\n" else next(self.answers, b"500 5.5.1 what?\r\n"))
        finally:
            writer.transport.abort()


async def meet(authority, smarthost):
    way = Route(
        hosts=(RouteHost(host=MX, port=smarthost.port),),
        internal=True, implicit_tls=True, username="clinic", password="secret",
    )  # fmt: skip
    options = ConnectorOptions(helo="relay.clinic.example", deadlines=PATIENT, routes={"smarthost": way})
    async with net(authority, PeerBehaviour(), options=options) as it:
        session = await it.connector.connect("route:smarthost", floor=Level.CLEAR)
        await session.close()


async def test_the_best_mechanism_that_both_know_is_taken(authority):
    taken = b"334 " + CHALLENGE + b"\r\n", b"235 2.7.0 Ok\r\n"
    async with Smarthost(authority, b"AUTH LOGIN PLAIN CRAM-MD5 XOAUTH2", *taken) as smarthost:
        await meet(authority, smarthost)
    assert smarthost.heard[0] == b"AUTH CRAM-MD5"
    assert base64.b64decode(smarthost.heard[1]).startswith(b"clinic ")


async def test_another_is_tried_where_one_is_offered_and_refused(authority):
    answers = b"504 5.5.4 not today\r\n", b"334 \r\n", b"334 \r\n", b"235 2.7.0 Ok\r\n"
    async with Smarthost(authority, b"AUTH=PLAIN LOGIN", *answers) as smarthost:
        await meet(authority, smarthost)
    assert [line.split(b" ")[:2] for line in smarthost.heard[:2]] == [[b"AUTH", b"PLAIN"], [b"AUTH", b"LOGIN"]]
    assert smarthost.heard[2:4] == [b"Y2xpbmlj", b"c2VjcmV0"]


@pytest.mark.parametrize(
    ("offers", "answers", "trouble", "heard"),
    [
        (b"8BITMIME", (), Trouble.PROTOCOL, 0),
        (b"AUTH XOAUTH2", (), Trouble.PROTOCOL, 0),
        (b"AUTH PLAIN", (b"535 5.7.8 no\r\n",), Trouble.REPLY, 1),
        (b"AUTH PLAIN", (b"334 more\r\n", b"501 5.7.0 cancelled\r\n"), Trouble.REPLY, 2),
        (b"AUTH PLAIN", (b"hello there\r\n",), Trouble.PROTOCOL, 1),
    ],
)
async def test_what_goes_wrong_is_typed(authority, offers, answers, trouble, heard):
    async with Smarthost(authority, offers, *answers) as smarthost:
        with pytest.raises(ConnectError) as caught:
            await meet(authority, smarthost)
    failure = caught.value.failures[-1]
    assert (failure.trouble, failure.stage, len(smarthost.heard)) == (trouble, Stage.AUTH, heard)
    assert heard < 2 or smarthost.heard[1] == b"*"
