"""What the portal's pages cost: an inbox of 1,000 messages, one message, and a large attachment streamed.

    .venv/bin/python bench/portal.py

Over the application as it is served, with SQLite, without a socket. Times are the median of the quicker half: what else
runs on the machine is not the portal's. Memory is what the process grows by at its most while a file of 25 MiB leaves,
once all that was free has been given back.
"""

import argparse
import asyncio
import ctypes
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any, Self

import httpx
import structlog

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from tests.support.portal_site import PAT, Browser, Site, a_site  # noqa: E402  after the path is set

MIB = 1024 * 1024


def a_message(octets: int = 0) -> bytes:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "Dr. Ada <doctor@clinic.example>", str(PAT), "Your results"
    mail.set_content("All values are in the normal range.\n" * 20)
    mail.add_alternative("<h1>Results</h1>" + "<p>All values are <b>in the normal range</b>.</p>" * 40, subtype="html")
    if octets:
        mail.add_attachment(os.urandom(octets), "application", "pdf", filename="scan.pdf")
    return mail.as_bytes()


def quick_half(times: list[float]) -> float:
    times = sorted(times)[: max(1, len(times) // 2)]
    return statistics.median(times) * 1000


async def timed(
    client: httpx.AsyncClient, path: str, rounds: int, fields: dict[str, str] | None = None
) -> tuple[float, int]:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        answer = await (client.get(path) if fields is None else client.post(path, data=fields))
        times.append(time.perf_counter() - began)
        assert answer.status_code == 200, (path, answer.status_code)
    return quick_half(times), len(answer.content)


class Peak:
    """The most that the process holds while something runs, looked at a thousand times a second."""

    def __enter__(self) -> Self:
        self.before = self.most = rss()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.most = max(self.most, rss())

    @property
    def grown(self) -> float:
        return (self.most - self.before) / MIB


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def streamed(site: Site, browser: Browser, path: str) -> int:
    """Octets of a response, none of them kept."""
    taken = 0

    async def send(message: dict[str, Any]) -> None:
        nonlocal taken
        taken += len(message.get("body", b""))

    async def receive() -> None:
        await asyncio.sleep(3600)

    request = browser.client.build_request("GET", path)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
             "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
             "client": ("192.0.2.7", 50000), "server": ("secure.clinic.example", 443)}  # fmt: skip
    await site.app(scope, receive, send)
    return taken


async def run(rounds: int, size: int) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory() as directory:
        async with a_site(Path(directory)) as site:
            first = await site.deposit(content=a_message())
            for number in range(999):
                await site.deposit(
                    subject=f"Message {number}", origin_from=f"Dr. {number % 97} <d{number}@clinic.example>"
                )
            large = await site.deposit(content=a_message(size * MIB), subject="Large")
            browser = await site.browser().sign_in(first)
            client: httpx.AsyncClient = browser.client
            for deposit in (first, large):
                await site.rooms.ledger.opened(await site.rooms.deposits.find(deposit.id))
            await browser.get("/inbox")
            milliseconds, octets = await timed(client, "/inbox", rounds, {"csrf": browser.csrf, "from": "Dr. 96"})
            print(f"{'inbox of 1,001, search':32} {milliseconds:8.1f} ms {octets:10,} octets")
            for name, path in (
                ("inbox of 1,001, first page", "/inbox"),
                ("message, HTML", f"/inbox/{first.id}"),
                ("message, frame", f"/inbox/{first.id}/frame"),
                ("message, PDF", f"/inbox/{first.id}/pdf"),
                (f"message with {size} MiB", f"/inbox/{large.id}"),
            ):
                milliseconds, octets = await timed(client, path, rounds)
                print(f"{name:32} {milliseconds:8.1f} ms {octets:10,} octets")
            await streamed(site, browser, f"/inbox/{large.id}/part/4")  # what is made once is made
            ctypes.CDLL(None).malloc_trim(0)
            began = time.perf_counter()
            with Peak() as peak:
                taken = await streamed(site, browser, f"/inbox/{large.id}/part/4")
            print(f"attachment of {taken / MIB:.0f} MiB streamed: {peak.grown:.1f} MiB more memory, "
                  f"{taken / MIB / (time.perf_counter() - began):.0f} MiB/s")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=25, help="MiB of the attachment")
    options = parser.parse_args()
    asyncio.run(run(options.rounds, options.size))
