"""All shapes at once: their anchors are found in passing, and the patterns tried there alone."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Final, NamedTuple

from relay.core.octets import holds
from relay.scan.body import BODY
from relay.scan.context import CONTEXT
from relay.scan.icd import IcdTable
from relay.scan.identifiers import IDENTIFIERS
from relay.scan.shape import Shape
from relay.scan.way import NATIVE

if NATIVE:
    from relay.scan import _native

_LOOK_BACK: Final = 80  # characters before a value that may tell its kind
_SIGN_REACH: Final = 4  # characters behind a label in which its sign stands
_MOST: Final = 20_000  # values taken from one message; the verdict needs no more
_STUCK: Final = 3  # letters of a label that a number may follow without a space
_MIDDLE: Final = 3  # digits, at most, of a middle group
_LONGEST_SOUGHT: Final = 8  # octets of the longest value of which several stand behind an anchor: an ICD-10 code
_LONG_WORD: Final = 40
_CAPITALS: Final = frozenset(bytes([code]) for code in (*range(65, 91), *range(0xC0, 0xDF)))
_LEADS_CAPITAL: Final = _CAPITALS | frozenset({b" ", b"\t", b"\n", b"\r", b"\f", b"\v"})
"""What the word before an anchor begins with where a capital is wanted; a space where two stand before the anchor."""
_DIGITS: Final = re.compile(rb"9(?<!99)(?:9*+(?:(?=a)|(?=[-)]{1,3}(9{1,3})-{1,3}9))|(?<=a9))")
"""Digits of which the first or last may anchor a shape; one before all else: it is found as memchr finds."""
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
    """A shape, ready to be tried at a place: what that takes, at hand without a detour over the shape.

    Attributes:
        number: of the shape.
        shape: the shape.
        match: tries the pattern.
        follows: the words of which one must follow the anchor, or none.
        lower: whether the pattern is one for text in lower case.
        near, far: how far before and behind the anchor a digit must stand.
        told: whether one must.
        picky: whether more must hold there.
        joint: what must stand behind the digits that anchor it, or nothing.
    """

    number: int
    shape: Shape
    match: Callable[[bytes, int, int], "re.Match[bytes] | None"]
    follows: frozenset[bytes]
    lower: bool
    before: int
    after: int
    near: int
    far: int
    told: bool
    picky: bool
    joint: bytes


class WordProbes(NamedTuple):
    """The shapes that one word anchors whatever word stands beside it.

    Attributes:
        near, far: how far before and behind the word the digit may stand that every shape of ``told`` needs.
        told: those that need a digit.
        free: those that need none.
        capital: whether all of these want a capital before the word.
        signed: those that want a certain word behind it, and for which a sign will do.
        signs: their signs.
    """

    near: int
    far: int
    told: tuple[Probe, ...]
    free: tuple[Probe, ...]
    capital: bool
    signed: tuple[Probe, ...]
    signs: frozenset[int]

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> "WordProbes":
        """Sorted by what they need."""
        anywhere = [probe for probe in probes if not probe.follows and not probe.shape.led]
        told = [probe for probe in anywhere if probe.told]
        free = tuple(probe for probe in anywhere if not probe.told)
        signed = tuple(probe for probe in probes if probe.follows and probe.shape.sign)
        return cls(
            max((probe.near for probe in told), default=0),
            max((probe.far for probe in told), default=0),
            tuple(told) if len(told) != 1 else (told[0]._replace(told=False),),  # asked once is enough
            free,
            bool(free) and all(probe.shape.capital for probe in free),
            signed,
            frozenset().union(*(probe.shape.sign for probe in signed)),
        )


class PairProbes(NamedTuple):
    """The shapes that one word anchors beside certain others: without those it is passed over.

    Attributes:
        before: by the word before it.
        after: by the word after it.
    """

    before: dict[bytes, tuple[Probe, ...]]
    after: dict[bytes, tuple[Probe, ...]]

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> "PairProbes":
        """By the words they want."""
        return cls(
            _by((probe, tuple(probe.shape.led)) for probe in probes),
            _by((probe, tuple(probe.follows)) for probe in probes),
        )


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
        replace(shape, valid=icd.__contains__) if shape.kind == "icd10" else shape
        for shape in IDENTIFIERS + CONTEXT + BODY
    )


class _Anchors(NamedTuple):
    """The shapes by what anchors them, words apart."""

    middle: tuple[tuple[Probe, ...], ...]
    outlines: tuple[tuple[bytes, tuple[Probe, ...]], ...]
    glued: dict[bytes, tuple[Probe, ...]]
    stuck: dict[bytes, tuple[Probe, ...]]
    begun: tuple[tuple["re.Pattern[bytes]", Probe], ...]
    coded: tuple[Probe, ...]

    def by_joint(self) -> tuple[tuple[tuple[Probe, ...], ...], ...]:
        """The probes of a group in the middle, by its size and by the octet before it."""
        return tuple(
            tuple(tuple(probe for probe in probes if probe.joint in (b"", bytes([joint]))) for joint in range(256))
            for probes in self.middle
        )

    def digits(self, data: bytes, lower: bytes, outline: bytes) -> Iterator[tuple[int, tuple[Probe, ...] | None]]:
        """Places at runs of digits and what is to be tried there; None: what begins with digits that letters follow.

        Groups of digits, digits with letters right behind them, letters with digits right behind them.
        """
        for match in _DIGITS.finditer(outline):
            first, behind = match.span()
            if match.lastindex:
                joint = data[behind : behind + 1]
                probes = self.middle[match.end(1) - match.start(1)]
                yield behind - 1, tuple(probe for probe in probes if probe.joint in (b"", joint))
            elif outline[behind : behind + 1] == b"a":
                yield behind, self.glued.get(lower[behind : behind + 2], ())
                yield behind - 1, None
            if outline[first - 1 : first] == b"a":
                if outline[first + 1 : first + 3] in _CODE_GOES_ON:
                    yield first - 1, self.coded
                yield first - _STUCK, self.stuck.get(lower[max(0, first - _STUCK) : first], ())


class ShapeFinder:
    """The compiled shapes. Stateless after construction, safe to share.

    The standard library's patterns are tried here, not RE2's: tried in one place, on a few characters, they answer ten
    times as fast, and both length and repetitions are bounded.
    """

    def __init__(self, shapes: Sequence[Shape], *, native: bool = NATIVE) -> None:
        words: dict[bytes, list[Probe]] = {}
        probes = [_probe(number, shape) for number, shape in enumerate(shapes)]
        for probe in probes:
            for word, follows in probe.shape.words.items():
                words.setdefault(word, []).append(probe._replace(follows=follows))
        self.words = {word: alone for word, found in words.items() if any((alone := WordProbes.of(found))[2:])}
        self.pairs = {word: paired for word, found in words.items() if any(paired := PairProbes.of(found))}
        self._anchors = _Anchors(
            tuple(tuple(probe for probe in probes if size in probe.shape.middle) for size in range(_MIDDLE + 1)),
            tuple(_by((probe, probe.shape.outlines) for probe in probes).items()),
            _by((probe, probe.shape.glued) for probe in probes),
            _by((probe, probe.shape.stuck) for probe in probes),
            tuple((re.compile(probe.shape.outline), probe) for probe in probes if probe.shape.outline),
            tuple(probe for probe in probes if probe.shape.coded),
        )
        anchors = self._anchors
        self._native = (
            _native.Anchors(
                _OUTLINE, anchors.by_joint(), anchors.glued, anchors.stuck, anchors.coded, bool(anchors.begun)
            )
            if native
            else None
        )

    def search(self, data: bytes, lower: bytes) -> "ShapeSearch":
        """Begin with a text, which comes in lower case as well."""
        return ShapeSearch(self._anchors, self._native, data, lower)


def _probe(number: int, shape: Shape) -> Probe:
    """Ready to be matched at the first place where it may begin: a lazy run up to it is far quicker than a search.

    A pattern that knows no capitals is tried on the text in lower case, where it is several times as quick: to ignore
    case is to ask for each letter anew, and no alternative can be told by its first.
    """
    skip = rb"(?s:.{0,%d}?)" % shape.before if shape.before and not shape.seeks else b""
    lower = shape.regex == shape.regex.lower() and b"(?-i:" not in shape.regex
    pattern = re.compile(skip + b"(?:" + shape.regex + b")", 0 if lower else re.IGNORECASE)
    return Probe(
        number=number,
        shape=shape,
        match=pattern.match if not shape.seeks else pattern.search,
        follows=frozenset(),
        lower=lower,
        before=0 if shape.seeks else shape.before,
        after=shape.after,
        near=shape.digits[0],
        far=shape.digits[1],
        told=any(shape.digits),
        picky=shape.capital or shape.needs[1] > 0 or shape.unbroken or shape.seeks,
        joint=shape.joint,
    )


def _by(anchored: Iterable[tuple[Probe, tuple[bytes, ...]]]) -> dict[bytes, tuple[Probe, ...]]:
    found: dict[bytes, tuple[Probe, ...]] = {}
    for probe, anchors in anchored:
        for anchor in anchors:
            found[anchor] = (*found.get(anchor, ()), probe)
    return found


class ShapeSearch:
    """The search of one text; values gather in it."""

    __slots__ = ("_anchors", "_data", "_found", "_lower", "_native", "_outline", "_sought")

    def __init__(self, anchors: _Anchors, native: "_native.Anchors | None", data: bytes, lower: bytes) -> None:
        self._anchors = anchors
        self._native = native
        self._data = data
        self._lower = lower
        self._outline = data.translate(_OUTLINE)
        self._found: dict[tuple[int, int], Found] = {}
        self._sought: dict[int, tuple[int, int]] = {}  # from where to where all values of a shape were met

    def at_word(self, probes: WordProbes, place: int, end: int, following: bytes | None) -> None:
        """Try shapes at the anchor word from ``place`` to ``end``; at the text's end an empty one follows."""
        near, far, told, free, _, signed, signs = probes
        if told and self._outline.find(b"9", place - near if place > near else 0, place + far) >= 0:
            for probe in told:
                self._around(probe, place)
        for probe in free:
            self._around(probe, place)
        if signed and not signs.isdisjoint(behind := self._data[end : end + _SIGN_REACH]):
            for probe in signed:
                if following not in probe.follows and not probe.shape.sign.isdisjoint(behind):
                    self._around(probe, place)

    def at_pair(self, probes: PairProbes, place: int, previous: bytes | None, following: bytes | None) -> None:
        """Try shapes at the anchor word at ``place`` that want the word before or after it."""
        for probe in probes.before.get(previous, ()) if previous is not None else ():
            self._around(probe, place)
        for probe in probes.after.get(following, ()) if following is not None else ():
            self._around(probe, place)

    def by_outline(self) -> list[Found]:
        """Try the shapes that are anchored by outline; then everything found, by shape and place."""
        outline = self._outline
        for anchor, probes in self._anchors.outlines:
            place = outline.find(anchor) if holds(outline, anchor) else -1
            while place >= 0:
                for probe in probes:
                    self._around(probe, place)
                place = outline.find(anchor, place + 1)
        for place, several in self._digits():
            if several is None:
                self._begin(place)
            else:
                for probe in several:
                    self._around(probe, place)
        return sorted(self._found.values(), key=_BY_NUMBER) if self._found else []

    def _digits(self) -> Iterable[tuple[int, tuple[Probe, ...] | None]]:
        if self._native is not None:
            return self._native.digits(self._data, self._lower)
        return self._anchors.digits(self._data, self._lower, self._outline)

    def _begin(self, place: int) -> None:
        for begin, probe in self._anchors.begun:
            if begin.match(self._outline, place):
                self._around(probe, place)

    def _around(self, probe: Probe, place: int) -> None:
        """Try a shape around a place."""
        _, shape, match, _, lower, before, after, near, far, told, picky, _ = probe
        if told and self._outline.find(b"9", place - near if place > near else 0, place + far) < 0:
            return
        data = self._lower if lower else self._data
        start = place - before if place > before else 0
        upto = place + after
        if picky:
            if not self._fits(shape, place):
                return
            if shape.seeks:
                self._seek(probe, data, place, upto)
                return
            if shape.unbroken:
                start = max(start, data.rfind(b" ", start, place) + 1, data.rfind(b"\n", start, place) + 1)
        found = match(data, start, upto)
        while found is not None:
            end = found.end()
            if end > place:
                first = found.start(1)
                if self._keep(probe, found) or first > place:
                    return
                end = first + 1  # of three dates in a row it may have begun in the one before
            found = match(data, end, upto)  # one before the anchor that is none of its

    def _seek(self, probe: Probe, data: bytes, place: int, upto: int) -> None:
        """Try a shape of which several may stand behind the anchor: in a list of codes, each stands behind many."""
        begin, reached = self._sought.get(probe.number, (0, 0))
        if not begin <= place < reached:
            begin = reached = place
        found = probe.match(data, reached, upto)
        while found is not None:
            self._keep(probe, found)
            end = found.end()
            if found.start() + _LONGEST_SOUGHT < upto:  # else it may be cut off there
                reached = end
            found = probe.match(data, end, upto)
        self._sought[probe.number] = (begin, reached)

    def _fits(self, shape: Shape, place: int) -> bool:
        if shape.capital and not self._is_capital_before(place):
            return False
        literal, reach = shape.needs
        return not reach or self._data.rfind(literal, place - reach if place > reach else 0, place) >= 0

    def _is_capital_before(self, place: int) -> bool:
        first = self._data.rfind(b" ", max(0, place - _LONG_WORD), max(0, place - 2)) + 1
        return self._data[first : first + 1] in _LEADS_CAPITAL

    def _keep(self, probe: Probe, match: "re.Match[bytes]") -> bool:
        """Keep a value; whether it is one."""
        shape = probe.shape
        start, end = match.span(1)
        value = self._data[start:end]
        key = (probe.number, start)
        if key in self._found or len(self._found) >= _MOST:
            return True
        if not shape.valid(value):
            return False
        kind = shape.kind
        if shape.refine is not None:
            kind = shape.refine(self._data[max(0, start - _LOOK_BACK) : start], value)
        if kind:
            self._found[key] = Found(probe.number, start, end, kind, value, shape)
        return True
