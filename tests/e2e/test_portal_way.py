"""The portal's way from outside: a copy that no server may have goes there, and its end is in the audit trail."""

import asyncio
import re
from email import message_from_bytes, policy

import aiosmtplib
import dkim
import pytest

from relay.demo.behaviour import StartTls

from tests.support.system import SENDER, audit, clinic, domain, drained, fates, system, until

FALLS = """\
policy: falls
rules:
  - id: results
    when: { header: { name: X-Kind, present: true } }
    deliver: { methods: [tls, portal], tls: verified, within: 1s }
    portal: { receipts: true }
  - id: asked
    when: { subject: { tag: "[secure]" } }
    deliver: { methods: [portal] }
  - id: rest
    deliver: { methods: [tls], tls: opportunistic }
"""
WORDS = (b"Jane Roe", b"HbA1c", b"Your result", b"8.1")
MESSAGE = (
    b"From: Dr. Ada Example <ehr@clinic.example>\r\nTo: %s\r\nSubject: %sYour result\r\n"
    b"Date: Mon, 02 Mar 2026 09:00:00 +0000\r\nMessage-ID: <one@clinic.example>\r\n%s\r\n"
    b"Dear Jane Roe, your HbA1c is 8.1 %%.\r\n"
)


async def send(site, *recipients, tag=b"", headers=b""):
    host, port = site.relay
    content = MESSAGE % (", ".join(recipients).encode(), tag, headers)
    async with aiosmtplib.SMTP(hostname=host, port=port, start_tls=False) as client:
        _, answer = await client.sendmail(SENDER, list(recipients), content)
    return answer.rpartition(" ")[2]


def link_of(notice):
    text = notice.get_body(("plain",)).get_content()
    return re.search(r"http://localhost:\d+/m/([A-Za-z0-9_-]{22})\b", text)[1]


def deposits(site, *arguments):
    import json

    return [json.loads(line) for line in site.postern("portal", "list", "--json", *arguments).splitlines() if line]


@pytest.mark.parametrize("kept_in", ["sqlite"])
async def test_a_copy_that_may_not_go_in_the_clear_goes_to_the_portal_and_a_notice_to_its_reader(tmp_path, kept_in):
    plain = domain("mail.example", starttls=StartTls.ABSENT)
    async with system(tmp_path, plain, clinic(), policy=FALLS, portal=True) as (site, internet):
        message_id = await send(site, "pat@mail.example", "sam@mail.example", headers=b"X-Kind: lab\r\n")
        await internet.peers["mail.example"].wait_messages(2, timeout=40)
        await drained(site)
        taken = internet.peers["mail.example"].messages
        raws = [one.content for one in taken]
        assert sorted(one.recipients[0] for one in taken) == ["pat@mail.example", "sam@mail.example"]
        for raw in raws:
            assert not any(word in raw for word in WORDS), raw
        notices = [message_from_bytes(raw, policy=policy.default) for raw in raws]
        assert {notice["From"].addresses[0].addr_spec for notice in notices} == {"secure@clinic.example"}
        ids = {link_of(notice) for notice in notices}
        assert len(ids) == 2, "each reader has a link of their own"
        for raw in raws:
            assert b"d=clinic.example" in raw.partition(b"\r\n\r\n")[0], "the notice is signed"
        rows = deposits(site)
        assert {row["id"] for row in rows} == ids
        assert {(row["state"], row["reason"], row["rule"]) for row in rows} == {
            ("waiting", "level-not-reached", "results")
        }
        receipts = internet.peers["clinic.example"]
        await receipts.wait_messages(2, timeout=20)
        assert all(b"A notice of your secure message was sent" in one.content for one in receipts.messages)
        told = fates(audit(site))
        assert [fate["fate"] for fate in told[message_id, 0]] == ["notified"]
        assert [fate["fate"] for fate in told[message_id, 1]] == ["notified"]
