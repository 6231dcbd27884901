"""What it would cost to take a message's parts apart, known before it is done (law 6)."""

from typing import Final

_CHEAP: Final = 100_000
"""What is not worth counting more closely."""


def labour(content: bytes) -> int:
    """Lines, times the boundaries that each of them may have to be compared with: a million takes half a second.

    The standard library's parser compares each line with the boundaries of all multiparts that are open there. Ordinary
    mail has few, or they are closed soon; a hostile message of 10 MB could keep a processor busy for an hour.

    Args:
        content: as it came over SMTP: lines end in CRLF.
    """
    lines = content.count(b"\n")
    inside = content.count(b"\n--")  # a multipart inside another begins behind such a line
    if lines * inside > _CHEAP:
        inside = min(inside, content.lower().count(b"boundary"))
    return lines * (1 + inside)
