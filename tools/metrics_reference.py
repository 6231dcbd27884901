"""Writes docs/metrics.md from the catalogue."""

from pathlib import Path

from relay.observe.catalogue import reference

Path(__file__).parent.parent.joinpath("docs", "metrics.md").write_text(reference())
