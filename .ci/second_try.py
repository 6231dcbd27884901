"""Gives tests that failed once a second try, alone, and says so; what a law or a fault test finds counts at once.

A test against a foreign program (a browser, a mail server, a database) can fail for that program's timing on a busy
machine. Run alone it then passes. What keeps failing fails the run, and so do more failures than a busy machine makes.
"""

import json
import subprocess
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")
MOST = 5
"""More failures than this are a change that broke something."""
AT_ONCE = ("tests/laws/", "tests/faults/", "tests/test_layers.py")
"""What fails here is never tried again: one loss in a thousand is a loss."""


def main() -> int:
    """Returns the exit code: that of the second try, or 1 if there is none."""
    failed = sorted(json.loads(FAILED.read_text(encoding="utf-8"))) if FAILED.exists() else []
    final = [test for test in failed if test.startswith(AT_ONCE)]
    if not failed or final or len(failed) > MOST:
        print(f"{len(failed)} tests failed; no second try", flush=True)
        return 1
    print("\nUNSTEADY? A second try, alone, for:", *failed, sep="\n  ", flush=True)
    command = [sys.executable, "-m", "pytest", *failed]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
