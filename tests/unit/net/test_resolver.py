import asyncio

import pytest

from relay.demo.dns import DnsServer, Trouble
from relay.net.resolver import Found, Resolver, ResolverOptions


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def resolver(server, clock=None, *, metrics=None, **more):
    times = {"timeout": 20, "lifetime": 40} | more
    options = ResolverOptions(nameservers=("127.0.0.1",), port=server.port, **times)
    return Resolver(options, monotonic=clock or Clock(), metrics=metrics)


ZONE = {
    "a.example": {"A": ["192.0.32.7"], "MX": ["10 mx.a.example."]},
    "alias.example": {"CNAME": ["a.example."]},
    "dangling.example": {"CNAME": ["nowhere.example."]},
    "loop.example": {"CNAME": ["loop.example."]},
    "dead.example": Trouble.SERVFAIL,
    "silent.example": Trouble.TIMEOUT,
    "refused.example": Trouble.REFUSED,
}


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("a.example", "A", Found.FOUND),
        ("A.Example.", "A", Found.FOUND),
        ("alias.example", "MX", Found.FOUND),
        ("a.example", "AAAA", Found.NODATA),
        ("gone.example", "A", Found.NXDOMAIN),
        ("dangling.example", "A", Found.NXDOMAIN),
        ("dead.example", "A", Found.FAILED),
        ("silent.example", "A", Found.FAILED),
        ("refused.example", "A", Found.FAILED),
        ("loop.example", "A", Found.FAILED),
        ("a..example", "A", Found.FAILED),
        ("x" * 64 + ".example", "A", Found.FAILED),
    ],
)
async def test_answers_have_their_meaning(name, kind, found):
    short = {"timeout": 0.2, "lifetime": 0.3} if ZONE.get(name) is Trouble.TIMEOUT else {}
    async with DnsServer(ZONE) as server:
        it = resolver(server, **short)
        answer = await it.lookup(name, kind)
        await it.close()
    assert answer.found is found
    assert bool(answer.records) is (found is Found.FOUND)
    assert bool(answer.detail) is (found is Found.FAILED)


async def test_answers_are_kept_for_their_time():
    clock = Clock()
    async with DnsServer(ZONE, ttl=60) as server:
        it = resolver(server, clock)
        for _ in range(3):
            await it.lookup("a.example", "A")
        assert len(server.queries) == 1
        clock.now += 61
        await it.lookup("a.example", "A")
        assert len(server.queries) == 2
        it.forget()
        await it.lookup("a.example", "A")
        assert len(server.queries) == 3


@pytest.mark.parametrize(("ttl", "bounds", "expected"), [(1, {"min_ttl": 30}, 30), (9999, {"max_ttl": 100}, 100)])
async def test_the_time_is_bounded(ttl, bounds, expected):
    async with DnsServer(ZONE, ttl=ttl) as server:
        assert (await resolver(server, **bounds).lookup("a.example", "A")).ttl == expected


@pytest.mark.parametrize("name", ["gone.example", "dead.example"])
async def test_negative_answers_and_failures_are_kept_for_less(name):
    clock = Clock()
    async with DnsServer(ZONE, ttl=86_400) as server:
        it = resolver(server, clock, max_negative_ttl=50, failure_ttl=5)
        first = await it.lookup(name, "A")
        assert first.ttl <= 50
        asked = len(server.queries)
        await it.lookup(name, "A")
        assert len(server.queries) == asked
        clock.now += first.ttl + 1
        await it.lookup(name, "A")
        assert len(server.queries) > asked


async def test_an_soa_bounds_a_negative_answer():
    async with DnsServer(ZONE, ttl=40) as server:
        assert (await resolver(server).lookup("gone.example", "A")).ttl == 40


async def test_the_cache_is_bounded():
    async with DnsServer(ZONE) as server:
        it = resolver(server, cache_size=2)
        for name in ("a.example", "gone.example", "alias.example", "a.example"):
            await it.lookup(name, "A")
        assert len(server.queries) == 4


async def test_one_question_at_a_time_and_one_who_gives_up_does_not_take_it_from_the_others():
    async with DnsServer(ZONE) as server:
        it = resolver(server)
        tasks = [asyncio.create_task(it.lookup("a.example", "A")) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert all(answer.found is Found.FOUND for answer in answers[1:])
        assert len(server.queries) == 1


async def test_the_ad_bit_is_kept():
    async with DnsServer(ZONE, secure=["a.example"]) as server:
        it = resolver(server, validating=True)
        assert (await it.lookup("a.example", "A")).secure
        assert not (await it.lookup("alias.example", "A")).secure
        assert not (await it.lookup("gone.example", "A")).secure
        assert not (await resolver(server).lookup("a.example", "A")).secure, "nobody said to believe it"


async def test_large_answers_come_over_tcp():
    zone = {"big.example": {"TXT": [f'"{number} {"x" * 200}"' for number in range(40)]}}
    async with DnsServer(zone) as server:
        answer = await resolver(server).lookup("big.example", "TXT")
        assert len(answer.records) == 40
        assert {query.transport for query in server.queries} == {"udp", "tcp"}


class Metrics:
    def __init__(self):
        self.results, self.times = [], 0

    def count(self, name, labels=None, amount=1):
        assert name == "postern_dns_lookups_total"
        self.results.append(labels["result"])

    def observe(self, name, value, labels=None):
        assert name == "postern_dns_seconds"
        self.times += 1

    def set(self, name, value, labels=None):
        raise AssertionError("a resolver has no gauge")


async def test_look_ups_are_counted_by_what_they_came_to():
    metrics = Metrics()
    async with DnsServer(ZONE) as server:
        it = resolver(server, metrics=metrics)
        for name in ("a.example", "a.example", "gone.example", "dead.example"):
            await it.lookup(name, "A")
        await it.lookup("a.example", "AAAA")
    assert metrics.results == ["ok", "cached", "nxdomain", "failed", "empty"]
    assert metrics.times == 4
