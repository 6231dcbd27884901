"""Detectors of one's own, brought by a package under the entry point ``postern.detectors``."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from relay.core.phi import FindingGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What a detector found.

    Attributes:
        kind: the finding's kind, lower-case letters, digits and dashes.
        group: identifier or health.
        start, end: span in the text, in characters.
        weight: 0 to 1.
        sensitive: the specially protected kind, or empty.
    """

    kind: str
    group: FindingGroup
    start: int
    end: int
    weight: float
    sensitive: str = ""


@runtime_checkable
class Detector(Protocol):
    """Finds evidence in a text. It is called for every message: mind its speed.

    An exception it raises makes the message ``unreadable: crash`` (law 3).
    """

    def find(self, text: str) -> Iterable[Detection]:
        """What is found in a message's joined, normalised text."""
