"""The text of HTML that is plainly well formed, which needs no parser: almost all mail is, and repeats its tags."""

import html
import re
from dataclasses import dataclass
from typing import Final

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
# (?>X*), not X*+: see relay.mail.weight.
_RUN: Final = re.compile(r"(<[^>]*+>(?>(?:\s*+<[^>]*+>)*))")
"""Tags with nothing but white space between them. What is no tag is found when its run is read."""
_APART: Final = re.compile(
    r"(<(?:/?(?:style|title)\b[^>]*+>|[^>]*+>(?>(?:\s*+<(?!/?(?:style|title)\b)[^>]*+>)*)))", re.IGNORECASE
)
"""The same, but a tag of a style or a title stands alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
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
    if source.rfind("<") > source.rfind(">"):
        return None  # a tag without an end: as with comments
    parts = _RUN.split(source)
    runs = _read_all(parts)
    if runs is not None and (mixed := {text for text, run in runs.items() if run.raw}):
        parts = [piece for part in parts for piece in (_APART.split(part)[1:-1] if part in mixed else (part,))]
        runs = _read_all(parts)
    if runs is None:
        return None
    texts, found = parts[::2], parts[1::2]
    in_style = not any("</style" in comment.lower() for comment in comments)
    if not _drop_styles(texts, found, runs, comments=in_style):
        return None
    if "&" in source:
        texts = [html.unescape(text) if "&" in text else text for text in texts]
    parts[::2] = texts
    parts[1::2] = [runs[text].mark for text in found]
    speaking = {text: run.spoken for text, run in runs.items() if run.spoken}
    spoken = [value for text in found if text in speaking for value in speaking[text]] if speaking else []
    return "\n".join(["".join(parts), *spoken])


def _read_all(parts: list[str]) -> dict[str, _Run] | None:
    """The distinct runs, of texts and runs in turn; ``None`` as for one."""
    if "<" in "".join(parts[::2]):
        return None
    runs: dict[str, _Run] = {}
    tags: dict[str, _Run] = {}
    for text in set(parts[1::2]):
        if (run := _read_run(text, tags)) is None:
            return None
        runs[text] = run
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
    values = () if found["slash"] else (next(filter(None, one), "") for one in _SPOKEN.findall(text))
    return _Run(
        mark="\n" if name in _BLOCKS else "\t" if name in _CELLS else "",
        spoken=tuple(html.unescape(value) for value in values if value),
        raw=found["slash"] + name if name in _RAW else "",
    )


def _drop_styles(texts: list[str], found: list[str], runs: dict[str, _Run], *, comments: bool) -> bool:
    """Empty styles of their content; ``False``: a style or a title has no end, or something like a tag in it.

    Args:
        texts: changed in place; the one behind a run has its number and one.
        found: the runs in order.
        runs: what each run means.
        comments: whether what looks like a comment may stand in a style: none of them has its end in it.
    """
    raw = {text for text, run in runs.items() if run.raw}
    if not raw:
        return True
    places = iter([number for number, text in enumerate(found) if text in raw])
    for place in places:
        name, end = runs[found[place]].raw, place + 1
        while comments and name == "style" and end < len(found) and runs[found[end]].is_nothing:
            end += 1
        if next(places, None) != end or runs[found[end]].raw != f"/{name}":
            return False
        if name == "style":
            texts[place + 1 : end + 1] = [""] * (end - place)
    return True
