"""Whether HTML can be parsed in the time that it deserves.

Parsers that follow the standard take the product of how deep elements are nested and how many tags there are: a quarter
of a megabyte of ``<font size=N>`` costs ten seconds. So the depth is bounded before a parser sees the text. Only where
each token is plainly well formed is an end tag believed to end something; else every start tag counts as one deeper.
"""

import re
from collections.abc import Iterator
from typing import Final

_NAME: Final = r"[a-zA-Z][a-zA-Z0-9:_-]*+"
# (?>X*), not X*+: before 3.11.5 Python's possessive repetition fails where X itself has a choice (gh-106052).
_ATTRIBUTE: Final = r"""[^\s"'<>/=]++(?>(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s"'<>=`]++))?)"""
_ATTRIBUTES: Final = rf"(?>(?:\s++{_ATTRIBUTE})*)"
TAG: Final = re.compile(rf"(?P<slash>/?)(?P<name>{_NAME}){_ATTRIBUTES}\s*+/?")
"""A well-formed tag between its angle brackets."""
_TOKEN: Final = re.compile(
    rf"""
    [^<]++
    | <!--(?!-?>)(?>(?:[^-]|-(?!-))*)-->
    | <![^<>-][^<>]*+>
    | <\?[^<>]*+>
    | <(?P<raw>style|title)\b{_ATTRIBUTES}\s*+>(?>(?:[^<]|<(?!/(?P=raw)))*)</(?P=raw)\s*+>
    | <(?P<slash>/?)(?P<name>{_NAME}){_ATTRIBUTES}\s*+/?>
    | <(?=[\s\d=])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_START: Final = re.compile(r"<[a-zA-Z]([a-zA-Z0-9]*)")
_FLAT: Final = frozenset(
    ("area", "base", "br", "col", "embed", "frame", "hr", "img", "input", "link", "meta", "option", "p", "param",
     "source", "tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr")
)  # fmt: skip
"""Elements that hold nothing, that end where the next begins, or that stand in another which counts.

``li``, ``dd`` and ``dt`` are not among them: one of them keeps the next from ending another before it."""
FOREIGN: Final = frozenset(
    ("iframe", "math", "noembed", "noframes", "noscript", "plaintext", "script", "select", "style", "svg",
     "template", "textarea", "title", "xmp")
)  # fmt: skip
"""Elements inside which other rules of parsing hold, unless they were matched whole."""


def is_light(source: str, *, depth: int = 256, work: int = 10_000_000) -> bool:
    """Whether parsing takes about a second at most.

    Args:
        source: HTML.
        depth: how deep elements of well-formed HTML may be nested; newsletters reach about 60.
        work: of HTML that is not: start tags times tags.
    """
    tags = source.count("<")
    if tags * tags <= work:
        return True
    plain = _plain_tokens(source)
    if plain is not None:
        return _depth(plain) <= depth
    return sum(1 for _ in _START.finditer(source)) * tags <= work


def _plain_tokens(source: str) -> list[tuple[bool, str]] | None:
    """(is an end tag, name) of each tag; ``None`` when a token is not plainly well formed."""
    tags: list[tuple[bool, str]] = []
    at = 0
    while at < len(source):
        token = _TOKEN.match(source, at)
        if token is None:
            return None
        at = token.end()
        name = (token["name"] or "").lower()
        if name in FOREIGN:
            return None
        if name:
            tags.append((bool(token["slash"]), name))
    return tags


def _depth(tags: list[tuple[bool, str]]) -> int:
    """How deep elements are nested, or more.

    An end tag takes away only what a start tag of its name has brought. What keeps an end tag from its element, as a
    table or an object does, is an element that counts itself.
    """
    held: dict[str, int] = {}
    depth = most = 0
    for is_end, name in _counting(tags):
        if not is_end:
            held[name] = held.get(name, 0) + 1
            depth += 1
            most = max(most, depth)
        elif held.get(name):
            held[name] -= 1
            depth -= 1
    return most


def _counting(tags: list[tuple[bool, str]]) -> Iterator[tuple[bool, str]]:
    return (tag for tag in tags if tag[1] not in _FLAT)
