"""Text that a remote server wrote, made fit to be shown: in logs, notices, listings and the audit trail (law 4).

A server may repeat the mailbox, the subject or a line of the message in its answer. What is left here says what kind of
trouble it was; what could point to a patient is replaced by a word in brackets.
"""

import functools
import ipaddress
import re
import unicodedata
from collections.abc import Collection
from typing import Final

LIMIT: Final = 400  # characters that are left of one line
_WITHHELD: Final = "[withheld]"

_URL: Final = re.compile(
    r"\b(https?|ftp)://(?:[^\s/@]{1,200}@)?([^\s/?#@<>\"']{1,253})([^\s<>\"']{0,2000})", re.IGNORECASE
)
_ENCODED_WORD: Final = re.compile(r"=\?[^\s?]{1,60}\?[bBqQ]\?[^?]{0,600}\?=")
_MAILBOX: Final = re.compile(
    r'(?:"[^"]{0,200}"|[^\s<>@,;:()\[\]"]{1,200})(?:@|%40)(\[[^\]\s]{1,60}\]|[A-Za-z0-9\u0080-\U0010ffff][\w.-]{0,253})'
)
_VERP: Final = re.compile(r"[\w.+-]{1,100}=(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,20}\b")
_SUBJECT: Final = re.compile(r"\bsubject\b\s*[:=]?.*", re.IGNORECASE)
_QUOTED: Final = re.compile(
    r"\"[^\"]{0,600}\"|“[^”]{0,600}”|«[^»]{0,600}»|(?<!\w)'[^']{1,600}'(?!\w)|`[^`']{0,600}['`]"
)
_QUOTE: Final = re.compile("[\"“«'`]")
"""What each kind of quotation begins with."""
_TOKEN_SIZE: Final = 40  # characters
_TOKEN: Final = re.compile(rf"[A-Za-z0-9+/=_-]{{{_TOKEN_SIZE},}}")
_NUMBER: Final = re.compile(r"\d(?:[\d().:/ -]{0,40}\d)?")
_MIN_RUN: Final = 5  # digits in one piece: record numbers begin about here
_MIN_TOTAL: Final = 6  # digits with separators: dates of birth, telephone and social security numbers


def scrub(text: str, *, hide: Collection[str] = (), limit: int = LIMIT) -> str:
    """The text without what could name a patient, on one line of at most ``limit`` characters.

    Mailboxes keep their domain; URLs lose userinfo, path and query when they have a query; quotations, subjects,
    encoded words, long numbers and long tokens are replaced; control and formatting characters become spaces.

    Args:
        text: what the server wrote.
        hide: words that are known to be private, such as the recipient's local part; matched without regard to case.
        limit: characters.
    """
    line = _printable(text[: limit * 8])
    # A pattern is asked only where the line has what it cannot match without: most answers are a few plain words.
    if "://" in line:
        line = _URL.sub(_url, line)
    if "=" in line:
        line = _ENCODED_WORD.sub(_WITHHELD, line)
    if "@" in line or "%40" in line:
        line = _MAILBOX.sub(r"[mailbox]@\1", line)
    if "=" in line:
        line = _VERP.sub("[mailbox]", line)
    if not line.isascii() or "subject" in line.lower():  # "\u017f" is an "s" without regard to case
        line = _SUBJECT.sub(f"subject {_WITHHELD}", line)
    if _QUOTE.search(line):
        line = _QUOTED.sub(_WITHHELD, line)
    folded = _folded(line) if hide else ""
    for word in hide:
        if len(word) > 1 and _folded(word) in folded:  # to look is cheaper than to compile a pattern for each word
            line = _hidden(word).sub("[mailbox]", line)
    if len(line) >= _TOKEN_SIZE:
        line = _TOKEN.sub("[token]", line)
    line = _NUMBER.sub(_number, line)
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def _folded(text: str) -> str:
    """The text in a form that is the same for all that a pattern takes for the same without regard to case."""
    return text.lower() if text.isascii() else text.casefold().replace("\u0131", "i").replace("\u0307", "")


@functools.lru_cache(maxsize=4096)
def _hidden(word: str) -> re.Pattern[str]:
    """Kept: a message has as many as it has recipients, each asked of each answer."""
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def _printable(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        text = "".join(" " if unicodedata.category(mark)[0] in "CZ" else mark for mark in text)
    return " ".join(text.split())


def _url(match: re.Match[str]) -> str:
    scheme, host, rest = match.groups()
    return (
        f"{scheme}://{host}/{_WITHHELD}"
        if "?" in rest or "%" in rest or "@" in match[0]
        else f"{scheme}://{host}{rest}"
    )


def _number(match: re.Match[str]) -> str:
    text = match[0]
    digits = sum(mark.isdigit() for mark in text)
    longest = max(len(run) for run in re.findall(r"\d+", text))
    if digits < _MIN_TOTAL and longest < _MIN_RUN:
        return text
    pieces = text.split(" ")
    if len(pieces) > 1:  # "550 5.7.1 203.0.113.9": judge each piece, then whether they are one number written apart
        kept = [_piece(piece) for piece in pieces]
        plain = sum(piece.isdigit() for piece in pieces)
        return " ".join(kept) if plain < 2 else "[number]"
    return _piece(text)


def _piece(text: str) -> str:
    digits = sum(mark.isdigit() for mark in text)
    if digits < _MIN_TOTAL and not re.search(rf"\d{{{_MIN_RUN}}}", text):
        return text
    return text if _is_address(text.strip(".():")) else "[number]"


def _is_address(text: str) -> bool:
    """An IPv4 address, ours or theirs: it names a server, and block lists are spoken of by it."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
