"""Several nodes on one database: whatever is killed, what was answered 250 arrives, and twice only for a kill."""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from contextlib import asynccontextmanager

import pytest

from relay.demo.internet import Internet
from relay.demo.site import Site, SiteOptions
from tests.support.load import Load, tokens_in
from tests.support.postgres import Cluster
from tests.support.system import OPEN_POLICY, audit, domain, end, fates, kill_all, until

pytestmark = [pytest.mark.law, pytest.mark.peers]
MESSAGES = int(os.environ.get("POSTERN_NODE_MESSAGES", "1200"))
STRIKES = int(os.environ.get("POSTERN_NODE_STRIKES", "8"))


@asynccontextmanager
async def nodes(directory, cluster, names, **settings):
    """Sites that share a database, their keys and an Internet."""
    sites = []
    policy = directory / "policy-source"
    policy.mkdir()
    (policy / "main.yaml").write_text(OPEN_POLICY)
    first = Site(directory / names[0])
    async with Internet(first.authority, (domain("mail.example"),)) as internet:
        for name in names:
            site = first if name == names[0] else Site(directory / name)
            shared = {
                "store": cluster.dsn,
                "node": name,
                "keys_dir": str(first.directory / "keys"),
                "routes": internet.routes(),
                "tls": {"trust_roots": str(first.authority.root)},
                "delivery": {"retry": {"first": "500ms", "max": "2s"}},
                "process": {"restart_pause": "0s"},
            }
            site.options = SiteOptions(
                dns_port=internet.dns.port, smtp_port=internet.port, workers=1, dkim=(), policy=policy,
                settings=shared | settings,
            )  # fmt: skip
            if site is not first:
                site._make_keys = lambda: None
                site.directory.mkdir(exist_ok=True)
                (site.directory / "keys").symlink_to(first.directory / "keys")
            site.prepare()
            sites.append(site)
        try:
            await asyncio.gather(*(site.start() for site in sites))
            yield sites, internet.peers["mail.example"]
        finally:
            await asyncio.gather(*(end(site) for site in sites))


@pytest.fixture
async def cluster():
    cluster = await asyncio.to_thread(lambda: Cluster().make().start())
    yield cluster
    await asyncio.to_thread(cluster.remove)


class Trouble:
    """Kills a worker, a node or the database, again and again, and remembers when."""

    def __init__(self, sites, cluster, chance):
        self.sites, self.cluster, self.chance = sites, cluster, chance
        self.at, self.kinds = [], Counter()

    async def strike(self):
        kind = self.chance.choice(["worker", "worker", "node", "database"])
        self.kinds[kind] += 1
        self.at.append(time.time())
        site = self.chance.choice(self.sites)
        if kind == "worker":
            os.kill((await until(site.worker_pids))[0], signal.SIGKILL)
        elif kind == "node":
            await kill_all(site)
            await site.start()
        else:
            await asyncio.to_thread(self.cluster.kill)
            await asyncio.to_thread(self.cluster.start)
        self.at.append(time.time())


def emptied(cluster):
    return cluster.sql("SELECT count(*) FROM messages") == [(0,)]


