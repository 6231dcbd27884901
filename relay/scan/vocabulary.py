"""The pass over the words of a text: which of them matter where they stand, and why.

There are two ways to the same. :class:`NativeVocabulary` is written in C (``relay/scan/native``): one compact
table, and of hundreds of words only the few that matter become objects. :class:`PlainVocabulary` is the reference, and
what runs where nothing was compiled.
"""

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

from relay.scan.lexicon import Phrase, Phrases
from relay.scan.names import NAMED_UNCAPITALISED
from relay.scan.shapes import PairProbes, WordProbes
from relay.scan.tokens import Tokens
from relay.scan.way import NATIVE

if NATIVE:
    from relay.scan import _native

TERM, SIGN, NAME, PROBES, PAIR = 1, 2, 4, 8, 16
"""Why a word matters, as bits; a phrase apart."""
_KNOWN, _TERM, _SIGN, _NAME, _NAMED, _TOLD, _FREE = (1 << bit for bit in range(7))  # traits, as native.h has them
_PAIR_BEFORE, _PAIR_AFTER = 1, 2
_BESIDE: Final = 5  # numbers that tell a neighbour
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
    """In C."""

    def __init__(self, words: Vocabularies) -> None:
        self.split: Callable[[bytes], Sequence[bytes]] = _native.Words
        self.found: Callable[..., tuple[list[Any], list[Any]]] = _tables(words).found


def _tables(words: Vocabularies) -> "_native.Vocabulary":
    """The table for C: words by number, those that are known first."""
    anchored = words.phrases
    near = {
        word: _beside(known, anchored.get(word, _NO_PHRASES))
        for word, known in words.known.items()
        if word in anchored or known.pairs is not None
    }
    others = set(NAMED_UNCAPITALISED).union(
        *near.values(),
        *(phrase.words for phrases in anchored.values() for side in _sides(phrases) for phrase in side),
    )
    every = (*words.known, *sorted(others - words.known.keys()))
    number = {word: place for place, word in enumerate(every)}
    signs = sorted({bytes(sorted(known.probes.signs)) for known in words.known.values() if known.probes is not None})
    facts, beside, shapes, parts = (array("I") for _ in range(4))
    phrases: list[Phrase] = []
    for word in every:
        first = len(beside) // _BESIDE
        if word in near:
            around = anchored.get(word, _NO_PHRASES)
            for place in sorted(number[other] for other in near.pop(word)):
                before, after = around.before.get(every[place], ()), around.after.get(every[place], ())
                pairs = _paired(words.known[word], every[place])
                beside.extend((place, pairs, len(phrases), len(before), len(after)))
                phrases += [*before, *after]
        facts.extend((*_traits(word, words, signs), first, len(beside) // _BESIDE - first))
    for phrase in phrases:
        shapes.extend((phrase.rank, phrase.before, len(parts), phrase.size))
        parts.extend(map(number.__getitem__, phrase.words))
    values = tuple(map(words.known.get, every))
    told = {term: (term.kind, term.weight, term.sensitive) for term in {phrase.term for phrase in phrases}}
    return _native.Vocabulary(
        every,
        values,
        facts.tobytes(),
        beside.tobytes(),
        shapes.tobytes(),
        parts.tobytes(),
        tuple((phrase.text, told[phrase.term]) for phrase in phrases),
        tuple(signs),
    )


def _sides(phrases: Phrases) -> Iterator[list[Phrase]]:
    yield from phrases.before.values()
    yield from phrases.after.values()


def _paired(known: Known, other: bytes) -> int:
    """On which sides of the other the shapes of a word stand, as bits."""
    if known.pairs is None:
        return 0
    return (_PAIR_BEFORE if other in known.pairs.before else 0) | (_PAIR_AFTER if other in known.pairs.after else 0)


def _traits(word: bytes, words: Vocabularies, signs: Sequence[bytes]) -> tuple[int, int, int, int]:
    """What a word is, as bits; how far before and behind it a digit must stand; which of the sets of signs it has."""
    traits = _NAMED if word in NAMED_UNCAPITALISED else 0
    known = words.known.get(word)
    if known is None:
        return traits, 0, 0, 0
    traits |= _KNOWN
    traits |= _TERM if known.term is not None else 0
    traits |= _SIGN if word in words.signs else 0
    traits |= _NAME if word in words.names else 0
    probes = known.probes
    if probes is None:
        return traits, 0, 0, 0
    traits |= (_TOLD if probes.told else 0) | (_FREE if probes.free else 0)
    return traits, probes.near, probes.far, signs.index(bytes(sorted(probes.signs))) + 1 if probes.signed else 0
