"""What the admin process takes up at a reload."""

from types import SimpleNamespace

import pytest

from relay.app import admin, options, scanning
from relay.app.base import CLOCK, Life, Site
from relay.app.stock import open_vault
from relay.app.trust import Outward
from relay.config.methods import configured_methods
from relay.config.policies import RunningPolicy
from relay.demo.behaviour import PeerBehaviour
from relay.demo.peer import Peer
from relay.net.resolver import Resolver
from relay.store import MemoryStore
from tests.support.configs import furnish
from tests.support.queue import ManualClock
from tests.support.vault import FakeVault
from tests.unit.app.test_snapshot import CONFIG


async def belongs(*_):
    """The ring is that of the queue."""


@pytest.fixture
def service(tmp_path, monkeypatch):
    """The process with what a reload touches, and nothing that listens."""
    base = furnish(tmp_path)
    (tmp_path / "postern.yaml").write_text(CONFIG.format(base=base))
    monkeypatch.setattr(admin, "prove_ring", belongs)
    monkeypatch.setattr("relay.app.base.configure_log", lambda *_: None)
    made = admin.AdminService(Life(site=Site.of(snapshot=None, config=tmp_path / "postern.yaml"), name="admin"))
    settings = made._life.settings
    made._store, made._metrics, made._policy_host = MemoryStore(FakeVault(), ManualClock()), None, None
    made._vault = open_vault(settings)
    made._policy = RunningPolicy(settings.policy, methods=configured_methods(settings), clock=CLOCK)
    made._control = SimpleNamespace(admit=lambda *_: None)
    made._portal, made._received = SimpleNamespace(desk=None), None
    made._resolver = Resolver(options.resolver_options(settings))
    made._outward = Outward.of(settings, made._resolver, made._store, None)
    return made


async def test_a_probe_goes_over_the_route_that_was_taken_up_last(service, tmp_path):
    desk = service._parts(service._life.settings).tls
    async with Peer(PeerBehaviour(hostname="mx.partner.example")) as peer:
        route = f"{{name: partner, domains: [partner.example], hosts: ['127.0.0.1:{peer.port}'], internal: true}}"
        config = tmp_path / "postern.yaml"
        config.write_text(f"{config.read_text()}routes: [{route}]\n")
        await service.reload()
        assert await desk.probe(["partner.example"]) == {}
        assert [(one.domain, one.level) async for one in desk.known(frozenset({"partner.example"}))] == [
            ("route:partner", "clear")
        ]


async def test_a_message_is_decided_anew_by_the_scan_that_was_taken_up_last(service, tmp_path, monkeypatch):
    monkeypatch.setattr(scanning, "service", lambda settings, _digest: settings.scan.max_findings)
    before = service._scanner
    config = tmp_path / "postern.yaml"
    config.write_text(config.read_text() + f"scan: {{ max_findings: {before + 1} }}\n")
    await service.reload()
    assert service._scanner == before + 1
