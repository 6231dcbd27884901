"""Law 5, one fate each: whatever peers, policies and operators do, each recipient of accepted mail ends once."""

import asyncio
import random
import smtplib
from collections import Counter
from dataclasses import dataclass, field

import pytest

from relay.admin.wire import ChangeRequest, ChangeResult, ListRequest, ListResult, Selection
from relay.core.fate import FateKind
from relay.demo.behaviour import Greylist, PeerBehaviour, StartTls
from tests.support.system import ask, audit, clinic, domain, drained, end, fates, system

pytestmark = pytest.mark.law

MESSAGES = 300
POLICY = """\
policy: every-end
rules:
  - id: forbidden
    when: { recipient: { domain: forbidden.example } }
    reject: { reason: "This domain is not written to" }
  - id: unsure
    when: { recipient: { domain: held.example } }
    hold: { reason: "somebody should look" }
  - id: no-portal-yet
    when: { recipient: { domain: brief.example } }
    deliver: { methods: [portal], otherwise: hold, expire: 3s }
  - id: strict
    when: { recipient: { domain: clear.example } }
    deliver: { methods: [tls], tls: verified, within: 1s }
  - id: impatient
    when: { recipient: { domain: later.example } }
    deliver: { methods: [tls], tls: opportunistic, expire: 3s }
  - id: rest
    deliver: { methods: [tls], tls: opportunistic }
"""
ENDS = {
    "good.example": {"delivered"},
    "grey.example": {"delivered"},
    "drops.example": {"delivered"},
    "picky.example": {"delivered", "bounced"},
    "refuses.example": {"bounced"},
    "toobad.example": {"bounced"},
    "clear.example": {"bounced"},
    "nowhere.example": {"bounced"},
    "later.example": {"expired"},
    "brief.example": {"expired"},
    "forbidden.example": {"rejected"},
    "held.example": {"removed", "delivered", "bounced"},
}
"""What may become of a copy, by its recipient's domain."""


def no_such_user(recipient):
    return "550 5.1.1 No such user" if recipient.startswith("bad") else None


def internet():
    return (
        clinic(recipients={"gone@clinic.example": "550 5.1.1 She has left"}),
        domain("good.example"),
        domain("grey.example", greylist=Greylist()),
        domain(
            "drops.example", drop_at="final", connections=2, then=PeerBehaviour(hostname="mx.drops.example"),
            certificate="none",
        ),
        domain("picky.example", recipients=no_such_user),
        domain("refuses.example", recipients=lambda _: "550 5.7.1 Nobody here"),
        domain("toobad.example", final="554 5.6.0 I do not like it"),
        domain("clear.example", starttls=StartTls.ABSENT, certificate="none"),
        domain("later.example", recipients=lambda _: "451 4.3.0 Later"),
        domain("held.example"),
    )  # fmt: skip


@dataclass
class Sender:
    """Sends the mix and notes what was accepted: queue id to recipients in the order of the envelope."""

    chance: random.Random
    messages: int
    accepted: dict = field(default_factory=dict)
    refused: int = 0

    def run(self, address):
        with smtplib.SMTP(*address, timeout=60) as session:
            session.ehlo("ehr.clinic.example")
            for number in range(self.messages):
                self.send(session, number)

    def send(self, session, number):
        domains = self.chance.sample(sorted(ENDS), self.chance.randrange(1, 5))
        recipients = [
            f"{self.chance.choice(['bad', 'good'])}{number}.{place}@{name}" for place, name in enumerate(domains)
        ]
        session.mail(self.chance.choice(["ehr@clinic.example"] * 6 + ["", "gone@clinic.example"]))
        for recipient in recipients:
            assert session.rcpt(recipient)[0] == 250
        code, text = session.data(f"From: ehr@clinic.example\r\nSubject: {number}\r\n\r\nThe lift is repaired.\r\n")
        if code == 250:
            self.accepted[text.decode().rpartition(" ")[2]] = recipients
        else:
            assert (code, domains) == (550, ["forbidden.example"])
            self.refused += 1


async def operate(site, chance):
    """Deal with what is held for a person, one way or another; how often each."""
    done = Counter()
    where = Selection(state="held", destination="held.example")
    held = await asyncio.to_thread(ask, site, ListRequest(where=where, limit=10_000), ListResult)
    for entry in held.entries:
        verb = chance.choice(["remove", "release", "bounce"])
        request = ChangeRequest(op=verb, where=Selection(ids=(entry.id,)), reason="looked at it")
        result = await asyncio.to_thread(ask, site, request, ChangeResult)
        assert not result.refused, result
        done[verb] += 1
    return done


@pytest.mark.timeout(180)
async def test_every_recipient_ends_in_exactly_one_fate(tmp_path, store):
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    settings = {"dsn": {"postmaster": "postmaster@clinic.example"}}
    async with system(tmp_path, *internet(), policy=POLICY, settings=settings, store=store) as (site, net):
        sender = Sender(chance, MESSAGES if store == "sqlite" else MESSAGES // 3)
        await asyncio.to_thread(sender.run, site.relay)
        operated = await operate(site, chance)
        await drained(site)
        await end(site)
        records = audit(site)
        told = fates(records)
        check_client_mail(sender, told, seed)
        check_own_mail(records, told)
        check_operators(records, operated)
        at_peer = {
            (message.sender, one) for message in net.peers["good.example"].messages for one in message.recipients
        }
        wanted = [one for many in sender.accepted.values() for one in many if one.endswith("@good.example")]
        assert Counter(recipient for _, recipient in at_peer) == Counter(wanted)
    count = Counter(fate["fate"] for found in told.values() for fate in found)
    print(f"\nseed {seed}: {len(sender.accepted)} messages accepted, {sender.refused} refused; fates: {dict(count)}")
    assert set(count) == {"delivered", "bounced", "expired", "rejected", "removed"}


def check_client_mail(sender, told, seed):
    versions = set()
    for message_id, recipients in sender.accepted.items():
        for number, recipient in enumerate(recipients):
            found = told[message_id, number]
            assert len(found) == 1, f"seed {seed}: {message_id} recipient {number} at {recipient} has {found}"
            fate = found[0]
            name = recipient.rpartition("@")[2]
            assert fate["fate"] in ENDS[name], f"seed {seed}: {message_id} to {name}: {fate}"
            assert fate["rule"], fate
            versions.add(fate["policy_version"])
    assert len(versions) == 1
    assert len(versions.pop()) == 64


def check_own_mail(records, told):
    """Notices have recipients too, and those have ends; nothing else has any."""
    notices = {record["message_id"] for record in records if record["kind"] == "notice"}
    known = {record["message_id"] for record in records if record["kind"] in {"accepted", "refused"}}
    assert notices
    for message_id in notices:
        found = [fate for (identity, _), many in told.items() if identity == message_id for fate in many]
        assert [fate["fate"] for fate in found] in (["delivered"], ["bounced"]), (message_id, found)
        assert found[0]["rule"] in {"dsn", "notice"}
    assert {message_id for message_id, _ in told} <= notices | known
    kinds = {fate["fate"] for many in told.values() for fate in many}
    assert kinds <= set(FateKind)
    origins = Counter(record["facts"]["origin"] for record in records if record["kind"] == "notice")
    assert origins["notice"], "no double bounce came to the postmaster"


def check_operators(records, operated):
    """Who did what is named with each act."""
    acts = [record["facts"] for record in records if record["kind"] == "operator"]
    assert Counter(act["operation"] for act in acts) == operated
    assert all(act["operator"] and act["reason"] == "looked at it" for act in acts)
