"""A whole Postern: a domain's MTA-STS policy is found, heeded, remembered, shown to operators and proved."""

import asyncio
import contextlib
import json
import smtplib

import pytest

from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.demo.dns import DnsServer
from relay.demo.peer import Peer
from relay.demo.site import Site, SiteOptions
from tests.support.net import PATIENT_DNS
from tests.support.policyhost import answer, policy_host

pytestmark = pytest.mark.timeout(480)
GOOD, FORGED = "good.example", "forged.example"
TEXT = (
    "From: dr@clinic.example\r\nTo: {to}\r\nSubject: Your results\r\n\r\n"
    "Patient MRN: 83746528, DOB 04/12/1961, HbA1c 6.1 %\r\n"
)


def policy(host):
    return answer(f"version: STSv1\nmode: enforce\nmx: {host}\nmax_age: 86400\n".encode())


@pytest.fixture
async def site(tmp_path):
    """``good.example`` keeps what its policy says; someone forged the MX of ``forged.example``."""
    site = Site(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        behaviour = PeerBehaviour(
            certificate=site.authority.issue("mx.good.example", names=["mx.good.example", "mx.evil.example"])
        )
        peer = await stack.enter_async_context(Peer(behaviour))
        site.peer = peer
        zone = {
            GOOD: {"MX": ["10 mx.good.example."]},
            FORGED: {"MX": ["10 mx.evil.example."]},
            "mx.good.example": {"A": ["127.0.0.1"]},
            "mx.evil.example": {"A": ["127.0.0.1"]},
            f"mta-sts.{GOOD}": {"A": ["127.0.0.2"]},
            f"mta-sts.{FORGED}": {"A": ["127.0.0.3"]},
            f"_mta-sts.{GOOD}": {"TXT": ['"v=STSv1; id=1;"']},
            f"_mta-sts.{FORGED}": {"TXT": ['"v=STSv1; id=1;"']},
        }
        dns = await stack.enter_async_context(DnsServer(zone))
        first = await stack.enter_async_context(policy_host(site.authority, GOOD, host="127.0.0.2"))
        second = await stack.enter_async_context(policy_host(site.authority, FORGED, host="127.0.0.3", port=first.port))
        first.raw, second.raw = policy("mx.good.example"), policy("*.forged.example")
        site.options = SiteOptions(
            dns_port=dns.port,
            smtp_port=peer.port,
            workers=1,
            settings={
                "dns": PATIENT_DNS,
                "tls": {"mta_sts": {"port": first.port}},
                "delivery": {"retry": {"first": "1s", "max": "2s"}},
            },
        )
        await asyncio.to_thread(site.prepare)
        await site.start()
        stack.push_async_callback(site.stop)
        yield site


def send(site, to):
    with smtplib.SMTP(*site.relay, timeout=60) as client:
        client.ehlo("ehr")
        client.mail("dr@clinic.example")
        client.rcpt(to)
        code, said = client.data(TEXT.format(to=to).encode())
        assert code == 250, said
    return said.decode().rpartition(" ")[2]


async def until(site, *verb, holds):
    """Ask again until the answer holds; the last one is shown when it never does."""
    told = None
    async with asyncio.timeout(120):
        while told is None or not holds(told):
            done = await asyncio.create_subprocess_exec(
                *site.command(*verb), env=site.environment(), stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            output, _ = await done.communicate()
            told = json.loads(output) if done.returncode == 0 else None
    return told


async def test_a_policy_protects_is_remembered_and_proved(site):
    forged = await asyncio.to_thread(send, site, f"pat@{FORGED}")
    waiting = await until(
        site, "queue", "list", "--message", forged, "--json", holds=lambda told: told["entries"][0]["attempts"] > 0
    )
    assert "policy does not name this host" in waiting["entries"][0]["reason"]
    assert site.peer.connections == 0, "a forged MX was connected to, though its certificate is good"

    message = await asyncio.to_thread(send, site, f"pat@{GOOD}")
    await site.peer.wait_messages(1)
    story = await until(site, "proof", message, "--json", holds=lambda told: told["copies"][0]["fate"])
    (copy,) = story["copies"]
    assert copy["fate"]["fate"] == "delivered"
    assert (copy["fate"]["proof"]["level"], copy["fate"]["proof"]["vouched_by"]) == ("authenticated", "mta-sts")
    assert copy["decision"]["floor"] in {"verified", "authenticated"}
    assert story["trail"]["whole"]
    known = await until(site, "tls", "report", GOOD, "--json", holds=lambda told: told["servers"])
    assert [(one["host"], one["level"], one["mta_sts"]) for one in known["servers"]] == [
        ("mx.good.example", "authenticated", "enforce")
    ]
    # Someone in between takes STARTTLS away: operators hear of it before any mail waits for it.
    site.peer.behaviour = PeerBehaviour(starttls=StartTls.ABSENT)
    fallen = await until(site, "tls", "probe", GOOD, "--json", holds=lambda told: told["servers"])
    (server,) = fallen["servers"]
    assert (server["best"], server["level"]) == ("authenticated", "clear")
    assert server["downgraded_at"] > 0
    assert '"alert":"tls-downgrade"' in await asyncio.to_thread(site.log.read_text)
