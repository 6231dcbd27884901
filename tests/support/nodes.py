"""Several nodes on one database, on one loopback or each in a network namespace, and what befalls them."""

import asyncio
import itertools
import os
import random
import signal
import struct
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from relay.demo.behaviour import PeerBehaviour
from relay.demo.dns import DnsServer
from relay.demo.internet import Internet
from relay.demo.peer import Peer
from relay.demo.ports import free_port
from relay.demo.site import Site, SiteOptions
from tests.support.load import Load, tokens_in
from tests.support.networks import Networks
from tests.support.postgres import Cluster
from tests.support.shim import clock_shim
from tests.support.system import OPEN_POLICY, audit, domain, end, fates, kill_all, until

SETTINGS = {
    "delivery": {"retry": {"first": "500ms", "max": "2s"}},
    "process": {"restart_pause": "0s"},
}


class Node(Site):
    """A site that is one of several; it starts where its addresses are."""

    inside: tuple[str, ...] = ()
    keys_of: Site | None = None

    def _make_keys(self) -> None:
        if self.keys_of is None:
            super()._make_keys()
        else:
            (self.directory / "keys").symlink_to(self.keys_of.directory / "keys")

    async def start(self, *, prefix: tuple[str, ...] = ()) -> None:
        await super().start(prefix=(*prefix, *self.inside))


class World:
    """Nodes, their database and its standby, their peer, and the networks between them.

    Attributes:
        nodes: the sites.
        database: the primary now.
        standby: what can be promoted; ``None`` where there is none any more.
        peer: the recipients' mail server.
        networks: ``None`` on loopback.
    """

    def __init__(self, directory, networks=None):
        self.directory = directory
        self.networks = networks
        self.nodes: list[Node] = []
        self.database: Cluster = None
        self.standby: Cluster | None = None
        self.peer: Peer = None

    @property
    def store(self):
        """What ``store`` says: every server that may be the primary."""
        servers = [one for one in (self.database, self.standby) if one is not None]
        return f"postgresql://postern@{','.join(f'{one.host}:{one.port}' for one in servers)}/postgres"

    def begin(self, site, settings):
        """Make a node's files; the first makes the keys that all use."""
        if self.nodes:
            site.keys_of = self.nodes[0]
            site.directory.mkdir(exist_ok=True)
        policy = self.directory / "policy-source"
        policy.mkdir(exist_ok=True)
        (policy / "main.yaml").write_text(OPEN_POLICY)
        site.options = SiteOptions(workers=1, dkim=(), policy=policy, **settings)
        site.prepare()
        self.nodes.append(site)

    @property
    def is_empty(self):
        return self.database.sql("SELECT count(*) FROM messages") == [(0,)]


@asynccontextmanager
async def on_loopback(directory, names, **settings):
    """A world on one loopback with a database of its own."""
    world = World(directory)
    async with AsyncExitStack() as stack:
        world.database = await asyncio.to_thread(lambda: Cluster().make().start())
        stack.push_async_callback(asyncio.to_thread, world.database.remove)
        first = Node(directory / names[0])
        internet = await stack.enter_async_context(Internet(first.authority, (domain("mail.example"),)))
        world.peer = internet.peers["mail.example"]
        for name in names:
            site = first if name == names[0] else Node(directory / name)
            shared = {"store": world.store, "node": name, "routes": internet.routes()}
            shared |= {"tls": {"trust_roots": str(first.authority.root)}}
            options = {"dns_port": internet.dns.port, "smtp_port": internet.port}
            world.begin(site, options | {"settings": SETTINGS | shared | settings})
        await _run(world, stack)
        yield world


@asynccontextmanager
async def apart(directory, names, *, clocks=None, standby=False):
    """A world in which each node and each database server is in a network namespace of its own.

    Args:
        directory: for the sites.
        names: of the nodes.
        clocks: node to the seconds by which its clock is wrong.
        standby: whether the database has a synchronous standby.
    """
    async with AsyncExitStack() as stack:
        # d: node and database; m: node and the world's mail servers; c: node and clients.
        networks = stack.enter_context(Networks("d", "m", "c"))
        world = World(directory, networks)
        await asyncio.to_thread(_databases, world, stack, standby)
        outside = networks.address("m", 1)
        first = Node(directory / names[0])
        certificate = first.authority.issue("mx.mail.example")
        behaviour = PeerBehaviour(hostname="mx.mail.example", certificate=certificate)
        world.peer = await stack.enter_async_context(Peer(behaviour, host=outside))
        zone = {"mail.example": {"MX": ["10 mx.mail.example."]}, "mx.mail.example": {"A": [outside]}}
        dns = await stack.enter_async_context(DnsServer(zone, host=outside))
        for number, name in enumerate(names):
            networks.add(name, 11 + number, "d", "m", "c")
            site = first if number == 0 else Node(directory / name)
            site.inside = networks.inside(name)
            own = networks.address("c", 11 + number)
            site.relay, site.submission, site.admin = ((own, free_port()) for _ in range(3))
            environment = _clock(site.directory, (clocks or {}).get(name, 0))
            settings = SETTINGS | _apart(world, name, site) | {"tls": {"trust_roots": str(first.authority.root)}}
            options = {"dns_port": dns.port, "smtp_port": world.peer.port, "environment": environment}
            world.begin(site, options | {"settings": settings})
        await _run(world, stack)
        yield world


def _databases(world, stack, standby):
    networks, servers = world.networks, []
    for number, name in enumerate(["primary", "standby"] if standby else ["primary"]):
        networks.add(name, 21 + number, "d")
        how = {"host": networks.address("d", 21 + number), "inside": networks.inside(name)}
        servers.append(Cluster(**how, trusted=networks.block("d")))
        stack.callback(servers[-1].remove)
    world.database = servers[0].make().start()
    if standby:
        world.standby = servers[1].copy_of(world.database).start()
        world.database.wait_for_standby()


