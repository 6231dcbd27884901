"""Against a server that is not ours: aiosmtpd, with STARTTLS."""

import asyncio
import ssl
from dataclasses import replace

import pytest
from aiosmtpd.smtp import SMTP

from relay.core.level import Level
from relay.demo.authority import Authority
from relay.demo.behaviour import PeerBehaviour
from relay.net.options import ConnectorOptions, Route, RouteHost
from tests.support.net import PATIENT, contexts, net, transaction


class Keeper:
    def __init__(self):
        self.envelopes = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802  aiosmtpd's name
        if address.startswith("no"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  aiosmtpd's name
        self.envelopes.append((envelope.rcpt_tos, envelope.original_content, session.ssl is not None))
        return "250 2.0.0 taken"


@pytest.fixture
async def aiosmtpd(tmp_path):
    authority = Authority(tmp_path)
    certificate = authority.issue("mx.good.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    keeper = Keeper()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(
            keeper, hostname="mx.good.example", tls_context=context, require_starttls=True, enable_SMTPUTF8=True
        ),
        "127.0.0.1",
        0,
    )
    yield authority, keeper, server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_it_takes_two_messages_over_one_verified_session(aiosmtpd):
    authority, keeper, port = aiosmtpd
    options = ConnectorOptions(
        helo="relay.clinic.example",
        deadlines=PATIENT,
        routes={"other": Route(hosts=(RouteHost(host="mx.good.example", port=port),), internal=True)},
    )
    async with net(authority, PeerBehaviour(), tls=contexts(authority), options=options) as it:
        session = await it.connector.connect("route:other", floor=Level.AUTHENTICATED)
        content = b"Subject: x\r\n\r\n..dots\r\n.\r\n"
        first = transaction("pat@good.example", "nobody@good.example", content=content, floor=Level.AUTHENTICATED)
        result = await session.transact(first)
        assert [one.delivered for one in result.results] == [True, False]
        again = await session.transact(replace(first, recipients=first.recipients[1:]))
        assert again.results[0].failure.reply.code == 550
        last = await session.transact(transaction("sam@good.example", floor=Level.VERIFIED))
        assert last.results[0].delivered
        await session.close()
    assert keeper.envelopes[0] == (["pat@good.example"], content, True)
    assert len(keeper.envelopes) == 2
