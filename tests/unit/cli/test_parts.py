"""What the installation lacks is told: by ``--version`` and, as warnings and errors, by ``check``."""

import pytest
from click.testing import CliRunner

from relay.cli import main, parts
from relay.core import octets
from relay.extract import tables
from relay.scan import way

needs_native = pytest.mark.skipif(not way.NATIVE, reason="the scan's C part is not there")


def shown():
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Where the tables of words lie; nothing is there."""
    monkeypatch.setattr(tables, "tables_file", lambda: tmp_path / "_tables.bin")
    return tmp_path / "_tables.bin"


@pytest.fixture
def made(file):
    assert tables.main([str(file)]) == 0
    return file


@needs_native
def test_what_is_compiled_is_told(made, monkeypatch):
    monkeypatch.setattr(octets, "NATIVE", True)
    assert shown()[1:] == ["scan: compiled", "octets: compiled", "words: mapped"]
    assert parts.problems() == ([], [])


@needs_native
@pytest.mark.parametrize("is_there", [False, True])
def test_tables_that_are_not_used_are_told(made, monkeypatch, is_there):
    if is_there:
        monkeypatch.setattr(tables, "LEXICONS", tables.LEXICONS[1:])  # the sources are others now
    else:
        made.unlink()
    why = "are of another version or machine" if is_there else "are not installed"
    assert shown()[-1] == f"words: made by each process, slower: their tables {why}"
    (warning,), errors = parts.problems()
    assert (warning.where, warning.what) == ("words", f"made by each process, slower: their tables {why}")
    assert "install" in warning.hint
    assert errors == []


@needs_native
def test_damaged_tables_are_an_error(file):
    file.write_bytes(b"x" * 99)
    assert shown()[-1] == "words: damaged, Postern does not start: it is no file of tables"
    slower, (error,) = parts.problems()
    assert slower == []
    assert (error.where, error.what) == (str(file), "is damaged: it is no file of tables")


@pytest.mark.parametrize(("version", "why"), [(0, "not installed"), (7, "of another version")])
def test_parts_that_are_not_compiled_are_told(file, monkeypatch, version, why):
    for module in (way, octets):
        monkeypatch.setattr(module, "NATIVE", False)
        monkeypatch.setattr(module, "_VERSION", version)
    plain = f"plain Python, slower: its C part is {why}"
    assert shown()[1:3] == [f"scan: {plain}", f"octets: {plain}"]
    assert shown()[3] == "words: made by each process, slower: the scan is not compiled"
    slower, errors = parts.problems()
    assert [(one.where, one.what) for one in slower] == [("scan", plain), ("octets", plain)]
    assert all("compiler" in one.hint for one in slower)
    assert errors == []
