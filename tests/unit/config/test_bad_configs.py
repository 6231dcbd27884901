"""Every realistic mistake, as a file beside the exact words it must be answered with.

``POSTERN_WRITE_EXPECTED=1`` writes the answers anew: read the difference before it is kept.
"""

import datetime as dt
import os
import re
import shutil
from pathlib import Path

import pytest

from relay.config.load import load_with_places
from relay.config.prove import Extent, prove
from relay.core.errors import ProblemsError
from tests.support.configs import furnish

CASES = sorted((Path(__file__).parents[2] / "bad_configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def etc(tmp_path_factory):
    return furnish(tmp_path_factory.mktemp("etc"))


def answer(config: Path) -> str:
    try:
        loaded = load_with_places(config)
    except ProblemsError as error:
        told = [f"error: {problem}" for problem in error.problems]
    else:
        proof = prove(loaded, now=dt.datetime.now(dt.UTC), extent=Extent(dns=False))
        told = [f"error: {problem}" for problem in proof.errors] + [f"warning: {one}" for one in proof.warnings]
    text = "\n".join(told).replace(f"{config.parent}/", "") + "\n"
    return re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d UTC)?", "DAY", text) if "proof" in config.name else text


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_each_mistake_is_told_with_its_place_and_what_to_do(case, etc, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    config = etc / case.name
    shutil.copyfile(case, config)
    told = answer(config)
    expected = case.with_suffix(".expected")
    if os.environ.get("POSTERN_WRITE_EXPECTED"):
        expected.write_text(told)
    assert told == expected.read_text()
    assert re.search(r"^(error|warning): ", told, re.MULTILINE), "a bad configuration was taken for good"


def test_every_expected_answer_has_its_configuration():
    folder = CASES[0].parent
    assert {path.stem for path in folder.glob("*.expected")} == {path.stem for path in CASES}
    assert len(CASES) >= 25
