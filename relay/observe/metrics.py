"""Counting over all processes: :class:`relay.core.ports.Metrics` on prometheus-client's multiprocess files."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from relay import __version__
from relay.observe.catalogue import BY_NAME, METRICS, Kind, Metric
from relay.observe.cells import Cells
from relay.observe.labels import LabelLimits, Labels
from relay.observe.log import on_lost

log = structlog.get_logger("metrics")

_REMEMBERED: Final = 20_000
"""Label combinations a process remembers as they were given, before it forgets all and looks them up anew."""

_Add = Callable[[float], None]
_NO_LABELS: Final[Mapping[str, str]] = {}


class SharedMetrics:
    """The metrics of one process; all processes of a Postern share the directory, and ``/metrics`` shows their sum.

    A wrong name or wrong labels never raise, for counting must not stop the mail: they are counted under
    ``postern_metric_errors_total`` and logged once each.
    """

    def __init__(self, directory: Path, limits: LabelLimits | None = None) -> None:
        """Count into files of this process below ``directory``, which ``exposition.prepare`` made."""
        self._labels = Labels(directory, limits)
        self._cells = Cells(directory, os.getpid(), time.time)
        self._adders: dict[str | tuple[str, ...], _Add] = {}
        self._children: dict[tuple[str, ...], _Add] = {}
        self._making = threading.Lock()
        self._reported: set[str] = set()
        for metric in METRICS:
            if not metric.at_scrape and not metric.labels:
                self._child(metric, ())  # shown as 0 from the start, so that a rate over it can be taken
        self.set("postern_build_info", 1, {"version": __version__})
        on_lost(self._count_lost)

    def count(self, name: str, labels: Mapping[str, str] | None = None, amount: float = 1) -> None:
        """Add to a counter; one never goes down."""
        if amount < 0:
            self._fault(name, "a counter was to go down")
            return
        add = self._adders.get((name, *labels, *labels.values()) if labels else name)
        if add is not None:
            add(amount)
        else:
            self._first(name, Kind.COUNTER, labels or _NO_LABELS, amount)

    def observe(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Add to a histogram, base units."""
        add = self._adders.get((name, *labels, *labels.values()) if labels else name)
        if add is not None:
            add(value)
        else:
            self._first(name, Kind.HISTOGRAM, labels or _NO_LABELS, value)

    def set(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Set this process's value of a gauge."""
        add = self._adders.get((name, *labels, *labels.values()) if labels else name)
        if add is not None:
            add(value)
        else:
            self._first(name, Kind.GAUGE, labels or _NO_LABELS, value)

    def _count_lost(self, lines: int) -> None:
        self.count("postern_log_lines_lost_total", None, lines)

    def close(self) -> None:
        """Let go of the files; what was counted stays."""
        on_lost(None)
        self._adders.clear()
        self._children.clear()
        self._cells.close()

    def _first(self, name: str, kind: Kind, labels: Mapping[str, str], value: float) -> None:
        """Count what was not counted before under these labels, as they were given."""
        add = self._adder(name, kind, labels)
        if add is not None:
            add(value)

    def _adder(self, name: str, kind: Kind, labels: Mapping[str, str]) -> _Add | None:
        metric = BY_NAME.get(name)
        if metric is None or metric.kind is not kind or metric.at_scrape:
            self._fault(name, f"no {kind} of this name")
            return None
        if labels.keys() != {label.name for label in metric.labels}:
            self._fault(name, f"its labels are {', '.join(label.name for label in metric.labels) or 'none'}")
            return None
        values = tuple(self._labels.bound(label, labels[label.name]) for label in metric.labels)
        add = self._child(metric, values)
        if len(self._adders) >= _REMEMBERED:
            self._adders.clear()
        self._adders[(name, *labels, *labels.values()) if labels else name] = add
        return add

    def _fault(self, name: str, why: str) -> None:
        self.count("postern_metric_errors_total")
        if name not in self._reported and len(self._reported) < 100:
            self._reported.add(name)
            log.error("a metric is not in the catalogue", metric=name, why=why)

    def _child(self, metric: Metric, values: tuple[str, ...]) -> _Add:
        """Two sets of labels may come to the same bounded values: they share what counts."""
        key = (metric.name, *values)
        with self._making:
            child = self._children.get(key)
            if child is None:
                child = self._children[key] = self._cells.child(metric, values)
        return child


class NoMetrics:
    """Counts nothing: for tools that run apart from a system."""

    def count(self, name: str, labels: Mapping[str, str] | None = None, amount: float = 1) -> None:
        """Do nothing."""

    def observe(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Do nothing."""

    def set(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Do nothing."""
