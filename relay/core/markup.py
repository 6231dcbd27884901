"""A text and the tags in it, apart: each different run of tags once, for a table has few, and as many rows as you like.

Some of it is written in C (``relay/core/native/markup.c``); where that is not installed, the way in Python says the
same (``tests/unit/core/test_markup.py`` holds the two together).
"""

import re
from dataclasses import dataclass, field
from typing import Final

from relay.core.octets import NATIVE

if NATIVE:
    from relay.core import _octets

_ALONE: Final = r"/?(?:style|title)(?![0-9a-z_\x80-\U0010ffff])"
# (?>X*), not X*+: see relay.mail.weight.
_RUN: Final = re.compile(
    rf"(<(?:{_ALONE}[^>]*+>|[^>]*+>(?>(?:[ \t-\r]*+<(?!{_ALONE})[^>]*+>)*)))", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where runs of tags stand in a text: tags with nothing but blanks and line ends between them.

    A tag of a style or a title stands alone: what is behind it is read by other rules.

    Attributes:
        source: the text.
        runs: the different ones.
        order: of each run in the text which one it is.
        places: where each begins and ends, in octets of UTF-8; or the texts around them.
    """

    source: str = field(repr=False)
    runs: list[str] = field(repr=False)
    order: list[int] = field(repr=False)
    places: bytes | list[str] = field(repr=False)

    def joined(self, marks: list[str], dropped: list[int]) -> str:
        """The text with marks in the place of runs.

        Args:
            marks: of each different run what stands for it, no longer than it.
            dropped: of which runs, by their place in the order, the text behind is left out; in order.
        """
        if isinstance(self.places, bytes):
            return _octets.joined(self.source, self.order, self.places, marks, dropped)
        texts = self.places.copy()
        for place in dropped:
            texts[place + 1] = ""
        parts = [""] * (len(texts) + len(self.order))
        parts[::2] = texts
        parts[1::2] = map(marks.__getitem__, self.order)
        return "".join(parts)


def cut_plainly(source: str) -> Cut | None:
    """As :func:`cut`, in Python."""
    parts = _RUN.split(source)
    if "<" in "".join(parts[::2]):
        return None
    numbers: dict[str, int] = {}
    order = [numbers.setdefault(run, len(numbers)) for run in parts[1::2]]
    return Cut(source=source, runs=list(numbers), order=order, places=parts[::2])


def cut(source: str) -> Cut | None:
    """Find the runs of tags in a text; ``None`` where a tag has no end."""
    if not NATIVE:
        return cut_plainly(source)
    try:
        found = _octets.cut(source)
    except UnicodeEncodeError:  # half of a pair of surrogates
        return cut_plainly(source)
    if found is None:
        return None
    runs, order, places = found
    return Cut(source=source, runs=runs, order=order, places=places)
