"""Our reports go into the queue signed or not at all, and as mail that its receiver's broken TLS does not stop."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.app import reports
from relay.app.options import route_table
from relay.app.reports import ReportMail, received, reporter
from relay.config.load import load
from relay.core.address import Address
from relay.core.envelope import Origin
from relay.core.errors import PosternError
from relay.core.level import Level
from relay.core.ports import QueueFilter
from relay.store import MemoryData, MemoryStore
from tests.support.configs import furnish
from tests.support.queue import ManualClock
from tests.support.trust import Tallied
from tests.support.vault import FakeVault

CONFIG = """\
hostname: relay.clinic.example
listeners:
  - {name: ehr, kind: submission, address: 127.0.0.1, port: 0, certificate: tls/good.pem, key: tls/good.key}
"""
SENDING = "tls:\n  reports: {sender: tls@clinic.example, skip: ['*.quiet.example']}\n"
KEY = "dkim:\n  domains: [{domain: clinic.example, keys: [{selector: r1, algorithm: ed25519, key: signing/own.pem}]}]\n"
TO = Address.parse("r@good.example")


@pytest.fixture
def settings(tmp_path):
    etc = furnish(tmp_path)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (etc / "signing" / "own.pem").write_bytes(pem)
    (etc / "signing" / "own.pem").chmod(0o600)

    def make(text):
        (etc / "postern.yaml").write_text(CONFIG + text)
        return load(etc / "postern.yaml")

    return make


@pytest.fixture
async def store(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr(reports, "CLOCK", clock)
    made = MemoryStore(FakeVault(), clock, data=MemoryData())
    await made.open("admin")
    yield made
    await made.close()


def mail(store, settings):
    return ReportMail(
        store=store, routes=lambda: route_table(settings), settings=lambda: settings, new_id=lambda _: "m1"
    )


async def test_a_report_is_kept_as_mail_of_ours_that_nobody_is_told_of(store, settings):
    await mail(store, settings(SENDING + KEY)).keep(b"From: tls@clinic.example\r\n\r\nx\r\n", TO)
    (entry,) = [one async for one in store.entries(QueueFilter())]
    message = await store.message("m1")
    treatment = entry.treatment
    assert (message.origin, str(message.envelope.reverse_path)) == (Origin.REPORT, "tls@clinic.example")
    assert (entry.destination, treatment.floor, treatment.passes_over) == ("good.example", Level.CLEAR, True)
    assert (treatment.sign_as, treatment.priority) == ("clinic.example", -1)
    assert entry.expires_at - entry.created_at == 86_400
    assert entry.recipients[0].recipient.notify == {"NEVER"}


async def test_without_a_key_of_its_author_none_is_kept(store, settings):
    with pytest.raises(PosternError, match="no active DKIM key for clinic"):
        await mail(store, settings(SENDING)).keep(b"x", TO)
    assert [one async for one in store.entries(QueueFilter())] == []


def test_who_reports_is_as_configured_and_nobody_does_without_a_sender(store, settings):
    class Outward:
        fetcher = None

    def made(text):
        configured = settings(text)
        return reporter(configured, store, None, Outward, mail(store, configured), Tallied())

    options = made(SENDING)._options
    assert (options.organization, options.contact, options.hostname) == (
        "relay.clinic.example", "tls@clinic.example", "relay.clinic.example",
    )  # fmt: skip
    assert (options.spread, options.skip) == (4 * 3600, {"*.quiet.example"})
    assert made("") is None


async def test_two_nodes_never_have_the_same_report_in_hand(store, settings):
    class Outward:
        fetcher = None

    configured = settings(SENDING)
    first, second = (reporter(configured, store, None, Outward, mail(store, configured), Tallied()) for _ in range(2))
    assert [await one._claim("a report", 3600.0) for one in (first, second, first)] == [True, False, False]


def test_reports_are_taken_about_the_domains_whose_policies_we_publish(store, settings):
    text = "tls:\n  publish: {domains: [{domain: Reports.clinic.example, mx: [mx.clinic.example]}]}\n"
    assert received(settings(text), store, None)._options.domains == {"reports.clinic.example"}
    assert received(settings(""), store, None)._options.domains == frozenset()
