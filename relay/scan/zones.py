"""Places in mail that speak of nobody's health: legal notices below a message, and the sender's own signature.

Quoted replies are no such place: what somebody wrote of a patient is as much of a patient when it is quoted. Their
lines of attribution are told by the names' roles (:mod:`relay.scan.names`).
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.lexicon import FOLD
from relay.scan.model import Hit

_LEGAL: Final = frozenset(
    b"confidential confidentiality privileged unauthorized unauthorised dissemination intended recipient recipients "
    b"disclosure disclosing prohibited hipaa solely addressee disclaimer copying distribution strictly error notify "
    b"delete encrypted unlawful law legally confidencial confidencialidad destinatario".split()
)
_SIGNS: Final = (b" confidential", b" intended ", b" destinatario ")
_LEGAL_WORDS: Final = 4  # different ones in a paragraph that make it a legal notice
_SIGNATURE: Final = re.compile(
    rb"\n(?:-- ?|[ \t]{0,8}(?:(?:best|kind|kindest|warm|warmest|with|many|respectfully)[ \t])?(?:kind )?(?:regards"
    rb"|sincerely|thanks|thank you|cheers|respectfully|best|yours truly|saludos|atentamente)(?:[ \t]yours)?[ \t]?[,.!]?"
    rb"[ \t]*)(?=\n)",
    re.IGNORECASE,
)
_SIGNATURE_LINES: Final = 10
_LONG_LINE: Final = 90  # characters: prose, no line of a signature
_OF_SENDER: Final = frozenset({"name", "phone", "email", "address", "zip", "facility", "url"})
_IN_NOTICES: Final = frozenset({"care", "phone", "email", "address", "zip", "url"})
_HARDLY: Final = 0.05


def without_boilerplate(hits: Sequence[Hit], data: bytes, padded: bytes) -> list[Hit]:
    """The hits, those of a sender's signature and of legal notices with hardly a weight.

    Args:
        hits: what was found.
        data: the text.
        padded: the same folded, as :class:`~relay.scan.tokens.Tokens` has it.
    """
    groups = {hit.group for hit in hits}
    if FindingGroup.HEALTH not in groups or FindingGroup.IDENTIFIER not in groups:
        return list(hits)
    notices = list(_notices(data, padded))
    signatures = list(_signatures(data))
    if not notices and not signatures:
        return list(hits)
    return [
        hit._replace(weight=min(hit.weight, _HARDLY))
        if (hit.kind in _IN_NOTICES and _inside(hit.start, notices))
        or (hit.kind in _OF_SENDER and _inside(hit.start, signatures))
        else hit
        for hit in hits
    ]


def _inside(place: int, zones: list[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in zones)


def _notices(data: bytes, padded: bytes) -> Iterator[tuple[int, int]]:
    for sign in _SIGNS:
        place = padded.find(sign)
        while place >= 0:
            start = max(0, data.rfind(b"\n\n", 0, place))
            end = data.find(b"\n\n", place)
            end = len(data) if end < 0 else end
            if len(_LEGAL.intersection(data[start:end].translate(FOLD).split())) >= _LEGAL_WORDS:
                yield start, end
            place = padded.find(sign, max(end, place + 1))


def _signatures(data: bytes) -> Iterator[tuple[int, int]]:
    for match in _SIGNATURE.finditer(data):
        start = place = match.end()
        for _ in range(_SIGNATURE_LINES):
            stop = data.find(b"\n", place + 1)
            line = data[place : stop if stop >= 0 else len(data)]
            if len(line) > _LONG_LINE or line.lstrip().startswith(b">"):
                break
            place = stop
            if stop < 0:
                place = len(data)
                break
        yield start, place
