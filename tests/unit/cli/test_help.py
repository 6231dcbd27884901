"""Help is for those who have nothing configured yet."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from relay.cli import VERBS, main

POSTERN = str(Path(sys.executable).with_name("postern"))


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


def test_help_says_what_exit_statuses_mean():
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    assert "Exit status: 0 when it was done" in text
    for status in ("1", "2", "78", "74"):
        assert f" {status} when " in text or f"with {status} when" in text


def options():
    """Every option of every verb, with the words that lead to it."""
    left = [(main, "postern")]
    while left:
        one, path = left.pop()
        if isinstance(one, click.Group):
            context = click.Context(one)
            left += [(one.get_command(context, name), f"{path} {name}") for name in one.list_commands(context)]
        yield from ((path, param) for param in one.params if isinstance(param, click.Option))


def test_every_option_says_what_it_is_for():
    silent = [f"{path} {option.opts[0]}" for path, option in options() if not option.help]
    assert silent == []


def test_json_is_said_alike_everywhere():
    said = {option.help for _, option in options() if "--json" in option.opts}
    odd = {text for text in said if not re.fullmatch(r"Print (JSON|one JSON object an? \w+)\.", text)}
    assert odd == set()


def test_an_unknown_verb_is_one_clear_error():
    result = CliRunner().invoke(main, ["quue"])
    assert result.exit_code == 2
    assert "No such command 'quue'. Did you mean 'queue'?" in result.output


@pytest.mark.parametrize(
    "words",
    ["queue list", "keys status", "audit verify", "dkim show", "policy history show abcdef", "suppress list",
     "tls report", "portal list", "node list", "store check", "client list", "policy check"],
)  # fmt: skip
@pytest.mark.parametrize("given", [["--config", "mine.yaml"], ["--config=mine.yaml"]], ids=["apart", "joined"])
def test_the_configuration_may_be_named_behind_the_verb(words, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSTERN_SOCKET", raising=False)
    Path("mine.yaml").write_text("tpyo: 1\n")
    result = CliRunner().invoke(main, [*words.split(), *given])
    assert result.exit_code == 1
    assert "mine.yaml:1: tpyo is not a setting" in result.output, result.output


def test_the_configuration_before_all_is_told_its_place():
    result = CliRunner().invoke(main, ["--config", "x.yaml", "queue", "list"])
    assert result.exit_code == 2
    assert "It stands after the verb: postern VERB --config FILE." in " ".join(result.output.split())


@pytest.mark.parametrize("words", ["scan", "bounce explain", "bounce explain --jsonl", "bounce parse"])
def test_standard_input_that_is_closed_is_empty(words):
    script = 'exec "$@" <&-'
    done = subprocess.run(["sh", "-c", script, "sh", POSTERN, *words.split()], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", ["policy schema", "--help", "scan --help"])
def test_a_full_disk_is_told_in_one_line(words):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([POSTERN, *words.split()], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"Error: the output: No space left on device\n")


def test_a_reader_that_went_is_not_told():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as broken:
        gone = subprocess.run([POSTERN, "policy", "schema"], stdout=broken, stderr=subprocess.PIPE, check=False)
    assert (gone.returncode, gone.stderr) == (1, b"")


@pytest.mark.parametrize("words", ["queue show", "tls report", "tls reports", "tls probe"])
def test_a_word_that_is_no_utf_8_is_refused_before_anybody_is_asked(words):
    result = CliRunner().invoke(main, [*words.split(), "m1\udcff"])
    assert result.exit_code == 2
    assert "is not UTF-8" in result.output


@pytest.mark.parametrize("words", ["proof m1", "tls report", "tls reports"])
def test_one_form_of_output_at_a_time(words):
    result = CliRunner().invoke(main, [*words.split(), "--json", "--html"])
    assert result.exit_code == 2
    assert "--json and --html exclude each other" in result.output


@pytest.mark.parametrize("words", ["check", "run", "queue list", "keys status", "proof m1"])
def test_a_missing_configuration_is_told_with_what_to_do(words, tmp_path):
    missing = tmp_path / "none.yaml"
    result = CliRunner().invoke(main, [*words.split(), "--config", str(missing)])
    assert result.exit_code == (78 if words == "run" else 1)
    told = " ".join(result.output.split())
    assert f"{missing}: there is no configuration here" in told
    assert "--config FILE or POSTERN_CONFIG" in told


def test_who_may_not_read_the_configuration_is_told_who_may(tmp_path, monkeypatch):
    def refused(path, *arguments, **more):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "postern.yaml").write_text("")
    monkeypatch.setattr(Path, "open", refused)
    result = CliRunner().invoke(main, ["audit", "verify", "--config", str(tmp_path / "postern.yaml")])
    assert result.exit_code == 1
    assert "postern.yaml: cannot be read: Permission denied" in result.output
    assert "run this as root, or as the user that Postern runs as" in result.output


def test_a_recovery_copy_that_is_there_is_told_before_a_passphrase_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = ["keys", "--keys-dir", "keys", "--data-dir", "data"]
    assert CliRunner().invoke(main, [*keys, "init"]).exit_code == 0
    Path("copy").touch()
    result = CliRunner().invoke(main, [*keys, "recovery", "write", "copy"])
    assert result.exit_code == 1
    assert result.output == "Error: copy: is there already and is not replaced\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("policy explain m.eml --to a@b.example --received monday", "monday: is neither a day, a time nor a duration"),
        ("suppress import binary --reason test", "binary: is not UTF-8 text (save the file as UTF-8)"),
        ("portal secret m1 --secret-file binary --reason test", "binary: is not UTF-8 text (save the file as UTF-8)"),
        ("portal secret m1 --reason test", "there is no terminal to ask for the secret: give --secret-file"),
        ("queue unseal m1 --reason x", "the request is not valid: reason: give 3 characters at least"),
        ("dkim --dir keys check --server nonsense", "--server nonsense: is not an IP address, nor one with a port"),
    ],
)
def test_odd_input_is_told_in_words(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("binary").write_bytes(bytes(range(256)))
    Path("m.eml").touch()
    CliRunner().invoke(main, ["dkim", "--dir", "keys", "new", "clinic.example", "--algorithm", "ed25519"])
    result = CliRunner().invoke(main, words.split(), env={"POSTERN_SOCKET": "none", "POSTERN_CONFIG": "none"})
    assert result.exit_code in {1, 2}
    assert told in result.output
    assert isinstance(result.exception, SystemExit)
