"""Shapes without anchors, an operator's own: one RE2 set says which can match at all, and those alone are searched."""

from collections.abc import Iterator, Sequence
from typing import Final

import re2

from relay.scan.shape import Shape

_SET_MEMORY: Final = 32 * 1024 * 1024  # octets for the set's automaton
_MAX_MATCHES: Final = 500  # of one shape in one message; the verdict needs no more


def octet_options() -> "re2.Options":
    """Latin-1 octets, case-insensitive, silent."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = False
    options.log_errors = False
    return options


class EverywhereFinder:
    """Searches a whole text for each shape. Linear time whatever the patterns; stateless after construction."""

    def __init__(self, shapes: Sequence[Shape], *, memory: int = _SET_MEMORY) -> None:
        options = octet_options()
        self._shapes = tuple(shapes)
        self._compiled = [re2.compile(shape.regex, options) for shape in shapes]
        options.max_mem = memory
        self._set = re2.Set.SearchSet(options)
        for shape in shapes:
            self._set.Add(shape.regex)
        self._sentinel = self._set.Add(b"")
        self._set.Compile()

    def candidates(self, data: bytes) -> list[int]:
        """Which shapes can match.

        The set holds a pattern that always matches, so that ``None`` can only mean an automaton out of memory: then
        every shape is a candidate, which is slow and misses nothing.
        """
        if not self._shapes:
            return []
        matched = self._set.Match(data)
        if matched is None or self._sentinel not in matched:
            return list(range(len(self._shapes)))
        return sorted(number for number in matched if number != self._sentinel)

    def find(self, data: bytes) -> Iterator[tuple[Shape, int, int, bytes]]:
        """Matches: shape, span of the value, the value."""
        for number in self.candidates(data):
            for count, match in enumerate(self._compiled[number].finditer(data)):
                if count >= _MAX_MATCHES:
                    break
                value: bytes = match.group(1)
                yield self._shapes[number], *match.span(1), value
