"""Words and phrases, looked up by hash: a pass over a message costs the same for ten terms or a hundred thousand."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

from relay.scan.model import Term

_CHOICE: Final = re.compile(r"\{([^}]*)\}")
COMMON: Final = frozenset(
    b"a an and are as at be been but by can do for from had has have having he her his i if in into is it its last "
    b"may me my no not of on or our out she so some than that the their then there they this to up us was we were "
    b"what when which who will with within would you your after back called date full years report results seen "
    b"service services start stop test three visit white again all along another anything approved both call calling "
    b"cannot come contact daily done everything fax find found form get go going help here him himself home how "
    b"independent information instructions keep left list lost machine make many more much need needed needs new "
    b"number off old one only open orders other over own per person phone put program rate removal removed right "
    b"said same says see send sent set should six something soon step still take tell time today told total transfer "
    b"two under use used video want way week weeks well won work add access analysis application behind body days "
    b"fast language lift output problems red second yellow monkey also any because before could day did even first "
    b"give given good got great hold just know let like long look made mail month months most move must name next "
    b"night office once part past people place please point read reply room run school since small such sure thanks "
    b"them these thing things those through too until very wait where while why without word year five four eight "
    b"ten twelve seven 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 34 "
    b"35 36 37 38 39 40 41 50 60 70 80 100 200 400 s t h n d c l r x w b e f g j k m o p q u v y z face line hours "
    b"release double assistance review took bad several additional exchange air thoughts period ask permanent sub "
    b"clean patch benefits goal script path lead child front turned close feel food eat placed monitor payment "
    b"supplies key big change plan state free level levels score ready final".split()
)  # words that stand in most texts: a phrase is better looked for by another of its words
COMMONEST: Final = {word: rank for rank, word in enumerate(b"the to and of a in is for it with you your was".split())}
"""Those that stand in nearly every sentence, the commonest first."""
_PAIR: Final = 2  # words: an anchor and the one beside it, which was looked up
Window = tuple[int, int]
"""How many words before its anchor a phrase begins, and how many it has."""


def _fold() -> bytes:
    """Latin-1 byte to what words are compared in: lower case without accents; all else a space."""
    accents = {
        "a": "àáâãäåÀÁÂÃÄÅ", "c": "çÇ", "e": "èéêëÈÉÊË", "i": "ìíîïÌÍÎÏ", "n": "ñÑ", "o": "òóôõöøÒÓÔÕÖØ",
        "u": "ùúûüÙÚÛÜ", "y": "ýÿÝ", "s": "ß", "d": "ðÐ", "t": "þÞ",
    }  # fmt: skip
    table = bytearray(b" " * 256)
    for code in range(128):
        if chr(code).isalnum():
            table[code] = ord(chr(code).lower())
    for letter, variants in accents.items():
        for variant in variants:
            table[ord(variant)] = ord(letter)
    return bytes(table)


FOLD: Final = _fold()
"""For :meth:`bytes.translate`: one byte a character before and after, so that places stay true."""


def words_of(text: str) -> list[bytes]:
    """The folded words of a term or text."""
    return text.encode("latin-1", "replace").translate(FOLD).split()


class Phrase(NamedTuple):
    """A term of several words. There are tens of thousands: what few texts ask for is worked out then.

    Attributes:
        rank: of several around one anchor the one of the lowest rank counts; the longer, the lower.
        before: how many words before its anchor it begins.
        size: how many words it has.
        text: them, a space between each.
        term: what it says.
    """

    rank: int
    before: int
    size: int
    text: bytes
    term: Term

    @property
    def words(self) -> list[bytes]:
        """The words."""
        return self.text.split()

    @property
    def padded(self) -> bytes:
        """The text with a space before and after."""
        return b" %b " % self.text

    @property
    def shift(self) -> int:
        """How many octets before its anchor it begins where it is written with single spaces."""
        return sum([len(word) + 1 for word in self.words[: self.before]])


class Phrases:
    """The phrases that have one word as their anchor.

    Attributes:
        before: by the word before the anchor, those that have one, by rank.
        after: by the word after it, the others.
    """

    __slots__ = ("after", "before")

    def __init__(self, anchored: Iterable[tuple[Window, tuple[bytes, ...], Term]]) -> None:
        found = list(anchored)
        ranks = {
            window: rank for rank, window in enumerate(sorted({window for window, *_ in found}, key=_longest_first))
        }
        self.before: dict[bytes, list[Phrase]] = {}
        self.after: dict[bytes, list[Phrase]] = {}
        for window, words, term in sorted(found, key=lambda item: ranks[item[0]]):
            place = window[0]
            phrase = Phrase(ranks[window], place, len(words), b" ".join(words), term)
            if place:
                self.before.setdefault(words[place - 1], []).append(phrase)
            else:
                self.after.setdefault(words[1], []).append(phrase)

    def around(self, words: list[bytes], index: int) -> Phrase | None:
        """The longest phrase around the word at ``index``. The list ends with an empty word."""
        found = None
        for phrase in self.before.get(words[index - 1], ()):
            first = index - phrase.before
            if phrase.size == _PAIR or (first >= 0 and b" ".join(words[first : first + phrase.size]) == phrase.text):
                found = phrase
                break
        for phrase in self.after.get(words[index + 1], ()):
            if found is not None and found.rank < phrase.rank:
                break
            if phrase.size == _PAIR or b" ".join(words[index : index + phrase.size]) == phrase.text:
                return phrase
        return found


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Terms by word.

    Attributes:
        singles: one-word terms.
        phrases: terms of several words.
        anchored: a word to the phrases that have it as their anchor: the longest word that is not common, as it is met
            less often in ordinary text than the first ("shortness of breath", "as needed").
        vocabulary: every word that is a term or an anchor.
    """

    singles: Mapping[bytes, Term]
    phrases: Mapping[tuple[bytes, ...], Term]
    anchored: Mapping[bytes, Phrases]
    vocabulary: frozenset[bytes]

    def tuned(
        self, terms: Iterable[tuple[tuple[bytes, ...], Term]], excluded: frozenset[tuple[bytes, ...]]
    ) -> "Lexicon":
        """With terms added and others taken out; a term added wins over the same one shipped."""
        every: dict[tuple[bytes, ...], Term] = {(word,): term for word, term in self.singles.items()}
        every |= self.phrases
        every |= dict(terms)
        return self.of({words: term for words, term in every.items() if words not in excluded})

    @classmethod
    def of(cls, terms: Mapping[tuple[bytes, ...], Term]) -> "Lexicon":
        """From terms by their folded words."""
        singles = {words[0]: term for words, term in terms.items() if len(words) == 1}
        phrases = {words: term for words, term in terms.items() if len(words) > 1}
        anchored: dict[bytes, list[tuple[Window, tuple[bytes, ...], Term]]] = {}
        for words, term in phrases.items():
            anchor = anchor_of(words)
            anchored.setdefault(anchor, []).append(((words.index(anchor), len(words)), words, term))
        by_anchor = {word: Phrases(found) for word, found in anchored.items()}
        return cls(singles, phrases, by_anchor, frozenset(singles) | frozenset(by_anchor))

    @classmethod
    def parse(cls, sources: Iterable[str], levels: Mapping[str, float]) -> "Lexicon":
        """Read lexicon files.

        A line that begins with ``@`` sets kind, level and sensitive for the terms below it, set off by commas;
        ``{a|b} c`` stands for both; ``#`` begins a comment.

        Raises:
            ValueError: a term before its ``@`` line, or an unknown level.
        """
        terms: dict[tuple[bytes, ...], Term] = {}
        once: dict[bytes, bytes] = {}  # each word is kept once, in however many terms it stands
        for source in sources:
            term: Term | None = None
            for line in source.splitlines():
                if not line or line.startswith("#"):
                    continue
                if line.startswith("@"):
                    term = _attributes(line[1:], levels)
                    continue
                if term is None:
                    raise ValueError("a lexicon lists terms before it says what they are")
                terms |= {
                    tuple(once.setdefault(word, word) for word in words_of(entry)): term for entry in _expand(line)
                }
        return cls.of(terms)


def anchor_of(words: tuple[bytes, ...]) -> bytes:
    """The word of a phrase by which it is looked for: the longest that is not common."""
    return max(words, key=_rareness)


def _rareness(word: bytes) -> tuple[bool, int, int]:
    return word not in COMMON, COMMONEST.get(word, len(COMMONEST)), len(word)


def _longest_first(window: Window) -> int:
    return -window[1]


def _expand(line: str) -> Iterator[str]:
    """The terms of a line; ``{a|b} {c|d}`` stands for every combination."""
    for entry in line.split(","):
        parts = _CHOICE.split(entry)
        choices = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
        yield from ("".join(chosen) for chosen in product(*choices))


def _attributes(line: str, levels: Mapping[str, float]) -> Term:
    values = dict(item.split("=", 1) for item in line.split())
    level = values.get("level", "")
    if level not in levels or "kind" not in values:
        raise ValueError(f"a lexicon names no kind, or a level that the weights file lacks: {level}")
    return Term(kind=values["kind"], weight=levels[level], sensitive=values.get("sensitive", ""))
