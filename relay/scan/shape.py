"""What a shape is: where it can occur at all, the exact pattern there, and what judges its value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.validate import Validator

ANY: Final[frozenset[bytes]] = frozenset()
"""For :attr:`Shape.words`: whatever word comes next."""
SIGN: Final = frozenset({b""})
"""For :attr:`Shape.words`: no word will do, the sign must follow."""


def after_any(words: bytes) -> dict[bytes, frozenset[bytes]]:
    """Anchor words, set off by spaces, after which anything may come."""
    return dict.fromkeys(words.split(), ANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One shape of an identifier or code, over Latin-1 octets, case-insensitive.

    A search of a whole text for each shape would cost more than all else. So a shape names its anchors: places that
    every match touches and that are found in passing. Only around them is the pattern tried. A shape without anchors
    (an operator's own) is searched for everywhere, by RE2, which takes linear time whatever the pattern.

    Attributes:
        kind: the finding's kind, and its entry in the weights file.
        regex: group 1 is the value. With anchors it is tried on ``before`` and ``after`` characters at most.
        group: what it is evidence of.
        valid: judges the value.
        refine: the kind by what stands before the value, given the text before it and the value; empty for none.
        sensitive: the specially protected kind, or empty.
        words: folded words that anchor it, each with the words of which one must follow, or :data:`ANY`.
        led: folded words of which one must stand before an anchor word, or none.
        sign: octets of which one may follow an anchor word closely in place of such a word.
        middle: digits in the second of three groups of digits, set off by dashes, dots, slashes or spaces; the last
            digit of the first group anchors it.
        outlines: anchors by outline: digits as ``9``, letters as ``a``, dashes, dots, slashes and spaces as ``-``.
        glued: what stands behind a digit without a space and anchors it, by letters: ``yo`` in ``45yo``.
        stuck: three letters before a digit that anchor it: ``ssn219...``.
        outline: its whole outline, as a pattern that begins with a digit.
        coded: it begins with a letter and a digit, and has a dot behind the third character.
        before: how far before its anchor a match may begin; 0: with the anchor.
        after: how far behind its anchor's beginning a match may end.
        seeks: several may stand behind the anchor, up to ``after``.
        digits: a digit must stand within so many characters before and behind the anchor; (0, 0): need not.
        needs: text that must stand within so many characters before the anchor.
        capital: the word before the anchor begins with a capital letter.
        joint: what must stand right behind the digit that anchors it.
        unbroken: no match goes over a space or a line.
    """

    kind: str
    regex: bytes
    group: FindingGroup = FindingGroup.IDENTIFIER
    valid: Validator = bool
    refine: Callable[[bytes, bytes], str] | None = None
    sensitive: str = ""
    words: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)
    led: frozenset[bytes] = frozenset()
    sign: frozenset[int] = frozenset()
    middle: tuple[int, ...] = ()
    outlines: tuple[bytes, ...] = ()
    glued: tuple[bytes, ...] = ()
    stuck: tuple[bytes, ...] = ()
    outline: bytes = b""
    coded: bool = False
    before: int = 0
    after: int = 120
    seeks: bool = False
    digits: tuple[int, int] = (0, 0)
    needs: tuple[bytes, int] = (b"", 0)
    capital: bool = False
    joint: bytes = b""
    unbroken: bool = False
