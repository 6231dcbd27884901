"""Places in mail that speak of nobody's health: legal notices below a message, and the sender's own signature.

Quoted replies are no such place: what somebody wrote of a patient is as much of a patient when it is quoted. Their
lines of attribution are told by the names' roles (:mod:`relay.scan.names`).
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from relay.scan.lexicon import FOLD
from relay.scan.model import Hit

_LEGAL: Final = frozenset(
    b"confidential confidentiality privileged unauthorized unauthorised dissemination intended recipient recipients "
    b"disclosure disclosing prohibited hipaa solely addressee disclaimer copying distribution strictly error notify "
    b"delete encrypted unlawful law legally confidencial confidencialidad destinatario".split()
)
_NOTICE: Final = frozenset(b"confidential confidentiality intended destinatario".split())
_CLOSING: Final = frozenset(
    b"regards sincerely thanks thank cheers respectfully best yours saludos atentamente".split()
)
MARKS: Final = _NOTICE | _CLOSING
"""Words at which such a place may be; whoever passes over the words gathers where they stand."""
_LEGAL_WORDS: Final = 4  # different ones in a paragraph that make it a legal notice
_CLOSES: Final = re.compile(
    rb"[ \t]{0,8}(?:(?:best|kind|kindest|warm|warmest|with|many|respectfully)[ \t])?(?:kind )?(?:regards|sincerely"
    rb"|thanks|thank you|cheers|respectfully|best|yours truly|saludos|atentamente)(?:[ \t]yours)?[ \t]?[,.!]?[ \t]*",
    re.IGNORECASE,
)
_DASHES: Final = (b"\n-- \n", b"\n--\n")
_SIGNATURE_LINES: Final = 10
_LONG_LINE: Final = 90  # characters: prose, no line of a signature
_OF_SENDER: Final = frozenset({"name", "phone", "email", "address", "zip", "facility", "url"})
_IN_NOTICES: Final = frozenset({"care", "phone", "email", "address", "zip", "url"})
_HARDLY: Final = 0.05


def without_boilerplate(hits: list[Hit], data: bytes, marks: Sequence[tuple[int, bytes]]) -> list[Hit]:
    """The hits, those of a sender's signature and of legal notices with hardly a weight.

    Args:
        hits: what was found.
        data: the text.
        marks: where words of :data:`MARKS` stand, in order.
    """
    notices = list(_notices(data, [place for place, word in marks if word in _NOTICE]))
    signatures = list(_signatures(data, [place for place, word in marks if word in _CLOSING]))
    if not notices and not signatures:
        return hits
    return [
        hit._replace(weight=min(hit.weight, _HARDLY))
        if (hit.kind in _IN_NOTICES and _inside(hit.start, notices))
        or (hit.kind in _OF_SENDER and _inside(hit.start, signatures))
        else hit
        for hit in hits
    ]


def _inside(place: int, zones: list[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in zones)


def _notices(data: bytes, places: list[int]) -> Iterator[tuple[int, int]]:
    end = 0
    for place in places:
        if place < end:
            continue
        start = max(0, data.rfind(b"\n\n", 0, place))
        end = data.find(b"\n\n", place)
        end = len(data) if end < 0 else end
        if len(_LEGAL.intersection(data[start:end].translate(FOLD).split())) >= _LEGAL_WORDS:
            yield start, end


def _signatures(data: bytes, places: list[int]) -> Iterator[tuple[int, int]]:
    for place in places:
        start = data.rfind(b"\n", 0, place) + 1
        end = data.find(b"\n", place)
        if end >= 0 and _CLOSES.fullmatch(data, start, end):
            yield end, _signed_until(data, end)
    for dashes in _DASHES:
        place = data.find(dashes)
        if place >= 0:
            yield place, _signed_until(data, place + len(dashes) - 1)


def _signed_until(data: bytes, place: int) -> int:
    """Where a signature that begins with the line after ``place`` ends."""
    for _ in range(_SIGNATURE_LINES):
        stop = data.find(b"\n", place + 1)
        line = data[place : stop if stop >= 0 else len(data)]
        if len(line) > _LONG_LINE or line.lstrip().startswith(b">"):
            break
        if stop < 0:
            return len(data)
        place = stop
    return place
