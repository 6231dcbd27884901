"""Builds the parts that are written in C, where there is a compiler, and the tables of the scan's words.

Postern runs without either, slower.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PARTS = {
    Path("relay/core/native"): Path("relay/core/_octets.abi3.so"),
    Path("relay/scan/native"): Path("relay/scan/_native.abi3.so"),
}
"""The sources of each part, and what they become."""
TABLES = Path("relay/scan/_tables.bin")
FLAGS = ("-O2", "-std=c11", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-fPIC", "-shared",
         "-fvisibility=hidden", "-fstack-protector-strong", "-Wl,-z,relro,-z,now")  # fmt: skip
TAG = "cp311-abi3"  # Py_LIMITED_API in native.h


class CustomBuildHook(BuildHookInterface[Any]):
    """Compiles and, for a wheel, takes the product in and tags it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build for a wheel (``standard``) into it, for an editable installation into the source tree."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        self._room = tempfile.TemporaryDirectory()  # lasts as long as the build
        for sources, product in (*PARTS.items(), (None, TABLES)):
            into = root / product if version == "editable" else Path(self._room.name) / product.name
            problem = build(root / sources, into) if sources else make_tables(root, into)
            if problem:
                self.app.display_warning(f"{product} is not built, Postern runs slower without: {problem}")
                continue
            self.app.display_info(f"built: {into}")
            if version != "editable":
                build_data["force_include"][str(into)] = str(product)
            if sources and version != "editable":
                build_data["pure_python"] = False
                build_data["tag"] = f"{TAG}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def build(sources: Path, into: Path) -> str:
    """Compile; what prevented it, in a line, or nothing.

    The product takes its name when it is whole: a process that runs has the one before mapped into its memory. Where it
    cannot be made, one of older sources is removed: it would go on as if it were this one.
    """
    problem = _compile(sources, into)
    if problem and into.exists() and into.stat().st_mtime < max(file.stat().st_mtime for file in sources.iterdir()):
        into.unlink()
    return problem


def _compile(sources: Path, into: Path) -> str:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        return f"no Python.h in {headers}"
    unfinished = into.with_name(f".{into.name}.{os.getpid()}")
    files = map(str, sorted(sources.glob("*.c")))
    try:
        subprocess.run(
            [*compiler, *FLAGS, f"-I{headers}", *files, "-o", str(unfinished)],
            check=True, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        unfinished.replace(into)
    except subprocess.CalledProcessError as error:
        unfinished.unlink(missing_ok=True)
        return next((line for line in error.stderr.splitlines() if "error" in line), f"{compiler[0]} failed")
    except (OSError, subprocess.TimeoutExpired) as error:
        unfinished.unlink(missing_ok=True)
        return f"{compiler[0]}: {error}"
    return ""


def make_tables(root: Path, into: Path) -> str:
    """Make the tables of the scan's words; what prevented it, in a line, or nothing.

    By the code that is to be installed, which for this needs PyYAML alone; in a process of its own, so that nothing of
    it stays in this one. In an isolated build PyYAML is where this process alone looks for modules.
    """
    path = os.pathsep.join([str(root), *filter(None, sys.path)])
    try:
        subprocess.run(
            [sys.executable, "-m", "relay.extract.tables", str(into)],
            check=True, capture_output=True, text=True, timeout=300, cwd=root,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        return (error.stderr.strip().splitlines() or ["it failed"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{sys.executable}: {error}"
    return ""
