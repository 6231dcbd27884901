"""Mail that comes back, over sockets: a Postfix that takes mail and bounces it later, and what strangers send us."""

import asyncio
import contextlib
import os
import re
import signal
import smtplib
import time
from email import message_from_bytes
from email.policy import default

import pytest

from relay.config.keyfiles import load_ring, update_ring
from relay.core.address import Address
from relay.core.suppression import Cause, Suppression
from relay.demo.ports import free_port
from relay.protect.returnpath import ReturnPath, ReturnPaths
from tests.support.composed import composed
from tests.support.peers import Postfix
from tests.support.system import (
    OPEN_POLICY,
    SENDER,
    audit,
    clinic,
    domain,
    drained,
    end,
    fates,
    log_lines,
    system,
    until,
)

pytestmark = [pytest.mark.timeout(480)]

RETURN = "return.clinic.example"
GONE = "gone.patient@real.example"
INSIDE = {
    "name": "inside", "kind": "relay", "tls": "none", "networks": ["127.0.0.0/8"],
    "trust_networks": {"127.0.0.1/32": "ehr"}, "reports": True,
}  # fmt: skip
STRANGER = "127.0.0.9"
_ANY = re.IGNORECASE
SETTINGS = {
    "returns": {
        "domain": RETURN, "complaints": ["fbl@clinic.example"], "dmarc": ["dmarc@clinic.example"],
        "tls": ["tlsrpt@clinic.example"], "message_size": "256KiB",
    }
}  # fmt: skip
PLANTED = ("Planted Subject", "Zacharias Planted", "MRN 4471182", "planted-diagnosis")
CONTENT = (
    b"From: EHR <ehr@clinic.example>\r\nTo: <gone.patient@real.example>\r\nSubject: Planted Subject\r\n"
    b"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <planted-1@clinic.example>\r\n\r\n"
    b"Zacharias Planted, MRN 4471182: planted-diagnosis\r\n"
)


class LatePostfix(Postfix):
    """One that takes everything, and finds out afterwards that nobody is there; its bounces go to ``relayhost``."""

    def _write(self):
        super()._write()
        with (self.directory / "etc" / "main.cf").open("a") as settings:
            # Its smtpd would refuse a recipient whose own transport is an error: the alias is followed only later.
            settings.write(f"virtual_alias_maps = inline:{{ {{{GONE} = nobody@gone.real.example}} }}\n")
            settings.write("transport_maps = inline:{ {gone.real.example = error:5.1.1 User unknown: no such box} }\n")
            settings.write(f"smtp_bind_address = {STRANGER}\nnotify_classes =\n")


@contextlib.asynccontextmanager
async def site_with(tmp_path, *domains, routes=(), settings=None, **options):
    async with system(
        tmp_path, clinic(), *domains, inside=INSIDE, routes=routes, settings=SETTINGS | (settings or {}), **options
    ) as found:
        yield found


def send(site, recipient, content=CONTENT, *, sender=SENDER, source="127.0.0.1", options=()):
    """What a message is answered: at RCPT or at the final dot."""
    with smtplib.SMTP(*site.relay, timeout=60, source_address=(source, 0)) as client:
        client.ehlo("peer.example")
        code, text = client.mail(sender, options)
        if code == 250:
            code, text = client.rcpt(recipient)
        if code == 250:
            code, text = client.data(content)
        return code, text.decode()


async def sending(site, *args, **kwargs):
    return await asyncio.to_thread(send, site, *args, **kwargs)


def returns_of(peer):
    """The return addresses that a peer was given."""
    return [found[1] for line in peer.commands if (found := re.match(rf"MAIL FROM:<([^>]*@{RETURN})>", line, _ANY))]


def a_dsn(original, recipient, reason="smtp; 550 5.1.1 User unknown", *, action="failed", status="5.1.1", extra=""):
    return (
        f"From: MAILER-DAEMON@real.example\r\nTo: <{original}>\r\nSubject: Undelivered\r\n"
        "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nPlanted Subject could not be delivered to Zacharias Planted.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.real.example\r\n\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: {reason}\r\n\r\n"
        "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: Planted Subject\r\n\r\nplanted-diagnosis\r\n"
        f"{extra}--b--\r\n"
    ).encode()


