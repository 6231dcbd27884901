"""NOTIFY, RET, ENVID and ORCPT (RFC 3461) from a client to next hops of all kinds, and what the sender hears of it."""

import asyncio
import contextlib
import smtplib
from email import message_from_bytes
from email.policy import default

import pytest

from relay.core.address import Address
from relay.core.envelope import Recipient
from relay.core.level import Level
from relay.core.outcome import Transaction
from relay.demo.behaviour import KEYWORDS, PeerBehaviour
from relay.demo.ports import free_port
from relay.demo.site import free_port as port_for_opensmtpd
from relay.worker import asking
from tests.support.composed import composed
from tests.support.net import contexts
from tests.support.opensmtpd import OpenSmtpd
from tests.support.peers import Postfix
from tests.support.system import OPEN_POLICY, SENDER, clinic, domain
from tests.support.trust import CERTIFICATES, GOOD, world

pytestmark = [pytest.mark.timeout(400)]

RETURN = "return.clinic.example"
STRANGER = "127.0.0.9"
INSIDE = {
    "name": "inside", "kind": "relay", "tls": "none", "networks": ["127.0.0.0/8"],
    "trust_networks": {"127.0.0.1/32": "ehr"}, "reports": True,
}  # fmt: skip
CONTENT = (
    b"From: EHR <ehr@clinic.example>\r\nTo: <pat@postfix.example>\r\nSubject: Planted Subject\r\n"
    b"Message-ID: <planted-1@clinic.example>\r\n\r\nplanted-diagnosis\r\n"
)
WITHOUT_DSN = tuple(word for word in KEYWORDS if word != "DSN")
ASKED = ("ENVID=QQ+2B314", "RET=FULL")


@contextlib.asynccontextmanager
async def a_worker(tmp_path, *domains, **settings):
    """One worker; the sender's own domain hears what is told."""
    folder = tmp_path / "policy-source"
    folder.mkdir()
    (folder / "main.yaml").write_text(OPEN_POLICY)
    listener = INSIDE | {"address": "127.0.0.1", "port": free_port()}
    async with composed(
        tmp_path, clinic(), *domains, settings={"listeners": [listener], **settings}, policy=folder
    ) as it:
        it.site.relay = (listener["address"], listener["port"])
        yield it


async def send(it, recipients, sender=SENDER):
    """Hand a message in; ``recipients``: mailbox to what RCPT asks for."""

    def speak():
        with smtplib.SMTP(*it.site.relay, timeout=60) as client:
            client.ehlo("ehr")
            assert client.has_extn("dsn")
            assert client.mail(sender, ASKED)[0] == 250
            for mailbox, wishes in recipients.items():
                assert client.rcpt(mailbox, wishes)[0] == 250
            assert client.data(CONTENT)[0] == 250

    await asyncio.to_thread(speak)


async def told(it, count):
    """What the sender's own server got: (per-message fields, those of each recipient, text) of each notice."""
    peer = it.internet.peers["clinic.example"]
    async with asyncio.timeout(60), peer.changed:
        await peer.changed.wait_for(lambda: len(peer.messages) >= count)
    assert len(peer.messages) == count
    return [_read(message) for message in peer.messages]


def _read(message):
    assert message.sender == ""
    assert message.recipients == (SENDER,)
    whole = message_from_bytes(message.content, policy=default)
    (status,) = (part for part in whole.walk() if part.get_content_type() == "message/delivery-status")
    head, *fields = status.get_payload()
    return head, fields, message.content


def actions(notices):
    """Who was said to have come to what."""
    return sorted(
        (fields["Final-Recipient"].partition(";")[2].strip(), fields["Action"])
        for _, every, _ in notices for fields in every
    )  # fmt: skip


