"""The scriptable peer does what its behaviour says, seen from aiosmtplib and from bare sockets."""

import asyncio
import contextlib
import ssl

import aiosmtplib
import pytest

from relay.demo.peer import Greylist, Peer, PeerBehaviour, StartTls

MESSAGE = b"Subject: x\r\n\r\n.one\r\n..two\r\nthree\r\n"


@pytest.fixture(scope="module")
def good(authority):
    return PeerBehaviour(certificate=authority.issue("mx.example"))


def trusting(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.root)
    context.check_hostname = False
    return context


def client(peer, **options):
    return aiosmtplib.SMTP(hostname=peer.host, port=peer.port, timeout=60, **{"start_tls": False, **options})


async def send(peer, recipients=("a@x.example",), **options):
    async with client(peer, **options) as smtp:
        return await smtp.sendmail("s@x.example", list(recipients), MESSAGE)


class Raw:
    """A client of bare lines."""

    def __init__(self, peer):
        self.peer = peer

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(self.peer.host, self.peer.port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self) -> str:
        text = ""
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 60)).decode()
            text += line
            if not line or line[3:4] != "-":
                return text


async def test_a_message_over_starttls_is_recorded_whole(authority, good):
    async with Peer(good) as peer:
        await send(peer, start_tls=True, tls_context=trusting(authority))
        [message] = await peer.wait_messages()
    assert (message.sender, message.recipients, message.content) == ("s@x.example", ("a@x.example",), MESSAGE)
    assert message.tls_version == "TLSv1.3"
    assert not message.clear
    assert b"STARTTLS" in peer.clear
    assert b"Subject" not in peer.clear


async def test_in_the_clear_the_transcript_holds_everything(good):
    async with Peer(good) as peer:
        await send(peer)
        [message] = await peer.wait_messages()
    assert message.clear
    assert b"Subject: x" in peer.clear
    assert b"a@x.example" in peer.clear


@pytest.mark.parametrize("how", [StartTls.ABSENT, StartTls.REFUSED, StartTls.BROKEN, StartTls.CLOSES])
async def test_starttls_fails_in_each_way(authority, good, how):
    behaviour = PeerBehaviour(certificate=good.certificate, starttls=how)
    async with Peer(behaviour) as peer:
        with pytest.raises((aiosmtplib.SMTPException, OSError)):
            await send(peer, start_tls=True, tls_context=trusting(authority))
        offered = how is not StartTls.ABSENT
        async with Raw(peer) as raw:
            await raw.hear()
            await raw.say(b"EHLO c\r\n")
            assert ("STARTTLS" in await raw.hear()) is offered
    assert peer.messages == []


async def test_injected_replies_come_in_the_clear_before_the_handshake(good):
    behaviour = PeerBehaviour(certificate=good.certificate, starttls=StartTls.INJECTS)
    async with Peer(behaviour) as peer, Raw(peer) as raw:
        await raw.hear()
        await raw.say(b"STARTTLS\r\n")
        assert (await raw.hear()).startswith("220")
        assert "Injected" in await raw.hear()


async def test_a_stalled_handshake_answers_nothing_more(good):
    behaviour = PeerBehaviour(certificate=good.certificate, starttls=StartTls.STALLS)
    async with Peer(behaviour) as peer, Raw(peer) as raw:
        await raw.hear()
        await raw.say(b"STARTTLS\r\n")
        assert (await raw.hear()).startswith("220")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw.reader.read(1), 0.05)


async def test_versions_of_tls_are_bounded_on_both_sides(authority, good):
    old = PeerBehaviour(
        certificate=good.certificate, minimum_tls=ssl.TLSVersion.TLSv1_2, maximum_tls=ssl.TLSVersion.TLSv1_2
    )
    context = trusting(authority)
    async with Peer(old) as peer:
        await send(peer, start_tls=True, tls_context=context)
        assert (await peer.wait_messages())[0].tls_version == "TLSv1.2"
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with pytest.raises((aiosmtplib.SMTPException, OSError)):
            await send(peer, start_tls=True, tls_context=context)
    assert len(peer.handshake_failures) == 1


async def test_implicit_tls(authority, good):
    async with Peer(PeerBehaviour(certificate=good.certificate, implicit_tls=True)) as peer:
        await send(peer, use_tls=True, tls_context=trusting(authority), start_tls=None)
        assert (await peer.wait_messages())[0].tls_version == "TLSv1.3"
    assert peer.clear == b""


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
async def test_auth(authority, good, mechanism):
    behaviour = PeerBehaviour(certificate=good.certificate, credentials={"user": "right"})
    async with Peer(behaviour) as peer:
        async with client(peer, start_tls=True, tls_context=trusting(authority)) as smtp:
            await smtp.ehlo()
            with pytest.raises(aiosmtplib.SMTPAuthenticationError):
                await getattr(smtp, mechanism)("user", "wrong")
            await getattr(smtp, mechanism)("user", "right")
            await smtp.sendmail("s@x.example", ["a@x.example"], MESSAGE)
        assert (await peer.wait_messages())[0].identity == "user"
        async with client(peer) as smtp:
            await smtp.ehlo()
            assert not smtp.supports_extension("auth")


