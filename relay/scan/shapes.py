"""All shapes at once: their anchors are found in passing, and the patterns tried there alone."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from operator import itemgetter
from typing import Final, NamedTuple

from relay.scan.context import CONTEXT
from relay.scan.icd import IcdTable
from relay.scan.identifiers import IDENTIFIERS
from relay.scan.shape import Shape

_LOOK_BACK: Final = 80  # characters before a value that may tell its kind
_SIGN_REACH: Final = 4  # characters behind a label in which its sign stands
_MOST: Final = 20_000  # values taken from one message; the verdict needs no more
_STUCK: Final = 3  # letters of a label that a number may follow without a space
_MIDDLE: Final = 3  # digits, at most, of a middle group
_LONG_WORD: Final = 40
_SMALL: Final = frozenset(bytes([code]) for code in (*range(97, 123), *range(0xDF, 0x100)))
_GROUPS: Final = re.compile(rb"9(?=[-)]{1,3}(9{1,3})-{1,3}9)")  # a literal before all else: found as memchr finds
_DIGIT_LETTER: Final = re.compile(rb"9(?=a)")
_LETTER_DIGIT: Final = b"a9"
_CODE_GOES_ON: Final = frozenset({b"9-", b"a-"})  # of a diagnosis code, up to its dot


def _outline() -> bytes:
    """Latin-1 octet to its outline."""
    table = bytearray(range(256))
    for code in range(256):
        char = chr(code)
        if char.isascii() and char.isdigit():
            table[code] = ord("9")
        elif char.isalpha():
            table[code] = ord("a")
        elif char in "-/. \t\n\r\f\v":
            table[code] = ord("-")
    return bytes(table)


_OUTLINE: Final = _outline()
_BY_NUMBER: Final = itemgetter(0, 1)


class Probe(NamedTuple):
    """A shape, ready to be tried at a place."""

    number: int
    shape: Shape
    pattern: "re.Pattern[bytes]"
    follows: frozenset[bytes]


class Found(NamedTuple):
    """A validated value; by number, a shape that stands before another wins where both see something."""

    number: int
    start: int
    end: int
    kind: str
    value: bytes
    shape: Shape


def all_shapes(icd: IcdTable) -> tuple[Shape, ...]:
    """Every shape; diagnosis codes are those of the table."""
    return tuple(
        replace(shape, valid=icd.__contains__) if shape.kind == "icd10" else shape for shape in IDENTIFIERS + CONTEXT
    )


class _Anchors(NamedTuple):
    """The shapes by what anchors them, words apart."""

    middle: tuple[tuple[Probe, ...], ...]
    outlines: tuple[tuple[bytes, tuple[Probe, ...]], ...]
    glued: dict[bytes, tuple[Probe, ...]]
    stuck: dict[bytes, tuple[Probe, ...]]
    begun: tuple[tuple["re.Pattern[bytes]", Probe], ...]
    coded: tuple[Probe, ...]


class ShapeFinder:
    """The compiled shapes. Stateless after construction, safe to share.

    The standard library's patterns are tried here, not RE2's: tried in one place, on a few characters, they answer ten
    times as fast, and both length and repetitions are bounded.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        words: dict[bytes, list[Probe]] = {}
        probes = [Probe(number, shape, _compiled(shape), frozenset()) for number, shape in enumerate(shapes)]
        for probe in probes:
            for word, follows in probe.shape.words.items():
                words.setdefault(word, []).append(probe._replace(follows=follows))
        self.words = {word: tuple(found) for word, found in words.items()}
        self._anchors = _Anchors(
            tuple(tuple(probe for probe in probes if size in probe.shape.middle) for size in range(_MIDDLE + 1)),
            tuple(_by((probe, probe.shape.outlines) for probe in probes).items()),
            _by((probe, _cases(probe.shape.glued)) for probe in probes),
            _by((probe, _cases(probe.shape.stuck)) for probe in probes),
            tuple((re.compile(probe.shape.outline), probe) for probe in probes if probe.shape.outline),
            tuple(probe for probe in probes if probe.shape.coded),
        )

    def search(self, data: bytes) -> "ShapeSearch":
        """Begin with a text."""
        return ShapeSearch(self._anchors, data)


def _compiled(shape: Shape) -> "re.Pattern[bytes]":
    """What is matched at the first place where it may begin: a lazy run up to it is far quicker than a search."""
    skip = rb"(?s:.{0,%d}?)" % shape.before if shape.before and not shape.seeks else b""
    return re.compile(skip + b"(?:" + shape.regex + b")", re.IGNORECASE)


