"""All shapes at once: one RE2 set says which can match at all, and those alone are searched and validated."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import re2

from relay.scan.context import CONTEXT
from relay.scan.icd import IcdTable
from relay.scan.identifiers import IDENTIFIERS
from relay.scan.shape import Shape
from relay.scan.tables import HEADER, rows

_SET_MEMORY: Final = 32 * 1024 * 1024  # octets for the set's automaton
_WARM: Final = 4096
_MAX_MATCHES: Final = 500  # of one shape in one message; the verdict needs no more
_LOOK_BACK: Final = 80  # characters before a value that may tell its kind


def all_shapes(icd: IcdTable) -> tuple[Shape, ...]:
    """Every shape; diagnosis codes are those of the table."""
    return tuple(
        replace(shape, valid=icd.__contains__) if shape.kind == "icd10" else shape
        for shape in (HEADER, *IDENTIFIERS, *CONTEXT)
    )


class ShapeFinder:
    """The compiled shapes. Stateless after construction, safe to share."""

    def __init__(self, shapes: Sequence[Shape], *, memory: int = _SET_MEMORY) -> None:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.case_sensitive = False
        options.log_errors = False
        self._shapes = tuple(shapes)
        self._compiled = [re2.compile(shape.regex, options) for shape in shapes]
        options.max_mem = memory
        self._set = re2.Set.SearchSet(options)
        for shape in shapes:
            self._set.Add(shape.trigger)
        self._sentinel = self._set.Add(b"")
        self._set.Compile()

    def warm(self, texts: Iterable[bytes]) -> None:
        """Let the set's automaton, which grows with what it meets, meet ordinary words before the first message."""
        for text in texts:
            for start in range(0, len(text), _WARM):
                self.candidates(text[start : start + _WARM])

    def candidates(self, data: bytes) -> list[int]:
        """Which shapes can match.

        The set holds a pattern that always matches, so that ``None`` can only mean an automaton out of memory: then
        every shape is a candidate, which is slow and misses nothing.
        """
        matched = self._set.Match(data)
        if matched is None or self._sentinel not in matched:
            return list(range(len(self._shapes)))
        return sorted(number for number in matched if number != self._sentinel)

    def find(self, data: bytes) -> Iterator[tuple[Shape, str, int, int, bytes]]:
        """Validated matches: shape, kind, span of the value, the value."""
        table_end = 0
        for number in self.candidates(data):
            shape = self._shapes[number]
            for count, match in enumerate(self._compiled[number].finditer(data)):
                if count >= _MAX_MATCHES:
                    break
                value: bytes = match.group(1)
                if not shape.valid(value):
                    continue
                start, end = match.span(1)
                if shape is HEADER:
                    if start >= table_end:
                        cells, table_end = rows(data, start, end)
                        for kind, first, last in cells:
                            yield shape, kind, first, last, data[first:last]
                    continue
                kind = shape.kind
                if shape.refine is not None:
                    kind = shape.refine(data[max(0, start - _LOOK_BACK) : start], value)
                if kind:
                    yield shape, kind, start, end, value