@pytest.mark.timeout(1800)
async def test_what_any_node_promised_outlives_kills_of_nodes_and_of_the_database(tmp_path, cluster):
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    async with nodes(tmp_path, cluster, ["alpha", "beta"]) as (sites, peer):
        loads = [Load(*site.relay, sessions=4, recipient=_to(number)) for number, site in enumerate(sites)]
        for number, load in enumerate(loads):
            load._numbers = itertools.count(1 + number, len(loads))  # one token, one node
            load.start()
        trouble = Trouble(sites, cluster, chance)
        started = time.monotonic()
        for number in range(1, STRIKES + 1):
            await _grown(loads, number * MESSAGES // (STRIKES + 1))
            await asyncio.sleep(chance.random() * 0.1)  # a moment that nothing chose
            await trouble.strike()
        await _grown(loads, MESSAGES)
        for load in loads:
            await load.stop()
        took = time.monotonic() - started
        await until(lambda: emptied(cluster), 120, every=0.2)
        await asyncio.gather(*(end(site) for site in sites))
        promised = loads[0].promised | loads[1].promised
        arrived = defaultdict(list)
        for message in peer.messages:
            for token in tokens_in(message.content):
                arrived[token].append(message.at)
        lost = promised.keys() - arrived.keys()
        twice = {token: times for token, times in arrived.items() if len(times) > 1}
        refused = sum((load.refused for load in loads), Counter())
        print(
            f"\nseed {seed}: {dict(trouble.kinds)} killed in {took:.0f} s; {len(promised)} promised, "
            f"refused meanwhile: {dict(refused)}; lost: {len(lost)}; arrived more than once: {len(twice)}"
        )
        assert not lost, f"seed {seed}"
        for token, times in twice.items():
            assert explained(times, trouble.at), f"seed {seed}: token {token} arrived at {times}, kills {trouble.at}"
        told = [fates(audit(site)) for site in sites]
        ends = Counter(key for one in told for key, facts in one.items() for _ in facts)
        assert {message_id for message_id, _ in ends} >= set(promised.values())
        assert set(ends.values()) == {1}, "a copy has one fate, on one node"
        for site in sites:
            assert "The trail is whole." in site.postern("audit", "verify")
        assert "whole" in sites[0].postern("store", "check")


def _to(number):
    return lambda token: f"box{token % 7}n{number}@mail.example"


async def _grown(loads, count):
    await until(lambda: sum(len(load.promised) for load in loads) >= count, 600)


def explained(arrivals, strikes):
    """Whether something was killed, or was on its way up again, between each two arrivals."""
    spans = list(zip(strikes[::2], strikes[1::2], strict=True))
    return all(
        any(first - 1.0 <= ended and began <= second for began, ended in spans)
        for first, second in itertools.pairwise(arrivals)
    )


async def _ready(site):
    """What the node says of its readiness."""
    return await asyncio.to_thread(_read, "http://{}:{}/readyz".format(*site.admin))


def _read(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def _listens(site):
    try:
        socket.create_connection(site.relay, timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.timeout(180)
async def test_a_drained_node_takes_nothing_gives_back_what_it_has_and_serves_again(tmp_path, cluster):
    async with nodes(tmp_path, cluster, ["alpha", "beta"]) as (sites, peer):
        alpha, beta = sites
        first = Load(*alpha.relay)
        await first.run(40)
        await asyncio.to_thread(alpha.postern, "node", "drain", "beta", "--wait", "20")
        await until(lambda: not _listens(beta))
        listed = {node["name"]: node for node in json.loads(alpha.postern("node", "list", "--json"))}
        assert (listed["beta"]["draining"], listed["beta"]["leased"], listed["alpha"]["draining"]) == (True, 0, False)
        assert listed["beta"]["processes"] == 2
        assert "drained this node" in await _ready(beta)
        second = Load(*alpha.relay)
        await second.run(40)
        await asyncio.to_thread(beta.postern, "node", "resume")
        await until(lambda: _listens(beta))
        third = Load(*beta.relay)
        await third.run(40)
        assert [len(load.promised) for load in (first, second, third)] == [40, 40, 40]
        await until(lambda: emptied(cluster), 30)
        await asyncio.gather(*(end(site) for site in sites))
        assert len(peer.messages) == 120
        acts = [r["facts"]["operation"] for r in audit(alpha) if r["kind"] == "operator" and "node" in r["facts"]]
        assert acts == ["node drain"]


@pytest.mark.timeout(180)
async def test_without_the_database_clients_hear_451_at_once_and_all_recovers_by_itself(tmp_path, cluster):
    async with nodes(tmp_path, cluster, ["alpha"]) as ((alpha,), peer):
        before = Load(*alpha.relay)
        await before.run(20)
        await asyncio.to_thread(cluster.kill)
        during = Load(*alpha.relay, sessions=2)
        during.start()
        await until(lambda: during.refused[451] >= 6)
        assert not during.promised
        assert "cannot be used" in await _ready(alpha)
        await asyncio.to_thread(cluster.start)
        await during.wait_promised(20)
        await during.stop()
        await until(lambda: emptied(cluster), 60)
        await end(alpha)
        arrived = {token for message in peer.messages for token in tokens_in(message.content)}
        assert before.promised.keys() | during.promised.keys() <= arrived
