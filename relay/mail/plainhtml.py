"""The text of HTML that is plainly well formed, which needs no parser: almost all mail is, and repeats its tags."""

import html
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from relay.mail.weight import FOREIGN, TAG

_BLOCKS: Final = frozenset(
    ("p", "div", "br", "tr", "li", "h1", "h2", "h3", "h4", "h5", "h6", "table", "tbody", "thead", "ul", "ol", "dl",
     "dt", "dd", "hr", "blockquote", "section", "article", "header", "footer", "form", "fieldset", "option", "center",
     "body", "caption", "figure", "address", "button", "title")
)  # fmt: skip
_CELLS: Final = frozenset(("td", "th"))
_RAW: Final = frozenset(("style", "title"))
_OTHERWISE: Final = frozenset((*FOREIGN, "frameset", "object", "pre")) - _RAW
"""Elements whose content is read by other rules, or not shown."""
_COMMENT: Final = re.compile(r"<!--(?!-?>).*?-->", re.DOTALL)
_NOTHING: Final = "!"
"""The declaration that stands in the place of a comment, between its angle brackets."""
_DECLARATION: Final = re.compile(r"!|[!?][^-][^<>]*+")
_SPOKEN: Final = re.compile(
    r"""(?<=\s)(?:alt|title|value|aria-label)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]++))""", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tag:
    """What a tag means.

    Attributes:
        name: in lower case, an end tag's with a slash before it; empty of a declaration.
        mark: stands in the text for it.
        spoken: values of attributes that are shown or spoken.
    """

    name: str = ""
    mark: str = ""
    spoken: tuple[str, ...] = ()


_Part: TypeAlias = tuple[str, str, str]
"""What follows a ``<``: a tag, ``>``, and the text after it."""


def plain_text(source: str) -> str | None:
    """As ``html_to_text``, in the order of the source; ``None`` where only a parser can tell what is text.

    Each ``<`` must begin a well-formed tag, a declaration or a comment, and no element may have rules of parsing of its
    own. Then each distinct tag is looked at once.
    """
    if "\0" in source:
        return None
    comments: list[str] = []
    if "<!--" in source:
        if source.rfind("<!--") > source.rfind("-->"):
            return None  # a comment without an end: each that begins would be looked for to the end of the text
        comments = _COMMENT.findall(source)
        if any("--!>" in comment for comment in comments):
            return None  # that ends one too
        source = _COMMENT.sub(f"<{_NOTHING}>", source)
    first, *pieces = source.split("<")
    parts = [piece.partition(">") for piece in pieces]
    tags: dict[str, _Tag] = {}
    for text in {tag for tag, _, _ in parts}:
        if (tag := _read(text)) is None:
            return None
        tags[text] = tag
    in_style = not any("</style" in comment.lower() for comment in comments)
    if not all(end for _, end, _ in parts) or not _drop_styles(parts, tags, comments=in_style):
        return None
    marks = {text: tag.mark for text, tag in tags.items()}
    shown = [first, *[marks[tag] + text for tag, _, text in parts]]
    if "&" in source:
        shown = [html.unescape(piece) if "&" in piece else piece for piece in shown]
    speaking = {text: tag.spoken for text, tag in tags.items() if tag.spoken}
    spoken = [value for tag, _, _ in parts if tag in speaking for value in speaking[tag]] if speaking else []
    return "\n".join(["".join(shown), *spoken])


def _read(text: str) -> _Tag | None:
    """A tag between its angle brackets; ``None``: it is not well formed, or its element has rules of its own."""
    if text[:1] in {"!", "?"}:
        return _Tag() if _DECLARATION.fullmatch(text) else None
    found = TAG.fullmatch(text)
    if found is None or (name := found["name"].lower()) in _OTHERWISE:
        return None
    mark = "\n" if name in _BLOCKS else "\t" if name in _CELLS else ""
    values = () if found["slash"] else (next(filter(None, one), "") for one in _SPOKEN.findall(text))
    return _Tag(name=found["slash"] + name, mark=mark, spoken=tuple(html.unescape(value) for value in values if value))


def _drop_styles(parts: list[_Part], tags: dict[str, _Tag], *, comments: bool) -> bool:
    """Empty styles of their content; ``False``: a style or a title has no end, or something like a tag in it.

    Args:
        parts: changed in place.
        tags: what each tag means.
        comments: whether what looks like a comment may stand in a style: none of them has its end in it.
    """
    raw = {text for text, tag in tags.items() if tag.name.removeprefix("/") in _RAW}
    if not raw:
        return True
    places = iter([number for number, part in enumerate(parts) if part[0] in raw])
    for place in places:
        name, end = tags[parts[place][0]].name, place + 1
        while comments and name == "style" and end < len(parts) and parts[end][0] == _NOTHING:
            end += 1
        if next(places, None) != end or tags[parts[end][0]].name != f"/{name}":
            return False
        if name == "style":
            parts[place:end] = [(tag, close, "") for tag, close, _ in parts[place:end]]
    return True
