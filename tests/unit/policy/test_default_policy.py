"""The default policy under the real scan: the tests inside it pass, as they must before it goes live anywhere."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", sorted((ROOT / "policies").glob("*.yaml")), ids=lambda path: path.name)
def test_each_policy_that_ships_is_sound_and_passes_the_tests_inside(path):
    result = CliRunner().invoke(main, ["policy", "check", str(path), "--json"])
    outcome = json.loads(result.output)
    assert outcome["errors"] == []
    assert outcome["tests"]["passed"] == outcome["tests"]["all"] >= 8
    assert result.exit_code == 0