async def passed_on(internet, count=1):
    """The messages that the clinic's own server got."""
    peer = internet.peers["clinic.example"]
    async with asyncio.timeout(60), peer.changed:
        await peer.changed.wait_for(lambda: len(peer.messages) >= count)
    return [message.content for message in peer.messages]


def results(site, result):
    """Log lines of reports that came to this."""
    return [line for line in log_lines(site) if line["event"] == "report read" and line["result"] == result]


def check_silent(site, *texts):
    """Nothing of the message is in what we wrote."""
    written = site.log.read_text()
    for word in (*PLANTED, "gone.patient"):
        assert word not in written
    for text in texts:
        for word in PLANTED:
            assert word.encode() not in text, word


@contextlib.asynccontextmanager
async def worker_with(tmp_path, *domains):
    """One worker in this process: quicker to start than a site, and what it knows can be looked at."""
    folder = tmp_path / "policy-source"
    folder.mkdir()
    (folder / "main.yaml").write_text(OPEN_POLICY)
    listener = INSIDE | {"address": "127.0.0.1", "port": free_port()}
    settings = SETTINGS | {"listeners": [listener]}
    async with composed(tmp_path, clinic(), *domains, settings=settings, policy=folder) as it:
        it.site.relay = (listener["address"], listener["port"])
        yield it, it.internet


async def suppressed(it, mailbox):
    """The causes for which a mailbox is suppressed."""
    return [item.cause.value for item in await it.worker._standing.listed.find(Address.parse(mailbox))]


async def came_to(it, result, count=1):
    """Wait until so many reports came to this."""
    await until(lambda: it.log() and len(results(it.site, result)) >= count)


@pytest.mark.peers
async def test_the_full_circle_with_a_postfix_that_bounces_later(tmp_path):
    async with worker_with(tmp_path) as (it, internet):
        site, host = it.site, "127.0.2.1"
        internet.dns.set("real.example", {"MX": ["10 mx.real.example."]})
        internet.dns.set("mx.real.example", {"A": [host]})
        certificate = site.authority.issue("mx.real.example")
        async with LatePostfix(
            address=host, port=internet.port, domain="real.example", certificate=certificate, relayhost=site.relay
        ) as postfix:
            assert (await sending(site, GONE))[0] == 250
            (notice,) = await passed_on(internet)
            report = message_from_bytes(notice, policy=default)
            assert report["To"] == SENDER
            assert report["References"] == "<planted-1@clinic.example>"
            status = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
            fields = status.get_payload()[1]
            assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
            assert fields["Final-Recipient"] == f"rfc822; {GONE}"
            assert b"User unknown" in b" ".join(notice.split())
            it.log()
            check_silent(site, notice)

            assert await suppressed(it, GONE) == ["hard-bounce"]
            await it.worker._standing.view.refresh()
            code, text = await sending(site, GONE)
            assert (code, text.partition(" ")[0]) == (550, "5.1.1")
            assert "suppressed" in text
            assert (await sending(site, "other@real.example"))[0] == 250
            arrived = (await postfix.wait_mail(1))[0]
            assert f"@{RETURN}".encode() in arrived  # Return-Path: signed too
            await it.wait_gone()
        events = await it.events()
        accepted = [event.message_id for event in events if event.kind == "accepted"]
        (returned,) = (event for event in events if event.kind == "returned")
        assert (returned.message_id, returned.facts["class"]) == (accepted[0], "invalid-recipient")
        assert [event.facts["cause"] for event in events if event.kind == "suppressed"] == ["hard-bounce"]
        ends = {event.message_id: event.facts["fate"] for event in events if event.kind == "fate"}
        assert ends[accepted[0]] == "delivered"
        assert ends[returned.facts["report"]] == "processed"


