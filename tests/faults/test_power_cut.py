"""Law 1 when the power fails: nothing is left but what an fsync confirmed, and that is enough.

Everything is killed at a random moment; then each file of the queue and of the audit trail is put back to what its
latest sync confirmed, and what was never synced is gone. Syncs of the queue's log take longer than they would, so that
at any moment much is committed, seen by all processes and not on the disk.

A plain run does two cuts. ``POSTERN_POWER_CUTS=100`` does as many.
"""

import asyncio
import contextlib
import os
import random
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.load import Load, small_message, tokens_in
from tests.support.shim import power_shim
from tests.support.system import audit, domain, drained, end, fates, kill_all, system, until

CUTS = int(os.environ.get("POSTERN_POWER_CUTS", "2"))
LARGE = 300 * 1024


def message(token, recipient):
    """Every eighth has a body of its own file."""
    content = small_message(token, recipient)
    return content if token % 8 else content + b"The lift is being repaired, floor by floor.\r\n" * (LARGE // 45)


def alive(group):
    """Whether a process of the group may still write."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of, *_ = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(of) == group and state != "Z":
                return True
    return False


def cut(data, confirmed):
    """Leave of queue and trail what was confirmed; how many files had more, and how many are gone."""
    shorter = gone = 0
    for path in [*data.glob("queue/**/*"), *data.glob("audit/**/*")]:
        kept = confirmed / str(path.stat().st_ino)
        if not path.is_file() or path.name.endswith("lock"):
            continue
        if path.name.endswith("-shm") or not kept.exists():
            path.unlink()
            gone += 1
        elif kept.read_bytes() != path.read_bytes():
            path.write_bytes(kept.read_bytes())
            shorter += 1
    shutil.rmtree(confirmed)
    confirmed.mkdir()
    for path in data.rglob("*"):  # what is there now is on the disk
        if path.is_file():
            shutil.copyfile(path, confirmed / str(path.stat().st_ino))
    return shorter, gone


@pytest.mark.law
@pytest.mark.peers
@pytest.mark.timeout(3600)
async def test_what_was_answered_250_outlives_every_power_cut_and_the_trail_knows_of_no_other(tmp_path):
    seed = int(os.environ.get("POSTERN_FAULTS_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    confirmed = tmp_path / "confirmed"
    confirmed.mkdir()
    environment = {"LD_PRELOAD": str(power_shim()), "POWER_DIRECTORY": str(confirmed), "POWER_LOG_MS": "200"}
    site_directory = tmp_path / "site"
    site_directory.mkdir()
    lost = 0
    async with system(site_directory, domain("mail.example"), workers=2, environment=environment) as (site, internet):
        load = Load(*site.relay, sessions=6, message=message)
        load.start()
        for _ in range(CUTS):
            async with asyncio.timeout(120):
                await load.wait_promised(len(load.promised) + chance.randrange(10, 40))
            await asyncio.sleep(chance.random() * 0.3)  # a moment that nothing chose
            group = site.process.pid
            await kill_all(site)
            await until(lambda group=group: not alive(group))
            shorter, _ = cut(site.directory / "data", confirmed)
            lost += shorter
            await site.start()
        async with asyncio.timeout(120):
            await load.wait_promised(len(load.promised) + 10)
        await load.stop()
        arrived = await arrivals(internet.peers["mail.example"], load.promised.keys(), seed)
        await drained(site, 120)
        await end(site)
        records = audit(site)
        assert "The trail is whole." in site.postern("audit", "verify")
    told = fates(records)
    accepted = [record["message_id"] for record in records if record["kind"] == "accepted"]
    ends = {message_id: [fate["fate"] for fate in told[message_id, 0]] for message_id in accepted}
    odd = {message_id: ended for message_id, ended in ends.items() if ended != ["delivered"]}
    twice = sum(count > 1 for count in arrived.values())
    print(f"\nseed {seed}: {CUTS} cuts; {len(load.promised)} promised; lost: 0; arrived more than once: {twice}")
    assert lost, "the cuts took something away"
    assert set(load.promised.values()) <= set(accepted), f"seed {seed}"
    assert len(accepted) == len(set(accepted)), f"seed {seed}"
    assert not odd, f"seed {seed}"


async def arrivals(peer, promised, seed):
    """Token to how often it came, once all that were promised did."""
    arrived, read = defaultdict(int), 0

    def all_arrived():
        nonlocal read
        for taken in peer.messages[read:]:
            for token in tokens_in(taken.content):
                arrived[token] += 1
        read = len(peer.messages)
        return promised <= arrived.keys()

    try:
        async with asyncio.timeout(120), peer.changed:
            await peer.changed.wait_for(all_arrived)
    except TimeoutError:
        pytest.fail(f"seed {seed}: lost {sorted(promised - arrived.keys())}")
    return arrived
