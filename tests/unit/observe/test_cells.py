"""The quick way to count writes what prometheus-client would have written."""

import prometheus_client.values
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.mmap_dict import MmapedDict

from relay.observe.catalogue import METRICS, Kind
from relay.observe.cells import Cells

NOW = 1_700_000_000.0
COUNTED = [metric for metric in METRICS if not metric.at_scrape]


def library(directory, monkeypatch):
    """prometheus-client's own objects over the same kind of files."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    monkeypatch.setattr("prometheus_client.values.ValueClass", prometheus_client.values.MultiProcessValue(lambda: 7))
    monkeypatch.setattr("time.time", lambda: NOW)
    families = {}

    def child(metric, values):
        names = [label.name for label in metric.labels]
        if metric.name not in families:
            if metric.kind is Kind.COUNTER:
                made = Counter(metric.name, metric.help, names, registry=None)
            elif metric.kind is Kind.HISTOGRAM:
                made = Histogram(metric.name, metric.help, names, buckets=metric.buckets, registry=None)
            else:
                made = Gauge(metric.name, metric.help, names, multiprocess_mode=metric.mode, registry=None)
            families[metric.name] = made
        made = families[metric.name].labels(*values) if values else families[metric.name]
        if metric.kind is Kind.GAUGE:
            made.set(0)
            return made.set
        return made.inc if metric.kind is Kind.COUNTER else made.observe

    return child


def written(directory):
    return {
        (path.name, key): (value, at)
        for path in directory.iterdir()
        for key, value, at, _ in MmapedDict.read_all_values_from_file(str(path))
    }


STEPS = st.lists(
    st.tuples(
        st.sampled_from(COUNTED),
        st.integers(0, 3),
        st.one_of(st.floats(0, 1e6), st.sampled_from([0.001, 0.005, 0.1, 1.0, 10.0, 1e9, float("inf")])),
    ),
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_the_files_are_those_of_the_library(tmp_path_factory, steps):
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    with pytest.MonkeyPatch.context() as patch:
        reference = library(theirs, patch)
        cells = Cells(ours, 7, lambda: NOW)
        known = {}
        for metric, number, amount in steps:
            values = tuple(f"v{number}" for _ in metric.labels)
            if (metric.name, values) not in known:
                known[metric.name, values] = (cells.child(metric, values), reference(metric, values))
            for count in known[metric.name, values]:
                count(amount)
        assert written(ours) == written(theirs)
        cells.close()


def test_a_file_may_grow_while_numbers_are_counted(tmp_path):
    metric = next(one for one in COUNTED if one.kind is Kind.COUNTER and len(one.labels) == 1)
    cells = Cells(tmp_path, 7, lambda: NOW)
    first = cells.child(metric, ("first",))
    first(1)
    for number in range(2_000):
        cells.child(metric, (f"value-{number:060}",))(number)
    first(1)
    cells.close()
    found = written(tmp_path)
    assert len(found) == 2_001
    assert [value for (_, key), (value, _) in found.items() if '"first"' in key] == [2.0]


def test_a_process_of_the_same_number_goes_on_counting(tmp_path):
    counter = next(one for one in COUNTED if one.kind is Kind.COUNTER and not one.labels)
    gauge = next(one for one in COUNTED if one.kind is Kind.GAUGE and not one.labels)
    for _ in range(2):
        cells = Cells(tmp_path, 7, lambda: NOW)
        cells.child(counter, ())(3)
        before = cells.child(gauge, ())
        assert [value for (name, _), (value, _) in written(tmp_path).items() if name.startswith("gauge")] == [0.0]
        before(5)
        cells.close()
    assert [value for (name, _), (value, _) in written(tmp_path).items() if name.startswith("counter")] == [6.0]
