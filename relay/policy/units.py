"""Durations and sizes as operators write them: ``15m``, ``10MiB``."""

import re
from collections.abc import Callable
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_OCTETS: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "kB": 1000, "MB": 1000**2, "GB": 1000**3}
_QUANTITY: Final = re.compile(r"([0-9]{1,9})\s?([A-Za-z]+)\Z")


def duration(text: object) -> float:
    """Seconds of ``90s``, ``15m``, ``4h``, ``5d`` or ``2w``.

    Raises:
        ValueError: anything else; the text says what is expected.
    """
    match = _QUANTITY.match(text) if isinstance(text, str) else None
    if match is None or match[2] not in _SECONDS:
        raise ValueError("a duration is a number and a unit: 90s, 15m, 4h, 5d")
    return float(int(match[1]) * _SECONDS[match[2]])


def between(least: float, most: str) -> Callable[[float], float]:
    """Lets spans through that leave time for an attempt and end at a date that can be written."""

    def check(seconds: float) -> float:
        if seconds < least:
            raise ValueError("is no time at all; give 1s at least")
        if seconds > duration(most):
            raise ValueError(f"is too long; give {most} at most")
        return seconds

    return check


def octets(text: object) -> int:
    """Octets of ``512KiB``, ``10MiB`` or ``2GiB`` (``kB``, ``MB`` and ``GB`` are powers of ten).

    Raises:
        ValueError: anything else; the text says what is expected.
    """
    match = _QUANTITY.match(text) if isinstance(text, str) else None
    if match is None or match[2] not in _OCTETS:
        raise ValueError("a size is a number and a unit: 512KiB, 10MiB")
    return int(match[1]) * _OCTETS[match[2]]
