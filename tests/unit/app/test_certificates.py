"""An alarm before a certificate of ours ends, once a day until someone sees to it."""

import structlog

from relay.app.certificates import ExpiryWatch
from relay.config.proof_files import EXPIRES_SOON
from tests.support.queue import NOW, ManualClock
from tests.support.trust import Tallied

SOON, DAY = EXPIRES_SOON.total_seconds(), 86_400


class Watched:
    def __init__(self):
        self.clock, self.metrics, self.events = ManualClock(), Tallied(), []

        async def tell(event):
            self.events.append((event.facts["alert"], event.facts["certificate"]))

        self.watch = ExpiryWatch(tell, self.metrics, self.clock)

    async def look(self, **ends):
        self.events.clear()
        with structlog.testing.capture_logs():
            await self.watch.look(ends.items())
        return list(self.events)


async def test_what_ends_soon_has_ended_or_cannot_be_read_is_told():
    it = Watched()
    told = await it.look(good=NOW + SOON + 1, soon=NOW + SOON - 1, over=NOW, broken=0.0)
    assert told == [
        ("certificate-expiring", "soon"), ("certificate-expired", "over"), ("certificate-unreadable", "broken"),
    ]  # fmt: skip
    assert it.metrics.counts["postern_alerts_total", "certificate-expiring"] == 1


async def test_it_is_told_once_a_day_and_anew_when_it_gets_worse_and_no_more_once_renewed():
    it, end = Watched(), NOW + DAY + 60
    assert await it.look(ours=end) == [("certificate-expiring", "ours")]
    it.clock.now += DAY - 1
    assert await it.look(ours=end) == []
    it.clock.now += 1
    assert await it.look(ours=end) == [("certificate-expiring", "ours")]
    it.clock.now += 60
    assert await it.look(ours=end) == [("certificate-expired", "ours")]
    assert await it.look(ours=end + 2 * SOON) == []
    assert await it.look(ours=end) == [("certificate-expired", "ours")]
