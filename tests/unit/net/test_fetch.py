import socket
import ssl

import pytest

from relay.demo.dns import DnsServer, Trouble
from relay.net.fetch import FetchError, FetchOptions, HttpsFetcher
from relay.net.mx import Host, HostFinder, MxOptions
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.tls import make_contexts
from tests.support.net import LOOPBACK, contexts
from tests.support.policyhost import POLICY, PolicyHost, answer, policy_host

NAME = "mta-sts.good.example"


@pytest.fixture(scope="module")
def verifying(authority):
    return contexts(authority).verifying


class Fetching:
    """A policy host behind DNS, and a fetcher towards it."""

    def __init__(self, host, verifying, *, zone=None, mx=LOOPBACK, **options):
        self.host, self.verifying, self.mx, self.options = host, verifying, mx, options
        self.dns = DnsServer(zone or {NAME: {"A": ["127.0.0.1"]}})

    async def __aenter__(self):
        await self.host.__aenter__()
        await self.dns.__aenter__()
        self.resolver = Resolver(
            ResolverOptions(nameservers=("127.0.0.1",), port=self.dns.port, timeout=20, lifetime=40)
        )
        options = FetchOptions(port=self.host.port, **self.options)
        self.fetcher = HttpsFetcher(HostFinder(self.resolver, self.mx), self.verifying, options)
        return self

    async def __aexit__(self, *error):
        await self.resolver.close()
        await self.dns.__aexit__(*error)
        await self.host.__aexit__(*error)

    async def get(self):
        return await self.fetcher.get(NAME, "/.well-known/mta-sts.txt", media_type="text/plain")

    async def fault(self):
        with pytest.raises(FetchError) as caught:
            await self.get()
        return caught.value


async def test_a_document_comes_over_verified_tls_from_the_name_asked_for(authority, verifying):
    async with Fetching(policy_host(authority), verifying) as it:
        assert await it.get() == POLICY
    assert it.host.names == [NAME]
    assert it.host.requests[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.good.example\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        answer(media="Text/Plain; charset=utf-8"),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % octet for octet in POLICY)
        + b"0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + POLICY,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(),
    ],
    ids=["parameters", "chunked", "until-closed", "early-hints"],
)
async def test_forms_that_http_allows_are_read(authority, verifying, raw):
    async with Fetching(policy_host(authority), verifying) as it:
        it.host.raw = raw
        assert await it.get() == POLICY


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (answer(status="301 Moved", more="Location: https://mta-sts.good.example/other\r\n"), "answered 301"),
        (answer(status="404 Not Found"), "answered 404"),
        (answer(status="204 No Content"), "answered 204"),
        (answer(status="500 Oh"), "answered 500"),
        (answer(media="text/html"), "not text/plain"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "not text/plain"),
        (answer()[:-5], "did not answer in HTTP"),
        (b"220 mx.good.example ESMTP\r\n", "did not answer in HTTP"),
        (b"", "closed the connection early|did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000, "did not answer in HTTP"),
        (answer(b"x" * 65_537), "larger than 65536"),
    ],
)
async def test_every_other_answer_is_a_failure(authority, verifying, raw, why):
    async with Fetching(policy_host(authority), verifying) as it:
        it.host.raw = raw
        fault = await it.fault()
        assert fault.kind == "http"
        with pytest.raises(FetchError, match=why):
            raise fault
        assert it.host.connections == 1


@pytest.mark.parametrize("more", [{"expired": True}, {"self_signed": True}, {"names": ("mta-sts.other.example",)}])
async def test_the_certificate_must_verify_and_name_the_policy_host(authority, verifying, more):
    async with Fetching(PolicyHost(authority.issue(NAME, **more)), verifying) as it:
        assert (await it.fault()).kind == "certificate"
        assert it.host.requests == []


async def test_a_silent_server_is_given_up(authority, verifying):
    async with Fetching(policy_host(authority), verifying, timeout=0.3) as it:
        it.host.raw = None
        assert (await it.fault()).kind == "timeout"


async def test_special_purpose_addresses_are_not_knocked_at(authority, verifying):
    async with Fetching(policy_host(authority), verifying, mx=MxOptions(ipv6=False)) as it:
        assert (await it.fault()).kind == "dns"
        assert it.host.connections == 0


@pytest.mark.parametrize("records", [Trouble.SERVFAIL, Trouble.NXDOMAIN, {"TXT": ["none"]}])
async def test_a_name_without_address_is_a_failure(authority, verifying, records):
    async with Fetching(policy_host(authority), verifying, zone={NAME: records}) as it:
        assert (await it.fault()).kind == "dns"


async def test_another_address_is_tried_when_one_refuses(authority, verifying):
    zone = {NAME: {"A": ["127.0.0.77", "127.0.0.1"]}}
    async with Fetching(policy_host(authority), verifying, zone=zone) as it:
        assert await it.get() == POLICY
        it.dns.set(NAME, {"A": ["127.0.0.77"]})
        it.resolver.forget()
        assert (await it.fault()).kind == "connect"


@pytest.mark.parametrize("patience", [{"connect": 2.0}, {"timeout": 6.0}], ids=["its-own", "half-of-all"])
async def test_another_address_is_tried_when_one_says_nothing(authority, verifying, patience):
    class Finder:
        async def named(self, name):
            return Host(name=name, addresses=("127.0.0.77", "127.0.0.1"))

    async with Fetching(policy_host(authority), verifying) as it:
        it.fetcher = HttpsFetcher(Finder(), verifying, FetchOptions(port=it.host.port, **patience))
        with socket.create_server(("127.0.0.77", it.host.port)):  # takes connections, and never speaks
            assert await it.get() == POLICY


def test_a_context_that_verifies_nothing_is_refused():
    with pytest.raises(ValueError, match="must be verified"):
        HttpsFetcher(None, make_contexts().encrypting)
    with pytest.raises(ValueError, match="must be verified"):
        HttpsFetcher(None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
