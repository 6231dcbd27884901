import random

import pytest

from relay.core.outcome import Trouble
from relay.core.ports import ConnectError
from relay.demo.dns import DnsServer
from relay.demo.dns import Trouble as Broken
from relay.net.mx import HostFinder, MxOptions
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.special import AddressGuard

PUBLIC = MxOptions()


class Dns:
    """A zone, and a finder over it."""

    def __init__(self, zone, options=PUBLIC, seed=0, **more):
        self.zone = zone
        self.server = DnsServer(zone, **more)
        self.options = options
        self.seed = seed

    async def __aenter__(self):
        await self.server.__aenter__()
        patience = 0.3 if Broken.TIMEOUT in self.zone.values() else 40
        self.resolver = Resolver(
            ResolverOptions(nameservers=("127.0.0.1",), port=self.server.port, timeout=patience, lifetime=patience)
        )
        self.finder = HostFinder(self.resolver, self.options, rng=random.Random(self.seed))
        return self

    async def __aexit__(self, *error):
        await self.resolver.close()
        await self.server.__aexit__(*error)

    async def names(self, domain="x.example"):
        return [host.name for host in await self.finder.hosts(domain)]

    async def trouble(self, domain="x.example"):
        with pytest.raises(ConnectError) as caught:
            await self.finder.hosts(domain)
        return caught.value.failures[-1].trouble


ADDRESSES = {f"mx{number}.x.example": {"A": [f"198.18.{number}.1", f"192.0.32.{number}"]} for number in range(1, 5)}


async def test_preference_orders_and_chance_shuffles_inside_one():
    zone = {"x.example": {"MX": ["20 mx3.x.example.", "10 mx1.x.example.", "10 mx2.x.example."]}, **ADDRESSES}
    seen = set()
    for seed in range(40):
        async with Dns(zone, seed=seed) as it:
            names = await it.names()
            assert names[2] == "mx3.x.example"
            seen.add(tuple(names[:2]))
    assert len(seen) == 2


async def test_addresses_of_both_families_ipv6_first():
    zone = {
        "x.example": {"MX": ["10 mx.x.example."]},
        "mx.x.example": {"A": ["192.0.32.7"], "AAAA": ["2620:0:2d0:200::7"]},
    }
    async with Dns(zone) as it:
        [host] = await it.finder.hosts("x.example")
        assert host.addresses == ("2620:0:2d0:200::7", "192.0.32.7")
    async with Dns(zone, MxOptions(ipv6=False)) as it:
        [host] = await it.finder.hosts("x.example")
        assert host.addresses == ("192.0.32.7",)


async def test_many_addresses_of_one_family_leave_room_for_the_other():
    six, four = [f"2620:0:2d0:200::{n}" for n in range(1, 7)], [f"192.0.32.{n}" for n in range(1, 3)]
    async with Dns({"x.example": {"A": four, "AAAA": six}}) as it:
        [host] = await it.finder.hosts("x.example")
        assert [":" in address for address in host.addresses] == [True, False, True, False]
    async with Dns({"x.example": {"A": four[:1], "AAAA": six}}) as it:
        [host] = await it.finder.hosts("x.example")
        assert [":" in address for address in host.addresses] == [True, False, True, True]


async def test_an_ipv4_address_written_as_ipv6_is_that_address():
    ours = MxOptions(own_addresses=frozenset({"192.0.32.99"}))
    async with Dns(
        {"x.example": {"AAAA": ["::ffff:192.0.32.99"]}, "y.example": {"AAAA": ["::ffff:10.0.0.1"]}}, ours
    ) as it:
        assert await it.trouble() is Trouble.LOOP
        assert await it.trouble("y.example") is Trouble.FORBIDDEN_ADDRESS
        assert await it.trouble("[IPv6:::ffff:192.0.32.99]") is Trouble.LOOP
        [host] = await it.finder.hosts("[IPv6:::ffff:192.0.32.7]")
        assert host.addresses == ("192.0.32.7",)


async def test_without_mx_the_domain_is_the_host():
    async with Dns({"x.example": {"A": ["192.0.32.7"]}}) as it:
        assert await it.names() == ["x.example"]


async def test_cnames_are_followed():
    zone = {
        "x.example": {"CNAME": ["y.example."]}, "y.example": {"MX": ["10 mx.y.example."]},
        "mx.y.example": {"CNAME": ["real.y.example."]}, "real.y.example": {"A": ["192.0.32.7"]},
    }  # fmt: skip
    async with Dns(zone) as it:
        [host] = await it.finder.hosts("x.example")
        assert (host.name, host.addresses) == ("mx.y.example", ("192.0.32.7",))


