"""A whole Postern: a day's sessions become the next day's report, whatever the receiver's TLS; our policy is served."""

import asyncio
import contextlib
import http.client
import smtplib
import struct

import pytest

from relay.demo.behaviour import PeerBehaviour
from relay.demo.dns import DnsServer
from relay.demo.peer import Peer
from relay.demo.ports import free_port
from relay.demo.site import Site, SiteOptions
from relay.trust.mta_sts import Mode, Policy
from relay.trust.tlsrpt import find_report
from tests.support.net import PATIENT_DNS, contexts
from tests.support.policyhost import answer, policy_host
from tests.support.shim import clock_shim

pytestmark = [pytest.mark.peers, pytest.mark.timeout(480)]
GOOD, MX, OURS = "good.example", "mx.good.example", "mta-sts.clinic.example"
TWO_DAYS = 2 * 86_400


@pytest.fixture
async def site(tmp_path):
    site = Site(tmp_path)
    site.clock = tmp_path / "clock"
    site.clock.write_bytes(struct.pack("q", 0))
    site.policy_port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        site.peer = await stack.enter_async_context(Peer(PeerBehaviour(certificate=site.authority.issue(MX))))
        zone = {
            GOOD: {"MX": [f"10 {MX}."]},
            MX: {"A": ["127.0.0.1"]},
            f"mta-sts.{GOOD}": {"A": ["127.0.0.2"]},
            f"_mta-sts.{GOOD}": {"TXT": ['"v=STSv1; id=1;"']},
            f"_smtp._tls.{GOOD}": {"TXT": [f'"v=TLSRPTv1; rua=mailto:tls@{GOOD}"']},
        }
        dns = await stack.enter_async_context(DnsServer(zone))
        host = await stack.enter_async_context(policy_host(site.authority, GOOD, host="127.0.0.2"))
        host.raw = answer()
        ours = site.authority.issue(OURS)
        published = {
            "address": "127.0.0.1", "port": site.policy_port, "certificate": str(ours.cert), "key": str(ours.key),
            "domains": [{"domain": "clinic.example", "mx": ["mx.clinic.example"], "mode": "enforce"}],
        }  # fmt: skip
        site.options = SiteOptions(
            dns_port=dns.port,
            smtp_port=site.peer.port,
            workers=1,
            settings={
                "dns": PATIENT_DNS,
                "tls": {
                    "mta_sts": {"port": host.port},
                    "reports": {"sender": "tls@clinic.example", "organization": "The Clinic", "spread": "0s"},
                    "publish": published,
                },
            },
            environment={"LD_PRELOAD": str(clock_shim()), "CLOCK_OFFSET_FILE": str(site.clock)},
        )
        await asyncio.to_thread(site.prepare)
        await site.start()
        stack.push_async_callback(site.stop)
        yield site


def send(site):
    with smtplib.SMTP(*site.relay, timeout=60) as client:
        client.sendmail("dr@clinic.example", f"pat@{GOOD}", "Subject: Hello\r\n\r\nSee you on Monday.\r\n")


def served(site):
    connection = http.client.HTTPSConnection(
        "127.0.0.1", site.policy_port, context=contexts(site.authority).encrypting, timeout=60
    )
    connection.request("GET", "/.well-known/mta-sts.txt", headers={"Host": OURS})
    found = connection.getresponse()
    content = found.read()
    connection.close()
    return found.status, content


async def test_the_next_day_brings_a_report_although_the_receivers_tls_is_broken_by_then(site):
    status, content = await asyncio.to_thread(served, site)
    assert status == 200
    assert Policy.parse(content) == Policy(mode=Mode.ENFORCE, max_age=604_800, mx=("mx.clinic.example",))
    await asyncio.to_thread(send, site)
    await site.peer.wait_messages(1)
    await site.stop()
    site.peer.behaviour = PeerBehaviour(certificate=site.authority.issue("mx.other.example"))
    site.clock.write_bytes(struct.pack("q", TWO_DAYS))
    await site.start()
    await site.peer.wait_messages(2)
    sent = site.peer.messages[1]
    assert sent.tls_version, "TLS is still better than none"
    assert [str(one) for one in sent.recipients] == [f"tls@{GOOD}"]
    head = sent.content.partition(b"\r\n\r\n")[0]
    assert b"d=clinic.example" in head
    assert b"\r\nTLS-Required: No\r\n" in head
    assert b"\r\nTLS-Report-Submitter: clinic.example\r\n" in head
    report = find_report(sent.content)
    assert report.organization == "The Clinic"
    (policy,) = report.policies
    assert (policy.kind, policy.domain, policy.succeeded, policy.failed) == ("sts", GOOD, 1, 0)
    # Other mail is held to the policy as ever.
    await asyncio.to_thread(send, site)
    await asyncio.to_thread(site.postern, "tls", "report", GOOD)
    assert len(site.peer.messages) == 2
