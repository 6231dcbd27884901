"""REQUIRETLS and the portal (RFC 8689): a notice is no way round what the sender asked for.

The notice holds nothing of the message, but whoever reads it on the way can open the page and ask for the message
there: so it needs what the message needs. Where that cannot be had the sender is told, and the portal keeps nothing.
"""

import asyncio
import smtplib
import ssl

from relay.demo.behaviour import KEYWORDS, StartTls
from tests.support.system import SENDER, audit, clinic, domain, drained, end, fates, log_lines, system

from .test_portal_way import MESSAGE, WORDS, deposits

POLICY = """\
policy: falls
rules:
  - id: asked
    when: { subject: { tag: "[secure]" } }
    deliver: { methods: [portal], expire: 3s }
  - id: falls
    deliver: { methods: [tls, portal], tls: verified, within: 1s, expire: 3s }
"""


def submit(site, recipient, *, tag=b"", options=("REQUIRETLS",)):
    """Through the door that speaks TLS: only there is the word taken."""
    context = ssl.create_default_context(cafile=site.authority.root)
    context.check_hostname = False
    with smtplib.SMTP(*site.submission, timeout=60) as client:
        client.starttls(context=context)
        client.login("ehr", site.secret)
        client.sendmail(SENDER, [recipient], MESSAGE % (recipient.encode(), tag, b""), mail_options=list(options))


async def test_where_the_path_cannot_do_it_no_notice_goes_and_the_sender_is_told(tmp_path):
    plain = domain("mail.example", starttls=StartTls.ABSENT)
    unknowing = domain("verified.example")
    async with system(tmp_path, plain, unknowing, clinic(), policy=POLICY, portal=True) as (site, internet):
        for recipient, tag in (("pat@mail.example", b"[secure] "), ("sam@verified.example", b"")):
            await asyncio.to_thread(submit, site, recipient, tag=tag)
        await internet.peers["clinic.example"].wait_messages(2, timeout=120)
        await drained(site, deadline=120)
        assert internet.peers["mail.example"].messages == []
        assert internet.peers["verified.example"].messages == [], "verified is not authenticated: nobody vouches for it"
        for dsn in internet.peers["clinic.example"].messages:
            assert b"Action: failed" in dsn.content
            assert not any(word in dsn.content for word in WORDS[:2])
        rows = deposits(site)
        assert rows
        assert {row["state"] for row in rows} == {"withdrawn"}, "the portal keeps nothing that nobody was told of"
        await end(site)
        kinds = {fate["fate"] for told in fates(audit(site)).values() for fate in told}
        assert kinds <= {"bounced", "expired", "delivered"}
        assert not any(word.decode() in repr(log_lines(site)) for word in WORDS[:3])


async def test_where_the_path_can_do_it_the_notice_goes_that_way(tmp_path):
    """A route vouches for its name; the next server knows the word, and gets it with the notice."""
    able = domain("able.example", route=True, keywords=(*KEYWORDS, "REQUIRETLS"))
    async with system(tmp_path, able, clinic(), policy=POLICY, portal=True) as (site, internet):
        await asyncio.to_thread(submit, site, "pat@able.example", tag=b"[secure] ")
        peer = internet.peers["able.example"]
        await peer.wait_messages(1, timeout=120)
        await drained(site, deadline=120)
        (notice,) = peer.messages
        assert "REQUIRETLS" in notice.parameters
        assert notice.tls_version
        assert not any(word in notice.content for word in WORDS)
        assert [row["state"] for row in deposits(site)] == ["waiting"]