async def test_recipients_are_answered_one_by_one():
    behaviour = PeerBehaviour(recipients={"b@x.example": "550 5.1.1 No such user"})
    async with Peer(behaviour) as peer:
        refused, _ = await send(peer, ["a@x.example", "b@x.example"])
        assert refused["b@x.example"][0] == 550
        assert (await peer.wait_messages())[0].recipients == ("a@x.example",)
    by_rule = PeerBehaviour(recipients=lambda path: "452 4.2.2 Full" if path.startswith("full") else None)
    async with Peer(by_rule) as peer:
        refused, _ = await send(peer, ["full@x.example", "b@x.example"])
        assert set(refused) == {"full@x.example"}


async def test_greylisting_refuses_at_first():
    async with Peer(PeerBehaviour(greylist=Greylist(attempts=2))) as peer:
        for _ in range(2):
            with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
                await send(peer)
        await send(peer)
        assert len(await peer.wait_messages()) == 1
    async with Peer(PeerBehaviour(greylist=Greylist(seconds=3600))) as peer:
        for _ in range(3):
            with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
                await send(peer)


async def test_a_final_refusal_is_recorded_apart():
    async with Peer(PeerBehaviour(final="554 5.7.1 Spam")) as peer:
        with pytest.raises(aiosmtplib.SMTPDataError):
            await send(peer)
        assert peer.messages == []
        assert [message.reply for message in peer.refused] == ["554 5.7.1 Spam"]
    async with Peer(PeerBehaviour(final=lambda message: f"250 2.0.0 {len(message.content)} octets")) as peer:
        assert (await send(peer))[1] == f"2.0.0 {len(MESSAGE)} octets"


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data", "body", "final"])
async def test_the_connection_drops_where_it_should(stage):
    async with Peer(PeerBehaviour(drop_at=stage)) as peer:
        with pytest.raises((aiosmtplib.SMTPException, OSError)):
            await send(peer)
        assert peer.messages == []


async def test_a_stalled_stage_never_answers():
    async with Peer(PeerBehaviour(stall_at="mail")) as peer, Raw(peer) as raw:
        await raw.hear()
        await raw.say(b"EHLO c\r\nMAIL FROM:<a@x.example>\r\n")
        await raw.hear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw.reader.read(1), 0.05)


async def test_a_refusing_banner_ends_the_connection():
    async with Peer(PeerBehaviour(banner="421 4.3.2 Too busy")) as peer, Raw(peer) as raw:
        assert await raw.hear() == "421 4.3.2 Too busy\r\n"
        assert await raw.hear() == ""


async def test_behaviour_changes_after_so_many_connections(good):
    later = PeerBehaviour(banner="421 4.3.2 Gone")
    middle = PeerBehaviour(starttls=StartTls.ABSENT, connections=1, then=later)
    first = PeerBehaviour(certificate=good.certificate, connections=2, then=middle)
    async with Peer(first) as peer:
        seen = []
        for _ in range(5):
            async with Raw(peer) as raw:
                banner = await raw.hear()
                if banner.startswith("4"):
                    seen.append("gone")
                    continue
                await raw.say(b"EHLO c\r\n")
                seen.append("tls" if "STARTTLS" in await raw.hear() else "clear")
        await peer.wait_connections(5)
    assert seen == ["tls", "tls", "clear", "gone", "gone"]


async def test_only_crlf_dot_crlf_ends_a_message_and_commands_are_pipelined():
    async with Peer() as peer, Raw(peer) as raw:
        await raw.say(
            b"EHLO c\r\nMAIL FROM:<a@x.example> BODY=8BITMIME\r\nRCPT TO:<b@x.example> NOTIFY=NEVER\r\nDATA\r\n"
            b"one\n.\ntwo\r.\r\nthree\r\n.\r\nRSET\r\nQUIT\r\n"
        )
        [message] = await peer.wait_messages()
    assert message.content == b"one\n.\ntwo\r.\r\nthree\r\n"
    assert message.parameters == ("BODY=8BITMIME",)
    assert message.recipient_parameters == {"b@x.example": ("NOTIFY=NEVER",)}
    assert peer.commands[-2:] == ["RSET", "QUIT"] or peer.commands[3] == "DATA"


async def test_helo_only_servers_and_slow_ones():
    async with Peer(PeerBehaviour(ehlo="502 5.5.1 What", delay=0.001)) as peer:
        await send(peer)
        assert len(await peer.wait_messages()) == 1


async def test_waiting_says_what_was_missing():
    async with Peer() as peer:
        with pytest.raises(TimeoutError, match="wanted 2 messages; there were 0 connections"):
            await peer.wait_messages(2, timeout=0.01)


async def test_a_message_may_be_empty():
    async with Peer() as peer, Raw(peer) as raw:
        await raw.say(b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n.\r\n")
        [message] = await peer.wait_messages()
    assert (message.sender, message.content) == ("", b"")
