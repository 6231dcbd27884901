"""Reading audit segments and their state: frames authenticated one by one, damage located to the octet."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from relay.config.keyfiles import write_private
from relay.core.errors import CorruptError, ProblemsError, SealError, StoreError
from relay.core.ports import Vault
from relay.observe.holds import Hold
from relay.protect import chain
from relay.protect.chain import SEGMENT_MAGIC, Frame, Link

STATE_NAME: Final = "state"
HINT: Final = "run `postern audit verify`; restore the directory, or move it aside to begin a new chain"
_STATE_PURPOSE: Final = "audit-state"


class DamageError(CorruptError):
    """A segment cannot be read on from ``offset``; ``torn`` when the file ends within the frame that begins there."""

    def __init__(self, path: Path, offset: int, what: str, *, torn: bool) -> None:
        self.offset = offset
        self.what = what
        self.torn = torn
        super().__init__(f"{path}, octet {offset}: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A frame as it lies in its segment: its number, where it begins and where it ends."""

    number: int
    start: int
    end: int
    frame: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where the chain stood when the state was written.

    Attributes:
        base: where it stood before the oldest segment that must still be there.
        link: where it stands.
        day: the segment written last; empty before the first.
        frames, size: frames in it and its octets.
        signed: records that the last head covers.
        recent: outbox rows that may still be in the outbox: number to digest.
        previous: day and frames of the segment before this one.
        holds: the legal holds that the trail has told of, by name.
    """

    base: Link = field(default_factory=Link)
    link: Link = field(default_factory=Link)
    day: str = ""
    frames: int = 0
    size: int = 0
    signed: int = 0
    recent: dict[int, str] = field(default_factory=dict)
    previous: tuple[str, int] = ("", 0)
    holds: dict[str, Hold] = field(default_factory=dict)


def day_of(moment: float) -> str:
    """The UTC day a moment lies in, as segments are named."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def segment_path(directory: Path, day: str) -> Path:
    """A day's segment."""
    return directory / f"{day}.seg"


def segment_days(directory: Path) -> tuple[str, ...]:
    """The days that have a segment, oldest first."""
    return tuple(sorted(path.stem for path in directory.glob("????-??-??.seg")))


def read_places(path: Path, vault: Vault, *, offset: int = 0, number: int = 0) -> Iterator[Place]:
    """A segment's frames from one on, each authenticated.

    Raises:
        DamageError: where reading cannot go on.
        StoreError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not offset:
                offset = _read_magic(file.read(len(SEGMENT_MAGIC)), path)
            file.seek(offset)
            while offset < size:
                length = int.from_bytes(file.read(4), "big")
                end = offset + 4 + length
                if size - offset < 4 or end > size or length > chain.MAX_FRAME:
                    raise DamageError(path, offset, "the file ends within a frame", torn=end >= size)
                frame = _open_frame(file.read(length), path, offset, number, vault, is_last=end == size)
                yield Place(number=number, start=offset, end=end, frame=frame)
                offset, number = end, number + 1
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error


def _read_magic(magic: bytes, path: Path) -> int:
    if magic != SEGMENT_MAGIC:
        raise DamageError(path, 0, "not an audit segment", torn=SEGMENT_MAGIC.startswith(magic))
    return len(SEGMENT_MAGIC)


def _open_frame(sealed: bytes, path: Path, offset: int, number: int, vault: Vault, *, is_last: bool) -> Frame:
    try:
        return chain.open_frame(sealed, day=path.stem, number=number, vault=vault)
    except (SealError, ValueError, KeyError) as error:
        what = str(error) if isinstance(error, SealError) else "a frame does not parse"
        raise DamageError(path, offset, f"frame {number}: {what}", torn=is_last) from None


def load_state(directory: Path, vault: Vault) -> State | None:
    """The state file; ``None`` when there is none.

    Raises:
        CorruptError: changed bytes, or another ring's.
    """
    path = directory / STATE_NAME
    try:
        plain = orjson.loads(vault.open(_STATE_PURPOSE, "", path.read_bytes()))
    except FileNotFoundError:
        return None
    except (SealError, OSError) as error:
        raise CorruptError(f"{path}: {error}; {HINT}") from None
    return State(
        base=_load_link(plain["base"]),
        link=_load_link(plain["link"]),
        day=plain["day"],
        frames=plain["frames"],
        size=plain["size"],
        signed=plain["signed"],
        previous=(plain["previous"][0], plain["previous"][1]),
        recent={int(seq): digest for seq, digest in plain["recent"].items()},
        holds={item["name"]: Hold(**item) for item in plain.get("holds", ())},
    )


def _load_link(value: dict[str, Any]) -> Link:
    return Link(count=value["count"], hash=bytes.fromhex(value["hash"]), seq=value["seq"])


def _dump_link(value: Link) -> dict[str, Any]:
    return {"count": value.count, "hash": value.hash.hex(), "seq": value.seq}


def save_state(directory: Path, state: State, vault: Vault) -> None:
    """Replace the state file, synced.

    Raises:
        StoreError: it cannot be written.
    """
    plain = {
        "base": _dump_link(state.base),
        "link": _dump_link(state.link),
        "day": state.day,
        "frames": state.frames,
        "size": state.size,
        "signed": state.signed,
        "previous": state.previous,
        "recent": {str(seq): digest for seq, digest in state.recent.items()},
        "holds": [asdict(hold) for hold in state.holds.values()],
    }
    try:
        write_private(directory / STATE_NAME, vault.seal(_STATE_PURPOSE, "", orjson.dumps(plain)))
    except ProblemsError as error:
        raise StoreError(str(error)) from error
