"""The text of HTML that is plainly well formed, which needs no parser: almost all mail is, and repeats its tags."""

import html
import re
from itertools import compress
from typing import Final, NamedTuple

from relay.core.markup import cut
from relay.core.octets import holds
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
_NUL: Final = "\0"
_NOTHING: Final = "!"
"""The declaration that stands in the place of a comment, between its angle brackets."""
_DECLARATION: Final = re.compile(r"!|[!?][^-][^<>]*+")
_SPOKEN: Final = re.compile(
    r"""(?<=\s)(?:alt|title|value|aria-label)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]++))""", re.IGNORECASE
)


class _Run(NamedTuple):
    """What a tag, or a run of tags, means.

    Attributes:
        mark: stands in the text for it.
        spoken: values of attributes that are shown or spoken.
        raw: the tag's name where it is a style's or title's, an end tag's with a slash before it.
        is_nothing: whether it is where comments were.
    """

    mark: str = ""
    spoken: tuple[str, ...] = ()
    raw: str = ""
    is_nothing: bool = False


def plain_text(source: str) -> str | None:
    """As ``html_to_text``, in the order of the source; ``None`` where only a parser can tell what is text.

    Each ``<`` must begin a well-formed tag, a declaration or a comment, and no element may have rules of parsing of its
    own. Then each distinct run of tags is looked at once: a table has few, and as many rows as you like.
    """
    if _NUL in source:
        return None
    comments: list[str] = []
    if holds(source, "<!--"):
        if source.rfind("<!--") > source.rfind("-->"):
            return None  # a comment without an end: each that begins would be looked for to the end of the text
        comments = _COMMENT.findall(source)
        if any("--!>" in comment for comment in comments):
            return None  # that ends one too
        source = _COMMENT.sub(f"<{_NOTHING}>", source)
    if source.rfind("<") > source.rfind(">"):
        return None  # a tag without an end: as with comments
    found = cut(source)
    runs = _read_all(found.runs) if found is not None else None
    if found is None or runs is None:
        return None
    in_style = not any("</style" in comment.lower() for comment in comments)
    dropped = _styles(found.order, runs, comments=in_style)
    if dropped is None:
        return None
    is_coded = "&" in source  # an entity ends where a tag begins, also one that leaves nothing
    text = found.joined([run.mark or (_NUL if is_coded else "") for run in runs], dropped)
    if is_coded:
        text = html.unescape(text).replace(_NUL, "")
    speaking = {number: run.spoken for number, run in enumerate(runs) if run.spoken}
    spoken = [value for number in found.order for value in speaking.get(number, ())] if speaking else []
    return "\n".join([text, *spoken])


def _read_all(texts: list[str]) -> list[_Run] | None:
    """What runs of tags mean; ``None`` as for one."""
    runs: list[_Run] = []
    tags: dict[str, _Run] = {}
    for text in texts:
        if (run := _read_run(text, tags)) is None:
            return None
        runs.append(run)
    return runs


def _read_run(run: str, tags: dict[str, _Run]) -> _Run | None:
    """A run of tags, those known already among ``tags``; ``None``: one of them only a parser can read."""
    marks: list[str] = []
    spoken: list[str] = []
    raw, is_nothing = "", True
    for piece in run.split("<")[1:]:
        text, end, space = piece.partition(">")
        tag = tags.get(text) or _read_tag(text)
        if not end or tag is None:
            return None
        tags[text] = tag
        marks += (tag.mark, space)
        spoken += tag.spoken
        raw, is_nothing = tag.raw or raw, is_nothing and tag.is_nothing
    return _Run(mark="".join(marks), spoken=tuple(spoken), raw=raw, is_nothing=is_nothing)


def _read_tag(text: str) -> _Run | None:
    """A tag between its angle brackets; ``None``: it is not well formed, or its element has rules of its own."""
    if text[:1] in {"!", "?"}:
        return _Run(is_nothing=text == _NOTHING) if _DECLARATION.fullmatch(text) else None
    found = TAG.fullmatch(text)
    if found is None or (name := found["name"].lower()) in _OTHERWISE:
        return None
    values = () if found["slash"] or "=" not in text else (next(filter(None, one), "") for one in _SPOKEN.findall(text))
    return _Run(
        mark="\n" if name in _BLOCKS else "\t" if name in _CELLS else "",
        spoken=tuple(html.unescape(value) for value in values if value),
        raw=found["slash"] + name if name in _RAW else "",
    )


def _styles(order: list[int], runs: list[_Run], *, comments: bool) -> list[int] | None:
    """The runs behind which a style's content stands; ``None``: a style or a title has no end, or a tag in it.

    Args:
        order: of each run in the text which one it is.
        runs: what each different one means.
        comments: whether what looks like a comment may stand in a style: none of them has its end in it.
    """
    raw = {number for number, run in enumerate(runs) if run.raw}
    dropped: list[int] = []
    places = compress(range(len(order)), map(raw.__contains__, order)) if raw else iter(())
    for place in places:
        name, end = runs[order[place]].raw, place + 1
        while comments and name == "style" and end < len(order) and runs[order[end]].is_nothing:
            end += 1
        if next(places, None) != end or runs[order[end]].raw != f"/{name}":
            return None
        if name == "style":
            dropped += range(place, end)
    return dropped
