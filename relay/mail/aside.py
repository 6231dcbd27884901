"""What HTML shows beside its text: what is for Outlook alone, prompts, documents in attributes, drawn words."""

import base64
import binascii
import html
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from relay.core.octets import holds
from relay.mail.html import html_to_text

_IF: Final = "<!--[if"
_ENDIF: Final = "<![endif]-->"
_VALUE: Final = r"""\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]++))"""
_SPOKEN: Final = re.compile(r"(?<![\w-])(?:placeholder|label|summary)" + _VALUE, re.IGNORECASE)
_DOCUMENT: Final = re.compile(r"(?<![\w-])srcdoc" + _VALUE, re.IGNORECASE)
_DRAWN: Final = re.compile(r"""(?<![\w-])content\s*+:\s*+(?:"([^"]{2,}+)"|'([^']{2,}+)')""", re.IGNORECASE)
_DATA: Final = re.compile(rb"""data:([\w.+/-]{0,80}+)((?:;[\w=.+-]{0,80}+)*+),([^"'\s)>]*+)""", re.IGNORECASE)
_UNSHOWN: Final = (b"font/", b"application/font", b"application/x-font", b"text/css", b"text/javascript")
_MOST: Final = 200
"""Documents in one; the helper's limits hold beside that."""


def aside(source: str) -> Iterator[str]:
    """Texts that a program shows and that are no text of the document's, each at most once more than it is shown.

    Args:
        source: the HTML.
    """
    if holds(source, _IF) and (shown := "\n".join(_conditional(source))):
        yield html_to_text(shown)
    if any(holds(source, name) for name in ("placeholder=", "label=", "summary=")):
        yield from _values(_SPOKEN, source)
    if holds(source, "srcdoc="):
        yield html_to_text("\n".join(_values(_DOCUMENT, source)))
    if holds(source, "content:"):
        yield from (first or second for first, second in _DRAWN.findall(source))


def _values(attribute: re.Pattern[str], source: str) -> Iterator[str]:
    return (html.unescape(next(filter(None, found), "")) for found in attribute.findall(source))


def _conditional(source: str) -> Iterator[str]:
    """What stands in comments that Outlook takes for none: ``<!--[if mso]> ... <![endif]-->``."""
    start, end = source.find(_IF), -1
    while start >= 0:
        if end < start:
            end = source.find(_ENDIF, start)
        if end < 0:
            return
        stop = source.find("-->", start)
        if stop == end + len(_ENDIF) - 3:
            yield source[start:end].partition("]>")[2]
        start = source.find(_IF, stop)


def data_files(source: bytes) -> Iterator[tuple[str, bytes]]:
    """(type, content) of what stands in ``data:`` URLs (RFC 2397), fonts and scripts left out."""
    found = 0
    for kind, parameters, value in _DATA.findall(source) if holds(source, b"data:") else ():
        label = kind.lower()
        if not value or label.startswith(_UNSHOWN):
            continue
        found += 1
        if found > _MOST:
            return
        content = unquote_to_bytes(value)
        if parameters.lower().endswith(b";base64"):
            try:
                content = base64.b64decode(content + b"=" * (-len(content) % 4))
            except binascii.Error:
                content = value
        yield label.decode("ascii") or "text/plain", content
