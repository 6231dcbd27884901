"""Metrics over several processes: sums, bounded labels, and files that do not pile up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.core.errors import ProblemsError
from relay.core.ports import QueueStats
from relay.observe import log
from relay.observe.catalogue import BY_NAME, METRICS, RECIPIENT_DOMAIN, Kind, Label
from relay.observe.exposition import mark_process_dead, prepare, render
from relay.observe.labels import Labels, Pool
from relay.observe.metrics import NoMetrics, SharedMetrics

ROOT = Path(__file__).parents[3]
RECEIVED = "postern_messages_received_total"


@pytest.fixture
def directory(tmp_path):
    prepare(tmp_path / "metrics")
    return tmp_path / "metrics"


@pytest.fixture
def metrics(directory):
    shared = SharedMetrics(directory)
    yield shared
    shared.close()


def elsewhere(directory, code):
    """Count in a process of its own, which then ends."""
    setup = (
        "import sys; from pathlib import Path; from relay.observe.metrics import SharedMetrics\n"
        "m = SharedMetrics(Path(sys.argv[1]))\n"
    )
    subprocess.run([sys.executable, "-c", setup + code, str(directory)], check=True, timeout=60, cwd=ROOT)


def samples(directory, stats=None, now=0.0):
    text = render(directory, stats, now=now).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_processes_are_summed_also_dead_ones(directory, metrics):
    labels = {"listener": "relay", "client": "ehr"}
    metrics.count(RECEIVED, labels)
    code = 'm.count("postern_messages_received_total", {"client": "ehr", "listener": "relay"}, 5)'
    elsewhere(directory, code)
    key = (RECEIVED, (("client", "ehr"), ("listener", "relay")))
    assert samples(directory)[key] == 6
    elsewhere(directory, code)
    assert samples(directory)[key] == 11
    assert samples(directory)[key] == 11


def test_histograms_keep_their_buckets_when_processes_die(directory, metrics):
    for _ in range(2):
        elsewhere(directory, 'm.observe("postern_scan_seconds", 0.003); m.observe("postern_scan_seconds", 99)')
        samples(directory)
    metrics.observe("postern_scan_seconds", 0.003)
    seen = samples(directory)
    assert seen["postern_scan_seconds_count", ()] == 5
    assert seen["postern_scan_seconds_bucket", (("le", "0.0025"),)] == 0
    assert seen["postern_scan_seconds_bucket", (("le", "0.005"),)] == 3
    assert seen["postern_scan_seconds_bucket", (("le", "+Inf"),)] == 5
    assert seen["postern_scan_seconds_sum", ()] == pytest.approx(0.009 + 198)


def test_gauges_of_the_dead_end_and_their_files_are_folded(directory, metrics):
    metrics.set("postern_in_flight_bytes", 10)
    for _ in range(3):
        elsewhere(directory, 'm.set("postern_in_flight_bytes", 1000)')
    assert samples(directory)["postern_in_flight_bytes", ()] == 10
    assert len(list(directory.glob("counter_*.db"))) == 2
    assert len(list(directory.glob("gauge_livesum_*.db"))) == 1
    assert not list(directory.glob("*.new"))


def test_scrapes_that_come_together_see_the_same(directory, metrics):
    from concurrent.futures import ThreadPoolExecutor

    for _ in range(2):
        elsewhere(directory, 'm.count("postern_policy_errors_total", None, 5)')
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: render(directory, None, now=0.0), range(16)))
    assert {b"postern_policy_errors_total 10.0" in text for text in texts} == {True}


def test_marking_an_unknown_process_dead_changes_nothing(directory, metrics):
    metrics.count("postern_policy_errors_total")
    mark_process_dead(directory, 2**22 + 1)
    assert samples(directory)["postern_policy_errors_total", ()] == 1


def test_unlabelled_counters_are_shown_as_zero_from_the_start(directory, metrics):
    seen = samples(directory)
    for metric in METRICS:
        if metric.kind is Kind.COUNTER and not metric.labels:
            assert seen[metric.name, ()] == 0


def test_wrong_names_and_labels_are_counted_and_never_raise(directory, metrics):
    metrics.count("postern_nonsense_total")
    metrics.count(RECEIVED, {"listener": "x"})
    metrics.observe(RECEIVED, 1, {"listener": "x", "client": "y"})
    metrics.set("postern_queue_bytes", 1)
    assert samples(directory)["postern_metric_errors_total", ()] == 4


def test_the_first_domains_keep_their_label_over_all_processes(directory, metrics):
    for number in range(150):
        metrics.count("postern_clear_deliveries_total", {"recipient_domain": f"a{number}.example"})
    elsewhere(
        directory,
        'for n in range(150): m.count("postern_clear_deliveries_total", {"recipient_domain": f"b{n}.example"})',
    )
    metrics.count("postern_clear_deliveries_total", {"recipient_domain": "b1.example"})
    metrics.count("postern_clear_deliveries_total", {"recipient_domain": "b140.example"})
    domains = {
        dict(labels)["recipient_domain"]: value
        for (name, labels), value in samples(directory).items()
        if name == "postern_clear_deliveries_total"
    }
    assert len(domains) == RECIPIENT_DOMAIN.limit + 1
    assert domains["a149.example"] == 1
    assert domains["b1.example"] == 2
    assert domains["other"] == 101


def test_what_is_no_plain_word_never_becomes_a_label(directory):
    labels = Labels(directory)
    for value in ("jane@x.example", "Jane Doe", "a\nb", "x" * 300, "é"):
        assert labels.bound(RECIPIENT_DOMAIN, value) == "other"
    assert labels.bound(RECIPIENT_DOMAIN, "x.example") == "x.example"
    assert labels.bound(RECIPIENT_DOMAIN, "") == "none"
    assert labels.bound(Label(name="a", help="", values=("b",)), "c") == "other"


def test_a_pool_is_shared_through_its_file(tmp_path):
    one, two = Pool(tmp_path / "pool", 2), Pool(tmp_path / "pool", 2)
    assert [one.admit("a"), two.admit("b"), one.admit("c"), two.admit("c"), one.admit("b")] == [
        "a", "b", "other", "other", "b",
    ]  # fmt: skip


def test_store_figures_come_from_the_scrape(directory, metrics):
    stats = QueueStats(
        ready=1,
        deferred=2,
        held=3,
        leased=4,
        oldest_created_at=100.0,
        bytes=5,
        outbox=6,
        destinations=(("x.example", 7), ("route:hub", 1)),
    )
    seen = samples(directory, stats, now=160.0)
    assert seen["postern_queue_entries", (("state", "deferred"),)] == 2
    assert seen["postern_queue_oldest_age_seconds", ()] == 60
    assert seen["postern_queue_destination_entries", (("recipient_domain", "x.example"),)] == 7
    assert seen["postern_outbox_rows", ()] == 6
    at_scrape = {metric.name for metric in METRICS if metric.at_scrape}
    assert at_scrape <= {name for name, _ in seen}
    assert not at_scrape & {name for name, _ in samples(directory)}


def test_short_names_are_the_same_metrics(directory, metrics):
    metrics.count("policy_errors")
    metrics.count("postern_policy_errors_total")
    assert samples(directory)["postern_policy_errors_total", ()] == 2


def test_lost_log_lines_and_the_version_are_metrics(directory, metrics):
    from relay import __version__

    log._lost(3)
    seen = samples(directory)
    assert seen["postern_log_lines_lost_total", ()] == 3
    assert seen["postern_build_info", (("version", __version__),)] == 1


def test_prepare_begins_a_new_life(directory, metrics):
    metrics.count("postern_policy_errors_total")
    metrics.close()
    prepare(directory)
    assert not list(directory.iterdir())


def test_counting_nothing_is_possible():
    NoMetrics().count("x")
    NoMetrics().observe("x", 1)
    NoMetrics().set("x", 1)


def test_every_metric_can_be_counted_with_its_labels(directory, metrics):
    for metric in METRICS:
        if metric.at_scrape:
            continue
        labels = {label.name: (label.values or ("x",))[0] for label in metric.labels}
        {Kind.COUNTER: metrics.count, Kind.HISTOGRAM: lambda n, lab: metrics.observe(n, 1, lab)}.get(
            metric.kind, lambda n, lab: metrics.set(n, 1, lab)
        )(metric.name, labels)
    seen = {name for name, _ in samples(directory)}
    for metric in METRICS:
        if not metric.at_scrape:
            assert (f"{metric.name}_count" if metric.kind is Kind.HISTOGRAM else metric.name) in seen
    assert samples(directory)["postern_metric_errors_total", ()] == 1  # its own turn above
    assert len(BY_NAME) == 2 * len(METRICS)


def test_a_directory_of_figures_that_cannot_be_used_or_has_no_room_is_told_at_the_start(tmp_path, monkeypatch):
    """The kernel would end each process that writes to a mapped file without room, and nobody would know why."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ProblemsError, match=r"file/metrics: cannot be used: Not a directory \("):
        prepare(tmp_path / "file" / "metrics")
    real = os.statvfs(tmp_path)
    small = os.statvfs_result((real.f_bsize, 4096, *real[2:4], 200, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: small)
    with pytest.raises(ProblemsError, match=r"metrics: 800 KiB are free there.*\(free some room"):
        prepare(tmp_path / "metrics")
