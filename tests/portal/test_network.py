"""Where a request comes from, as told by named proxies alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.portal.network import Origins, network_of
from relay.portal.options import LimitOptions, ProxyOptions

PROXY = "10.0.0.1"
LIMITS = LimitOptions()


def client(value: str, *, header="x-forwarded-for", peer=PROXY, networks=("10.0.0.0/8", "2001:db8::/32")) -> str:
    origins = Origins(ProxyOptions(networks=networks, header=header))
    return origins.client(peer, [(header.encode(), value.encode("latin-1", "replace"))])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("9.9.9.9, 198.51.100.1", "198.51.100.1"),
        ("198.51.100.1, 10.0.0.9, 10.1.1.1", "198.51.100.1"),
        ("198.51.100.1:4711", "198.51.100.1"),
        ("[2001:4860::1]:4711", "2001:4860::1"),
        ("2001:4860::1", "2001:4860::1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("10.0.0.7", "10.0.0.7"),
        ("", PROXY),
        ("nonsense", PROXY),
        ("198.51.100.1, nonsense", PROXY),
        ("198.51.100.1, nonsense, 10.0.0.3", "10.0.0.3"),
    ],
)
def test_the_last_address_that_is_no_proxy(value, found):
    assert client(value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("for=198.51.100.1;proto=https;by=10.0.0.2", "198.51.100.1"),
        ('for="[2001:4860::1]:80"', "2001:4860::1"),
        ('By=10.0.0.2; For="198.51.100.1:80"', "198.51.100.1"),
        ("for=9.9.9.9, for=198.51.100.1", "198.51.100.1"),
        ("for=unknown", PROXY),
        ("for=_hidden, for=10.0.0.2", "10.0.0.2"),
        ("proto=https", PROXY),
        ("xfor=9.9.9.9", PROXY),
    ],
)
def test_the_header_of_rfc_7239(value, found):
    assert client(value, header="forwarded") == found


def test_a_peer_that_is_no_proxy_is_not_believed():
    assert client("198.51.100.1", peer="192.0.2.1") == "192.0.2.1"
    assert client("198.51.100.1", networks=()) == PROXY
    assert Origins(ProxyOptions(networks=("10.0.0.0/8",))).client(PROXY, [(b"x-forwarded-for", b"1.1.1.1")]) == PROXY


def test_several_headers_are_one_list():
    origins = Origins(ProxyOptions(networks=("10.0.0.0/8",), header="x-forwarded-for"))
    headers = [(b"x-forwarded-for", b"9.9.9.9"), (b"x-forwarded-for", b"198.51.100.1")]
    assert origins.client(PROXY, headers) == "198.51.100.1"


def test_another_header_is_a_fault_of_the_settings():
    with pytest.raises(ValueError, match="x-forwarded-for or forwarded"):
        Origins(ProxyOptions(header="x-real-ip"))


@given(st.text(max_size=3000), st.sampled_from(["x-forwarded-for", "forwarded"]))
def test_whatever_stands_there_gives_an_address(value, header):
    assert network_of(client(value, header=header), LIMITS) != "unknown"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::1", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("", "unknown"),
        ("unix", "unknown"),
    ],
)
def test_limits_count_networks(address, network):
    assert network_of(address, LIMITS) == network
