"""A whole system under load, to which faults are done one after the other, and the account of it at the end."""

import asyncio
import contextlib
import itertools
import os
import random
import resource
import signal
import struct
import subprocess
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay.admin.wire import ListRequest, ListResult
from relay.demo.dns import Trouble
from tests.faults.points import POINTS
from tests.support.cable import Cable
from tests.support.load import Load, small_message, tokens_in
from tests.support.shim import clock_shim, fsync_shim
from tests.support.system import ask, audit, children, domain, drained, end, fates, kill_all, log_lines, system, until

LARGE = 300 * 1024
"""Octets of the messages whose bodies are files beside the database: every sixteenth."""
DISK = 192
"""MiB of the disk that is filled, for a plain run; what is sent during one fault more leaves 0.2 MiB of audit trail."""
SETTINGS = {
    "delivery": {
        "retry": {"first": "200ms", "max": "1s"},
        "timeouts": dict.fromkeys(
            ("connect", "tls", "greeting", "ehlo", "mail", "rcpt", "data", "block", "final"), "1s"
        ),
    },
    "dns": {"failure_ttl": "1s", "timeout": "300ms", "lifetime": "1s"},
    "process": {"restart_pause": "0s", "watchdog": "10s", "drain": "5s"},
    "limits": {"disk_reserve": "1MiB"},
}
INSIDE = {
    "name": "inside", "kind": "relay", "tls": "none", "networks": ["127.0.0.0/8"],
    "trust_networks": {"127.0.0.0/8": "ehr"}, "idle_timeout": "5s", "command_timeout": "3s", "data_timeout": "5s",
}  # fmt: skip


def message(token, recipient):
    """Mostly small; every sixteenth has a body of its own file."""
    content = small_message(token, recipient)
    return content if token % 16 else content + b"The lift is still being repaired, floor by floor.\r\n" * (LARGE // 51)


@contextlib.contextmanager
def small_disk(directory, size):
    """A disk of its own that can be filled.

    Raises:
        PermissionError: this process may not mount.
    """
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=700,size={size}m", "tmpfs", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PermissionError(done.stderr.strip())
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@dataclass
class Harness:
    """What faults are done to.

    Attributes:
        site, internet, cable: the system, who it delivers to, and the wire between the load and its listener.
        load: what is sent.
        faults: where points are armed.
        chance: all that is random, from one seed.
        struck: (name, began, ended) of each fault, unix seconds.
    """

    site: object
    internet: object
    cable: Cable
    load: Load
    faults: Path
    chance: random.Random
    struck: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def peer(self):
        return self.internet.peers["mail.example"]

    async def strike(self, name, fault):
        """Do one fault, in the middle of a load that flows, and note when."""
        await self.flows()
        began = time.time()
        await fault(self)
        self.struck.append((name, began, time.time()))

    async def flows(self, more=3):
        """Wait until a few more messages were promised: whatever was done before is over."""
        async with asyncio.timeout(60):
            await self.load.wait_promised(len(self.load.promised) + more)

    async def moment(self, longest=0.3):
        """A moment that nothing chose."""
        await asyncio.sleep(self.chance.random() * longest)


# --- faults -----------------------------------------------------------------


def killed_at(point):
    """The first process that comes by the point ends by SIGKILL."""

    async def fault(harness):
        armed = harness.faults / "armed" / point.name
        armed.touch()
        await until(lambda: not armed.exists(), deadline=60)

    return fault


async def kill_a_worker(harness):
    await harness.moment()
    os.kill(harness.chance.choice(await until(harness.site.worker_pids)), signal.SIGKILL)


async def kill_all_processes(harness):
    await harness.moment()
    await kill_all(harness.site)
    await harness.site.start()


def kill_child(title):
    async def fault(harness):
        await harness.moment()
        (pid,) = await until(lambda: next((v for k, v in children(harness.site).items() if title in k), None))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: any(title in k and pid not in v for k, v in children(harness.site).items()))

    return fault


async def stop_a_worker(harness):
    """SIGSTOP until the supervisor kills it, or nearly so."""
    pid = harness.chance.choice(await until(harness.site.worker_pids))
    os.kill(pid, signal.SIGSTOP)
    await harness.moment(1.0)
    os.kill(pid, signal.SIGCONT)


async def fsync_fails(harness):
    """Workers end with EX_IOERR at the first write, until the disk is well again."""
    broken = harness.faults / "fsync-fails"
    ended = _worker_ends(harness.site)
    broken.touch()
    try:
        await until(lambda: _worker_ends(harness.site) > ended)
    finally:
        broken.unlink()


