"""Under which names TLSA records are looked for (RFC 7672 section 2.2.2), and what of the answers counts."""

from types import SimpleNamespace

import pytest

from relay.net.dane import TlsaFinder, TlsaFinding
from relay.net.mx import Host
from relay.net.resolver import Answer, Found

MX, END = "mx.good.example", "end.other.example"
RECORD = SimpleNamespace(usage=3, selector=1, mtype=1, cert=bytes(32))
GIVEN = Answer(found=Found.FOUND, records=(RECORD,), secure=True)
ABSENT = Answer(found=Found.NODATA, secure=True)


class Asked:
    """A resolver that answers by name, and remembers what it was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.names = []

    async def lookup(self, name, kind):
        self.names.append((kind, name.removeprefix("_25._tcp.")))
        return self.answers.get({MX: "host", END: "end"}[self.names[-1][1]] if kind == "TLSA" else "alias", ABSENT)


async def find(resolver, *, secure=True, canonical=END, mx_secure=True, literal=False):
    host = Host(
        name=MX, addresses=("192.0.2.1",), secure=secure, mx_secure=mx_secure, canonical=canonical, literal=literal
    )
    return await TlsaFinder(resolver).find(host, 25)


async def test_the_end_of_secure_aliases_comes_first_then_the_host():
    resolver = Asked(host=GIVEN)
    found = await find(resolver)
    assert resolver.names == [("TLSA", END), ("TLSA", MX)]
    assert (found.base, found.present, len(found.records)) == (MX, True, 1)
    assert (await find(Asked(end=GIVEN, host=GIVEN))).base == END


@pytest.mark.parametrize("canonical", ["", MX])
async def test_a_host_without_an_alias_is_asked_for_once_and_an_unsigned_one_never(canonical):
    resolver = Asked()
    assert await find(resolver, canonical=canonical) == TlsaFinding()
    assert resolver.names == [("TLSA", MX)]
    unsigned = Asked(host=GIVEN, alias=GIVEN)
    assert await find(unsigned, canonical=canonical, secure=False) == TlsaFinding()
    assert unsigned.names == []


@pytest.mark.parametrize(
    ("alias", "asks"),
    [
        (Answer(found=Found.FOUND, secure=True), True),
        (Answer(found=Found.FOUND, secure=False), False),
        (Answer(found=Found.NODATA, secure=True), False),
        (Answer(found=Found.FAILED, secure=True), False),
    ],
)
async def test_an_alias_into_an_unsigned_zone_counts_only_where_the_alias_itself_is_signed(alias, asks):
    resolver = Asked(host=GIVEN, alias=alias)
    found = await find(resolver, secure=False)
    assert found.present is asks
    assert resolver.names == [("CNAME", MX), *([("TLSA", MX)] if asks else [])]


@pytest.mark.parametrize("given", [{"mx_secure": False}, {"literal": True}])
async def test_hosts_that_no_signed_answer_named_are_not_asked_about(given):
    resolver = Asked(host=GIVEN, end=GIVEN)
    assert await find(resolver, **given) == TlsaFinding()
    assert resolver.names == []


async def test_a_failed_look_up_ends_the_search_and_unsigned_records_do_not_count():
    failed = Answer(found=Found.FAILED, detail="SERVFAIL")
    found = await find(Asked(end=failed, host=GIVEN))
    assert (found.base, found.present, "SERVFAIL" in found.failed) == (END, False, True)
    unsigned = Answer(found=Found.FOUND, records=(RECORD,), secure=False)
    assert await find(Asked(end=unsigned, host=unsigned)) == TlsaFinding()
