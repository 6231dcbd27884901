"""Header values as people read them: unfolded, RFC 2047 words decoded, stray 8-bit bytes made text."""

import re
from collections.abc import Sequence
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import getaddresses
from typing import Final

from relay.mail.charset import decode

_FOLD: Final = re.compile(r"\r?\n[ \t]?")
_MAX_ENCODED: Final = 65_536  # characters of one header that are decoded; a longer one is taken as it stands


def decode_value(raw: str) -> str:
    """The text of a raw header value (RFC 2047, RFC 6532).

    Never raises: what is not well formed is left as it stands, so that the scan sees it all the same.

    Args:
        raw: the value with folds and undecoded words; stray bytes as surrogate escapes, as the stdlib keeps them.
    """
    value = _FOLD.sub(" ", raw).strip() if "\n" in raw else raw.strip()
    if not value.isascii():
        value = decode(value.encode("utf-8", "surrogateescape"), "")
    if "=?" not in value or len(value) > _MAX_ENCODED:
        return value
    try:
        pieces = decode_header(value)
    except (HeaderParseError, ValueError, LookupError):
        return value
    text = "".join(
        piece if isinstance(piece, str) else decode(piece, charset or "us-ascii") for piece, charset in pieces
    )
    return text if text.strip() else value  # words of which nothing could be decoded stay as they stand


def mailboxes(values: Sequence[str]) -> list[tuple[str, str]]:
    """Display name and address of each mailbox in address headers, as ``email.utils.getaddresses`` reads them.

    Never raises: the standard library goes a step deeper for each comment inside a comment (RFC 5322 section 3.2.2)
    and for each group inside a group; where that is too deep for it, there is no mailbox.
    """
    try:
        return getaddresses(list(values))
    except RecursionError:
        return []