async def test_what_strangers_send_to_our_addresses(tmp_path):
    """One worker for all of it: to start one takes longer than anything that is shown here."""
    async with worker_with(tmp_path, domain("mail.example")) as (it, internet):
        signed = {}
        for name in ("first", "second", "third"):
            assert (await sending(it.site, f"{name}@mail.example"))[0] == 250
            peer = internet.peers["mail.example"]
            await until(lambda: len(returns_of(peer)) == len(signed) + 1)  # noqa: B023  waited for in this round
            signed[name] = returns_of(peer)[-1]
        await forged_enormous_and_looping_ones_are_refused_at_the_door(it, internet, signed["first"])
        await replies_delays_and_what_nobody_understands_are_told_once(it, internet, signed["second"])
        await a_complaint_counts_only_with_an_address_that_we_signed(it, signed["third"])


async def forged_enormous_and_looping_ones_are_refused_at_the_door(it, internet, true):
    mailbox, site = "first@mail.example", it.site

    async def bounce(recipient, content=None, **fields):
        content = content or a_dsn(recipient, mailbox)
        return await sending(site, recipient, content, sender="", source=STRANGER, **fields)

    forged = true.replace("-1.0-", "-2.0-")
    assert await bounce(forged) == (550, "5.1.1 No such return address: nothing was sent from it")
    assert (await bounce(f"anything@{RETURN}"))[0] == 550
    assert (await bounce("ehr@clinic.example"))[0] == 550  # nothing else is taken from strangers
    assert "552" in str(await bounce(true, options=("SIZE=1000000",)))
    huge = a_dsn(true, mailbox, extra=("x" * 70 + "\r\n") * 8_000)
    assert (await bounce(true, huge))[0] == 552
    loop = b"Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\r\n" * 101 + a_dsn(true, mailbox)
    assert (await bounce(true, loop))[1].startswith("5.4.6")
    letter = b"From: <first@mail.example>\r\nSubject: hello\r\n\r\nMay I ask something?\r\n"
    code, text = await sending(site, true, letter, sender=mailbox, source=STRANGER)
    assert (code, text.partition(" ")[0]) == (550, "5.7.1")
    for address in ("fbl@clinic.example", "dmarc@clinic.example", "tlsrpt@clinic.example"):
        assert (await sending(site, address, letter, sender="", source=STRANGER))[0] == 550
    assert internet.peers["clinic.example"].messages == []

    assert (await bounce(true))[0] == 250
    await passed_on(internet)
    assert (await bounce(true))[0] == 250  # again: counted, and nobody is told twice
    await came_to(it, "repeated")
    assert len(internet.peers["clinic.example"].messages) == 1
    assert await suppressed(it, mailbox) == ["hard-bounce"]


async def replies_delays_and_what_nobody_understands_are_told_once(it, internet, true):
    mailbox, site = "second@mail.example", it.site
    away = (
        b"From: <second@mail.example>\r\nSubject: Out of office: Planted Subject\r\n"
        b"Auto-Submitted: auto-replied\r\n\r\nplanted-diagnosis keeps me away.\r\n"
    )
    repeated = len(results(site, "repeated"))
    for _ in range(3):
        assert (await sending(site, true, away, sender="", source=STRANGER))[0] == 250
    await passed_on(internet, 2)
    delay = a_dsn(true, mailbox, "smtp; 450 4.2.2 Mailbox full", action="delayed", status="4.2.2")
    assert (await sending(site, true, delay, sender="", source=STRANGER))[0] == 250
    await passed_on(internet, 3)
    odd = b"From: someone@mail.example\r\nSubject: Planted Subject\r\n\r\nZacharias Planted\r\n"
    assert (await sending(site, true, odd, sender="", source=STRANGER))[0] == 250
    told = (await passed_on(internet, 4))[1:]
    reply, late, unclear = (b" ".join(one.split()) for one in told)
    assert b"Automatic reply to your message" in reply
    assert b"second@mail.example" in reply
    assert b"Action: delayed" in late
    assert b"could not be understood" in unclear
    await came_to(it, "repeated", repeated + 2)
    check_silent(site, *told)
    assert await suppressed(it, mailbox) == []


