"""The pass over the words of a text: which of them matter where they stand, and why.

There are two ways to the same. :class:`NativeVocabulary` is written in C (``relay/scan/native``): one compact
table, and of hundreds of words only the few that matter become objects. :class:`PlainVocabulary` is the reference, and
what runs where nothing was compiled.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

from relay.scan.compiled import WORDS
from relay.scan.lexicon import FOLD, Phrase, Phrases, words_of
from relay.scan.names import LABELS, NAMED_UNCAPITALISED
from relay.scan.shapes import PairProbes, ShapeFinder, WordProbes
from relay.scan.tokens import Tokens
from relay.scan.way import NATIVE
from relay.scan.word_tables import WordTables

if NATIVE:
    from relay.scan import _native

TERM, SIGN, NAME, PROBES, PAIR = 1, 2, 4, 8, 16
"""Why a word matters, as bits; a phrase apart."""
_CAPITALS_END: Final = 91
_IS_KNOWN: Final = itemgetter(1)
_NO_PHRASES: Final = Phrases(())


class Known(NamedTuple):
    """What whoever meets a word goes on with.

    Attributes:
        word: the word.
        term: it as a term, told by its kind, weight and specially protected kind.
        probes: the shapes of which it is the anchor whatever stands beside it.
        pairs: the shapes of which it is the anchor beside certain words.
        is_label: whether it is a label of a name.
    """

    word: bytes
    term: tuple[str, float, str] | None
    probes: WordProbes | None
    pairs: PairProbes | None
    is_label: bool


Event = tuple[int, int, int, Known, bytes | None, bytes | None, Phrase | None]
"""Why a word matters, its number, its place, what is known of it, the words before and after, the phrase around it.

The word before the first and after the last is empty; one that no table knows may be None.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabularies:
    """What the words are known for.

    Attributes:
        known: each word that may matter.
        phrases: those of which a word is the anchor.
        signs: heads of tables and marks of zones.
        names: given names and titles.
    """

    known: Mapping[bytes, Known]
    phrases: Mapping[bytes, Phrases]
    signs: Collection[bytes]
    names: Collection[bytes]


class _Word(NamedTuple):
    """What is known of a word: one look-up tells it, and all of it lies together, as it is seldom in a cache.

    Attributes:
        known: what is handed on.
        padded: it with a space before and after.
        size: its length.
        beside: words of which one stands beside it in its phrases and pairs: most anchors stand beside none of those.
        phrases: those of which it is the anchor.
        is_passed: whether it is nothing by itself, only an anchor: without a word of ``beside`` it is passed over.
        is_name: whether it is a name or title.
        why: why it matters wherever it stands.
    """

    known: Known
    padded: bytes
    size: int
    beside: frozenset[bytes]
    phrases: Phrases
    is_passed: bool
    is_name: bool
    why: int


class PlainVocabulary:
    """In Python."""

    def __init__(self, words: Vocabularies) -> None:
        self.split: Callable[[bytes], Sequence[bytes]] = bytes.split
        self._known = {word: _word(word, known, words) for word, known in words.known.items()}.get

    def terms(self, text: str) -> int:
        """How many different words of a text are terms."""
        return sum(
            [known is not None and known.known.term is not None for known in map(self._known, {*words_of(text)})]
        )

    def events(self, tokens: Tokens, limit: int) -> Iterator[Event]:
        """The words that matter, in order, of so many known ones at most."""
        words, padded, data = [*tokens.words, b""], tokens.padded, tokens.data
        after = seen = 0
        known: Iterator[Any] = filter(_IS_KNOWN, enumerate(map(self._known, words)))
        for index, entry in islice(known, limit):
            value, needle, size, beside, phrases, is_passed, is_name, why = entry
            previous, following = words[index - 1], words[index + 1]
            is_near = previous in beside or following in beside
            phrase = phrases.around(words, index) if is_near else None
            if is_near and value.pairs is not None:
                why |= PAIR
            if is_passed:
                if phrase is None and not why:
                    continue
                for _ in range(words[seen:index].count(words[index])):
                    after = padded.find(needle, after) + size  # where it was passed over
            place = padded.find(needle, after)
            after, seen = place + size, index + 1
            if is_name and (data[place] < _CAPITALS_END or previous in NAMED_UNCAPITALISED):
                why |= NAME
            if why or phrase is not None:
                yield why, index, place, value, previous, following, phrase


def _beside(known: Known, phrases: Phrases) -> frozenset[bytes]:
    beside = frozenset(phrases.before) | phrases.after.keys()
    return beside if known.pairs is None else beside | known.pairs.before.keys() | known.pairs.after.keys()


def _word(word: bytes, known: Known, words: Vocabularies) -> _Word:
    phrases, is_name = words.phrases.get(word, _NO_PHRASES), word in words.names
    why = (
        (TERM if known.term is not None else 0)
        | (PROBES if known.probes is not None else 0)
        | (SIGN if word in words.signs else 0)
    )
    return _Word(
        known, b" %b " % word, len(word), _beside(known, phrases), phrases, not why and not is_name, is_name, why
    )


class NativeVocabulary:
    """In C, over tables that are read where they lie. What is handed on is made once a word or phrase is met."""

    def __init__(self, words: WordTables, shapes: ShapeFinder) -> None:
        def known(number: int) -> Known:
            word = words.word(number)
            return Known(word, words.told(number), shapes.words.get(word), shapes.pairs.get(word), word in LABELS)

        table = _native.Vocabulary(len(words.terms), known, words.phrase, *map(words.tables.__getitem__, WORDS))
        self.split: Callable[[bytes], Sequence[bytes]] = _native.Words
        self.found: Callable[..., Any] = table.found
        self._terms = table.terms

    def terms(self, text: str) -> int:
        """How many different words of a text are terms."""
        folded = text.encode("latin-1", "replace").translate(FOLD)
        return len(self._terms(_native.Words(b" %b " % folded), len(folded)))