def _cases(anchors: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Each in every mixture of cases."""
    return tuple(
        {bytes(octets) for anchor in anchors for octets in product(*zip(anchor.lower(), anchor.upper(), strict=True))}
    )


def _by(anchored: Iterable[tuple[Probe, tuple[bytes, ...]]]) -> dict[bytes, tuple[Probe, ...]]:
    found: dict[bytes, tuple[Probe, ...]] = {}
    for probe, anchors in anchored:
        for anchor in anchors:
            found[anchor] = (*found.get(anchor, ()), probe)
    return found


class ShapeSearch:
    """The search of one text; values gather in it."""

    __slots__ = ("_anchors", "_data", "_found", "_outline")

    def __init__(self, anchors: _Anchors, data: bytes) -> None:
        self._anchors = anchors
        self._data = data
        self._outline = data.translate(_OUTLINE)
        self._found: dict[tuple[int, int], Found] = {}

    def at_word(self, probes: tuple[Probe, ...], words: list[bytes], index: int, place: int) -> None:
        """Try shapes at the anchor word at ``index``, which stands at ``place``; the list ends with an empty word."""
        for probe in probes:
            if probe.follows and words[index + 1] not in probe.follows:
                end = place + len(words[index])
                sign = probe.shape.sign
                if not sign or sign.isdisjoint(self._data[end : end + _SIGN_REACH]):
                    continue
            self._around(probe, place)

    def by_outline(self) -> list[Found]:
        """Try the shapes that are anchored by outline; then everything found, by shape and place."""
        outline, anchors = self._outline, self._anchors
        for match in _GROUPS.finditer(outline):
            for probe in anchors.middle[match.end(1) - match.start(1)]:
                self._around(probe, match.start())
        for anchor, probes in anchors.outlines:
            place = outline.find(anchor)
            while place >= 0:
                for probe in probes:
                    self._around(probe, place)
                place = outline.find(anchor, place + 1)
        self._glued()
        self._stuck()
        return sorted(self._found.values(), key=_BY_NUMBER)

    def _glued(self) -> None:
        """Digits with letters right behind them."""
        data, get = self._data, self._anchors.glued.get
        for match in _DIGIT_LETTER.finditer(self._outline):
            place = match.start() + 1
            for probe in get(data[place : place + 2], ()):
                self._around(probe, place)
        for begin, probe in self._anchors.begun:
            for match in begin.finditer(self._outline):
                self._around(probe, match.start())

    def _stuck(self) -> None:
        """Letters with digits right behind them."""
        outline, data, coded = self._outline, self._data, self._anchors.coded
        get = self._anchors.stuck.get
        find = outline.find
        place = find(_LETTER_DIGIT)
        while place >= 0:
            if outline[place + 2 : place + 4] in _CODE_GOES_ON:
                for probe in coded:
                    self._around(probe, place)
            for probe in get(data[max(0, place + 1 - _STUCK) : place + 1], ()):
                self._around(probe, place + 1 - _STUCK)
            place = find(_LETTER_DIGIT, place + 1)

    def _around(self, probe: Probe, place: int) -> None:
        """Try a shape around a place."""
        _, shape, pattern, _ = probe
        before, behind = shape.digits
        if (before or behind) and self._outline.find(b"9", max(0, place - before), place + behind) < 0:
            return
        if shape.capital and not self._is_capital_before(place):
            return
        literal, reach = shape.needs
        if reach and self._data.rfind(literal, max(0, place - reach), place) < 0:
            return
        upto = place + shape.after
        if shape.seeks:
            for several in pattern.finditer(self._data, place, upto):
                self._keep(probe, several)
            return
        match = pattern.match(self._data, max(0, place - shape.before), upto)
        while match is not None:
            if match.end() > place:
                self._keep(probe, match)
                return
            match = pattern.match(self._data, match.end(), upto)  # one before the anchor that is none of its

    def _is_capital_before(self, place: int) -> bool:
        first = self._data.rfind(b" ", max(0, place - _LONG_WORD), max(0, place - 2)) + 1
        return self._data[first : first + 1] not in _SMALL

    def _keep(self, probe: Probe, match: "re.Match[bytes]") -> None:
        shape = probe.shape
        value: bytes = match[1]
        start, end = match.span(1)
        key = (probe.number, start)
        if key in self._found or len(self._found) >= _MOST or not shape.valid(value):
            return
        kind = shape.kind
        if shape.refine is not None:
            kind = shape.refine(self._data[max(0, start - _LOOK_BACK) : start], value)
        if kind:
            self._found[key] = Found(probe.number, start, end, kind, value, shape)
