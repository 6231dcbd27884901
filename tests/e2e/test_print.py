"""The pages that are to be filed, printed to PDF by a browser: readable, numbered, nothing cut off."""

import asyncio

import pytest

from relay.cli import page
from tests.support.peers import require

pypdfium2 = pytest.importorskip("pypdfium2")
pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]


async def printed(directory, content):
    """Width and text of each page of the PDF that Chromium prints."""
    program = require("chromium")
    source, target = directory / "page.html", directory / "page.pdf"
    await asyncio.to_thread(source.write_text, content)
    process = await asyncio.create_subprocess_exec(
        program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={directory / 'profile'}",
        f"--print-to-pdf={target}", source.as_uri(),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await asyncio.wait_for(process.wait(), 300)
    document = pypdfium2.PdfDocument(target)
    try:
        return [(one.get_width(), one.get_textpage().get_text_range()) for one in document]
    finally:
        document.close()


async def test_a_long_proof_prints_on_numbered_pages_with_nothing_lost(tmp_path):
    fingerprint = "ab" * 32
    rows = [(f"step {number}", f"{fingerprint} {number}") for number in range(120)]
    content = page.page("Proof of protection: m1", [page.heading("Copy 1: x.example"), page.facts(rows)])
    pages = await printed(tmp_path, content)
    text = "".join(text for _, text in pages)
    assert len(pages) > 1
    assert all(590 < width < 600 for width, _ in pages), "A4, upright"
    assert "Proof of protection: m1" in pages[0][1]
    for number in (0, 60, 119):
        assert f"step {number}" in text
    joined = "".join(text.split())
    assert joined.count(fingerprint) == 120, "long words are broken, not cut off"
