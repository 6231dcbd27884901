"""Persons whose name is on no list: capitalised words that are no English words and stand as a person stands.

``Zsofia Nemeth called, she ran out of insulin``: most people of the world are on no list of names, and what they are
called looks like what a company, a town or a product is called. So names are guessed only near words of health, and
what stands around them has to tell a person: a relation, a label, a verb of persons, a pronoun.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.model import Hit
from relay.scan.names import NameTable
from relay.scan.standing import LEADS, is_foreign, is_spoken_of, likeness, may_be
from relay.scan.tokens import Tokens
from relay.scan.words import Words

_UPPER: Final = rb"[A-Z\xc0-\xde]"
_SMALL: Final = rb"[a-z\xdf-\xff]"
_REST: Final = (
    rb"(?:(?:c|ac|e|a|i|u|an|itz|')" + _UPPER + rb")?" + _SMALL
    + rb"++(?:['-](?!s\b)(?:Mc|O')?" + _UPPER + rb"?" + _SMALL + rb"++){0,2}"
)  # fmt: skip
_WORD: Final = _UPPER + _REST
_ALOUD: Final = _UPPER + rb"{3,}+(?:-" + _UPPER + rb"{2,}+)?"
_NEXT: Final = (
    rb"[ ](?:(?:(?:de|da|do|di|del|della|la|las|los|van|von|der|den|bin|bint|ibn|al|el|abu|St\.|y)[ ]){0,3}" + _WORD
    + rb"|[\"(]" + _WORD + rb"[\")]|" + _UPPER + rb"\b\.?)"
)  # fmt: skip
_RUN: Final = re.compile(
    _UPPER + rb"(?<![\w.@/'-].)(?:" + _REST + rb"(?:" + _NEXT + rb"){0,4}|\.(?:" + _NEXT + rb"){1,3}|" + _UPPER
    + rb"{3,}+(?:-" + _UPPER + rb"{2,}+)?,[ ](?:" + _WORD + rb"|" + _UPPER + rb"{3,}+|" + _UPPER + rb"\b\.)(?:[ ]"
    + _UPPER + rb"\b\.?)?)(?![\w@])"
)  # fmt: skip
_JOINED: Final = bytes(code for code in range(128) if chr(code).isalnum() or chr(code) in "_.@/'-")
_BEGINNINGS: Final = bytes(
    ord("A") if 65 <= code <= 90 else ord("a") if code in _JOINED else ord(" ") for code in range(256)
)  # fmt: skip
"""Octet of ASCII to ``A`` for a capital, to ``a`` for what else no run begins behind, or to a space."""
_PART: Final = re.compile(_WORD + rb"|" + _ALOUD)
_FOLDED: Final = re.compile(rb"[a-z\xdf-\xff'-]{2,}")
_INITIAL: Final = re.compile(rb"(?<![\w'-])" + _UPPER + rb"\.")
_GIVEN_BEHIND: Final = re.compile(rb",[ ](" + _WORD + rb")(?:[ ]" + _UPPER + rb"\b\.?)?")
_SMALL_TITLES: Final = frozenset(b"mr mrs ms miss sra pt".split())
_SIRS: Final = frozenset({b"mr", b"mrs"})
_SMALL_SEEN: Final = frozenset(b"for re add regarding call saw pt patient about tell remind squeeze".split())
_INITIALS: Final = re.compile(rb"(?<![\w.])[A-Z]\.[ ]?[A-Z]\.(?![\w.])(?![ ][A-Z])")
_NO_INITIALS: Final = frozenset(
    b"US UK DC LA NY PO PM AM BC AD ER OR ED IV MD RN PT OT IE EG PS PA NP RE HR NJ SF TV IQ".split()
)
_INTRODUCED: Final = re.compile(
    rb"\b(?:[Tt]his is|[Ii]t'?s me(?: again)?|me again|my name is|name's)[ ,]{1,2}([a-z]{3,20}) ([a-z]{3,20})\b"
)
"""Who says in small letters who it is; both names have to be known or be no words."""
_PARTICLES: Final = frozenset(b"te ni nic ap ben bar ter ten san".split())
_REACH: Final = 200  # characters around health context in which names are guessed
_MOST: Final = 60  # guesses in one text: more names tell no more
_QUOTES: Final = frozenset(b'"(')
_SMALLEST: Final = 3
_SHORT: Final = 300  # words of a text in which names without capitals are looked for
_CAPITALS: Final = frozenset((*range(65, 91), *range(0xC0, 0xDF)))


class StrangerFinder:
    """Finds persons on no list. Stateless after construction."""

    def __init__(self, table: NameTable, words: Words, weights: Mapping[str, float]) -> None:
        self._table = table
        self._words = words
        self._weights = weights

    def weighed(self, weights: Mapping[str, float]) -> "StrangerFinder":
        """The same with other weights."""
        return StrangerFinder(self._table, self._words, weights)

    def is_person(self, name: bytes) -> bool:
        """Whether a name that was found, in capitals, has no word of every day in it and no place."""
        kinds = [self.kind_of(part.group()) for part in _FOLDED.finditer(name.lower())]
        return bool(kinds) and min(kinds) > 0 and max(kinds) > 1

    def in_small(self, tokens: Tokens, marks: bytearray) -> Iterator[Hit]:
        """Full names on the lists that are written without capitals, in a short text."""
        words = tokens.words
        if len(words) > _SHORT:
            return
        yield from self._initials(tokens)
        yield from self._introduced(tokens, marks)
        if not _SMALL_TITLES.isdisjoint(words) or not _SMALL_SEEN.isdisjoint(words):
            yield from self._small_strangers(tokens, marks)
        table, place = self._table, 0
        for word, following in pairwise(words):
            if (
                word in table.first
                and following in table.last
                and not self._is_word(word)
                and not self._is_word(following)
            ):
                found = tokens.padded.find(b" %b %b " % (word, following), place)
                if found >= 0 and marks.find(1, found, found + len(word)) < 0 and tokens.data[found] not in _CAPITALS:
                    place, end = found, found + len(word) + 1 + len(following)
                    weight = self._weights["name-full" if is_spoken_of(tokens, end) else "name-half"]
                    norm = tokens.data[found:end].upper()
                    yield Hit("name", FindingGroup.IDENTIFIER, found, end, weight, norm)

    def _initials(self, tokens: Tokens) -> Iterator[Hit]:
        """``T.K. is using again, he ...``."""
        for found in _INITIALS.finditer(tokens.data):
            start, end = found.span()
            norm = found.group().replace(b" ", b"")
            if norm.replace(b".", b"") not in _NO_INITIALS and is_spoken_of(tokens, end):
                yield Hit("name", FindingGroup.IDENTIFIER, start, end, self._weights["name-half"], norm)

    def _introduced(self, tokens: Tokens, marks: bytearray) -> Iterator[Hit]:
        """``its me again jimmy rourke``."""
        for found in _INTRODUCED.finditer(tokens.data):
            first, last = found.groups()
            if first not in self._table.first and first not in self._table.first_or_word:
                continue
            start, end = found.start(1), found.end(2)
            if (last in self._table.last or self._is_stranger(last)) and marks.find(1, start, end) < 0:
                norm = tokens.data[start:end].upper()
                yield Hit("name", FindingGroup.IDENTIFIER, start, end, self._weights["name-full"], norm)

    def _small_strangers(self, tokens: Tokens, marks: bytearray) -> Iterator[Hit]:
        """``mr novotnik``, ``add oskari lindholt``: names on no list behind a word that announces them."""
        words = tokens.words
        for index in range(len(words) - 1):
            previous, word = words[index], words[index + 1]
            is_titled = previous in _SMALL_TITLES
            if not is_titled and previous not in _SMALL_SEEN:
                continue
            if len(word) < _SMALLEST or not word.isalpha() or not (previous in _SIRS or self._is_stranger(word)):
                continue
            second = words[index + 2] if index + 2 < len(words) else b""
            if is_titled:
                is_full = second in self._table.last
            elif len(second) >= _SMALLEST and self._is_stranger(second):
                is_full = True
            else:
                continue
            written = b"%b %b" % (word, second) if is_full else word
            before = tokens.padded.find(b" %b %b " % (previous, written))
            start = before + len(previous) + 1
            end = start + len(written)
            if before >= 0 and tokens.data[start] not in _CAPITALS and marks.find(1, start, end) < 0:
                weight = self._weights["name-title" if is_titled else "name-half"]
                yield Hit("name", FindingGroup.IDENTIFIER, start, end, weight, tokens.data[start:end].upper())

    def _is_stranger(self, word: bytes) -> bool:
        return word.isalpha() and self.kind_of(word) > 1

    def _is_word(self, word: bytes) -> bool:
        return word in self._words

    def weight_of(self, hit: Hit, tokens: Tokens) -> float:
        """The weight of a full name of which a list has but a part, by what stands around it."""
        if not self.is_person(hit.norm):
            return 0.0
        return self._weights.get(likeness(tokens, hit.start, hit.end, 2), 0.0)

    def find(self, tokens: Tokens, health: Sequence[Hit], marks: bytearray) -> Iterator[Hit]:
        """Persons near health context, where nothing else was found.

        Args:
            tokens: the text.
            health: where it speaks of health, in order.
            marks: of each character, whether something was found there.
        """
        data = tokens.data
        runs = _runs(data)
        found = 0
        for start, end in _near(health, len(data)):
            for run in runs(start, end):
                if marks.find(1, *run.span()) < 0 and may_be(tokens, run) and (hit := self._judged(tokens, run)):
                    yield hit
                    found += 1
                    if found == _MOST:
                        return

    def _judged(self, tokens: Tokens, run: "re.Match[bytes]") -> Hit | None:
        span = self._name(tokens, run)
        if span is None:
            return None
        start, end, size = span
        is_like = likeness(tokens, start, end, size)
        if not is_like or (not is_like.startswith("name-patient") and is_foreign(tokens)):
            return None
        norm = tokens.data[start:end].upper()
        if is_like == "name-first-spoken-of" and len(tokens.words) <= _SHORT:
            is_like = "name-first-in-short"
        return Hit("name", FindingGroup.IDENTIFIER, start, end, self._weights[is_like], norm)

    def _name(self, tokens: Tokens, run: "re.Match[bytes]") -> tuple[int, int, int] | None:
        """Where a run may be a name, without the words of every day at its ends, and of how many words."""
        data, lower = tokens.data, tokens.lower
        if data[run.end() : run.end() + 1] == b"," and data.find(b", ", *run.span()) > 0:
            return None  # HTML, CSS, ...
        spans = [part.span() for part in _PART.finditer(data, *run.span())]
        kinds = self._kinds(tokens, spans)
        while kinds and (not kinds[0] or lower[slice(*spans[0])] in LEADS):
            del kinds[0], spans[0]
        while kinds and not kinds[-1]:
            del kinds[-1], spans[-1]
        if (
            not kinds
            or max(kinds) < 2
            or not all(kinds)
            or len({lower[first:last] for first, last in spans}) < len(spans)
        ):
            return None
        (start, _), (_, end), size = spans[0], spans[-1], len(spans)
        if data[end : end + 1] == b" " and (last := _INITIAL.match(data, end + 1)):
            end, size = last.end(), size + 1
        if start > run.start() and (first := _INITIAL.match(data, run.start())) and first.end() + 1 == start:
            start, size = run.start(), size + 1
        if size == 1 and data[end : end + 2] == b", " and (single := _INITIAL.match(data, end + 2)):
            return start, single.end(), 2
        if size == 1 and (given := _GIVEN_BEHIND.match(data, end)) and self.kind_of(given[1].lower()):
            if data[start - 1 : start] not in b"\n>":
                return None if data[start - 2 : start] != b": " else (start, given.end(), 2)
            end, size = given.end(), 2
        return start, end, size

    def _kinds(self, tokens: Tokens, spans: Sequence[tuple[int, int]]) -> list[int]:
        """What the words of a run may be, each as :meth:`kind_of` has it, and as they stand."""
        data, lower = tokens.data, tokens.lower
        kinds = [self.kind_of(lower[first:last]) for first, last in spans]
        if len(kinds) > 1 and kinds[0] > 1 and not kinds[1] and data[spans[0][1] : spans[0][1] + 2] == b", ":
            kinds[1] = int(lower[slice(*spans[1])] not in self._table.nobody)  # BEGONIAZ, MARIDELA
        for number, (first, _) in enumerate(spans[1:], 1):
            if data[first - 1] in _QUOTES:
                kinds[number] = max(kinds[number], 1)  # Bartholomew "Bat" Ferrone
        return kinds

    def is_listed(self, word: bytes) -> bool:
        """Whether a word, in lower case, is on a list of names and is no other word."""
        return word in self._table.first or word in self._table.last

    def kind_of(self, word: bytes) -> int:
        """0: no name; 1: a name that is also a word; 2: a name on a list, or no word at all. In lower case."""
        table = self._table
        if word in table.nobody:
            return 0
        if word in _PARTICLES:
            return 1
        if word in table.first or word in table.last:
            return 2
        if word in table.first_or_word or word in table.last_or_word:
            return 1
        if b"-" not in word:
            return 0 if word in self._words else 2
        parts = word.split(b"-")
        return 0 if not table.nobody.isdisjoint(parts) or all(part in self._words for part in parts) else 2


def _runs(data: bytes) -> Callable[[int, int], Iterator["re.Match[bytes]"]]:
    """What finds the runs of capitals between two places, as ``finditer`` does.

    A pattern that begins with one of many asks at each character. Where no letter is beyond ASCII, the places at which
    a run may begin are found as fast as octets are.
    """
    if not data.isascii():
        return partial(_RUN.finditer, data)
    beginnings = b" " + data.translate(_BEGINNINGS)

    def runs(start: int, end: int) -> Iterator["re.Match[bytes]"]:
        place = beginnings.find(b" A", start, end + 1)
        while place >= 0:
            run = _RUN.match(data, place, end)
            if run is not None:
                yield run
            place = beginnings.find(b" A", run.end() if run is not None else place + 1, end + 1)

    return runs


def _near(health: Sequence[Hit], size: int) -> Iterator[tuple[int, int]]:
    """The stretches of a text of this size that lie near to health context, in order."""
    start, end = 0, -1
    for hit in health:
        if hit.start - _REACH > end:
            if end >= 0:
                yield start, end
            start = max(0, hit.start - _REACH)
        end = min(size, max(end, hit.end + _REACH))
    if end >= 0:
        yield start, end
