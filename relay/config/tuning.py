"""The scan's tuning by the operator, read."""

from pathlib import Path

from relay.core.errors import Problem, ProblemsError
from relay.scan.tuning import Tuning, parse_tuning


def load_tuning(path: Path) -> Tuning:
    """Read the file.

    Raises:
        ProblemsError: it cannot be read, or every fault in it.
    """
    try:
        source = path.read_bytes()
    except OSError as failure:
        what, hint = f"cannot be read: {failure.strerror}", "check scan.tuning"
        raise ProblemsError(Problem(where=str(path), what=what, hint=hint)) from failure
    return parse_tuning(source, str(path))
