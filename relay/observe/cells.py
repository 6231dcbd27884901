"""One process's numbers in prometheus-client's multiprocess files, written without its locks and look-ups.

A message counts some two dozen times. The library's objects pass through ten calls each time; a cell keeps its number
and its place in the file, and a count is an addition and eight octets written. What is in the files is the library's
own format, so that its collector reads them: ``tests/unit/observe/test_cells.py`` compares both.
"""

import struct
import threading
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

from relay.observe.catalogue import Kind, Metric

_PACK: Final = struct.Struct("dd").pack
_MOST_RECENT: Final = "livemostrecent"


def _text(bound: float) -> str:
    text: str = floatToGoString(bound)  # type: ignore[no-untyped-call]  # prometheus-client leaves it untyped
    return text


class _File(MmapedDict):
    """One file of this process."""

    def __init__(self, path: str) -> None:
        super().__init__(path)  # type: ignore[no-untyped-call]  # as above
        self._views: list[memoryview[float]] = []

    def place(self, key: str) -> int:
        """Where the number of a key stands; it begins at what the file holds, or 0."""
        self.read_value(key)  # type: ignore[no-untyped-call]  # as above
        place: int = self._positions[key]
        return place

    @property
    def memory(self) -> Any:
        """The mapped file: another object after it has grown."""
        return self._m

    def numbers(self) -> "memoryview[float]":
        """The mapped file as numbers of eight octets each.

        Once the file has grown it is mapped anew, and what is written through an older view is in it all the same.
        """
        if not self._views or self._views[-1].obj is not self._m:
            self._views.append(memoryview(self._m).cast("d"))
        return self._views[-1]

    def close(self) -> None:
        """Let go of it."""
        while self._views:
            self._views.pop().release()
        super().close()  # type: ignore[no-untyped-call]  # as above


class Cell:
    """One number.

    The octets are set by one assignment: whoever reads the file meanwhile sees the old number or the new one.

    Attributes:
        value: the number; what changes it changes ``numbers`` as well, and has the lock of its :class:`Cells`.
        numbers: its file as numbers.
        where: its place among them.
    """

    __slots__ = ("_file", "_lock", "_place", "numbers", "value", "where")

    def __init__(self, file: _File, key: str, lock: threading.Lock) -> None:
        self._file = file
        self._place = file.place(key)
        self.numbers = file.numbers()
        self.where = self._place // 8  # the library aligns them
        self._lock = lock
        self.value: float = file.read_value(key)[0]  # type: ignore[no-untyped-call]  # untyped upstream

    def add(self, amount: float) -> None:
        """Add to it."""
        with self._lock:
            self.value = self.numbers[self.where] = self.value + amount

    def set(self, value: float, at: float = 0.0) -> None:
        """Set it.

        Args:
            value: the number.
            at: unix seconds, where the most recent of several processes' numbers is shown.
        """
        with self._lock:
            self.value = value
            place = self._place
            self._file.memory[place : place + 16] = _PACK(value, at)


class Cells:
    """The files of one process: ``counter_PID.db``, ``histogram_PID.db`` and ``gauge_MODE_PID.db``.

    Args:
        directory: the one all processes share.
        process: this one's number.
        clock: unix seconds.
    """

    def __init__(self, directory: Path, process: int, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._process = process
        self._clock = clock
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def child(self, metric: Metric, values: tuple[str, ...]) -> Callable[[float], None]:
        """What counts under these label values: adds to a counter or histogram, sets a gauge."""
        if metric.kind is Kind.COUNTER:
            return self._cell(metric, "counter", "_total", values).add
        if metric.kind is Kind.HISTOGRAM:
            return self._histogram(metric, values)
        cell = self._cell(metric, f"gauge_{metric.mode}", "", values)
        cell.set(0)  # a dead process of the same number may have left its value in the file
        if metric.mode == _MOST_RECENT:
            return lambda value: cell.set(value, self._clock())
        return cell.set

    def _histogram(self, metric: Metric, values: tuple[str, ...]) -> Callable[[float], None]:
        bounds = (*metric.buckets, float("inf"))
        total = self._cell(metric, "histogram", "_sum", values)
        buckets = [
            self._cell(metric, "histogram", "_bucket", (*values, _text(bound)), more=("le",)) for bound in bounds
        ]
        lock = self._lock

        def observe(value: float) -> None:
            bucket = buckets[bisect_left(bounds, value)]
            with lock:
                total.value = total.numbers[total.where] = total.value + value
                bucket.value = bucket.numbers[bucket.where] = bucket.value + 1

        return observe

    def _cell(
        self, metric: Metric, file: str, ending: str, values: tuple[str, ...], more: tuple[str, ...] = ()
    ) -> Cell:
        family = metric.name.removesuffix("_total") if metric.kind is Kind.COUNTER else metric.name
        names = [label.name for label in metric.labels] + list(more)
        with self._lock:
            opened = self._files.get(file)
            if opened is None:
                path = self._directory / f"{file}_{self._process}.db"
                opened = self._files[file] = _File(str(path))
            return Cell(opened, mmap_key(family, family + ending, names, list(values), metric.help), self._lock)

    def close(self) -> None:
        """Let go of the files; what was counted stays in them."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
