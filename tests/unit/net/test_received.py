"""Reports about us are kept once, bounded, and counted (RFC 8460)."""

import json

import pytest

from relay.net.received import KIND, ReceivedOptions, ReceivedReports
from relay.store import MemoryData, MemoryStore
from tests.support.queue import ManualClock
from tests.support.trust import Tallied
from tests.support.vault import FakeVault
from tests.unit.trust.test_tlsrpt import EXAMPLE, message, packed


def report(number=0, **more):
    return {**EXAMPLE, "report-id": f"id-{number}", **more}


class Desk:
    def __init__(self, most=500, domains=frozenset()):
        clock, self.metrics = ManualClock(), Tallied()
        self.store = MemoryStore(FakeVault(), clock, data=MemoryData())

        async def room(name, window):
            return await self.store.count(name, window=window, now=clock()) <= most

        self.kept = ReceivedReports(
            self.store, room, clock, ReceivedOptions(domains=frozenset(domains)), metrics=self.metrics
        )

    async def all(self, *domains):
        return [one async for one in self.kept.known(frozenset(domains))]

    def counted(self, result):
        return self.metrics.counts.get(("postern_tls_reports_received_total", result), 0)


async def test_a_report_is_kept_once_and_its_sessions_are_counted():
    desk = Desk(domains={"company-y.example"})
    assert (await desk.kept.take(message(packed()))).report_id == EXAMPLE["report-id"]
    await desk.kept.take(packed())
    (kept,) = await desk.all()
    assert kept.policies[0].failed == 303
    assert (desk.counted("kept"), desk.counted("repeated")) == (1, 1)
    sessions = {key[1:]: count for key, count in desk.metrics.counts.items() if "reported_sessions" in key[0]}
    assert sessions == {
        ("certificate-expired", "sts"): 100,
        ("sts", "validation-failure"): 203,
        ("sts", "success"): 5326,
    }


async def test_failures_without_details_are_counted_too():
    desk = Desk()
    plain = json.loads(json.dumps(EXAMPLE))
    del plain["policies"][0]["failure-details"]
    await desk.kept.take(packed(plain))
    assert desk.metrics.counts["postern_tls_reported_sessions_total", "sts", "validation-failure"] == 303


@pytest.mark.parametrize(
    ("content", "result"), [(packed({**EXAMPLE, "policies": []}), "not-ours"), (b"{}", "unreadable")]
)
async def test_what_is_not_about_us_or_no_report_is_not_kept(content, result):
    desk = Desk(domains={"clinic.example"})
    assert await desk.kept.take(content) is None
    assert await desk.kept.take(b"Subject: hello\r\n\r\nhello\r\n") is None
    assert (desk.counted(result), await desk.all()) == (1, [])


async def test_a_flood_of_reports_is_bounded():
    desk = Desk(most=3)
    for number in range(10):
        await desk.kept.take(packed(report(number)))
    assert (len(await desk.all()), desk.counted("too-many")) == (3, 7)


async def test_reports_are_listed_by_time_and_domain_and_a_large_one_keeps_its_sums():
    desk = Desk()
    later = {"start-datetime": "2016-05-01T00:00:00Z", "end-datetime": "2016-05-01T23:59:59Z"}
    policy = EXAMPLE["policies"][0]
    details = [{**policy["failure-details"][1], "receiving-ip": f"2001:db8::{n:x}"} for n in range(2000)]
    large = {**policy, "failure-details": details, "policy": {**policy["policy"], "policy-domain": "other.example"}}
    await desk.kept.take(packed(report(2, **{"date-range": later})))
    await desk.kept.take(packed(report(1, policies=[large])))
    first, second = await desk.all()
    assert (first.report_id, second.report_id) == ("id-1", "id-2")
    assert (first.policies[0].failed, first.policies[0].details) == (303, ())
    assert [one.report_id for one in await desk.all("other.example")] == ["id-1"]
    (row, _) = await desk.store.all_known(KIND)
    assert len(row.value) < 64 * 1024
