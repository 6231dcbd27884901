"""Imports go down only, and the pure packages stay pure: read from the AST, so that nothing has to run."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RELAY = ROOT / "relay"

PURE = {"smtp", "mail", "scan", "policy", "protect", "delivery", "trust"}
MIDDLE = {"store", "net", "methods", "observe", "config"}
UPPER = {"intake", "worker", "extract", "portal", "admin", "reputation"}
TOP = {"app", "supervisor", "crew", "cli", "demo", "roles", "privileges", "plainlog"}

ALLOWED = {
    "core": {"core"},
    **{name: {"core", name} for name in PURE},
    **{name: {"core"} | PURE | MIDDLE for name in MIDDLE},
    **{name: {"core", name} | PURE for name in UPPER},
    **{name: {"core"} | PURE | MIDDLE | UPPER | TOP for name in TOP},
}
"""Who may import whom: the upper packages see ``core`` and the pure packages, not the middle's classes."""

IMPURE = {
    "asyncio", "socket", "ssl", "logging", "structlog", "apsw", "sqlite3", "psycopg", "aiosmtpd", "aiosmtplib",
    "time", "random", "secrets", "threading", "subprocess", "multiprocessing", "uvloop", "prometheus_client",
}  # fmt: skip
IMPURE_CALLS = {("datetime", "now"), ("datetime", "utcnow"), ("os", "urandom"), ("uuid", "uuid4"), ("Path", "open")}


def modules() -> list[Path]:
    return sorted(RELAY.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(RELAY).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that the layers can be read"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(RELAY)))
def test_imports_go_down_only(path):
    here = room(path)
    if here in {"__init__", "__main__"}:
        return
    tree = ast.parse(path.read_text())
    rooms = {name.split(".")[1] for name in imported(tree) if name.startswith("relay.")}
    known = {entry.stem for entry in RELAY.iterdir()}
    assert (rooms & known) - ALLOWED[here] - {"__version__"} == set()


@pytest.mark.parametrize(
    "path", [p for p in modules() if room(p) in PURE | {"core"}], ids=lambda path: str(path.relative_to(RELAY))
)
def test_pure_packages_have_no_effects(path):
    tree = ast.parse(path.read_text())
    assert {name.split(".")[0] for name in imported(tree)} & IMPURE == set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id == "open"), f"line {node.lineno} opens a file"
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                assert (node.func.value.id, node.func.attr) not in IMPURE_CALLS, f"line {node.lineno}"
