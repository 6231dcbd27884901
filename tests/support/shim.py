"""Builds the shims for LD_PRELOAD, each once a test run."""

import os
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.support.peers import require


def fsync_shim() -> Path:
    """Makes fsync slow or failing."""
    return _built("fsync_shim")


def clock_shim() -> Path:
    """Moves the time of day."""
    return _built("clock_shim")


def power_shim() -> Path:
    """Remembers what a power cut would leave of each file."""
    return _built("power_shim")


def own_key_shim() -> Path:
    """Lets OpenSMTPD 6.8 use its key under OpenSSL 3."""
    return _built("own_key_shim")


@cache
def _built(name: str) -> Path:
    compiler = require("gcc")
    target = Path(mkdtemp(prefix="postern-shim-")) / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"], check=True, env=os.environ)
    return target
