"""Help is for those who have nothing configured yet."""

import pytest
from click.testing import CliRunner

from relay.cli import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Usage:")


@pytest.mark.parametrize("words", ["keys init", "audit show", "client add", "dkim new", "queue list", "policy check"])
def test_help_of_a_verb_below_needs_no_configuration(words, tmp_path):
    arguments = [*words.split(), "--help"]
    result = CliRunner().invoke(main, arguments, env={"POSTERN_CONFIG": str(tmp_path / "none.yaml")})
    assert result.exit_code == 0, result.output


def test_an_unknown_verb_is_one_clear_error():
    result = CliRunner().invoke(main, ["quue"])
    assert result.exit_code == 2
    assert "No such command 'quue'" in result.output
