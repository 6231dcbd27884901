"""A whole Postern with a simulated Internet around it, and what its audit trail says afterwards."""

import asyncio
import contextlib
import os
import signal
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import replace

from relay.admin.client import ControlClient
from relay.admin.wire import ControlError, StatsRequest, StatsResult
from relay.config.keyfiles import load_ring
from relay.demo.behaviour import PeerBehaviour
from relay.demo.internet import Internet
from relay.demo.scenario import Domain
from relay.demo.site import Site, SiteOptions
from relay.observe.trail import show
from relay.protect.sealing import RingVault

SENDER = "ehr@clinic.example"
OPEN_POLICY = """\
policy: open
rules:
  - id: rest
    deliver: { methods: [tls], tls: opportunistic }
"""
"""The plainest policy there is."""


def domain(name, *, certificate="good", route=False, **behaviour):
    """A domain of the simulated Internet."""
    return Domain(
        name=name, about="", behaviour=PeerBehaviour(hostname=f"mx.{name}", **behaviour), certificate=certificate,
        route=route,
    )  # fmt: skip


def clinic(**behaviour):
    """The sender's own domain: bounces go there, over an internal route."""
    return domain("clinic.example", route=True, **behaviour)


@asynccontextmanager
async def system(
    directory, *domains, policy=OPEN_POLICY, start=True, inside=None, routes=(), store="sqlite", **options
):
    """A site and its Internet; both are ended when the test is, whatever happened.

    Args:
        directory: of the site.
        domains: who is on the Internet.
        policy: text of ``main.yaml``; ``None``: the default policies.
        start: whether to start it.
        inside: settings of the listener for the trusted network, in place of the usual ones; its address is added.
        routes: routes of the configuration besides the Internet's own.
        store: what ``store`` says in the configuration.
        options: of the site.
    """
    site = Site(directory)
    async with Internet(site.authority, domains or (domain("mail.example"),)) as internet:
        settings = {
            "routes": [*internet.routes(), *routes],
            "delivery": {"retry": {"first": "500ms", "max": "2s"}},
            "process": {"restart_pause": "0s"},
            "store": store,
        } | options.pop("settings", {})
        if inside is not None:
            host, port = site.relay
            settings["listeners"] = [inside | {"address": host, "port": port}]
        if policy is not None:
            folder = directory / "policy-source"
            folder.mkdir()
            (folder / "main.yaml").write_text(policy)
            options["policy"] = folder
        base = SiteOptions(dns_port=internet.dns.port, smtp_port=internet.port, workers=1, dkim=("ed25519",))
        site.options = replace(base, settings=settings, **options)
        site.prepare()
        try:
            if start:
                await site.start()
            yield site, internet
        finally:
            await end(site)


async def end(site):
    """Stop the site if it runs."""
    if site.process is not None and site.process.returncode is None:
        site.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(site.process.wait(), 60)
        finally:
            site.kill()


async def kill_all(site):
    """SIGKILL for every process at one moment, and wait until the supervisor's is gone."""
    site.kill()
    await site.process.wait()


def ask(site, request, result):
    """One request to the running system's control socket."""
    with ControlClient(site.directory / "run" / "control.sock") as client:
        return client.ask(request, result)


async def drained(site, deadline=60.0):
    """Wait until the queue is empty.

    Raises:
        TimeoutError: it did not come about.
    """
    async with asyncio.timeout(deadline):
        while True:
            with contextlib.suppress(ControlError):  # the admin process may be starting anew
                stats = await asyncio.to_thread(ask, site, StatsRequest(), StatsResult)
                if not stats.ready + stats.deferred + stats.held + stats.leased:
                    return
            await asyncio.sleep(0.1)


def audit(site):
    """Every record of the audit trail, oldest first; the site must have stopped."""
    vault = RingVault(load_ring(site.directory / "keys"), os.urandom)
    return list(show(site.directory / "data" / "audit", vault=vault, mailboxes=True))


def fates(records):
    """(message id, recipient number) to the fates the trail tells of."""
    found = defaultdict(list)
    for record in records:
        if record["kind"] == "fate":
            for number in record["facts"]["numbers"]:
                found[record["message_id"], number].append(record["facts"])
    return found


def log_lines(site):
    """The log, parsed."""
    import orjson

    return [orjson.loads(line) for line in site.log.read_bytes().splitlines()] if site.log.exists() else []


async def until(condition, deadline=60.0, every=0.02):
    """Wait for what no event tells of: another process's doing.

    Raises:
        TimeoutError: it did not come about.
    """
    async with asyncio.timeout(deadline):
        while not (value := condition()):  # noqa: ASYNC110  what other processes do sets no event here
            await asyncio.sleep(every)
        return value


def children(site):
    """Process title to pids, of the supervisor's children."""
    found = defaultdict(list)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/stat", encoding="utf-8") as file:  # noqa: PTH123  a file of the kernel's
                parent = int(file.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{entry.name}/cmdline", encoding="utf-8") as file:  # noqa: PTH123  as above
                title = file.read().rstrip("\0")
        except OSError:
            continue
        if site.process and parent == site.process.pid:
            found[title].append(int(entry.name))
    return found
