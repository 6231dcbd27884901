"""Law 1, kept before promised: kills at random moments, and the order of fsync and 250."""

import asyncio
import itertools
import os
import random
import signal
import time
from collections import Counter, defaultdict

import pytest

from relay.store.sqlite.faults import EXIT_STORAGE
from tests.support import trace as tracing
from tests.support.load import Load, tokens_in
from tests.support.peers import require
from tests.support.shim import fsync_shim
from tests.support.system import audit, domain, drained, end, fates, kill_all, log_lines, system, until

pytestmark = pytest.mark.law

# Two hundred decide whether a change lands; fewer keep `make test` on a desk under ten minutes.
KILLS = int(os.environ.get("POSTERN_LAW_KILLS", "200" if os.environ.get("POSTERN_REQUIRE_PEERS") == "1" else "40"))
READS = {"read", "recvfrom"}
WRITES = {"write", "writev", "sendto", "sendmsg"}
WHOLE = 16
"""Every so many kills take the whole system, the others one worker; with PostgreSQL every fifth of fewer."""


class Killer:
    """Kills under load, at random moments, and remembers when."""

    def __init__(self, site, load, chance, whole):
        self.site, self.load, self.chance, self.whole = site, load, chance, whole
        self.at = []
        self.kinds = Counter()

    async def strike(self, number):
        await self.load.wait_promised(len(self.load.promised) + self.chance.randrange(1, 6))
        await asyncio.sleep(self.chance.random() * 0.1)  # a moment that nothing chose
        if number % self.whole == self.whole - 1:
            self.kinds["whole system"] += 1
            self.at.append(time.time())
            await kill_all(self.site)
            await self.site.start()
        else:
            self.kinds["worker"] += 1
            worker = self.chance.choice(await until(self.site.worker_pids))
            self.at.append(time.time())
            os.kill(worker, signal.SIGKILL)


@pytest.mark.timeout(900)
async def test_what_was_answered_250_outlives_every_kill(tmp_path, store):
    seed = random.SystemRandom().randrange(1 << 32)
    kills, whole = (KILLS, WHOLE) if store == "sqlite" else (KILLS // 4, 5)
    async with system(tmp_path, domain("mail.example"), workers=2, store=store) as (site, internet):
        peer = internet.peers["mail.example"]
        load = Load(*site.relay, sessions=4)
        killer = Killer(site, load, random.Random(seed), whole)
        started = time.monotonic()
        load.start()
        for number in range(kills):
            await killer.strike(number)
        took = time.monotonic() - started
        await load.stop()
        arrived = defaultdict(list)

        read = 0

        def all_arrived():
            nonlocal read
            for message in peer.messages[read:]:
                for token in tokens_in(message.content):
                    arrived[token].append(message.at)
            read = len(peer.messages)
            return load.promised.keys() <= arrived.keys()

        try:
            async with asyncio.timeout(120), peer.changed:
                await peer.changed.wait_for(all_arrived)
        except TimeoutError:
            pytest.fail(f"seed {seed}: lost {sorted(load.promised.keys() - arrived.keys())}")
        await drained(site)
        await end(site)
        twice = {token: times for token, times in arrived.items() if len(times) > 1}
        print(
            f"\nseed {seed}: {dict(killer.kinds)} killed in {took:.0f} s; {len(load.promised)} promised, "
            f"{len(load.unanswered)} unanswered of which {len(load.unanswered & arrived.keys())} arrived, "
            f"{load.connections_lost} connections lost; lost: 0; arrived more than once: {len(twice)}"
        )
        check_fates(site, load)
        for token, times in twice.items():
            assert explained(times, killer.at), f"seed {seed}: token {token} arrived at {times}"


def explained(arrivals, kills):
    """Whether a kill fell between each two arrivals: between the peer's 250 and our record of it.

    The peer notes an arrival when it reads it, which may be a little after the worker that sent it was killed.
    """
    return all(any(first - 0.5 <= at <= second for at in kills) for first, second in itertools.pairwise(arrivals))


def check_fates(site, load):
    """Every message that was kept, promised or not, came to one end, and the trail is whole."""
    records = audit(site)
    told = fates(records)
    accepted = {record["message_id"] for record in records if record["kind"] == "accepted"}
    assert set(load.promised.values()) <= accepted
    ends = {message_id: [fate["fate"] for fate in told[message_id, 0]] for message_id in accepted}
    assert all(end == ["delivered"] for end in ends.values()), ends
    assert "The trail is whole." in site.postern("audit", "verify")


# --- the order of fsync and 250 ---------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("delay", ["", "4"], ids=["as it is", "every fsync 4 ms slower"])
async def test_a_250_is_written_after_the_fsync_of_what_it_promises(tmp_path, delay):
    strace = require("strace")
    trace = tmp_path / "trace"
    environment = {"LD_PRELOAD": str(fsync_shim()), "FSYNC_DELAY_MS": delay} if delay else {}
    async with system(tmp_path, domain("mail.example"), start=False, environment=environment) as (site, _):
        await site.start(prefix=tracing.command(strace, trace))
        load = Load(*site.relay, sessions=3)
        await load.run(60)
        worker, threads = tracing.worker_threads(site)
        await drained(site)
        await end(site)
        text = await tracing.finished(trace, worker)
    calls = [call for call in tracing.parse(text) if call.thread in threads]
    syncs = [
        call
        for call in calls
        if call.name in {"fsync", "fdatasync"} and "queue.db-wal>" in call.text and call.succeeded
    ]
    assert len(load.promised) == 60
    assert not load.refused
    for token, queue_id in load.promised.items():
        (arrived,) = (call.ended for call in calls if call.name in READS and f"token-{token}-end" in call.text)
        (answered,) = (call.began for call in calls if call.name in WRITES and f"queued as {queue_id}" in call.text)
        assert any(arrived < sync.began and sync.ended < answered for sync in syncs), f"token {token}: 250 too early"
    print(f"\n60 promises after {len(syncs)} fsyncs of the queue's log")


@pytest.mark.peers
async def test_what_fsync_did_not_confirm_is_never_promised(tmp_path):
    broken = tmp_path / "broken"
    environment = {"LD_PRELOAD": str(fsync_shim()), "FSYNC_FAIL_FILE": str(broken)}
    settings = {"process": {"restart_pause": "200ms"}}
    async with system(tmp_path, domain("mail.example"), environment=environment, settings=settings) as (site, net):
        before = Load(*site.relay)
        await before.run(30)
        assert len(before.promised) == 30
        await drained(site)
        broken.touch()
        during = Load(*site.relay)
        during.start()
        ends = await until(lambda: worker_ends(site, 3))
        assert set(ends) == {EXIT_STORAGE}
        assert not during.promised
        assert [line for line in log_lines(site) if line["event"] == "storage_failed"]
        broken.unlink()
        await during.wait_promised(20)
        await during.stop()
        await drained(site)
        await end(site)
        arrived = {token for message in net.peers["mail.example"].messages for token in tokens_in(message.content)}
        assert during.promised.keys() <= arrived
        check_fates(site, during)


def worker_ends(site, count):
    """The exit statuses of workers that ended, once there are so many."""
    ends = [
        line["status"]
        for line in log_lines(site)
        if line["event"] == "process ended, starting it again" and line["child"].startswith("worker")
    ]
    return ends if len(ends) >= count else None
