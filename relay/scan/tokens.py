"""One text in the forms that detectors look at, made once: octets, folded words, and where the words stand."""

import codecs
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Final

from relay.scan.lexicon import FOLD
from relay.scan.way import NATIVE

if NATIVE:
    from relay.scan import _native


class _Narrow(dict[int, str]):
    """Characters beyond Latin-1 as one Latin-1 character each, worked out once a character.

    A letter becomes its base letter, or ``x`` in its case when it has none there: the shape of a name or word stays.
    """

    def __missing__(self, code: int) -> str:
        char = chr(code)
        base = unicodedata.normalize("NFD", char)[:1]
        if code < 256:
            narrow = char
        elif base.isascii() and base.isprintable():
            narrow = base
        elif char.isalpha():
            narrow = "X" if char.isupper() else "x"
        else:
            narrow = "?"
        if len(self) < 65_536:
            self[code] = narrow
        return narrow


_NARROW: Final = _Narrow()


def _narrow(error: UnicodeError) -> tuple[bytes, int]:
    """The error handler that writes what Latin-1 cannot as :class:`_Narrow` has it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    run = error.object[error.start : error.end]
    return run.translate(_NARROW).encode("latin-1", "replace"), error.end


codecs.register_error("postern.narrow", _narrow)


class Tokens:
    """A text prepared for the detectors.

    Attributes:
        data: one octet a character, Latin-1, so that a place in it is a place in the text.
        lower: that, its ASCII letters in lower case.
        words: the folded words in order.
        padded: the folded text with a space before and after: a word stands behind the space at its own place.
    """

    __slots__ = ("data", "lower", "padded", "words")

    def __init__(self, text: str, split: Callable[[bytes], Sequence[bytes]] = bytes.split) -> None:
        try:
            self.data = text.encode("latin-1")
        except UnicodeEncodeError:
            self.data = text.encode("latin-1", "postern.narrow")
        self.lower = self.data.lower()
        self.padded = b" %b " % self.data.translate(FOLD)
        self.words = split(self.padded)

    def among(self, some: tuple[bytes, ...]) -> Collection[bytes]:
        """Those of a few words that are in the text."""
        words = self.words
        if NATIVE and isinstance(words, _native.Words):
            return words.among(some)
        return frozenset(some).intersection(words)

    def place(self, word: bytes, start: int) -> int:
        """Where a word that occurs at ``start`` or later begins.

        Places are looked up for the few words that matter: to keep one for each word costs more than all look-ups.
        """
        return self.padded.find(b" %b " % word, start)

    def place_before(self, word: bytes, end: int) -> int:
        """Where the last word of its kind before ``end`` begins."""
        return self.padded.rfind(b" %b " % word, 0, end + 1)

    def gap(self, place: int, most: int) -> int:
        """How many separators stand before a place, counted up to one more than ``most``."""
        before = self.padded[max(0, place - most) : place + 1]
        return len(before) - len(before.rstrip())
