"""``postern demo``: the whole system on loopback, a dozen messages, and where each of them ends."""

import asyncio
import contextlib
import os
import signal
import ssl
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import aiosmtplib
from rich.console import Console
from rich.live import Live

from relay.config.keyfiles import load_ring
from relay.core.errors import PosternError
from relay.demo import mailbox, show
from relay.demo.internet import Internet
from relay.demo.ledger import Ledger
from relay.demo.scenario import CLINIC, SENDER, STORIES, domains
from relay.demo.site import Site, SiteOptions
from relay.observe import trail
from relay.protect.sealing import RingVault

_LOOK: Final = 0.25
"""Seconds between looks into the audit trail."""
_PATIENCE: Final = 90.0
"""Seconds after which the demo gives its verdict whatever stands open."""
_WITHIN: Final = "4s"
_RETRY: Final = {"first": "1s", "max": "2s"}


async def run(console: Console, *, once: bool) -> int:
    """Run the demo; 0 when every copy met its expected end, 1 otherwise."""
    with TemporaryDirectory(prefix="postern-demo-") as directory:
        site = Site(Path(directory))
        async with Internet(site.authority, domains()) as internet:
            site.options = SiteOptions(
                dns_port=internet.dns.port,
                smtp_port=internet.port,
                within=_WITHIN,
                portal=True,
                settings={"routes": internet.routes(), "delivery": {"retry": _RETRY}},
            )
            console.print(show.internet(internet.domains))
            with console.status("Making keys, certificates and configuration; starting the relay ..."):
                await asyncio.to_thread(site.prepare)
                await site.start()
            try:
                return await _conduct(console, site, internet, once=once)
            finally:
                await site.stop()


async def _conduct(console: Console, site: Site, internet: Internet, *, once: bool) -> int:
    ledger = Ledger()
    vault = RingVault(load_ring(site.directory / "keys"), os.urandom)
    sending = asyncio.create_task(_send_all(site, ledger))
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while not (sending.done() and all(copy.is_settled for copy in ledger.copies)):
                    await asyncio.sleep(_LOOK)
                    _look(site, vault, ledger)
                    if console.is_terminal:
                        live.update(show.standing(ledger.copies), refresh=True)
        live.update(show.standing(ledger.copies), refresh=True)
    await sending
    if not console.is_terminal:
        console.print(show.standing(ledger.copies))
    problems = show.deviations(ledger.copies)
    with contextlib.suppress(TimeoutError):
        await internet.peers[CLINIC].wait_messages(1, timeout=10.0)
    if not internet.peers[CLINIC].messages:
        problems.append("the clinic was not told of the bounce")
    link = mailbox.link(internet)
    problems += await mailbox.try_link(link)
    console.print(show.after(site, ledger.copies, link, stays=not once))
    for problem in problems:
        console.print(f"[bold red]not as expected:[/] {problem}")
    if not once:
        console.print("Running until Ctrl-C ...")
        telling = asyncio.create_task(_tell_codes(console, internet))
        await _interrupted()
        telling.cancel()
    return 1 if problems else 0


def _look(site: Site, vault: RingVault, ledger: Ledger) -> None:
    """Read the trail anew; while it is being written its end may be torn, and the next look reads it whole."""
    with contextlib.suppress(PosternError, FileNotFoundError):
        ledger.read(trail.show(site.directory / "data" / "audit", vault=vault))


async def _send_all(site: Site, ledger: Ledger) -> None:
    """Send the stories as an EHR does: authenticated, one connection for all."""
    host, port = site.submission
    trusting = ssl.create_default_context(cafile=site.authority.root)
    async with aiosmtplib.SMTP(hostname=host, port=port, start_tls=False) as client:
        await client.starttls(server_hostname=site.options.hostname, tls_context=trusting)
        await client.login("ehr", site.secret)
        for number, story in enumerate(STORIES):
            _, answer = await client.sendmail(SENDER, list(story.recipients), story.build(number))
            ledger.add(answer.rpartition(" ")[2], number, story.recipients)


async def _tell_codes(console: Console, internet: Internet) -> None:
    """Show each code as it comes, as if its reader looked into their mail."""
    known = set(mailbox.codes(internet))
    while True:
        await asyncio.sleep(_LOOK)
        for found in mailbox.codes(internet):
            if found not in known:
                known.add(found)
                console.print(show.code(found.mailbox, found.code))


async def _interrupted() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
