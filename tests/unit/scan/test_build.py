"""What the installation makes: no C product of older sources is left beside newer Python, tables are made apart."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from relay.scan.compiled import MAGIC

ROOT = Path(__file__).parents[3]
CAN_COMPILE = (
    shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is not None
    and Path(sysconfig.get_path("include"), "Python.h").is_file()
)


@pytest.fixture
def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("age", "stays"), [(-60, True), (60, False)], ids=["newer", "older"])
def test_without_a_compiler_only_a_product_of_these_sources_stays(hook, monkeypatch, tmp_path, age, stays):
    source, product = tmp_path / "module.c", tmp_path / "_native.abi3.so"
    source.write_text("int x;\n")
    product.write_bytes(b"before")
    made = source.stat().st_mtime - age
    os.utime(product, (made, made))
    monkeypatch.setenv("CC", "/nonexistent/cc")
    assert hook.build(tmp_path, product)
    assert product.exists() is stays
    assert {path.name for path in tmp_path.iterdir()} == {"module.c"} | ({product.name} if stays else set())


@pytest.mark.skipif(not CAN_COMPILE, reason="no compiler or no headers of Python")
@pytest.mark.parametrize("sources", ["relay/core/native", "relay/scan/native"])
def test_it_compiles_for_other_machines_as_well(hook, monkeypatch, tmp_path, sources):
    other = "-Werror -Wno-builtin-macro-redefined -U__SSE2__ -U__BYTE_ORDER__ -D__BYTE_ORDER__=0"  # the highest first
    monkeypatch.setenv("CC", f"{os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc'} {other}")
    assert hook.build(ROOT / sources, tmp_path / "part.so") == ""


def test_the_tables_are_made_by_the_code_that_is_installed(hook, tmp_path):
    assert hook.make_tables(ROOT, tmp_path / "_tables.bin") == ""
    assert (tmp_path / "_tables.bin").read_bytes().startswith(MAGIC)


def test_the_tables_are_made_with_what_the_build_finds_modules_by(hook, monkeypatch, tmp_path):
    """An isolated build has PyYAML on its own path alone."""
    room = tmp_path / "room"
    room.mkdir()
    (room / "yaml.py").write_text("raise ImportError('this one')\n")
    monkeypatch.syspath_prepend(room)
    assert hook.make_tables(ROOT, tmp_path / "_tables.bin") == "ImportError: this one"


def test_why_tables_were_not_made_is_told_in_a_line(hook, tmp_path):
    assert "No such file" in hook.make_tables(ROOT, tmp_path / "nowhere" / "_tables.bin")
    assert not list(tmp_path.iterdir())
