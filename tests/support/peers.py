"""Real peers from Debian packages, for tests marked ``peers``."""

import os
import shutil
from pathlib import Path

import pytest

_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")


def require(program: str) -> str:
    """The path of a peer; when it is missing the test is skipped, or fails under ``POSTERN_REQUIRE_PEERS=1``."""
    path = shutil.which(program) or next(
        (str(Path(place, program)) for place in _SBIN if os.access(Path(place, program), os.X_OK)), None
    )
    if path is not None:
        return path
    message = f"the peer {program} is not installed (tools/install-peers)"
    if os.environ.get("POSTERN_REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message)
