"""The web server of our own MTA-STS policies: one document a domain, read by our own client, and nothing else."""

import asyncio
import contextlib
import dataclasses
import ssl

import pytest

from relay.core.errors import ProblemsError
from relay.demo.dns import DnsServer
from relay.intake.tls import server_context
from relay.net.fetch import FetchOptions, HttpsFetcher
from relay.net.mx import HostFinder
from relay.net.policyhost import PolicyHost, PolicyHostOptions
from relay.net.resolver import Resolver, ResolverOptions
from relay.trust.mta_sts import Mode, Policy
from tests.support.net import LOOPBACK, contexts

ONE = Policy(mode=Mode.ENFORCE, max_age=604_800, mx=("mx.one.example",))
TWO = Policy(mode=Mode.TESTING, max_age=86_400, mx=("*.two.example",))
FILES = {"one.example": ONE.text().encode(), "two.example": TWO.text().encode()}
NAMES = ["mta-sts.one.example", "mta-sts.two.example"]
WELL_KNOWN = "/.well-known/mta-sts.txt"


@contextlib.asynccontextmanager
async def serving(authority, **more):
    files = authority.issue(NAMES[0], names=NAMES)
    host = PolicyHost(
        PolicyHostOptions(address="127.0.0.1", port=0, policies=FILES, **more), server_context(files.cert, files.key)
    )
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def raw(authority, host, request, *, name=NAMES[0]):
    context = contexts(authority).verifying
    reader, writer = await asyncio.open_connection("127.0.0.1", host.port, ssl=context, server_hostname=name)
    try:
        writer.write(request)
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""
    finally:
        writer.transport.abort()


def request(path=WELL_KNOWN, *, host=NAMES[0], method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def test_our_own_client_reads_each_domains_policy(authority):
    zone = {name: {"A": ["127.0.0.1"]} for name in NAMES}
    async with serving(authority) as host, DnsServer(zone) as dns:
        resolver = Resolver(ResolverOptions(nameservers=("127.0.0.1",), port=dns.port, timeout=20, lifetime=40))
        fetcher = HttpsFetcher(
            HostFinder(resolver, LOOPBACK), contexts(authority).verifying, FetchOptions(port=host.port)
        )
        for name, policy in zip(NAMES, (ONE, TWO), strict=True):
            assert Policy.parse(await fetcher.get(name, WELL_KNOWN, media_type="text/plain")) == policy
        await resolver.close()


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request(host="MTA-STS.two.example:443"), b"200"),
        (request(method="HEAD"), b"200"),
        (request("/"), b"404"),
        (request("/.well-known/"), b"404"),
        (request(f"{WELL_KNOWN}/../x"), b"404"),
        (request(f"{WELL_KNOWN}?x=1"), b"404"),
        (request(f"https://{NAMES[0]}{WELL_KNOWN}"), b"404"),
        (request(host="one.example"), b"404"),
        (request(host="mta-sts.three.example"), b"404"),
        (request(method="POST"), b"405"),
        (request(method="DELETE"), b"405"),
    ],
)
async def test_nothing_else_is_served(authority, asked, status):
    async with serving(authority) as host:
        said = await raw(authority, host, asked)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert b"content-type: text/plain" in head.lower()
    assert (b"STSv1" in body) == (status == b"200" and not asked.startswith(b"HEAD"))


@pytest.mark.parametrize("junk", [b"\x16\x03\x01", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000, b""])
async def test_junk_gets_no_document_and_no_more_than_its_time(authority, junk):
    async with serving(authority, deadline=0.5) as host:
        assert b"STSv1" not in await raw(authority, host, junk)
        host._options = dataclasses.replace(host._options, deadline=60)
        assert b"STSv1" in await raw(authority, host, request())


async def test_whoever_speaks_no_tls_or_comes_when_it_is_full_is_turned_away(authority):
    async with serving(authority, connections=1) as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
        with pytest.raises((OSError, ssl.SSLError)):
            await raw(authority, host, request())
        writer.write(request())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert b"STSv1" in await raw(authority, host, request())


async def test_policies_and_certificate_change_while_it_runs(authority):
    async with serving(authority) as host:
        files = authority.issue("mta-sts.three.example")
        host.adopt({"three.example": FILES["two.example"]}, server_context(files.cert, files.key))
        said = await raw(authority, host, request(host="mta-sts.three.example"), name="mta-sts.three.example")
        assert said.endswith(FILES["two.example"])
        with pytest.raises(ssl.SSLCertVerificationError):
            await raw(authority, host, request())


async def test_an_address_that_is_taken_is_told(authority):
    async with serving(authority) as host:
        files = authority.issue(NAMES[0])
        options = PolicyHostOptions(address="127.0.0.1", port=host.port)
        with pytest.raises(ProblemsError, match=r"tls\.publish"):
            await PolicyHost(options, server_context(files.cert, files.key)).start()
