"""Calendar entries (iCalendar, RFC 5545) and contacts (vCard, RFC 6350) as a reader sees them."""

import binascii
import re
from collections.abc import Iterator
from typing import Final

from relay.mail.html import html_to_text
from relay.mail.transfer import decode_transfer

_BEGIN: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,8}BEGIN:VC(?:ALENDAR|ARD)\s", re.IGNORECASE)
_FOLD: Final = re.compile(r"\r?\n[ \t]")
_SOFT: Final = re.compile(r"=\r?\n")
_ESCAPED: Final = re.compile(r"\\([nN,;\\])")
_LINE: Final = re.compile(r"((?:[^\r\n:\"]|\"[^\"\r\n]*\")*+):([^\r\n]*)")
_QUOTED_PRINTABLE: Final = "QUOTED-PRINTABLE"
_BASE64: Final = re.compile(r";(?:ENCODING=)?(?:B|BASE64)(?:;|\Z)", re.IGNORECASE)
_NAME: Final = re.compile(r";(?:X-)?FILENAME=\"?([^\";]*)", re.IGNORECASE)
_PORTRAITS: Final = ("PHOTO", "LOGO", "SOUND", "KEY")
"""Properties of a contact that hold no document (RFC 6350 sections 6.2.4, 6.6.3, 6.7.5, 6.8.1)."""
_MOST: Final = 100


def is_card(data: bytes) -> bool:
    """Whether a text is a calendar entry or a contact."""
    return _BEGIN.match(data) is not None


def card_text(text: str) -> str:
    """Its lines, those that were folded put together (RFC 5545 section 3.1), their values as they are shown."""
    return "\n".join(_shown(head, value) for head, value in _lines(text) if not _BASE64.search(head))


def card_files(text: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files in it (RFC 5545 section 3.8.1.1), a hundred at most."""
    found = 0
    for head, value in _lines(text):
        if not _BASE64.search(head) or head.upper().startswith(_PORTRAITS):
            continue
        name = _NAME.search(head)
        found += 1
        if found > _MOST:
            return
        yield name[1] if name else "", decode_transfer(value.encode("ascii", "replace"), "base64")[0]


def _lines(text: str) -> Iterator[tuple[str, str]]:
    if _QUOTED_PRINTABLE in text.upper():
        text = _SOFT.sub("", text)
    for line in _FOLD.sub("", text).splitlines():
        found = _LINE.match(line)
        yield (found[1], found[2]) if found else ("", line)


def _shown(head: str, value: str) -> str:
    parameters = head.upper()
    if _QUOTED_PRINTABLE in parameters:
        value = binascii.a2b_qp(value.encode("utf-8", "replace")).decode("utf-8", "replace")
    value = _ESCAPED.sub(lambda mark: "\n" if mark[1] in "nN" else mark[1], value)
    if "TEXT/HTML" in parameters or parameters.startswith("X-ALT-DESC"):
        value = html_to_text(value)
    return f"{head}: {value}" if head else value
