"""What it would cost to take a message's parts apart, known before it is done (law 6)."""

from email.policy import Compat32
from typing import Any, Final

_CHEAP: Final = 100_000
"""What is not worth counting more closely."""
_PARAMETERS: Final = 64
_PARAMETERIZED: Final = frozenset({"content-type", "content-disposition"})


class _Bounded(Compat32):
    def header_fetch_parse(self, name: str, value: str) -> Any:
        if name.lower() in _PARAMETERIZED and has_many_parameters(value):
            value = ";".join(value.split(";", _PARAMETERS)[:_PARAMETERS])
        return super().header_fetch_parse(name, value)


BOUNDED: Final = _Bounded()
"""As ``email.policy.compat32``, but of a content type or disposition the first 64 parameters are seen.

The standard library looks through all of a value again for each semicolon in it: 60 KB of them take it half a minute.
"""


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


def has_many_parameters(value: str) -> bool:
    """Whether :data:`BOUNDED` sees only the beginning of a content type or disposition."""
    return value.count(";") > _PARAMETERS
