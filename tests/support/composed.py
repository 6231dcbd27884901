"""A real worker, composed by the composition root, in this process: so that one of its parts can be made to fail."""

import asyncio
import contextlib
import os
import smtplib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from relay.app.base import Life
from relay.app.base import Site as Found
from relay.app.worker import WorkerService
from relay.config.keyfiles import create_ring
from relay.core.ports import QueueFilter
from relay.demo.internet import Internet
from relay.demo.site import Site, SiteOptions
from relay.observe import log
from relay.protect.keyring import KeyRing
from tests.support.system import SENDER, until


class QuickSite(Site):
    """A site whose keys are made here, not by a process of its own."""

    def _make_keys(self) -> None:
        keys = self.directory / "keys"
        keys.mkdir(mode=0o700)
        create_ring(keys, KeyRing.create(now=time.time(), random=os.urandom))


class Composed:
    """A site on disk, its Internet, and one worker of it that runs in this loop."""

    def __init__(self, site: Site, internet: Internet) -> None:
        self.site = site
        self.internet = internet
        self.worker: WorkerService | None = None

    async def start(self) -> None:
        worker = WorkerService(Life(site=Found.of(snapshot=None, config=self.site.config), name="worker-1"))
        await worker.start()
        self.worker = worker

    async def stop(self) -> None:
        if self.worker is not None:
            worker, self.worker = self.worker, None
            await worker.stop()

    def replace_part(self, **parts) -> None:
        """Put other parts into acceptance."""
        acceptor = self.worker._acceptor
        acceptor._parts = replace(acceptor._parts, **parts)

    @property
    def store(self):
        return self.worker._store

    # --- what happens ---

    async def send(self, recipient: str, content: bytes, sender: str = SENDER) -> tuple[int, str]:
        """Send over SMTP; the answer to the final dot."""

        def speak() -> tuple[int, str]:
            with smtplib.SMTP(*self.site.relay, timeout=60) as client:
                client.ehlo("ehr")
                client.mail(sender)
                client.rcpt(recipient)
                code, text = client.data(content)
                return code, text.decode()

        return await asyncio.to_thread(speak)

    async def entries(self):
        return [entry async for entry in self.store.entries(QueueFilter())]

    async def wait_entry(self, ready):
        """The one entry in the queue, once it satisfies ``ready``."""
        async with asyncio.timeout(60):
            while True:
                for entry in await self.entries():
                    if ready(entry):
                        return entry
                await asyncio.sleep(0.02)

    async def wait_gone(self) -> None:
        """Until the queue is empty."""
        async with asyncio.timeout(60):
            while await self.entries():  # noqa: ASYNC110  the store tells of no settled entry
                await asyncio.sleep(0.02)

    async def events(self):
        """The audit events that wait for the archiver (there is none here), oldest first."""
        return [event for row in await self.store.outbox(limit=1000) for event in row.events]

    async def alerts(self) -> list[str]:
        return [event.facts["alert"] for event in await self.events() if event.kind == "alert"]

    def log(self) -> str:
        log.flush()
        return self.site.log.read_text() if self.site.log.exists() else ""

    def heard(self, domain: str) -> list[str]:
        """Commands of transactions that a domain's server was given."""
        commands = self.internet.peers[domain].commands
        return [line for line in commands if line.upper().startswith(("MAIL", "RCPT", "DATA"))]


@contextlib.asynccontextmanager
async def composed(
    directory: Path, *domains, settings=None, start=True, store="sqlite", **options
) -> AsyncIterator[Composed]:
    """A worker with the default policies and an Internet of these domains.

    Args:
        directory: of the site.
        domains: who is on the Internet.
        settings: merged over the configuration.
        start: whether the worker starts at once.
        store: what ``store`` says in the configuration.
        options: of the site.
    """
    site = QuickSite(directory)
    async with Internet(site.authority, domains) as internet:
        base = {
            "routes": internet.routes(),
            "store": store,
            "delivery": {"retry": {"first": "100ms", "max": "300ms"}},
            "process": {"drain": "1s"},
            "dns": {"negative_ttl": "1s", "failure_ttl": "1s"},
        }
        site.options = replace(
            SiteOptions(dns_port=internet.dns.port, smtp_port=internet.port, workers=1, within="1s"),
            settings=base | (settings or {}),
            **options,
        )
        site.prepare()
        it = Composed(site, internet)
        try:
            if start:
                await it.start()
            yield it
        finally:
            await it.stop()
            log.shutdown()


__all__ = ["Composed", "QuickSite", "composed", "until"]
