"""docs/portal-security.md is true: its figures are those of the code, and the tests that it names exist."""

import ast
import functools
import re
from pathlib import Path

import pytest

from relay.portal.options import CodeOptions, LimitOptions, PassphraseOptions, PortalOptions, SessionOptions
from relay.store.portal import accounts
from tests.support.portal_site import MAIL_FROM, ORIGIN

ROOT = Path(__file__).parent.parent.parent
DOC = (ROOT / "docs" / "portal-security.md").read_text()
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|$", re.MULTILINE)
WINDOWS = {"1 day": 86_400.0, "1 hour": 3600.0, "15 minutes": 900.0}

LEVEL_2 = {
    "1.1": 2, "1.4": 3, "1.5": 2, "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1, "3.2": 2, "3.3": 4, "3.4": 6, "3.5": 5,
    "3.7": 2, "4.1": 3, "4.2": 1, "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3, "6.1": 3, "6.2": 11, "6.3": 3, "6.4": 4,
    "6.5": 5, "7.1": 2, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 2, "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3,
    "9.2": 4, "11.1": 2,
    "11.2": 3, "11.3": 3, "11.4": 3, "11.5": 1, "11.6": 1, "12.1": 2, "12.2": 2, "12.3": 2, "13.1": 1, "13.2": 5,
    "13.3": 2, "13.4": 5, "14.1": 2, "14.2": 4, "14.3": 3, "15.1": 3, "15.2": 3, "15.3": 7, "16.1": 1, "16.2": 5,
    "16.3": 4, "16.4": 3, "16.5": 3,
}  # fmt: skip
"""Sections whose requirements of levels 1 and 2 all apply: their numbers run from 1 to this."""
OTHERS = {
    *(f"1.2.{n}" for n in (1, 2, 3, 4, 5, 9)),
    *(f"1.3.{n}" for n in (1, 2, 3, 4, 5, 6, 7, 10, 11)),
    "6.6.2",
    "6.6.3",
    "7.6.2",
}


@functools.cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_")}


def test_every_requirement_has_its_row_once():
    rows = [match[1] for match in ROW.finditer(DOC)]
    wanted = {f"{section}.{n}" for section, count in LEVEL_2.items() for n in range(1, count + 1)} | OTHERS
    assert sorted(set(rows)) == sorted(rows)
    assert wanted == set(rows)


def test_every_row_says_how():
    for number, asks, met, _ in ROW.findall(DOC):
        assert asks.strip(), number
        assert met.strip(), number


def test_every_test_that_is_named_exists():
    named = re.findall(r"`((?:portal|contract|laws)/[a-z_]+\.py)::([a-z0-9_*]+)`", DOC)
    assert len(named) > 80
    for file, name in named:
        path = ROOT / "tests" / file
        assert path.exists(), file
        assert name == "*" or name in functions(path), f"{file}::{name}"


def test_the_limits_are_those_of_the_code():
    limits = LimitOptions()
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d+ \| [^|]+) \|", DOC, re.MULTILINE))
    named = {name for name in LimitOptions.__dataclass_fields__ if hasattr(getattr(limits, name), "most")}
    assert set(rows) == named
    for name, text in rows.items():
        most, window = text.split(" | ")
        assert (int(most), WINDOWS[window.strip()]) == (getattr(limits, name).most, getattr(limits, name).window), name
    assert (limits.network_v4, limits.network_v6) == (24, 48)
    assert "an IPv4 /24 or an IPv6 /48" in DOC


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("**Codes** have 8 digits", CodeOptions().digits == 8),
        ("work for 10 minutes", CodeOptions().life == 600),
        ("bear 5 wrong answers", CodeOptions().tries == 5),
        ("Asking again within 30 seconds", CodeOptions().again_after == 30),
        (
            "**Passphrases** have 12 to 256 characters",
            (PassphraseOptions().least, PassphraseOptions().most) == (12, 256),
        ),
        (
            "argon2id hashes (19 MiB, 2 passes)",
            (PassphraseOptions().memory_kib, PassphraseOptions().time_cost) == (19456, 2),
        ),
        ("2 passphrases are hashed at a time", PassphraseOptions().at_once == 2),
        ("20 wrong answers, over all browsers", LimitOptions().shared_tries == 20),
        ("sign-in from the last 10 minutes", SessionOptions().fresh == 600),
        ("After 15 minutes without use", SessionOptions().idle == 900),
        ("warns 2 minutes before", SessionOptions().warn == 120),
        ("For one hour more", SessionOptions().kept_locked == 3600),
        ("what that address sent, for 30 minutes", SessionOptions().sender == 1800),
        ("After 8 hours it ends", SessionOptions().life == 8 * 3600),
        ("A device is known for 180 days", SessionOptions().device == 180 * 86400),
        ("20 sessions and devices at the most", accounts._MOST_SESSIONS == 20),
        ("a form 64 KiB and 64 fields", PortalOptions(origin=ORIGIN, mail_from=MAIL_FROM).max_form == 64 * 1024),
        ("a form with files 36 MiB", PortalOptions(origin=ORIGIN, mail_from=MAIL_FROM).max_upload == 36 << 20),
    ],
)
def test_times_and_sizes_are_those_of_the_code(sentence, value):
    assert sentence in " ".join(DOC.split())
    assert value
