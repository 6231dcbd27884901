"""Realistic mistakes, as files: each is told of with its place and what to do, and nothing else is."""

from pathlib import Path

import pytest

from relay.config.policies import load_policy
from relay.core.decision import MethodName
from relay.core.errors import ProblemsError

ROOM = Path(__file__).parents[2] / "bad_policies"
NOW = 1_772_441_100.0  # 2026-03-02


def told(path):
    with pytest.raises(ProblemsError) as caught:
        load_policy(path, methods=frozenset({MethodName.TLS}), now=NOW)
    return str(caught.value).replace(f"{ROOM}/", "") + "\n"


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_mistake_is_told_with_its_place_and_what_to_do(path):
    assert told(path) == path.with_suffix(".expected").read_text()


def test_there_are_enough_of_them_and_none_is_without_its_answer():
    assert len(list(ROOM.glob("*.yaml"))) >= 25
    assert {path.stem for path in ROOM.glob("*.yaml")} == {path.stem for path in ROOM.glob("*.expected")}
