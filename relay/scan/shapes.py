"""All patterns at once: one RE2 set says which can match at all, and those alone are searched and validated."""

from collections.abc import Iterator
from typing import Final

import re2

from relay.scan.patterns import LOOK_BACK, PATTERNS, Pattern

_SET_MEMORY: Final = 32 * 1024 * 1024  # octets for the set's automaton
_MAX_MATCHES: Final = 500  # of one pattern in one message; the verdict needs no more


class ShapeFinder:
    """The compiled patterns. Stateless after construction, safe to share."""

    def __init__(self, patterns: tuple[Pattern, ...] = PATTERNS, *, memory: int = _SET_MEMORY) -> None:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.case_sensitive = False
        options.log_errors = False
        self._patterns = patterns
        self._compiled = [re2.compile(pattern.regex, options) for pattern in patterns]
        options.max_mem = memory
        self._set = re2.Set.SearchSet(options)
        for pattern in patterns:
            self._set.Add(pattern.regex)
        self._sentinel = self._set.Add(b"")
        self._set.Compile()

    def candidates(self, data: bytes) -> list[int]:
        """Which patterns can match.

        The set holds a pattern that always matches, so that ``None`` can only mean an automaton out of memory: then
        every pattern is a candidate, which is slow and misses nothing.
        """
        matched = self._set.Match(data)
        if matched is None or self._sentinel not in matched:
            return list(range(len(self._patterns)))
        return sorted(number for number in matched if number != self._sentinel)

    def find(self, data: bytes) -> Iterator[tuple[Pattern, str, int, int, bytes]]:
        """Validated matches: pattern, kind, span of the value, the value."""
        for number in self.candidates(data):
            pattern = self._patterns[number]
            for count, match in enumerate(self._compiled[number].finditer(data)):
                if count >= _MAX_MATCHES:
                    break
                value: bytes = match.group(1)
                if not pattern.valid(value):
                    continue
                start, end = match.span(1)
                refine = pattern.refine
                kind = refine(data[max(0, start - LOOK_BACK) : start]) if refine else pattern.kind
                if kind:
                    yield pattern, kind, start, end, value
