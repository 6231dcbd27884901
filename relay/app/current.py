"""The link to the snapshot in force; apart from the snapshots, for the supervisor moves it and knows no settings."""

import os
from pathlib import Path
from typing import Final

CURRENT: Final = "current"
"""Its name, beside the snapshots."""


def point_at(snapshot: Path) -> None:
    """Let it lead to a snapshot, which by age is then the newest: the last that is forgotten.

    Raises:
        OSError: it cannot be written, or the snapshot is gone.
    """
    os.utime(snapshot)
    link = snapshot.parent / f".{CURRENT}.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(snapshot.name)
    link.replace(snapshot.parent / CURRENT)