async def a_complaint_counts_only_with_an_address_that_we_signed(it, true):
    mailbox, site = "third@mail.example", it.site

    async def complain(mail_from):
        content = (
            "From: fbl@mail.example\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
            "--b\r\nContent-Type: text/plain\r\n\r\nan abuse report\r\n"
            "--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n"
            f"Original-Mail-From: <{mail_from}>\r\nOriginal-Rcpt-To: <{mailbox}>\r\n\r\n"
            "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: Planted Subject\r\n\r\n--b--\r\n"
        ).encode()
        return await sending(site, "fbl@clinic.example", content, sender="fbl@mail.example", source=STRANGER)

    assert (await complain("ehr@clinic.example"))[0] == 250
    await came_to(it, "unmatched")
    assert await suppressed(it, mailbox) == []
    assert (await complain(true))[0] == 250
    await came_to(it, "complaint")
    assert await suppressed(it, mailbox) == ["complaint"]
    await it.worker._standing.view.refresh()
    code, text = await sending(site, mailbox)
    assert code == 550
    assert "complained" in text


async def test_a_copy_that_waits_for_a_suppressed_mailbox_ends_and_a_rotated_key_still_takes_bounces(tmp_path):
    slow = domain("slow.example", final="451 4.3.0 Come back later")
    async with worker_with(tmp_path, domain("mail.example"), slow) as (it, internet):
        site = it.site
        assert (await sending(site, "pat@slow.example"))[0] == 250
        await it.wait_entry(lambda entry: entry.attempts >= 1)
        asked = Suppression(
            address=Address.parse("pat@slow.example"), cause=Cause.OPERATOR, evidence="asked to", since=time.time()
        )
        await it.worker._standing.listed.suppress(asked)
        await it.worker._standing.view.refresh()
        (notice,) = await passed_on(internet)
        assert b"Status: 5.7.1" in notice
        assert b"suppressed" in notice

        assert (await sending(site, "pat@mail.example"))[0] == 250
        peer = internet.peers["mail.example"]
        await until(lambda: returns_of(peer))
        (true,) = returns_of(peer)
        keys = site.directory / "keys"
        update_ring(keys, load_ring(keys).rotated(now=time.time(), random=os.urandom))
        await it.worker.reload()
        assert (await sending(site, true, a_dsn(true, "pat@mail.example"), sender="", source=STRANGER))[0] == 250
        await passed_on(internet, 2)
        assert await suppressed(it, "pat@mail.example") == ["hard-bounce"]
        assert await it.worker._standing.listed.renew() == 1
        await it.wait_gone()


@pytest.mark.law
async def test_law_1_a_bounce_that_was_answered_250_outlives_kills_and_tells_once(tmp_path):
    count = 6
    async with site_with(tmp_path, domain("mail.example"), workers=2) as (site, internet):
        peer = internet.peers["mail.example"]
        for number in range(count):
            assert (await sending(site, f"p{number}@mail.example"))[0] == 250
        await until(lambda: len(returns_of(peer)) == count)
        await drained(site)
        paths = ReturnPaths(lambda: load_ring(site.directory / "keys"), 14 * 86_400)
        assert all(isinstance(paths.read(Address.parse(one), time.time()), ReturnPath) for one in returns_of(peer))
        rcpts = [line for line in peer.commands if line.upper().startswith("RCPT")]
        named = [re.search(r"<([^>]*)>", line)[1] for line in rcpts]
        promised = 0
        for number, (true, mailbox) in enumerate(zip(returns_of(peer), named, strict=True)):
            with contextlib.suppress(OSError, smtplib.SMTPException):
                code, _ = await sending(site, true, a_dsn(true, mailbox), sender="", source=STRANGER)
                promised += code == 250
            if number % 3 == 2:
                for pid in await until(site.worker_pids):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await until(lambda: len(site.worker_pids()) == 2)
        assert promised
        notices = await passed_on(internet, promised)
        await drained(site)
        told = [re.search(rb"Final-Recipient: rfc822; (\S+)", notice)[1] for notice in notices]
        assert len(set(told)) == len(told) >= promised
        await end(site)
        assert all(len(found) == 1 for found in fates(audit(site)).values())
