"""Plain text as a page shows it: flowed lines joined, web addresses made links, all else escaped."""

import re
from typing import Final

from markupsafe import Markup, escape

_QUOTES: Final = re.compile(r">*")
_ADDRESS: Final = re.compile(r"\bhttps?://[^\s<>\"'\u201c\u201d\u2018\u2019]{1,2000}", re.IGNORECASE)
_TRAILING: Final = ".,;:!?)]}"


def unflow(text: str, *, delsp: bool = False) -> str:
    """Join the lines of ``format=flowed`` text (RFC 3676 section 4): a space at the end says that it goes on."""
    out: list[str] = []
    held: list[str] = []  # of one paragraph, joined once: a text may be one of a quarter of a million lines
    held_depth = -1
    for line in text.replace("\r\n", "\n").split("\n"):
        quotes = _QUOTES.match(line)
        depth = quotes.end() if quotes else 0
        content = line[depth:].removeprefix(" ")
        if held_depth >= 0 and depth != held_depth:
            out.append(_quoted("".join(held), held_depth))
            held = []
        goes_on = content.endswith(" ") and content != "-- "  # the line before a signature is never flowed
        held.append(content[:-1] if goes_on and delsp else content)
        held_depth = depth
        if not goes_on:
            out.append(_quoted("".join(held), depth))
            held, held_depth = [], -1
    if held_depth >= 0:
        out.append(_quoted("".join(held), held_depth))
    return "\n".join(out)


def linked(text: str) -> Markup:
    """The text as HTML for an element that keeps white space; ``http`` and ``https`` addresses lead there."""
    out: list[str] = []
    at = 0
    for found in _ADDRESS.finditer(text):
        address = found[0].rstrip(_TRAILING)
        out.append(str(escape(text[at : found.start()])))
        shown = escape(address)
        out.append(f'<a href="{shown}" rel="noopener noreferrer nofollow" target="_blank">{shown}</a>')
        at = found.start() + len(address)
    out.append(str(escape(text[at:])))
    return Markup("".join(out))  # noqa: S704 - each piece was escaped above


def _quoted(line: str, depth: int) -> str:
    return f"{'>' * depth} {line}" if depth else line