@pytest.mark.parametrize(
    ("zone", "trouble"),
    [
        ({}, Trouble.NO_DOMAIN),
        ({"x.example": Broken.NXDOMAIN}, Trouble.NO_DOMAIN),
        ({"x.example": Broken.SERVFAIL}, Trouble.DNS),
        ({"x.example": Broken.REFUSED}, Trouble.DNS),
        ({"x.example": Broken.TIMEOUT}, Trouble.DNS),
        ({"x.example": {"MX": ["0 ."]}}, Trouble.NULL_MX),
        ({"x.example": {"TXT": ["hello"]}}, Trouble.NO_HOST),
        ({"x.example": {"MX": ["10 gone.x.example."]}}, Trouble.NO_HOST),
        ({"x.example": {"MX": ["10 mx.y.example."]}, "mx.y.example": Broken.SERVFAIL}, Trouble.DNS),
        ({"x.example": {"MX": ["10 mx.y.example."]}, "mx.y.example": {"A": ["10.1.2.3"]}}, Trouble.FORBIDDEN_ADDRESS),
        ({"x.example": {"A": ["127.0.0.1"]}}, Trouble.FORBIDDEN_ADDRESS),
        ({"x.example": {"MX": ["10 us.example."]}}, Trouble.LOOP),
        ({"x.example": {"MX": ["10 mx.y.example."]}, "mx.y.example": {"A": ["192.0.32.99"]}}, Trouble.LOOP),
    ],
)
async def test_why_a_domain_has_no_host(zone, trouble):
    options = MxOptions(own_names=frozenset({"us.example"}), own_addresses=frozenset({"192.0.32.99"}))
    async with Dns({"other.example": {"A": ["192.0.32.1"]}, **zone}, options) as it:
        assert await it.trouble() is trouble


async def test_a_null_mx_beside_others_is_passed_over():
    async with Dns({"x.example": {"MX": ["0 .", "10 mx4.x.example."]}, **ADDRESSES}) as it:
        assert await it.names() == ["mx4.x.example"]


async def test_one_dead_family_or_host_does_not_hide_the_others():
    zone = {
        "x.example": {"MX": ["10 mx1.x.example.", "20 mx.y.example."]},
        "mx.y.example": {"A": ["192.0.32.7"], "AAAA": Broken.SERVFAIL},
    }
    async with Dns(zone) as it:
        assert await it.names() == ["mx.y.example"]


@pytest.mark.parametrize(
    "own", [MxOptions(own_names=frozenset({"MX2.x.example."})), MxOptions(own_addresses=frozenset({"192.0.32.2"}))]
)
async def test_mx_at_our_own_preference_and_worse_are_dropped(own):
    zone = {
        "x.example": {"MX": ["5 mx1.x.example.", "10 mx2.x.example.", "10 mx3.x.example.", "20 mx4.x.example."]},
        **ADDRESSES,
    }
    async with Dns(zone, own) as it:
        assert await it.names() == ["mx1.x.example"]


async def test_hosts_and_addresses_are_bounded():
    zone = {"x.example": {"MX": [f"{n} mx{n % 4 + 1}.x.example." for n in range(60)]}, **ADDRESSES}
    async with Dns(zone, MxOptions(max_hosts=3, max_addresses=1)) as it:
        hosts = await it.finder.hosts("x.example")
        assert len(hosts) == 3
        assert all(len(host.addresses) == 1 for host in hosts)


async def test_address_literals():
    async with Dns({}) as it:
        [host] = await it.finder.hosts("[192.0.32.7]")
        assert (host.addresses, host.literal) == (("192.0.32.7",), True)
        [host] = await it.finder.hosts("[IPv6:2620:0:2d0:200::7]")
        assert host.addresses == ("2620:0:2d0:200::7",)
        assert await it.trouble("[127.0.0.1]") is Trouble.FORBIDDEN_ADDRESS
        assert it.server.queries == []


async def test_a_configured_host_may_be_internal_only_when_its_route_says_so():
    async with Dns({"smart.example": {"A": ["10.1.2.3"]}}) as it:
        assert (await it.finder.named("smart.example", internal=True)).addresses == ("10.1.2.3",)
        with pytest.raises(ConnectError) as caught:
            await it.finder.named("smart.example")
        assert caught.value.failures[0].trouble is Trouble.FORBIDDEN_ADDRESS
        assert (await it.finder.named("10.9.9.9")).literal
        with pytest.raises(ConnectError):
            await it.finder.named("gone.example", internal=True)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "192.0.2.1", "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
     "2002:a00:1::", "::", "::10.0.0.1", "2001:db8::1", "64:ff9b:1::a00:1", "::ffff:0:10.0.0.1", "fec0::1", "5f00::1",
     "3fff::1", "4000::1", "192.0.0.8", "192.88.99.1", "::192.0.32.7"],
)  # fmt: skip
def test_special_purpose_addresses_are_refused(address):
    assert not AddressGuard().permits(address)


def test_what_is_configured_is_permitted():
    guard = AddressGuard(("10.0.0.0/8", "::1/128"))
    assert guard.permits("10.1.1.1")
    assert guard.permits("::1")
    assert not guard.permits("192.168.0.1")
    assert guard.permits("192.0.32.7")
    assert guard.permits("2620:0:2d0:200::7")
    assert guard.permits("64:ff9b::192.0.32.7")  # the NAT64 that everybody knows, on the way to a public address
    assert AddressGuard(("64:ff9b:1::/48",)).permits("64:ff9b:1::192.0.32.7")