def _worker_ends(site):
    return sum(line["event"] == "process ended, starting it again" for line in log_lines(site))


async def disk_fills(harness):
    """No octet is free; what is promised stays promised, and what leaves makes room again."""
    ballast = harness.site.directory / "data" / "ballast"
    refused = harness.load.refused[452] + harness.load.refused[451] + harness.load.connections_lost
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65536)
    try:
        await until(
            lambda: harness.load.refused[452] + harness.load.refused[451] + harness.load.connections_lost > refused
        )
        await harness.moment()
    finally:
        ballast.unlink()


def clock_jumps(seconds):
    async def fault(harness):
        harness.faults.joinpath("clock").write_bytes(struct.pack("=q", seconds))
        await harness.flows()
        await harness.moment(0.5)
        harness.faults.joinpath("clock").write_bytes(struct.pack("=q", 0))

    return fault


async def descriptors_run_out(harness):
    """A worker may open no file and take no connection for a while."""
    pid = harness.chance.choice(await until(harness.site.worker_pids))
    with contextlib.suppress(ProcessLookupError):
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = sum(entry.is_symlink() for entry in os.scandir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(used - 2, 3), before[1]))
        try:
            harness.cable.cut()
            await harness.moment(1.0)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def dns_breaks(trouble):
    async def fault(harness):
        dns = harness.internet.dns
        dns.set("mail.example", trouble)
        _cut_peer(harness)
        await harness.moment(1.5)
        dns.set("mail.example", {"MX": ["10 mx.mail.example."]})

    return fault


def peer_acts(**behaviour):
    """The recipient's server misbehaves in new connections, and those it has end."""

    async def fault(harness):
        usual = harness.peer.behaviour
        harness.peer.behaviour = replace(usual, **behaviour)
        _cut_peer(harness)
        await harness.moment(1.5)
        harness.peer.behaviour = usual
        _cut_peer(harness)

    return fault


def _cut_peer(harness):
    for task in list(harness.peer._tasks):
        task.cancel()


async def intake_is_cut(harness):
    await harness.moment()
    harness.cable.cut()


async def intake_stalls(harness):
    harness.cable.stall(on=True)
    await harness.moment(1.5)
    harness.cable.stall(on=False)


async def intake_trickles(harness):
    """A few octets at a time pass in either direction."""
    harness.cable.piece = harness.chance.choice((1, 3, 7, 61))
    harness.cable.cut()
    await harness.flows(1)
    harness.cable.piece = 65536


async def answer_is_lost(harness):
    """The final dot reaches the relay, its answer does not reach the client."""
    harness.cable.cut_at = b"-end\r\n"
    cuts = harness.cable.cuts
    await until(lambda: harness.cable.cuts > cuts)


async def reload(harness):
    await harness.moment()
    harness.site.process.send_signal(signal.SIGHUP)


async def key_rotates(harness):
    await asyncio.to_thread(harness.site.postern, "keys", "rotate")
    harness.site.process.send_signal(signal.SIGHUP)


KILLS = {point.name: killed_at(point) for point in POINTS}
OTHERS = {
    "a worker is killed": kill_a_worker,
    "all is killed": kill_all_processes,
    "the admin process is killed": kill_child("admin"),
    "the extraction helper is killed": kill_child("extract"),
    "a worker is stopped": stop_a_worker,
    "fsync fails": fsync_fails,
    "the disk fills": disk_fills,
    "the clock is ahead": clock_jumps(30),
    "the clock is set back": clock_jumps(-30),
    "descriptors run out": descriptors_run_out,
    "DNS fails": dns_breaks(Trouble.SERVFAIL),
    "DNS is silent": dns_breaks(Trouble.TIMEOUT),
    "DNS refuses": dns_breaks(Trouble.REFUSED),
    **{f"the peer resets at {at}": peer_acts(drop_at=at) for at in ("banner", "ehlo", "starttls", "mail", "rcpt")},
    **{f"the peer resets at {at}": peer_acts(drop_at=at) for at in ("data", "body", "final")},
    **{f"the peer is silent at {at}": peer_acts(stall_at=at) for at in ("banner", "ehlo", "starttls", "mail", "final")},
    "the peer trickles": peer_acts(delay=0.1),
    "the peer says 421": peer_acts(mail="421 4.3.2 going down"),
    "the peer says 451": peer_acts(final="451 4.3.0 not now"),
    "the client's wire is cut": intake_is_cut,
    "the client's wire stalls": intake_stalls,
    "the client's wire trickles": intake_trickles,
    "the client's answer is lost": answer_is_lost,
    "reload": reload,
    "the key rotates": key_rotates,
}
CATALOGUE = KILLS | OTHERS