def _clock(directory, seconds):
    """The environment of a node whose clock is wrong."""
    if not seconds:
        return {}
    directory.mkdir(exist_ok=True)
    (directory / "clock").write_bytes(struct.pack("=q", seconds))
    return {"LD_PRELOAD": str(clock_shim()), "CLOCK_OFFSET_FILE": str(directory / "clock")}


def _apart(world, name, site):
    """Settings of a node that is in a namespace of its own."""
    networks = world.networks
    waits = dict.fromkeys(("connect", "tls", "greeting", "ehlo", "mail", "rcpt", "data", "block"), "3s")
    clients = networks.block("c")
    host, port = site.relay
    return {
        "store": world.store,
        "node": name,
        "dns": {"nameservers": [networks.address("m", 1)]},
        "delivery": SETTINGS["delivery"]
        | {"allowed_special_networks": [networks.block("m")], "timeouts": waits | {"final": "10s", "quit": "1s"}},
        "listeners": [
            {
                "name": "inside", "kind": "relay", "tls": "none", "address": host, "port": port,
                "networks": [clients], "trust_networks": {clients: "ehr"},
            }
        ],
    }  # fmt: skip


async def _run(world, stack):
    stack.push_async_callback(_end_all, world)
    await asyncio.gather(*(site.start() for site in world.nodes))


async def _end_all(world):
    await asyncio.gather(*(end(site) for site in world.nodes))


# --- what befalls them ---


class Trouble:
    """Strikes a world, again and again, and remembers what and when.

    Attributes:
        spans: when each strike began and was over.
        kinds: how often each.
    """

    def __init__(self, world, chance: random.Random, *, longest_cut: float = 2.0):
        self.world, self.chance, self._longest_cut = world, chance, longest_cut
        self.spans: list[tuple[float, float]] = []
        self.kinds = Counter()

    @contextmanager
    def _span(self, kind):
        self.kinds[kind] += 1
        began = time.time()
        try:
            yield
        finally:
            self.spans.append((began, time.time()))

    async def strike(self, kind: str) -> None:
        """Do one thing to the world, and mend it where it does not mend itself."""
        site = self.chance.choice(self.world.nodes)
        with self._span(kind):
            await getattr(self, f"_{kind.replace(' ', '_')}")(site)

    async def _worker(self, site):
        os.kill((await until(site.worker_pids))[0], signal.SIGKILL)

    async def _node(self, site):
        await kill_all(site)
        await site.start()

    async def _database(self, _site):
        """SIGKILL for every process of the server, and start it again."""
        await asyncio.to_thread(self.world.database.kill)
        await asyncio.to_thread(self.world.database.start)

    async def _failover(self, _site):
        """The primary is gone for good, and its synchronous standby takes over."""
        await asyncio.to_thread(self.world.database.kill)
        self.world.database, self.world.standby = self.world.standby, None
        await asyncio.to_thread(self.world.database.promote)

    async def _cut_from_database(self, site):
        await self._cut(site, "d")

    async def _cut_from_destination(self, site):
        await self._cut(site, "m")

    async def _cut(self, site, network):
        host = site.directory.name
        await asyncio.to_thread(self.world.networks.pull, host, network)
        await asyncio.sleep(self.chance.uniform(0.5, self._longest_cut))
        await asyncio.to_thread(self.world.networks.plug, host, network)


# --- the load, and what came of it ---


class Traffic:
    """A load on every node of a world; one token goes to one node."""

    def __init__(self, world, sessions=4):
        self.world = world
        self._loads = []
        for number, site in enumerate(world.nodes):
            load = Load(*site.relay, sessions=sessions, recipient=_to(number))
            load._numbers = itertools.count(1 + number, len(world.nodes))
            self._loads.append(load)

    def start(self):
        for load in self._loads:
            load.start()

    async def grown(self, count):
        """Wait until so many messages in all were promised."""
        await until(lambda: sum(len(load.promised) for load in self._loads) >= count, 1200)

    async def stop(self):
        for load in self._loads:
            await load.stop()

    @property
    def promised(self):
        return {token: name for load in self._loads for token, name in load.promised.items()}

    @property
    def refused(self):
        return sum((load.refused for load in self._loads), Counter())


def _to(number):
    return lambda token: f"box{token % 7}n{number}@mail.example"


class Outcome:
    """What became of a load: compared once all nodes have stopped.

    Attributes:
        promised: token to queue id.
        lost: tokens that were promised and arrived nowhere.
        twice: tokens that arrived more than once, and when.
        fates: (message id, recipient) to how many fates the trails of all nodes tell.
    """

    def __init__(self, world, traffic):
        self.promised = traffic.promised
        arrived = defaultdict(list)
        for message in world.peer.messages:
            for token in tokens_in(message.content):
                arrived[token].append(message.at)
        self.lost = self.promised.keys() - arrived.keys()
        self.twice = {token: times for token, times in arrived.items() if len(times) > 1}
        self.fates = Counter(key for site in world.nodes for key, facts in fates(audit(site)).items() for _ in facts)

    def unexplained(self, spans):
        """Tokens that arrived more than once without a strike, or its end, between two arrivals."""
        return {token: times for token, times in self.twice.items() if not _explained(times, spans)}


def _explained(arrivals, spans):
    return all(
        any(first - 1.0 <= ended and began <= second for began, ended in spans)
        for first, second in itertools.pairwise(arrivals)
    )