@contextlib.asynccontextmanager
async def a_postfix(it, relayhost, *lines):
    """``postfix.example``, which sends its notices to ``relayhost``."""

    class Lined(Postfix):
        def _write(self):
            super()._write()
            with (self.directory / "etc" / "main.cf").open("a") as settings:
                settings.write("".join(f"{line}\n" for line in lines))

    it.internet.dns.set("postfix.example", {"MX": ["10 mx.postfix.example."]})
    it.internet.dns.set("mx.postfix.example", {"A": ["127.0.2.1"]})
    certificate = it.site.authority.issue("mx.postfix.example")
    async with Lined(
        address="127.0.2.1", port=it.internet.port, domain="postfix.example", certificate=certificate,
        relayhost=relayhost,
    ) as postfix:  # fmt: skip
        yield postfix


@pytest.mark.peers
async def test_a_postfix_reports_for_itself_and_we_do_for_a_server_without_dsn(tmp_path):
    plain = domain("plain.example", keywords=WITHOUT_DSN, recipients={"gone@plain.example": "550 5.1.1 No such user"})
    async with a_worker(tmp_path, plain) as it:
        home = it.internet.peers["clinic.example"]
        async with a_postfix(it, (home.host, home.port)) as postfix:
            await send(
                it,
                {
                    "pat@postfix.example": ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;P+2Bat@postfix.example"),
                    "sam@postfix.example": (),
                    "ann@plain.example": ("ORCPT=rfc822;Ann@old.example", "NOTIFY=SUCCESS"),
                    "ben@plain.example": ("NOTIFY=FAILURE",),
                    "gone@plain.example": ("NOTIFY=NEVER",),
                },
            )
            notices = await told(it, 2)
            assert len(await postfix.wait_mail(2)) == 2
        await it.wait_gone()
        assert actions(notices) == [("ann@plain.example", "relayed"), ("pat@postfix.example", "delivered")]
        originals = {head["Original-Envelope-Id"]: None for head, _, _ in notices}
        assert list(originals) == ["QQ+314"]
        shown = {fields["Original-Recipient"].replace("; ", ";") for _, every, _ in notices for fields in every}
        assert shown == {"rfc822;P+at@postfix.example", "rfc822;Ann@old.example"}
        (ours,) = (content for _, every, content in notices if every[0]["Action"] == "relayed")
        assert b"lanted Subject" not in ours
        assert b"planted-diagnosis" not in ours
        assert b"ben@plain.example" not in ours
        for text in (it.log(), repr(it.heard("plain.example"))):
            assert "QQ+" not in text
            assert "old.example" not in text
        ends = {event.facts["fate"] for event in await it.events() if event.kind == "fate"}
        assert ends == {"delivered", "bounced"}


