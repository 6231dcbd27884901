"""What ``/metrics`` answers: the sum over all processes, and the figures of the store at this moment."""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.multiprocess import mark_process_dead as _forget_gauges

from relay.core.errors import Problem, ProblemsError
from relay.core.ports import QueueStats
from relay.observe.catalogue import BY_NAME, OTHER, RECIPIENT_DOMAIN
from relay.observe.labels import LabelLimits, Labels

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_OF_PROCESS: Final = re.compile(r"(?P<kind>counter|histogram|gauge_[a-z]+)_(?P<pid>\d+)\.db\Z")
_MERGED: Final = "dead"
_DESTINATIONS: Final = 50
_ROOM: Final = 2 * 1024 * 1024
"""Octets that must be free: figures lie in mapped files, and the kernel kills who writes to one that has no room."""
_ONE_AT_A_TIME: Final = threading.Lock()
"""Scrapes may come together, in threads; one folds while no other reads."""


def prepare(directory: Path) -> None:
    """Make the directory, and empty it of what an earlier life left: counters start anew with the system.

    Called once by the supervisor before any process counts.

    Raises:
        ProblemsError: it cannot be written, or there is no room for what the processes count.
    """
    try:
        directory.mkdir(mode=0o770, parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.suffix == ".db" or path.name.startswith("labels-"):
                path.unlink()
        status = os.statvfs(directory)
    except OSError as error:
        what, hint = f"cannot be used: {error.strerror}", "run_dir must belong to the user Postern runs as"
        raise ProblemsError(Problem(where=str(error.filename or directory), what=what, hint=hint)) from error
    free = status.f_bavail * status.f_frsize
    if free < _ROOM:
        what = f"{free // 1024} KiB are free there, and the processes keep their figures in it"
        raise ProblemsError(Problem(where=str(directory), what=what, hint="free some room: 2 MiB at the least"))


def mark_process_dead(directory: Path, pid: int) -> None:
    """Fold a dead process's files into those of all dead ones, so that their number stays bounded.

    Counters and histograms keep what they counted; its gauges end. Only one process may do this: the one that
    answers ``/metrics``.
    """
    _forget_gauges(pid, str(directory))  # type: ignore[no-untyped-call]  # untyped upstream
    for kind in ("counter", "histogram"):
        gone, merged = directory / f"{kind}_{pid}.db", directory / f"{kind}_{_MERGED}.db"
        if gone.exists():
            _fold(gone, merged)


def reap(directory: Path) -> int:
    """Fold the files of every process that is no more; how many processes that were."""
    pids = {int(match["pid"]) for path in directory.iterdir() if (match := _OF_PROCESS.match(path.name))}
    dead = [pid for pid in pids if not _lives(pid)]
    for pid in dead:
        mark_process_dead(directory, pid)
    return len(dead)


def render(directory: Path, stats: QueueStats | None, *, now: float, limits: LabelLimits | None = None) -> bytes:
    """The text for Prometheus.

    Args:
        directory: where the processes count.
        stats: the store's figures; ``None`` when it cannot be read, then its gauges are missing, not zero.
        now: unix seconds, for ages.
        limits: the same as all processes have.
    """
    with _ONE_AT_A_TIME:
        reap(directory)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]  # untyped upstream
        text = generate_latest(registry)
    if stats is not None:
        figures = CollectorRegistry()
        figures.register(_StoreFigures(stats, Labels(directory, limits), now))
        text += generate_latest(figures)
    return text


class _StoreFigures:
    """A collector of one scrape."""

    def __init__(self, stats: QueueStats, labels: Labels, now: float) -> None:
        self._stats = stats
        self._labels = labels
        self._now = now

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The families that the catalogue marks ``at_scrape``."""
        stats = self._stats
        oldest = stats.oldest_created_at
        yield _gauge("postern_queue_oldest_age_seconds", 0.0 if oldest is None else max(0.0, self._now - oldest))
        yield _gauge("postern_queue_bytes", stats.bytes)
        yield _gauge("postern_outbox_rows", stats.outbox)
        entries = GaugeMetricFamily("postern_queue_entries", BY_NAME["postern_queue_entries"].help, labels=["state"])
        for state in ("ready", "deferred", "held", "leased"):
            entries.add_metric([state], getattr(stats, state))
        yield entries
        name = "postern_queue_destination_entries"
        by_destination = GaugeMetricFamily(name, BY_NAME[name].help, labels=[RECIPIENT_DOMAIN.name])
        sums: dict[str, int] = {}
        for destination, number in stats.destinations:
            label = self._labels.bound(RECIPIENT_DOMAIN, destination) if len(sums) < _DESTINATIONS else OTHER
            sums[label] = sums.get(label, 0) + number
        for label, number in sums.items():
            by_destination.add_metric([label], number)
        yield by_destination


def _gauge(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, BY_NAME[name].help, value=value)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fold(gone: Path, merged: Path) -> None:
    """Write the sum of both aside, swap it in, delete the dead one's."""
    aside = merged.with_suffix(".new")
    aside.unlink(missing_ok=True)
    files = [str(path) for path in (gone, merged) if path.exists()]
    target: Any = MmapedDict(str(aside))  # type: ignore[no-untyped-call]  # prometheus-client leaves it untyped
    for family in MultiProcessCollector.merge(files, accumulate=False):  # type: ignore[no-untyped-call]  # as above
        for sample in family.samples:
            names, values = list(sample.labels), list(sample.labels.values())
            target.write_value(
                mmap_key(family.name, sample.name, names, values, family.documentation), sample.value, 0.0
            )
    target.close()
    aside.replace(merged)
    gone.unlink()
