"""The DNS server answers from its table, over both transports, and fails as it is told."""

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from relay.demo.dns import DnsServer, Query, Trouble

ZONE = {
    "good.example": {"MX": ["10 mx.good.example.", "20 mx2.good.example."], "TXT": ['"v=spf1 -all"']},
    "mx.good.example": {"A": ["127.0.0.5"], "AAAA": ["::1"]},
    "alias.example": {"CNAME": ["good.example."]},
    "null.example": {"MX": ["0 ."]},
    "half.example": {"MX": Trouble.SERVFAIL, "A": ["127.0.0.6"]},
    "deep.below.example": {"A": ["127.0.0.9"]},
    "dead.example": Trouble.TIMEOUT,
    "refused.example": Trouble.REFUSED,
    "big.example": {"TXT": [f'"{"x" * 200}{number}"' for number in range(20)]},
    "loop.example": {"CNAME": ["loop.example."]},
}


@pytest.fixture
async def server():
    async with DnsServer(ZONE, secure=["good.example", "mx.good.example"]) as running:
        yield running


async def ask(server, name, kind, *, dnssec=False, within=20):
    query = dns.message.make_query(name, kind, want_dnssec=dnssec)
    return (await dns.asyncquery.udp_with_fallback(query, server.host, within, server.port))[0]


def data(response):
    return sorted(item.to_text().lower() for rrset in response.answer for item in rrset)


async def test_answers_what_the_table_says(server):
    assert data(await ask(server, "Good.Example", "MX")) == ["10 mx.good.example.", "20 mx2.good.example."]
    assert data(await ask(server, "mx.good.example", "AAAA")) == ["::1"]
    assert data(await ask(server, "null.example", "MX")) == ["0 ."]
    assert server.queries[0] == Query(name="good.example", type="MX", transport="udp")


async def test_cnames_are_followed_and_loops_end(server):
    assert "good.example." in data(await ask(server, "alias.example", "MX"))
    assert "10 mx.good.example." in data(await ask(server, "alias.example", "MX"))
    assert (await ask(server, "loop.example", "A")).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("nobody.example", "MX", dns.rcode.NXDOMAIN),
        ("half.example", "MX", dns.rcode.SERVFAIL),
        ("half.example", "A", dns.rcode.NOERROR),
        ("refused.example", "A", dns.rcode.REFUSED),
        ("below.example", "A", dns.rcode.NOERROR),
        ("good.example", "A", dns.rcode.NOERROR),
    ],
)
async def test_rcodes(server, name, kind, rcode):
    assert (await ask(server, name, kind)).rcode() == rcode


async def test_negative_answers_carry_a_soa_so_that_they_can_be_cached(server):
    for name in ("nobody.example", "good.example"):
        response = await ask(server, name, "A")
        assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]
        assert not response.answer


async def test_a_dead_name_never_answers(server):
    with pytest.raises(dns.exception.Timeout):
        await ask(server, "dead.example", "A", within=0.05)
    assert server.queries[-1].name == "dead.example"


async def test_ad_is_set_for_secure_names_when_asked_for(server):
    assert (await ask(server, "good.example", "MX", dnssec=True)).flags & dns.flags.AD
    assert not (await ask(server, "good.example", "MX")).flags & dns.flags.AD
    assert not (await ask(server, "alias.example", "MX", dnssec=True)).flags & dns.flags.AD
    server.set("good.example", ZONE["good.example"], secure=False)
    assert not (await ask(server, "good.example", "MX", dnssec=True)).flags & dns.flags.AD


async def test_long_answers_are_truncated_over_udp_and_whole_over_tcp(server):
    response = await ask(server, "big.example", "TXT")
    assert len(data(response)) == 20
    assert [query.transport for query in server.queries] == ["udp", "tcp"]


async def test_the_table_changes_while_running(server):
    server.set("new.example", {"a": ["127.0.0.8"]})
    assert data(await ask(server, "new.example", "A")) == ["127.0.0.8"]
    server.set("new.example", Trouble.NXDOMAIN)
    assert (await ask(server, "new.example", "A")).rcode() == dns.rcode.NXDOMAIN
    server.set("new.example", None)
    assert (await ask(server, "new.example", "A")).rcode() == dns.rcode.NXDOMAIN


def test_what_is_not_dns_gets_no_answer():
    assert DnsServer().answer(b"\x00\x01nonsense", "udp") is None