@pytest.mark.peers
async def test_under_a_return_address_of_ours_all_is_known_and_only_what_was_asked_is_told(tmp_path):
    async with a_worker(tmp_path, returns={"domain": RETURN}) as it:
        gone = "virtual_alias_maps = inline:{ {gone@postfix.example = nobody@gone.example} }"
        nobody = "transport_maps = inline:{ {gone.example = error:5.1.1 User unknown: no such box} }"
        async with a_postfix(it, it.site.relay, gone, nobody, f"smtp_bind_address = {STRANGER}"):
            await send(it, {"gone@postfix.example": ("NOTIFY=NEVER",)})
            async with asyncio.timeout(60):
                while not (came := [event for event in await it.events() if event.kind == "returned"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await send(it, {"pat@postfix.example": ("NOTIFY=SUCCESS", "ORCPT=rfc822;P+2Bat@postfix.example")})
            notices = await told(it, 1)
            await it.wait_gone()
        assert came[0].facts["class"] == "invalid-recipient"
        ((head, (fields,), content),) = notices
        assert head["Reporting-MTA"] == "dns; relay.clinic.example"
        assert head["Original-Envelope-Id"] == "QQ+314"
        assert fields["Original-Recipient"] == "rfc822; P+at@postfix.example"
        assert (fields["Final-Recipient"], fields["Action"]) == ("rfc822; pat@postfix.example", "delivered")
        assert b"planted" not in content.replace(b"<planted-1@clinic.example>", b"").lower()


async def test_the_null_sender_hears_of_no_success(tmp_path):
    async with a_worker(tmp_path, domain("plain.example", keywords=WITHOUT_DSN)) as it:
        await send(it, {"ann@plain.example": ("NOTIFY=SUCCESS",)}, sender="")
        await it.wait_gone()
        assert len(it.internet.peers["plain.example"].messages) == 1
        assert [event.kind for event in await it.events() if event.kind == "notice"] == []
        assert it.internet.peers["clinic.example"].messages == []


@pytest.mark.peers
@pytest.mark.parametrize("offered", [True, False])
async def test_an_opensmtpd_takes_what_is_asked_and_passes_it_on(authority, offered):
    """It wants a mailbox of lawful length in ORCPT; ENVID may be as long as RFC 3461 lets it."""
    keywords = KEYWORDS if offered else WITHOUT_DSN
    original = "rfc822;" + "x" * 40 + "+2By@" + "z" * 60 + ".old.example"
    async with (
        world(authority, contexts(authority), PeerBehaviour(keywords=keywords)) as it,
        OpenSmtpd(
            address="127.0.0.1", port=port_for_opensmtpd(), certificate=CERTIFICATES["good"](authority),
            next_port=it.peer.port,
        ) as server,
    ):  # fmt: skip
        it.use_port(server.port)
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        assert session.features.dsn
        recipient = Recipient(
            address=Address.parse(f"pat@{GOOD}"), original=original, notify=frozenset({"FAILURE", "DELAY"})
        )
        asked = Transaction(
            reverse_path_text=SENDER, recipients=((0, recipient),), content=CONTENT, floor=Level.VERIFIED,
            envelope_id="e" * 97 + "+2B", ret="HDRS",
        )  # fmt: skip
        result = await session.transact(asked)
        await session.close()
        assert result.results[0].delivered
        (message,) = await it.peer.wait_messages()
        if offered:
            assert any(parameter.startswith("RET=HDRS") for parameter in message.parameters)
            given = " ".join(message.recipient_parameters[f"pat@{GOOD}"])
            assert original in given
            assert "FAILURE" in given
        else:
            assert message.recipient_parameters[f"pat@{GOOD}"] == ()


@pytest.mark.peers
async def test_an_opensmtpd_that_refuses_the_question_gets_the_message_without_it(authority):
    """It offers DSN, and takes no local part of more than 64 characters in ORCPT; RFC 3461 section 5.4 wants 500."""
    async with (
        world(authority, contexts(authority), PeerBehaviour()) as it,
        OpenSmtpd(
            address="127.0.0.1", port=port_for_opensmtpd(), certificate=CERTIFICATES["good"](authority),
            next_port=it.peer.port,
        ) as server,
    ):  # fmt: skip
        it.use_port(server.port)
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        original = f"rfc822;{'x' * 400}@old.example"
        recipients = tuple(
            (number, Recipient(address=Address.parse(f"{name}@{GOOD}"), original=original, notify=frozenset({wish})))
            for number, (name, wish) in enumerate((("pat", "SUCCESS"), ("sam", "NEVER")))
        )
        asked = Transaction(
            reverse_path_text=SENDER, recipients=recipients, content=CONTENT, floor=Level.VERIFIED, envelope_id="e1"
        )
        refused = (await session.transact(asked)).results
        assert {result.failure.reply.code for result in refused} <= {501, 553, 555}
        results, with_dsn = await asking.transact(session, asked)
        await session.close()
        assert [result.delivered for result in results] == [True, True]
        assert with_dsn == set()
        (message,) = await it.peer.wait_messages()
        assert sorted(message.recipients) == [f"pat@{GOOD}", f"sam@{GOOD}"]