# --- the account ------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """What became of everything.

    Attributes:
        lost: tokens that were promised and did not arrive.
        repeated: token to the times of its arrivals, where there were several.
        unexplained: those of them that no fault explains.
        ends: fate to number of messages that were accepted.
    """

    faults: Counter
    promised: int
    unanswered: int
    lost: list[int]
    repeated: dict[int, list[float]]
    unexplained: dict[int, list[float]]
    ends: Counter

    def __str__(self):
        return (
            f"{sum(self.faults.values())} faults of {len(self.faults)} kinds; {self.promised} promised, "
            f"{self.unanswered} unanswered; lost {len(self.lost)}; arrived more than once {len(self.repeated)}, "
            f"unexplained {len(self.unexplained)}; ends {dict(self.ends)}"
        )


@asynccontextmanager
async def harness(directory, chance, faults):
    """A system with every means of doing it harm, on a disk that has room for so many faults."""
    injected = directory / "faults"
    (injected / "armed").mkdir(parents=True)
    (injected / "points").write_text("".join(f"{point.name}\t{point.target}\t{point.when}\n" for point in POINTS))
    (injected / "clock").write_bytes(struct.pack("=q", 0))
    environment = {
        "PYTHONPATH": str(Path(__file__).parent / "inject"),
        "POSTERN_FAULTS": str(injected),
        "LD_PRELOAD": f"{fsync_shim()} {clock_shim()}",
        "FSYNC_FAIL_FILE": str(injected / "fsync-fails"),
        "CLOCK_OFFSET_FILE": str(injected / "clock"),
    }
    site_directory = directory / "site"
    site_directory.mkdir()
    with small_disk(site_directory / "data", DISK + faults // 2):
        async with (
            system(
                site_directory,
                domain("mail.example"),
                workers=2,
                settings=SETTINGS,
                inside=INSIDE,
                environment=environment,
            ) as (site, internet),
            Cable(site.relay[1]) as cable,
        ):
            load = Load("127.0.0.1", cable.port, sessions=4, message=message, pause=0.02)
            load.start()
            try:
                yield Harness(site, internet, cable, load, injected, chance)
            finally:
                await load.stop()


async def account(harness, deadline=120):
    """End the load, wait for the last message, stop, and count."""
    load, peer, site = harness.load, harness.peer, harness.site
    await load.stop()
    arrived = defaultdict(list)
    read = 0

    def all_arrived():
        nonlocal read
        for taken in peer.messages[read:]:
            for token in tokens_in(taken.content):
                arrived[token].append(taken.at)
        read = len(peer.messages)
        return load.promised.keys() <= arrived.keys()

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline), peer.changed:
            await peer.changed.wait_for(all_arrived)
    try:
        await drained(site, deadline)
    except TimeoutError:
        left = await asyncio.to_thread(ask, site, ListRequest(limit=20), ListResult)
        raise AssertionError(f"the queue does not empty: {[entry.model_dump() for entry in left.entries]}") from None
    await end(site)
    all_arrived()
    repeated = {token: times for token, times in arrived.items() if len(times) > 1}
    records = audit(site)
    told = fates(records)
    accepted = {record["message_id"] for record in records if record["kind"] == "accepted"}
    assert set(load.promised.values()) <= accepted, "the trail knows of every promise"
    assert "The trail is whole." in site.postern("audit", "verify")
    return Account(
        faults=Counter(name for name, _, _ in harness.struck),
        promised=len(load.promised),
        unanswered=len(load.unanswered),
        lost=sorted(load.promised.keys() - arrived.keys()),
        repeated=repeated,
        unexplained={token: times for token, times in repeated.items() if not explained(times, harness.struck)},
        ends=Counter(",".join(fate["fate"] for fate in told[message_id, 0]) for message_id in accepted),
    )


def explained(arrivals, struck):
    """Whether a fault lay between each two arrivals: it kept the peer's 250 from us, or us from recording it."""
    return all(
        any(began - 0.5 <= second and ended >= first - 1.5 for _, began, ended in struck)
        for first, second in itertools.pairwise(arrivals)
    )
