"""HTML to text, as a reader would see it and a little more."""

import html
import re
from typing import Final

from selectolax.lexbor import LexborHTMLParser

from relay.mail.plainhtml import plain_text
from relay.mail.weight import is_light

_BLOCK: Final = re.compile(
    r"<(?=/?(?:p|div|br|tr|li|h[1-6]|table|tbody|thead|ul|ol|dl|dt|dd|hr|blockquote|pre|section|article|header|footer|"
    r"form|fieldset|option|center|body|caption|figure|address|textarea|text|button|title)\b)",
    re.IGNORECASE,
)
_CELL: Final = re.compile(r"<(?=/?t[dh]\b)", re.IGNORECASE)
_DROPPED: Final = ["script", "style", "template", "noembed"]
_SPOKEN: Final = re.compile(r"\b(?:alt|title|value|placeholder|aria-label|content)\s*=", re.IGNORECASE)
_ATTRIBUTES: Final = ("alt", "title", "value", "aria-label")
_HEAVY: Final = 4_000_000
"""Start tags times tags of nested HTML above which no parser sees it: about 20 ms of an event loop."""
_TAG: Final = re.compile(r"<[^<>]*+>")
_VALUE: Final = re.compile(
    r"""\b(?:alt|title|value|aria-label)\s*+=\s*+(?:"([^"<>]*+)"|'([^'<>]*+)'|([^\s"'<>]++))""", re.IGNORECASE
)


def html_to_text(source: str) -> str:
    """Text of an HTML document: entities resolved, inline tags removed without a gap, scripts and styles dropped.

    Blocks begin lines and cells end with a tab, so that a label finds its value in the next cell or the cell below.
    Text that is styled invisible is kept: it travels all the same. Of attributes, those that are shown or spoken
    (``alt``, ``title``, ``value``, ``aria-label``) follow at the end, one a line. Never raises.

    What is plainly well formed needs no parser. Parsers take the square of the depth of nesting: what else is nested
    beyond all sense only has its tags taken out, and its scripts and comments stay in the text.
    """
    spaced = source.replace("\t", " ").replace("\n", " ").replace("\r", " ")  # a third of what str.translate takes
    if (text := plain_text(spaced)) is not None:
        return text  # it has no element in which white space tells
    if "<pre" not in source:
        source = spaced
    marked = _CELL.sub("\t<", _BLOCK.sub("\n<", source))
    if not is_light(source, work=_HEAVY):
        return _bare(marked)
    tree = LexborHTMLParser(marked)
    tree.strip_tags(_DROPPED, recursive=True)
    root = tree.root
    text = root.text(deep=True, separator="", strip=False) if root is not None else ""
    if _SPOKEN.search(source):
        spoken = [
            value
            for node in tree.css("[alt],[title],[value],[aria-label]")
            for name in _ATTRIBUTES
            if (value := node.attributes.get(name))
        ]
        if spoken:
            text = "\n".join([text, *spoken])
    return text


def _bare(marked: str) -> str:
    """Text without tags, in one pass."""
    spoken = [html.unescape(next(filter(None, found), "")) for found in _VALUE.findall(marked)]
    return "\n".join([html.unescape(_TAG.sub("", marked)), *filter(None, spoken)])
