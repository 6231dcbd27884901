"""The portal's certificate is renewed while it runs, and watched like every other."""

import asyncio
import ssl
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner
from cryptography import x509

from relay.app import admin
from relay.app.base import Life, Site
from relay.app.portal import PortalService
from relay.cli import main
from relay.config.load import load
from relay.demo.authority import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority")


@pytest.fixture
def site(tmp_path, authority):
    settings = {
        "hostname": "relay.clinic.example",
        "data_dir": "data", "run_dir": "run", "keys_dir": "keys",
        "listeners": [{
            "name": "ehr", "kind": "relay", "address": "127.0.0.1", "port": 0, "tls": "none",
            "networks": ["127.0.0.0/8"], "trust_networks": {"127.0.0.0/8": "ehr"},
        }],
        "portal": {"origin": "https://secure.clinic.example", "mail_from": "secure@clinic.example", "port": 0,
                   "keys_dir": "portal-keys", "certificate": "portal.pem", "key": "portal.key"},
    }  # fmt: skip
    config = tmp_path / "postern.yaml"
    config.write_text(yaml.safe_dump(settings))
    renew(tmp_path, authority)
    done = CliRunner().invoke(main, ["portal", "init"], env={"POSTERN_CONFIG": str(config)})
    assert done.exit_code == 0, done.output
    (tmp_path / "run" / "metrics").mkdir(parents=True)
    return config


def renew(place, authority):
    issued = authority.issue("secure.clinic.example")
    for name, source in (("portal.pem", issued.cert), ("portal.key", issued.key)):
        (place / name).write_bytes(source.read_bytes())
        (place / name).chmod(0o600)
    return number(issued.cert.read_bytes())


def number(pem):
    return x509.load_pem_x509_certificate(pem).serial_number


async def shown(port):
    """The serial number of the certificate that the page shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(der).serial_number


async def test_a_reload_shows_a_renewed_certificate_and_keeps_the_old_one_when_it_cannot_be_used(
    site, authority, monkeypatch
):
    monkeypatch.setattr("relay.app.base.configure_log", lambda *_: None)
    service = PortalService(Life(site=Site.of(snapshot=None, config=site), name="portal"))
    await service.start()
    try:
        port = service._server.port
        first = number((site.parent / "portal.pem").read_bytes())
        assert await shown(port) == first
        second = renew(site.parent, authority)
        assert await shown(port) == first
        await service.reload()
        assert await shown(port) == second != first
        (site.parent / "portal.pem").write_bytes(authority.issue("secure.clinic.example").cert.read_bytes())
        ring = service._store.vault.ring
        await service.reload()  # its key is not there yet
        assert await shown(port) == second
        assert service._store.vault.ring is ring  # all of it is taken up, or nothing
        renew(site.parent, authority)
        foreign = SimpleNamespace(ring=SimpleNamespace(id="another installation's"))
        monkeypatch.setattr("relay.app.portal.open_portal_vault", lambda _: foreign)
        await service.reload()
        assert await shown(port) == second
    finally:
        await service.stop()


def test_the_portals_certificate_is_watched(site):
    service = SimpleNamespace(_life=SimpleNamespace(settings=load(site)))
    [(name, end)] = admin.AdminService._certificates(service)
    assert (name, end > 0) == ("portal", True)
