"""A system to attack, and a good client that goes on as if nothing were the matter."""

import asyncio
import os
import ssl
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import yaml

from tests.abuse.attackers import Target
from tests.support.load import small_message
from tests.support.system import domain, system
from tests.support.system_client import submit

MANY = {"max_connections": 10_000, "max_connections_per_address": 100}
SETTINGS = {"limits": {"message_size": "4MiB", "connections": 12_000}}


@asynccontextmanager
async def attacked(directory, **options):
    """The site, its Internet, and who is attacked."""
    async with system(directory, domain("mail.example"), settings=SETTINGS, start=False, **options) as (site, internet):
        configuration = yaml.safe_load(site.config.read_text())
        for listener in configuration["listeners"]:
            listener.update(MANY)
        site.config.write_text(yaml.safe_dump(configuration))
        await site.start()
        tls = ssl.create_default_context(cafile=site.authority.root)
        yield site, internet, Target(site.relay, site.submission, tls)


@asynccontextmanager
async def under(attack, target, strikes):
    """While an attack is going on: from its first strikes until the block ends."""
    task = asyncio.create_task(attack(target))
    begun = asyncio.create_task(target.wait_struck(target.strikes + strikes))
    try:
        async with asyncio.timeout(60):
            await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            raise RuntimeError("the attack ended by itself")
        yield
    finally:
        for one in (task, begun):
            one.cancel()
            with suppress(asyncio.CancelledError):
                await one


async def serve(site, count, start=0):
    """Good messages one after the other, a connection each; seconds from connecting to 250 of each."""
    taken = []
    for number in range(start, start + count):
        began = time.monotonic()
        answer = await asyncio.to_thread(
            submit, site.relay, small_message(number, "good@mail.example"), "good@mail.example"
        )
        taken.append(time.monotonic() - began)
        assert answer.startswith("250"), answer
    return taken


def resident(pid):
    """MiB of memory a process has of its own (RssAnon of proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(os.strerror(3))
