"""What words tell in a text: terms, phrases and persons, and the words at which more is to be tried."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from relay.core.phi import FindingGroup
from relay.scan.lexicon import Phrase
from relay.scan.model import Hit
from relay.scan.names import NameFinder
from relay.scan.tokens import Tokens
from relay.scan.vocabulary import NAME, PAIR, PROBES, SIGN, Known, NativeVocabulary, PlainVocabulary

_SAID_AGAIN: Final = 25  # words: a term said again so soon adds nothing to any window
_TRIED: Final = PAIR | PROBES | SIGN
_HEALTH: Final = FindingGroup.HEALTH
_new = tuple.__new__  # makes a named tuple without the detour over its signature: there are hundreds in a message


class Tried(NamedTuple):
    """A word at which more is to be tried.

    Attributes:
        why: the bits of :mod:`relay.scan.vocabulary`.
        place: where it stands.
        known: what is known of it.
        previous, following: the words beside it; empty beyond the text, one that no table knows may be None.
    """

    why: int
    place: int
    known: Known
    previous: bytes | None
    following: bytes | None


Told = tuple[list[Hit], list[Tried]]


class TermFinder:
    """Finds what words tell, in C where that is there. Stateless after construction.

    Args:
        words: what words are known for, in C or in Python; what is found is the same.
        names: finds persons.
    """

    def __init__(self, words: NativeVocabulary | PlainVocabulary, names: NameFinder) -> None:
        self._names = names
        self.count = words.terms
        self.split: Callable[[bytes], Sequence[bytes]] = words.split
        self.find: Callable[[Tokens, int], Told]
        if isinstance(words, NativeVocabulary):
            self._found, self.find = words.found, self._native
        else:
            self._events, self.find = words.events, self._listed

    def _native(self, tokens: Tokens, limit: int) -> Told:
        names = self._names
        told: Told = self._found(tokens, tokens.words, tokens.data, limit, Hit, _HEALTH, names.at, names.labelled)
        return told

    def _listed(self, tokens: Tokens, limit: int) -> Told:
        """The hits in order of place, nowhere twice; then where more is to be tried; of so many known words at most."""
        hits: list[Hit] = []
        tried: list[Tried] = []
        said: dict[bytes, int] = {}
        upto = 0
        for why, index, place, known, previous, following, phrase in self._events(tokens, limit):
            if why & _TRIED:
                tried.append(Tried(why, place, known, previous, following))
            if index < upto:
                continue
            word, term = known.word, known.term
            end = place + len(word)
            if phrase is not None:
                _add_phrase(hits, tokens, place, phrase)
                upto = index - phrase.before + phrase.size
            elif term is not None:
                if index - said.get(word, -_SAID_AGAIN) < _SAID_AGAIN:
                    continue
                said[word] = index
                kind, weight, sensitive = term
                hits.append(_new(Hit, (kind, _HEALTH, place, end, weight, word, sensitive)))
                if known.is_label and (name := self._names.labelled(tokens, index, end)):
                    hits.append(name)
                    upto = index + 2
            elif why & NAME:
                name = self._names.at(tokens, index, place)
                if name is not None:
                    _add(hits, name)
                    upto = index + len(tokens.padded[place : name.end + 1].split())
        return hits, tried


def _phrase_hit(tokens: Tokens, place: int, phrase: Phrase) -> Hit:
    """The hit for a phrase whose anchor stands at ``place``."""
    start = place - phrase.shift
    if start >= 0 and tokens.padded.startswith(phrase.padded, start):
        end = start + len(phrase.text)
    else:
        start, end = _spread(tokens, place, phrase)
    term = phrase.term
    return _new(Hit, (term.kind, _HEALTH, start, end, term.weight, phrase.text, term.sensitive))


def _spread(tokens: Tokens, place: int, phrase: Phrase) -> tuple[int, int]:
    """Where a phrase stands between whose words is more than a space."""
    start = place
    for word in reversed(phrase.words[: phrase.before]):
        start = tokens.place_before(word, start)
    for word in phrase.words[phrase.before + 1 :]:
        place = tokens.place(word, place + 1)
    return start, place + len(phrase.words[-1])


def _add_phrase(hits: list[Hit], tokens: Tokens, place: int, phrase: Phrase) -> None:
    """Add the phrase whose anchor stands at ``place``, for its words that stood for themselves until now."""
    hit = _phrase_hit(tokens, place, phrase)
    while hits and hits[-1][2] >= hit[2]:
        hits.pop()
    _add(hits, hit)


def _add(hits: list[Hit], hit: Hit) -> None:
    """Add a hit of several words unless it begins within the one before: ``Garcia, Luis`` where Garcia is known."""
    if not hits or hits[-1][3] <= hit[2]:
        hits.append(hit)
