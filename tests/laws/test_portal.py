"""The laws over messages in the portal: kept, never below the floor, silent, one fate each, sealed."""

import asyncio
import json
import re
from collections import Counter, defaultdict
from email import message_from_bytes, policy

import aiosmtplib
import pytest

from relay.app.portal_store import open_portal
from relay.config.load import load
from relay.demo.behaviour import StartTls
from tests.support.system import SENDER, audit, clinic, domain, drained, end, fates, kill_all, log_lines, system

pytestmark = [pytest.mark.law, pytest.mark.timeout(400)]

TO_THE_PORTAL = """\
policy: portal
rules:
  - id: asked
    when: { subject: { tag: "[secure]" } }
    deliver: { methods: [portal], otherwise: hold }
  - id: falls
    deliver: { methods: [tls, portal], tls: verified, within: 1s }
"""
PLANTED = ("Jane Roe", "HbA1c", "8.1 %", "Your result", "03/04/1961", "MRN 00482913")
TEXT = "Dear Jane Roe (DOB 03/04/1961, MRN 00482913), your HbA1c is 8.1 %.\r\n"


def a_message(number, *recipients, tag=""):
    return (
        f"From: Dr. Ada Example <{SENDER}>\r\nTo: {', '.join(recipients)}\r\nSubject: {tag}Your result {number}\r\n"
        f"Message-ID: <{number}@clinic.example>\r\n\r\n{TEXT}"
    ).encode()


async def send(site, number, *recipients, tag=""):
    host, port = site.relay
    async with aiosmtplib.SMTP(hostname=host, port=port, start_tls=False) as client:
        _, answer = await client.sendmail(SENDER, list(recipients), a_message(number, *recipients, tag=tag))
    return answer.rpartition(" ")[2]


def link(raw):
    text = message_from_bytes(raw, policy=policy.default).get_body(("plain",)).get_content()
    return re.search(r"/m/([A-Za-z0-9_-]{22})\b", text)[1]


def deposits(site):
    return [json.loads(line) for line in site.postern("portal", "list", "--json").splitlines() if line]


class NoMetrics:
    def count(self, *_): ...


async def contents(site, ids):
    """What the portal itself would show, read from its store."""
    settings = load(site.config)
    store = await open_portal(settings, settings.portal, NoMetrics())
    try:
        return {one: b"".join([piece async for piece in store.deposits.content(one)]) for one in ids}
    finally:
        await store.close()


async def test_whatever_is_killed_each_recipient_has_one_message_one_fate_and_a_notice_that_leads_to_it(
    tmp_path, usual_store
):
    """Laws 1 and 5: SIGKILL for every process while messages go to the portal."""
    plain = domain("mail.example", starttls=StartTls.ABSENT)
    options = {"policy": TO_THE_PORTAL, "portal": True, "workers": 2, "store": usual_store}
    async with system(tmp_path, plain, clinic(), **options) as (site, internet):
        sent = {}
        for life in range(2):
            for number in range(4):
                name = f"{life}{number}"
                recipients = (f"a{name}@mail.example", f"b{name}@mail.example")
                tag = "[secure] " if number % 2 else ""
                sent[await send(site, name, *recipients, tag=tag)] = recipients
            if life < 1:
                await kill_all(site)
                await site.start()
        await drained(site, deadline=100)
        rows = deposits(site)
        per_recipient = Counter((row["message_id"], row["number"]) for row in rows)
        expected = {(message_id, number) for message_id, both in sent.items() for number in range(len(both))}
        assert set(per_recipient) == expected
        assert set(per_recipient.values()) == {1}
        notices = defaultdict(set)
        for taken in internet.peers["mail.example"].messages:
            assert not any(word.encode() in taken.content for word in PLANTED)
            notices[taken.recipients[0]].add(link(taken.content))
        mailbox = {row["mailbox"]: row["id"] for row in rows}
        assert {name: {found} for name, found in mailbox.items()} == notices
        shown = await contents(site, mailbox.values())
        assert all(TEXT.encode() in content for content in shown.values())
        await end(site)
        told = fates(audit(site))
        for key in expected:
            assert [fate["fate"] for fate in told[key]] == ["notified"], key
        print(f"\n{len(expected)} recipients, {len(internet.peers['mail.example'].messages)} notices, 1 kill")


async def test_nothing_of_a_patient_is_outside_what_is_sealed(tmp_path):
    """Laws 4 and 7: the portal's file, the log, the metrics and the notices, searched for planted words."""
    plain = domain("mail.example", starttls=StartTls.ABSENT)
    async with system(tmp_path, plain, clinic(), policy=TO_THE_PORTAL, portal=True) as (site, internet):
        await send(site, "1", "pat@mail.example", tag="[secure] ")
        await internet.peers["mail.example"].wait_messages(1, timeout=60)
        await drained(site)
        host, port = site.admin
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        metrics = (await reader.read()).decode()
        writer.close()
        assert 'postern_portal_fallback_total{reason="rule"} 1' in metrics
        files = [*(site.directory / "data" / "portal").iterdir()]
        at_rest = b"".join(file.read_bytes() for file in files)
        (row,) = deposits(site)
        assert row["id"].encode() in at_rest, "the file was looked at"
        outside = at_rest + metrics.encode() + repr(log_lines(site)).encode()
        outside += b"".join(one.content for one in internet.peers["mail.example"].messages)
        for word in PLANTED:
            assert word.encode() not in outside, word
        assert b"pat@" not in at_rest + metrics.encode() + repr(log_lines(site)).encode()


async def test_a_notice_of_a_specially_protected_kind_does_not_travel_in_the_clear(tmp_path):
    """Law 2: its notice waits rather than go below ``encrypted``."""
    plain = domain("mail.example", starttls=StartTls.ABSENT)
    tls = domain("tls.example", certificate="self-signed")
    async with system(tmp_path, plain, tls, clinic(), policy=TO_THE_PORTAL, portal=True) as (site, internet):
        special = TEXT.replace("HbA1c is 8.1 %", "HIV viral load test is positive; start Biktarvy")
        for number, name in enumerate(("pat@mail.example", "sam@tls.example")):
            content = a_message(number, name, tag="[secure] ").replace(TEXT.encode(), special.encode())
            host, port = site.relay
            async with aiosmtplib.SMTP(hostname=host, port=port, start_tls=False) as client:
                await client.sendmail(SENDER, [name], content)
        await internet.peers["tls.example"].wait_messages(1, timeout=60)
        await internet.peers["mail.example"].wait_connections(2, timeout=60)
        assert internet.peers["mail.example"].messages == []
        assert all(not one.clear for one in internet.peers["tls.example"].messages)
        assert {row["secret"] for row in deposits(site)} == {"shared"}
