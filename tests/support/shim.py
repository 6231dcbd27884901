"""Builds the fsync shim once a test run."""

import os
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.support.peers import require

SOURCE = Path(__file__).with_name("fsync_shim.c")


@cache
def fsync_shim() -> Path:
    """The shared object for LD_PRELOAD."""
    compiler = require("gcc")
    target = Path(mkdtemp(prefix="postern-shim-")) / "fsync_shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", target, SOURCE, "-ldl"], check=True, env=os.environ)
    return target
