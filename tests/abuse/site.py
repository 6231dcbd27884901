"""A system to attack, and a good client that goes on as if nothing were the matter."""

import asyncio
import os
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from tests.abuse.attackers import UNDER_WAY
from tests.support.load import small_message
from tests.support.system import domain, system
from tests.support.system_client import submit

MANY = {"max_connections": 10_000, "max_connections_per_address": 100}
SETTINGS = {"limits": {"message_size": "4MiB", "connections": 12_000}}
FEW = 4
"""Strikes after which most attacks are under way."""


@asynccontextmanager
async def attacked(directory, **options):
    """The site, with room for many connections, and its Internet."""
    async with system(directory, domain("mail.example"), settings=SETTINGS, start=False, **options) as (site, internet):
        configuration = yaml.safe_load(site.config.read_text())
        for listener in configuration["listeners"]:
            listener.update(MANY)
        site.config.write_text(yaml.safe_dump(configuration))
        await site.start()
        yield site, internet


@asynccontextmanager
async def under(name, site):
    """While an attack is going on, from its first strikes until the block ends; counts the answers it got."""
    answers = Counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.abuse.attackers",
        name, str(site.relay[1]), str(site.submission[1]), str(site.authority.root),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    begun = asyncio.Event()

    async def listen():
        async for line in process.stdout:
            answers[line.decode().strip()] += 1
            if answers.total() >= UNDER_WAY.get(name, FEW):
                begun.set()
        begun.set()

    listening = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(90):
            await begun.wait()
        assert process.returncode is None, "the attack ended by itself"
        yield answers
    finally:
        process.kill()
        await process.wait()
        await listening


async def serve(site, count, start=0):
    """Good messages one after the other, a connection each; seconds from connecting to 250 of each."""
    taken = []
    for number in range(start, start + count):
        message = small_message(number, "good@mail.example")
        began = time.monotonic()
        answer = await asyncio.to_thread(submit, site.relay, message, "good@mail.example")
        taken.append(time.monotonic() - began)
        assert answer.startswith("250"), answer
    return taken


def resident(pid):
    """MiB of memory a process has of its own (RssAnon of proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(os.strerror(3))
