"""Words that are built as medicine builds them, on no list: ``-itis``, ``-ectomy``, ``-sartan``, ``-mab``."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import re2

from relay.scan.context import DISEASE_ENDINGS, DRUG_ENDINGS, is_disease, is_drug
from relay.scan.everywhere import octet_options
from relay.scan.tokens import Tokens
from relay.scan.way import NATIVE

if NATIVE:
    from relay.scan import _native

_WARM: Final = 4096
_LONGEST: Final = 32
_KINDS: Final = (
    ("condition", re.compile(rb"[a-z]{3,20}(?:" + DISEASE_ENDINGS + rb")\Z"), is_disease),
    ("drug", re.compile(rb"[a-z]{3,14}(?:" + DRUG_ENDINGS + rb")\Z"), is_drug),
)


def _letters() -> bytes:
    """Latin-1 octet to a small letter, to ``_`` for what else is part of words in ASCII, or to a space."""
    table = bytearray(b" " * 256)
    for code in range(128):
        char = chr(code)
        if char.isalpha():
            table[code] = ord(char.lower())
        elif char.isalnum() or char == "_":
            table[code] = ord("_")
    return bytes(table)


_LETTERS: Final = _letters()


class EndingFinder:
    """Finds words by their endings, in one pass, of C or of one automaton. Stateless after construction."""

    def __init__(self, *, native: bool = NATIVE) -> None:
        self._ends: Callable[[Any, bytes], Iterable[int]] = self._met
        if native:
            self._ends = _native.Endings((*DISEASE_ENDINGS.split(b"|"), *DRUG_ENDINGS.split(b"|"))).find
        self._endings = re2.compile(rb"[a-z]{3}(?:" + DISEASE_ENDINGS + b"|" + DRUG_ENDINGS + rb")\b", octet_options())

    def warm(self, texts: Iterable[bytes]) -> None:
        """Let the automaton, which grows with what it meets, meet ordinary words before the first message."""
        if self._ends != self._met:
            return
        for text in texts:
            for start in range(0, len(text), _WARM):
                self._endings.search(text[start : start + _WARM])

    def find(self, tokens: Tokens, is_taken: Callable[[int, int], bool]) -> Iterator[tuple[str, int, int, bytes]]:
        """Kind, span and the word, in order; words whose place is taken are known already."""
        data = tokens.data
        for end in self._ends(tokens.words, data):
            if is_taken(end - 1, end):
                continue
            word = data[max(0, end - _LONGEST - 1) : end].translate(_LETTERS).rpartition(b" ")[2]
            if len(word) > _LONGEST or not word.isalpha():
                continue
            for kind, pattern, valid in _KINDS:
                if pattern.match(word) and valid(word):
                    start = end - len(word)
                    if not is_taken(start, end):
                        yield kind, start, end, data[start:end]
                    break

    def _met(self, _words: Sequence[bytes], data: bytes) -> Iterator[int]:
        """Where such words end."""
        return (match.end() for match in self._endings.finditer(data))
