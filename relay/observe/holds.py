"""Legal holds on audit segments: what a court or an investigation may ask for is not expired."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

import orjson

from relay.config.keyfiles import write_private
from relay.core.errors import CorruptError, Problem, ProblemsError

HOLDS_NAME: Final = "holds.json"
_NAME: Final = re.compile(r"[\w][\w ./-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Days whose segments are kept until the hold is released.

    Attributes:
        name: how it is called.
        first, last: days (UTC), both included, as ``2026-11-22``.
        reason: the case, without patients' data.
        by: who placed it.
        at: when, unix seconds.
    """

    name: str
    first: str
    last: str
    reason: str
    by: str
    at: float


def is_held(holds: Sequence[Hold], day: str) -> bool:
    """Whether a day's segment must be kept."""
    return any(hold.first <= day <= hold.last for hold in holds)


def load_holds(directory: Path) -> tuple[Hold, ...]:
    """All holds.

    Raises:
        CorruptError: the file cannot be read: nothing may be expired until it can (law 3).
    """
    path = directory / HOLDS_NAME
    try:
        return tuple(_checked(Hold(**item)) for item in orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise CorruptError(f"{path}: legal holds cannot be read, nothing is expired: {error}") from None


def _named(hold: Hold) -> None:
    """What a person who places one must give; holds that stand already are heeded whatever they are called."""
    if not _NAME.fullmatch(hold.name):
        raise ValueError("its name is not made of letters, digits, spaces and . _ / - (64 at the most)")
    if not hold.reason.strip():
        raise ValueError("a hold needs a reason: name the case")


def _checked(hold: Hold) -> Hold:
    date.fromisoformat(hold.first)
    date.fromisoformat(hold.last)
    if hold.last < hold.first:
        raise ValueError("a hold ends before it begins")
    return hold


def place_hold(directory: Path, hold: Hold) -> None:
    """Add a hold.

    Raises:
        ProblemsError: its days, name or reason are wrong, or it is there already.
        CorruptError: the holds cannot be read.
    """
    holds = load_holds(directory)
    try:
        _named(hold)
        _checked(hold)
    except ValueError as error:
        raise ProblemsError(Problem(where=f"hold {hold.name}", what=str(error))) from None
    if any(other.name == hold.name for other in holds):
        raise ProblemsError(Problem(where=f"hold {hold.name}", what="there is a hold of this name"))
    _write(directory, (*holds, hold))


def release_hold(directory: Path, name: str) -> Hold:
    """Remove a hold; the hold it was.

    Raises:
        ProblemsError: there is none of this name.
        CorruptError: the holds cannot be read.
    """
    holds = load_holds(directory)
    found = next((hold for hold in holds if hold.name == name), None)
    if found is None:
        raise ProblemsError(Problem(where=f"hold {name}", what="there is no hold of this name"))
    _write(directory, tuple(hold for hold in holds if hold.name != name))
    return found


def _write(directory: Path, holds: Sequence[Hold]) -> None:
    content = orjson.dumps([asdict(hold) for hold in holds], option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_private(directory / HOLDS_NAME, content)
