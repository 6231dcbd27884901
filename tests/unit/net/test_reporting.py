"""Sessions become a daily report, which goes to whom the domain names, once (RFC 8460 sections 3 to 5)."""

import contextlib
import gzip
import json
from dataclasses import dataclass, field

import pytest

from relay.core.address import Address
from relay.core.errors import PosternError, StoreError
from relay.core.ports import Known
from relay.demo.dns import DnsServer
from relay.demo.dns import Trouble as Broken
from relay.net.fetch import FetchOptions, HttpsFetcher
from relay.net.mx import HostFinder
from relay.net.reporting import SENT, Reporter, ReportingOptions
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.tally import KIND, SessionTally
from relay.store import MemoryData, MemoryStore
from relay.trust.sessions import NO_POLICY, AppliedPolicy, Fault, SessionResult, begin_of
from relay.trust.tlsrpt import PolicyType, ResultType, find_report
from tests.support.net import LOOPBACK, contexts
from tests.support.policyhost import PolicyHost, answer
from tests.support.queue import ManualClock
from tests.support.trust import BrokenStore, Tallied
from tests.support.vault import FakeVault

DAY, GOOD, HOOK = "2026-11-22", "good.example", "hook.good.example"
STS = AppliedPolicy(kind=PolicyType.STS, strings=("version: STSv1",), mx=("mx.good.example",))
OPTIONS = ReportingOptions(
    sender=Address.parse("tls@clinic.example"), organization="The Clinic", contact="tls@clinic.example",
    hostname="relay.clinic.example", skip=frozenset({"quiet.example", "*.silent.example"}),
)  # fmt: skip


def session(domain=GOOD, policy=NO_POLICY, result=None):
    fault = Fault(result=result, detail="it did") if result else None
    at = begin_of(DAY) + 60
    return SessionResult(domain=domain, policy=policy, at=at, fault=fault, host=f"mx.{domain}", address="192.0.2.1")


@dataclass
class Desk:
    """A reporter, all that it works with, and what it sent."""

    clock: ManualClock
    store: BrokenStore
    dns: DnsServer
    resolver: Resolver
    hook: PolicyHost
    metrics: Tallied
    letters: list[tuple[Address, bytes]] = field(default_factory=list)
    refuses: list[str] = field(default_factory=list)
    tallies: int = 0

    def ask(self, *uris, domain=GOOD):
        self.dns.set(f"_smtp._tls.{domain}", {"TXT": ['"v=TLSRPTv1; rua=' + ",".join(uris) + '"']})
        self.resolver.forget()

    def tally(self):
        """Another process's counts."""
        self.tallies += 1
        return SessionTally(self.store, f"node-{self.tallies}", self.clock, metrics=self.metrics)

    def reporter(self, authority):
        """Another node's reporter."""

        async def enqueue(content, to):
            if str(to) in self.refuses:
                raise PosternError("no key signs")
            self.letters.append((to, content))

        async def claim(name, window):
            return await self.store.store.count(name, window=window, now=self.clock()) == 1

        fetcher = HttpsFetcher(
            HostFinder(self.resolver, LOOPBACK), contexts(authority).verifying,
            FetchOptions(port=self.hook.port, timeout=60),
        )  # fmt: skip
        return Reporter(
            OPTIONS, knowledge=self.store, resolver=self.resolver, poster=fetcher, enqueue=enqueue, claim=claim,
            clock=self.clock, metrics=self.metrics,
        )  # fmt: skip

    async def rows(self, kind):
        return [one.name for one in await self.store.all_known(kind)]


@contextlib.asynccontextmanager
async def office(authority):
    clock = ManualClock()
    clock.now = begin_of(DAY) + 3600
    store = BrokenStore(MemoryStore(FakeVault(), clock, data=MemoryData()))
    async with DnsServer({HOOK: {"A": ["127.0.0.1"]}}) as dns, PolicyHost(authority.issue(HOOK)) as hook:
        hook.raw = answer(b"", status="201 Created")
        resolver = Resolver(
            ResolverOptions(nameservers=("127.0.0.1",), port=dns.port, timeout=20, lifetime=40, failure_ttl=1)
        )
        try:
            yield Desk(clock, store, dns, resolver, hook, Tallied())
        finally:
            await resolver.close()


@pytest.fixture
async def desk(authority):
    async with office(authority) as made:
        yield made


async def counted(desk, *sessions):
    tally = desk.tally()
    for one in sessions or (session(),):
        tally.saw(one)
    await tally.flush()


def late(desk, reporter, domain=GOOD):
    desk.clock.now = reporter.due_at(DAY, domain)


async def test_the_counts_of_all_processes_make_one_report_that_goes_once(authority, desk):
    desk.ask("mailto:r@good.example")
    await counted(desk, session(), session(policy=STS))
    await counted(desk, session(policy=STS, result=ResultType.CERTIFICATE_EXPIRED), session())
    reporter, other = desk.reporter(authority), desk.reporter(authority)
    await reporter.run()
    assert desk.letters == [], "the day is not over"
    late(desk, reporter)
    desk.clock.now -= 1
    await reporter.run()
    assert desk.letters == [], "its time has not come"
    desk.clock.now += 1
    for one in (reporter, other, reporter):
        await one.run()
    ((to, content),) = desk.letters
    assert str(to) == "r@good.example"
    report = find_report(content)
    assert (report.organization, report.contact) == ("The Clinic", "tls@clinic.example")
    assert (report.begin, report.end) == (begin_of(DAY), begin_of(DAY) + 86_399)
    assert {(one.kind, one.succeeded, one.failed) for one in report.policies} == {
        ("no-policy-found", 2, 0),
        ("sts", 1, 1),
    }
    assert await desk.rows(KIND) == []
    assert desk.metrics.counts["postern_tls_reports_sent_total", "mail", "ok"] == 1
    assert desk.metrics.counts["postern_tls_sessions_total", "no-policy-found", "success"] == 2


