"""The portal's way from outside: a copy that no server may have goes there, and its end is in the audit trail."""

import json
import re
from email import message_from_bytes, policy

import aiosmtplib
import pytest

from relay.demo.behaviour import StartTls
from tests.support.system import SENDER, audit, clinic, domain, drained, end, fates, log_lines, system

pytestmark = pytest.mark.timeout(480)
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
    return [json.loads(line) for line in site.postern("portal", "list", "--json", *arguments).splitlines() if line]


async def test_a_copy_that_may_not_go_in_the_clear_goes_to_the_portal_and_a_notice_to_its_reader(tmp_path):
    plain = domain("mail.example", starttls=StartTls.ABSENT)
    async with system(tmp_path, plain, clinic(), policy=FALLS, portal=True) as (site, internet):
        message_id = await send(site, "pat@mail.example", "sam@mail.example", headers=b"X-Kind: lab\r\n")
        await internet.peers["mail.example"].wait_messages(2, timeout=90)
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
        await receipts.wait_messages(2, timeout=90)
        assert all(b"A notice of your secure message was sent" in one.content for one in receipts.messages)
        await end(site)
        told = fates(audit(site))
        assert [fate["fate"] for fate in told[message_id, 0]] == ["notified"]
        assert [fate["fate"] for fate in told[message_id, 1]] == ["notified"]


async def test_operators_list_recall_extend_and_resend_and_a_refused_notice_withdraws(tmp_path):
    """Everything that an operator does, and a notice that a server refuses: each with one fate in the trail."""
    open_to_all = domain("mail.example", starttls=StartTls.ABSENT)
    closed = domain("closed.example", recipients={"gone@closed.example": "550 5.1.1 no such user"})
    async with system(tmp_path, open_to_all, closed, clinic(), policy=FALLS, portal=True) as (site, internet):
        first = await send(site, "pat@mail.example", tag=b"[secure] ")
        refused = await send(site, "gone@closed.example", tag=b"[secure] ")
        peer = internet.peers["mail.example"]
        await peer.wait_messages(1, timeout=90)
        await internet.peers["clinic.example"].wait_messages(1, timeout=90)
        await drained(site)
        (row,) = deposits(site, "--message", first)
        assert (row["state"], row["reason"], row["mailbox"]) == ("waiting", "rule", "pat@mail.example")
        (gone,) = deposits(site, "--message", refused)
        assert gone["state"] == "withdrawn"
        (dsn,) = internet.peers["clinic.example"].messages
        assert b"Action: failed" in dsn.content
        assert not any(word in dsn.content for word in WORDS)
        site.postern("portal", "extend", first, "--days", "60", "--reason", "on holiday")
        site.postern("portal", "resend", row["id"], "--reason", "lost")
        await peer.wait_messages(2, timeout=90)
        assert link_of(message_from_bytes(peer.messages[1].content, policy=policy.default)) == row["id"]
        assert deposits(site, "--mailbox", "pat@mail.example")[0]["expires_at"] > row["expires_at"]
        site.postern("portal", "recall", first, "--reason", "wrong patient")
        assert deposits(site, "--state", "recalled")[0]["id"] == row["id"]
        with pytest.raises(RuntimeError, match="recalled"):
            site.postern("portal", "resend", first, "--reason", "too late")
        with pytest.raises(RuntimeError, match="neither"):
            site.postern("portal", "recall", "nothing", "--reason", "no such thing")
        await drained(site)
        await end(site)
        records = audit(site)
        told = fates(records)
        assert [fate["fate"] for fate in told[first, 0]] == ["notified", "recalled"]
        assert [fate["fate"] for fate in told[refused, 0]] == ["bounced"]
        (recalled,) = [fate for fate in told[first, 0] if fate["fate"] == "recalled"]
        assert (recalled["operator"], recalled["why"]) == ("root", "wrong patient")
        happened = [record["facts"]["event"] for record in records if record["kind"] == "portal"]
        assert sorted(happened) == ["deposited", "deposited", "extended", "resent", "withdrawn"]
        text = repr(log_lines(site))
        for word in ("pat@", "Jane", "HbA1c", "Your result"):
            assert word not in text
