"""Whatever a client does, good clients are served, no process ends, memory stays bounded. How fast: bench/abuse.py."""

import pytest

from tests.abuse.attackers import ATTACKS
from tests.abuse.site import attacked, resident, serve, under
from tests.support.load import tokens_in
from tests.support.system import drained, log_lines

GOOD = 10
MEMORY = 300
"""MiB of a worker's own: far more than it needs, far less than any attack sends."""


@pytest.mark.timeout(600)
async def test_good_clients_are_served_under_every_attack(tmp_path):
    async with attacked(tmp_path, workers=1) as (site, internet):
        (pid,) = site.worker_pids()
        await serve(site, GOOD)
        for number, name in enumerate(ATTACKS, start=1):
            async with under(name, site):
                await serve(site, GOOD, start=number * GOOD)
            assert site.worker_pids() == [pid], name
            assert resident(pid) < MEMORY, name
        await drained(site)
        peer = internet.peers["mail.example"]
        arrived = [token for message in peer.messages for token in tokens_in(message.content)]
        assert sorted(arrived) == list(range((len(ATTACKS) + 1) * GOOD))
        assert not [message for message in peer.messages if message.recipients == ("smuggled@mail.example",)]
        assert not [line for line in log_lines(site) if "exception" in line or line.get("level") == "critical"]