async def test_a_web_server_gets_the_report_in_gzip_and_is_asked_again_until_it_takes_it(authority, desk):
    desk.ask(f"https://{HOOK}/v1/reports?who=x", "mailto:r@good.example")
    await counted(desk)
    reporter = desk.reporter(authority)
    desk.hook.raw = answer(b"", status="503 Later")
    late(desk, reporter)
    await reporter.run()
    await reporter.run()
    assert len(desk.hook.bodies) == 1, "not again at once"
    desk.hook.raw = answer(b"", status="202 Accepted")
    desk.clock.now += 3600
    await reporter.run()
    desk.clock.now += 3600
    await reporter.run()
    head, body = desk.hook.requests[-1], desk.hook.bodies[-1]
    assert head.startswith(b"POST /v1/reports?who=x HTTP/1.1\r\n")
    assert b"content-type: application/tlsrpt+gzip\r\n" in head.lower()
    assert json.loads(gzip.decompress(body))["organization-name"] == "The Clinic"
    assert (len(desk.hook.bodies), len(desk.letters)) == (2, 1), "whoever has it does not get it again"
    assert desk.hook.bodies[0] == desk.hook.bodies[1], "the same report, with the same id"


@pytest.mark.parametrize("trouble", ["redirect", "stranger", "silent-dns", "unsigned"])
async def test_what_cannot_be_delivered_within_a_day_is_dropped(authority, desk, trouble):
    if trouble == "redirect":
        desk.ask(f"https://{HOOK}/")
        desk.hook.raw = answer(b"", status="302 Found", more="Location: https://elsewhere.example/\r\n")
    elif trouble == "stranger":
        desk.ask("https://127.0.0.1/")
    elif trouble == "silent-dns":
        desk.dns.set(f"_smtp._tls.{GOOD}", Broken.SERVFAIL)
    else:
        desk.ask("mailto:r@good.example")
        desk.refuses.append("r@good.example")
    await counted(desk)
    reporter = desk.reporter(authority)
    late(desk, reporter)
    for _ in range(6):
        await reporter.run()
        desk.resolver.forget()
        desk.clock.now += 5 * 3600
    assert desk.letters == []
    assert await desk.rows(KIND) == [], "nothing is left over"


@pytest.mark.parametrize("domain", ["quiet.example", "deep.silent.example", "unasking.example"])
async def test_who_asks_for_none_or_is_left_out_gets_none(authority, desk, domain):
    if domain != "unasking.example":
        desk.ask("mailto:r@x.example", domain=domain)
    await counted(desk, session(domain))
    reporter = desk.reporter(authority)
    late(desk, reporter, domain)
    await reporter.run()
    assert desk.letters == []
    assert await desk.rows(KIND) == []


async def test_a_node_that_died_in_the_middle_is_followed_by_another(authority, desk):
    desk.ask("mailto:r@good.example")
    await counted(desk)
    reporter = desk.reporter(authority)
    late(desk, reporter)
    assert await desk.store.store.count(f"{SENT}/{DAY}/{GOOD}", window=3600, now=desk.clock()) == 1
    await reporter.run()
    assert desk.letters == [], "somebody is at it"
    desk.clock.now += 3600
    await reporter.run()
    assert len(desk.letters) == 1


async def test_counts_that_cannot_be_written_wait_and_late_ones_bring_no_second_report(authority, desk):
    desk.ask("mailto:r@good.example")
    tally = desk.tally()
    tally.saw(session())
    desk.store.error = StoreError("away")
    await tally.flush()
    desk.store.error = None
    assert await desk.rows(KIND) == []
    await tally.flush()
    assert len(await desk.rows(KIND)) == 1
    reporter = desk.reporter(authority)
    late(desk, reporter)
    await reporter.run()
    await counted(desk)
    await reporter.run()
    assert (len(desk.letters), await desk.rows(KIND)) == (1, [])


async def test_a_damaged_memory_of_what_was_sent_stops_no_report(authority, desk):
    desk.ask("mailto:r@good.example")
    await counted(desk)
    await desk.store.learn(Known(kind=SENT, name=f"{DAY}/{GOOD}", value=b"[7]", until=begin_of(DAY) + 9e5))
    reporter = desk.reporter(authority)
    late(desk, reporter)
    await reporter.run()
    assert len(desk.letters) == 1


async def test_domains_counted_in_a_day_are_bounded(desk):
    tally = SessionTally(desk.store, "node", desk.clock, metrics=desk.metrics, most=2)
    for number in range(4):
        tally.saw(session(f"d{number}.example"))
    await tally.flush()
    assert len(await desk.rows(KIND)) == 2
    assert desk.metrics.counts[("postern_tls_sessions_unreported_total",)] == 2


def test_reports_are_spread_over_the_time_that_is_set_and_all_nodes_agree(authority, desk):
    first, second = desk.reporter(authority), desk.reporter(authority)
    times = [first.due_at(DAY, f"d{number}.example") for number in range(200)]
    assert times == [second.due_at(DAY, f"d{number}.example") for number in range(200)]
    begin = begin_of(DAY) + 86_400 + OPTIONS.settle
    assert all(begin <= at <= begin + OPTIONS.spread for at in times)
    assert max(times) - min(times) > OPTIONS.spread / 2
