"""The catalogue is well-formed, its page is current, and all code counts under names and labels that it has."""

import ast
import re
from pathlib import Path

import pytest

from relay.observe.catalogue import BY_NAME, METRICS, Kind, reference

ROOT = Path(__file__).parents[3]
VERBS = {"count": Kind.COUNTER, "observe": Kind.HISTOGRAM, "set": Kind.GAUGE}


def test_the_page_is_current():
    written = (ROOT / "docs" / "metrics.md").read_text()
    assert written == reference(), "run: python tools/metrics_reference.py"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_prometheus_custom(metric):
    assert re.fullmatch(r"postern_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert not re.search(r"_(ms|milliseconds|minutes|kb|kib|mb)(_|$)", metric.name), "base units"
    assert metric.help.endswith(".")
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    for label in metric.labels:
        assert label.values or (label.pool and label.limit), "every label is bounded"
        assert label.name not in {"le", "pid"}


def calls():
    """Every ``metrics.count("...")`` of the source with its labels where they are written out."""
    found = []
    for path in sorted((ROOT / "relay").rglob("*.py")):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
                receiver = node.func.value
                name = receiver.attr if isinstance(receiver, ast.Attribute) else getattr(receiver, "id", "")
                if "metrics" not in name or not node.args:
                    continue
                first = node.args[0]
                literal = first.value if isinstance(first, ast.Constant) else constants.get(getattr(first, "id", ""))
                if literal is not None:
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node, literal))
    return found


@pytest.mark.parametrize("call", calls(), ids=lambda call: call[0])
def test_code_counts_what_the_catalogue_has(call):
    _, node, name = call
    assert name in BY_NAME, f"{name} is not in relay/observe/catalogue.py"
    metric = BY_NAME[name]
    assert metric.kind is VERBS[node.func.attr]
    assert not metric.at_scrape
    position = 1 if metric.kind is Kind.COUNTER else 2
    labels = node.args[position] if len(node.args) > position else None
    labels = next((keyword.value for keyword in node.keywords if keyword.arg == "labels"), labels)
    if isinstance(labels, ast.Dict) and all(isinstance(key, ast.Constant) for key in labels.keys):
        assert {key.value for key in labels.keys} == {label.name for label in metric.labels}
    elif labels is None:
        assert not metric.labels


def test_nothing_in_the_catalogue_is_dead():
    source = "".join(path.read_text() for path in (ROOT / "relay").rglob("*.py") if path.name != "catalogue.py")
    for metric in METRICS:
        short = metric.name.removeprefix("postern_").removesuffix("_total")
        assert f'"{metric.name}"' in source or f'"{short}"' in source, f"nobody counts {metric.name}"
