"""Durations and sizes as people write them: ``15m``, ``500ms``, ``25MiB``."""

import re
from fractions import Fraction
from typing import Final

_NUMBER: Final = r"([0-9]{1,15}(?:\.[0-9]{1,6})?)"
_DURATION: Final = re.compile(rf"{_NUMBER}\s?(ms|s|m|h|d|w|y)\Z")
_SIZE: Final = re.compile(rf"{_NUMBER}\s?(B|KiB|MiB|GiB|TiB)\Z")

_MILLISECONDS: Final = {
    "y": 366 * 86_400_000,  # never short: a retention of `6y` covers any six calendar years
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_BYTES: Final = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}

DURATION_PATTERN: Final = r"^(0|[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d|w|y))$"
SIZE_PATTERN: Final = r"^(0|[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB))$"


def parse_duration(text: object) -> float:
    """Seconds in ``500ms``, ``90s``, ``15m``, ``4h``, ``5d``, ``2w``, ``6y`` (a year is 366 days); ``0`` needs no unit.

    Raises:
        ValueError: anything else, or a part of a millisecond.
    """
    if text in (0, "0") and not isinstance(text, bool):
        return 0.0
    match = _DURATION.match(text) if isinstance(text, str) else None
    if not match:
        raise ValueError("is not a duration: write a number and ms, s, m, h, d, w or y, such as 15m")
    milliseconds = Fraction(match[1]) * _MILLISECONDS[match[2]]
    if milliseconds.denominator != 1:
        raise ValueError("is finer than a millisecond")
    return int(milliseconds) / 1000


def parse_size(text: object) -> int:
    """Bytes in ``512B``, ``64KiB``, ``25MiB``, ``10GiB``, ``1TiB``; ``0`` needs no unit.

    Raises:
        ValueError: anything else, or a part of a byte.
    """
    if text in (0, "0") and not isinstance(text, bool):
        return 0
    match = _SIZE.match(text) if isinstance(text, str) else None
    if not match:
        raise ValueError("is not a size: write a number and B, KiB, MiB, GiB or TiB, such as 25MiB")
    size = Fraction(match[1]) * _BYTES[match[2]]
    if size.denominator != 1:
        raise ValueError("is not a whole number of bytes")
    return int(size)


def format_duration(seconds: float) -> str:
    """The shortest exact way to write it; :func:`parse_duration` gives it back."""
    return _format(round(seconds * 1000), _MILLISECONDS, skip=("w",))


def format_size(size: int) -> str:
    """The shortest exact way to write it; :func:`parse_size` gives it back."""
    return _format(size, _BYTES)


def _format(amount: int, units: dict[str, int], skip: tuple[str, ...] = ()) -> str:
    if amount == 0:
        return "0"
    unit = next(unit for unit, worth in units.items() if unit not in skip and amount % worth == 0)
    return f"{amount // units[unit]}{unit}"


def is_size(text: object) -> bool:
    """Whether the text is written as a size (and so its bounds are best told as sizes)."""
    return isinstance(text, str) and _SIZE.match(text) is not None


def is_duration(text: object) -> bool:
    """Whether the text is written as a duration."""
    return isinstance(text, str) and _DURATION.match(text) is not None
