"""Words that are built as medicine builds them, on no list: ``-itis``, ``-ectomy``, ``-sartan``, ``-mab``."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import re2

from relay.scan.context import DISEASE_ENDINGS, DRUG_ENDINGS, is_disease, is_drug
from relay.scan.everywhere import octet_options

_WARM: Final = 4096
_LONGEST: Final = 32
_WORD: Final = re.compile(rb"(?<![A-Za-z0-9_])[A-Za-z]+\Z")
_KINDS: Final = (
    ("condition", re.compile(rb"[a-z]{3,20}(?:" + DISEASE_ENDINGS + rb")\Z", re.IGNORECASE), is_disease),
    ("drug", re.compile(rb"[a-z]{3,14}(?:" + DRUG_ENDINGS + rb")\Z", re.IGNORECASE), is_drug),
)


class EndingFinder:
    """Finds words by their endings, in one pass of one automaton. Stateless after construction."""

    def __init__(self) -> None:
        self._endings = re2.compile(rb"[a-z]{3}(?:" + DISEASE_ENDINGS + b"|" + DRUG_ENDINGS + rb")\b", octet_options())

    def warm(self, texts: Iterable[bytes]) -> None:
        """Let the automaton, which grows with what it meets, meet ordinary words before the first message."""
        for text in texts:
            for start in range(0, len(text), _WARM):
                self._endings.search(text[start : start + _WARM])

    def find(self, data: bytes, marks: bytearray) -> Iterator[tuple[str, int, int, bytes]]:
        """Kind, span and the word, in order; words whose place is marked are known already."""
        for match in self._endings.finditer(data):
            end = match.end()
            if marks[end - 1]:
                continue
            word = _WORD.search(data, max(0, end - _LONGEST), end)
            if word is None:
                continue
            value = word[0]
            for kind, pattern, valid in _KINDS:
                if pattern.match(value) and valid(value):
                    yield kind, word.start(), end, value
                    break
