"""Legal holds on audit segments: what a court or an investigation may ask for is not expired.

A hold is placed and released in a file beside the segments. The trail tells of both, and what it told stands against
the file: a hold that was placed stands until the file has a release that the key ring sealed, whatever else became of
it.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from relay.config.keyfiles import write_private
from relay.core.errors import CorruptError, Problem, ProblemsError, SealError
from relay.core.ports import Vault

HOLDS_NAME: Final = "holds.json"
_NAME: Final = re.compile(r"[\w][\w ./-]{0,63}")
_PURPOSE: Final = "legal-hold"
_PLACED: Final = "legal hold placed"
_RELEASED: Final = "legal hold released"
_TOLD: Final = b'"legal hold '


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Days whose segments are kept until the hold is released.

    Attributes:
        name: how it is called; no two ever have the same.
        first, last: days (UTC), both included, as ``2026-11-22``.
        reason: the case, without patients' data.
        by: who placed it.
        at: when, unix seconds.
        released_at: when it was released, unix seconds; 0: it stands.
        released_by: who released it.
        release_reason: why.
        seal: all of this sealed under the key ring, in base64, once it is released.
    """

    name: str
    first: str
    last: str
    reason: str
    by: str
    at: float
    released_at: float = 0.0
    released_by: str = ""
    release_reason: str = ""
    seal: str = ""


# --- the file ---------------------------------------------------------------


def load_holds(directory: Path) -> tuple[Hold, ...]:
    """All holds of the file, released ones too.

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


def place_hold(directory: Path, hold: Hold, noted: Mapping[str, Hold]) -> None:
    """Add a hold.

    Args:
        directory: the audit directory.
        hold: what to add.
        noted: the holds that the trail has told of, by name.

    Raises:
        ProblemsError: its days, name or reason are wrong, or one of its name is there or was.
        CorruptError: the holds cannot be read.
    """
    holds = load_holds(directory)
    try:
        _named(hold)
        _checked(hold)
    except ValueError as error:
        raise ProblemsError(Problem(where=f"hold {hold.name}", what=str(error))) from None
    if hold.name in noted or any(other.name == hold.name for other in holds):
        what = "there is a hold of this name, or there was one"
        raise ProblemsError(Problem(where=f"hold {hold.name}", what=what, hint="give it another name"))
    _write(directory, (*holds, hold))


def release_hold(
    directory: Path, name: str, *, by: str, reason: str, at: float, noted: Mapping[str, Hold], vault: Vault
) -> Hold:
    """Release a hold of the file, or one that the trail has told of; the hold, released.

    Raises:
        ProblemsError: there is none of this name, it is released already, or no reason is given.
        CorruptError: the holds cannot be read.
    """
    holds = load_holds(directory)
    where = f"hold {name}"
    if not reason.strip():
        raise ProblemsError(Problem(where=where, what="is not released without a reason"))
    found = noted.get(name) or next((hold for hold in holds if hold.name == name), None)
    if found is None:
        raise ProblemsError(Problem(where=where, what="there is no hold of this name"))
    if found.released_at or any(hold.name == name and is_released(hold, vault) for hold in holds):
        raise ProblemsError(Problem(where=where, what="is released already"))
    released = replace(found, released_at=at, released_by=by, release_reason=reason, seal="")
    sealed = vault.seal(_PURPOSE, name, _plain(released))
    released = replace(released, seal=base64.b64encode(sealed).decode("ascii"))
    _write(directory, (*(hold for hold in holds if hold.name != name), released))
    return released


def _write(directory: Path, holds: Sequence[Hold]) -> None:
    content = orjson.dumps([asdict(hold) for hold in holds], option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_private(directory / HOLDS_NAME, content)


def _plain(hold: Hold) -> bytes:
    return orjson.dumps(asdict(replace(hold, seal="")), option=orjson.OPT_SORT_KEYS)


def is_released(hold: Hold, vault: Vault) -> bool:
    """Whether somebody who has the key ring released it."""
    try:
        return bool(hold.released_at) and vault.open(_PURPOSE, hold.name, base64.b64decode(hold.seal)) == _plain(hold)
    except (SealError, ValueError):
        return False


# --- the file against the trail -----------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What holds now.

    Attributes:
        holds: those that stand.
        news: facts of events that the trail has not told of yet.
        faults: what the file says otherwise than the trail, and no release explains.
    """

    holds: tuple[Hold, ...]
    news: tuple[dict[str, Any], ...]
    faults: tuple[str, ...]


def standing(noted: Mapping[str, Hold], holds: Sequence[Hold], vault: Vault) -> Standing:
    """Which holds stand: all that the trail told of and all of the file, but those that were released.

    Args:
        noted: what the trail has told of, by name (:func:`told`).
        holds: those of the file.
        vault: opens the seals of releases.
    """
    stand = [hold for hold in noted.values() if not hold.released_at]
    news: list[dict[str, Any]] = []
    faults = [
        f"legal hold {name} is missing, and was never released: it goes on"
        for name, hold in noted.items()
        if not hold.released_at and all(other.name != name for other in holds)
    ]
    for hold in holds:
        before, is_over = noted.get(hold.name), is_released(hold, vault)
        if before is not None and before.released_at:
            continue
        placed = replace(hold, released_at=0.0, released_by="", release_reason="", seal="")
        if before is None:
            news.append({"action": _PLACED, "hold": asdict(placed)})
        elif before != placed:
            faults.append(f"legal hold {hold.name} was changed since it was placed: it goes on as it was, too")
            is_over = False
        if is_over:
            stand = [other for other in stand if other.name != hold.name]
            news.append({"action": _RELEASED, "hold": asdict(replace(hold, seal=""))})
        else:
            stand.append(placed)
            if hold.released_at:
                faults.append(f"legal hold {hold.name} is called released, not under our key ring: it goes on")
    return Standing(holds=tuple(stand), news=tuple(news), faults=tuple(faults))


def told(noted: Mapping[str, Hold], records: Iterable[bytes]) -> dict[str, Hold]:
    """The holds that the trail has told of, after these records too; released ones say so."""
    found = dict(noted)
    for record in records:
        if _TOLD not in record:
            continue
        item = orjson.loads(record)
        facts = item["facts"]
        if item["kind"] == "operator" and item["seq"] == 0 and facts.get("action") in {_PLACED, _RELEASED}:
            hold = Hold(**facts["hold"])
            found[hold.name] = hold
    return found


def is_held(holds: Sequence[Hold], day: str) -> bool:
    """Whether a day's segment must be kept."""
    return any(hold.first <= day <= hold.last for hold in holds)
