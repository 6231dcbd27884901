"""Chromium before a portal that listens on loopback: for tests that walk the pages as people do."""

import asyncio
import contextlib
import os
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from relay.demo.ports import free_port
from relay.portal.server import PortalServer, ServerOptions
from tests.support.portal_site import a_site

AXE = Path(__file__).parents[1] / "browser" / "vendor" / "axe.min.js"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",  # nothing outside is ever asked
]
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def chromium() -> str:
    """Debian's Chromium; without it the test is skipped, or fails where peers are required."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("POSTERN_REQUIRE_PEERS") == "1":
            pytest.fail("chromium is missing: apt-get install chromium")
        pytest.skip("chromium is missing: apt-get install chromium")
    return found


class Served:
    """A portal in a thread with a loop of its own; its clock is the test's to set."""

    def __init__(self, directory, **options) -> None:
        self.site = None
        self._directory, self._options = directory, options
        self._loop = asyncio.new_event_loop()
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run, name="portal-under-test")

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(30)
        if self._error:
            raise self._error
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def __call__(self, coroutine):
        """Run something in the portal's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self):
        try:
            port = free_port()
            self.origin = f"http://localhost:{port}"
            async with a_site(self._directory, origin=self.origin, **self._options) as site:
                server = PortalServer(ServerOptions(port=port, drain=1, keep_alive=2), site.app, None)
                await server.start()
                self.site = site
                self._ready.set()
                await self._over.wait()
                await server.stop()
        except BaseException as error:
            self._error = error
            self._ready.set()
            raise


@contextlib.contextmanager
def a_chromium():
    """One Chromium with a new profile."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def violations(page, *, only=()) -> list[str]:
    """What axe-core finds wrong on a page, one line each; ``only``: these rules of it."""
    page.wait_for_load_state()
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))  # in the page's world, past its policy against scripts from elsewhere
    # What is inside the frame of a message is its sender's; the frame itself is looked at.
    rules = {"type": "rule", "values": list(only)} if only else {"type": "tag", "values": RULES}
    found = page.evaluate(
        "(rules) => axe.run(document, {iframes: false, resultTypes: ['violations'], runOnly: rules})"
        ".then((all) => all.violations)",
        rules,
    )
    return [
        f"{page.url}: {one['id']} ({one['impact']}): {one['help']}: {node['html'][:200]} {node['failureSummary'][:400]}"
        for one in found
        for node in one["nodes"]
    ]
