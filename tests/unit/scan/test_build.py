"""Where the scan's C part cannot be compiled, no product of older sources is left to run beside newer Python."""

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def build():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build


@pytest.mark.parametrize(("age", "stays"), [(-60, True), (60, False)], ids=["newer", "older"])
def test_without_a_compiler_only_a_product_of_these_sources_stays(build, monkeypatch, tmp_path, age, stays):
    source, product = tmp_path / "module.c", tmp_path / "_native.abi3.so"
    source.write_text("int x;\n")
    product.write_bytes(b"before")
    made = source.stat().st_mtime - age
    os.utime(product, (made, made))
    monkeypatch.setenv("CC", "/nonexistent/cc")
    assert build(tmp_path, product)
    assert product.exists() is stays
    assert {path.name for path in tmp_path.iterdir()} == {"module.c"} | ({product.name} if stays else set())
