"""Which addresses are ourselves, and that mail led to one of them is a loop and not an hour of connecting."""

import pytest

from relay.app.addresses import local_addresses, own_addresses
from relay.app.options import mx_options
from relay.config.load import load
from relay.core.outcome import Trouble
from relay.core.ports import ConnectError
from relay.demo.dns import DnsServer
from relay.net.mx import HostFinder
from relay.net.resolver import Resolver, ResolverOptions
from tests.support.configs import furnish

LISTENER = (
    "  - {{name: l{0}, kind: relay, address: '{1}', port: {2}, tls: none, networks: [127.0.0.0/8],\n"
    "     trust_networks: {{127.0.0.0/8: main-ehr}}}}\n"
)
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        +-- 10.1.2.0/24 2 0 2
           |-- 10.1.2.0
              /24 link UNICAST
           |-- 10.1.2.3
              /32 host LOCAL
           |-- 10.1.2.255
              /32 link BROADCAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
"""
INET6 = "00000000000000000000000000000001 01 80 10 80       lo\nfd000000000000000000000000000007 02 40 00 80     eth0\n"


@pytest.fixture
def configured(tmp_path):
    etc = furnish(tmp_path)

    def make(*listeners, more=""):
        text = "".join(LISTENER.format(number, *one) for number, one in enumerate(listeners))
        (etc / "postern.yaml").write_text(f"hostname: relay.clinic.example\nlisteners:\n{text}{more}")
        return load(etc / "postern.yaml")

    return make


def test_the_kernel_tells_the_addresses(tmp_path):
    (tmp_path / "trie").write_text(TRIE)
    (tmp_path / "inet6").write_text(INET6)
    found = local_addresses(tmp_path / "trie", tmp_path / "inet6")
    assert found == {"10.1.2.3", "127.0.0.1", "::1", "fd00::7"}
    assert local_addresses(tmp_path / "absent", tmp_path / "absent") == frozenset()
    assert "127.0.0.1" in local_addresses()


def test_a_listener_counts_where_other_servers_deliver_to(configured):
    assert own_addresses(configured(("192.0.2.1", 25), ("192.0.2.2", 587))) == {"192.0.2.1"}
    assert "127.0.0.1" in own_addresses(configured(("0.0.0.0", 25)))
    assert "::1" not in own_addresses(configured(("0.0.0.0", 25)))
    named = configured(("127.0.0.1", 2525), more="delivery: {own_addresses: [203.0.113.9], port: 26}\n")
    assert own_addresses(named) == {"203.0.113.9"}


async def test_mail_that_dns_leads_to_us_is_a_loop(configured):
    settings = configured(("127.0.0.5", 25), more="delivery: {allowed_special_networks: [127.0.0.0/8], ipv6: false}\n")
    zone = {
        "loop.example": {"MX": ["10 other-name.example."]},
        "other-name.example": {"A": ["127.0.0.5"]},
        "backup.example": {"MX": ["10 first.example.", "20 other-name.example."]},
        "first.example": {"A": ["127.0.0.6"]},
    }
    async with DnsServer(zone) as dns:
        resolver = Resolver(ResolverOptions(nameservers=("127.0.0.1",), port=dns.port, timeout=20, lifetime=40))
        finder = HostFinder(resolver, mx_options(settings))
        for name in ("loop.example", "[127.0.0.5]"):
            with pytest.raises(ConnectError) as caught:
                await finder.hosts(name)
            assert caught.value.failures[-1].trouble is Trouble.LOOP
        assert [host.name for host in await finder.hosts("backup.example")] == ["first.example"]
        await resolver.close()
