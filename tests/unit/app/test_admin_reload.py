"""What the admin process takes up at a reload."""

from types import SimpleNamespace

from relay.app import admin, scanning
from relay.app.base import CLOCK, Life, Site
from relay.app.stock import open_vault
from relay.config.methods import configured_methods
from relay.config.policies import RunningPolicy
from tests.support.configs import furnish
from tests.unit.app.test_snapshot import CONFIG


async def belongs(*_):
    """The ring is that of the queue."""


async def test_a_message_is_decided_anew_by_the_scan_that_was_taken_up_last(tmp_path, monkeypatch):
    base = furnish(tmp_path)
    config = tmp_path / "postern.yaml"
    config.write_text(CONFIG.format(base=base))
    monkeypatch.setattr(admin, "prove_ring", belongs)
    monkeypatch.setattr(scanning, "service", lambda settings, _digest: settings.scan.max_findings)
    monkeypatch.setattr("relay.app.base.configure_log", lambda *_: None)
    service = admin.AdminService(Life(site=Site.of(snapshot=None, config=config), name="admin"))
    settings = service._life.settings
    service._store, service._vault, service._policy_host = None, open_vault(settings), None
    service._policy = RunningPolicy(settings.policy, methods=configured_methods(settings), clock=CLOCK)
    service._control = SimpleNamespace(admit=lambda *_: None)
    before = service._scanner
    config.write_text(config.read_text() + f"scan: {{ max_findings: {before + 1} }}\n")
    await service.reload()
    assert service._scanner == before + 1
