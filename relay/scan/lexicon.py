"""Words and phrases, looked up by hash: a pass over a message costs the same for ten terms or a hundred thousand."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

from relay.scan.model import Term

_CHOICE: Final = re.compile(r"\{([^}]*)\}")
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


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Terms by word.

    Attributes:
        singles: one-word terms.
        phrases: terms of several words.
        windows: a word to where the phrases may lie that have it as their anchor, longest first. The anchor is the
            longest word: it is met less often in ordinary text than the first ("shortness of breath", "as needed").
        vocabulary: every word that is a term or an anchor.
    """

    singles: Mapping[bytes, Term]
    phrases: Mapping[tuple[bytes, ...], Term]
    windows: Mapping[bytes, tuple[Window, ...]]
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
        windows: dict[bytes, set[Window]] = {}
        for words in phrases:
            anchor = max(words, key=len)
            windows.setdefault(anchor, set()).add((words.index(anchor), len(words)))
        ordered = {word: tuple(sorted(found, key=_longest_first)) for word, found in windows.items()}
        return cls(singles, phrases, ordered, frozenset(singles) | frozenset(ordered))

    @classmethod
    def parse(cls, sources: Iterable[str], levels: Mapping[str, float]) -> "Lexicon":
        """Read lexicon files.

        A line that begins with ``@`` sets kind, level and sensitive for the terms below it, set off by commas;
        ``{a|b} c`` stands for both; ``#`` begins a comment.

        Raises:
            ValueError: a term before its ``@`` line, or an unknown level.
        """
        terms: dict[tuple[bytes, ...], Term] = {}
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
                terms |= {tuple(words_of(entry)): term for entry in _expand(line)}
        return cls.of(terms)


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
