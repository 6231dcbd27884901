"""Places in mail that speak of nobody's health: legal notices, the sender's own signature, what reminders always say.

``Please arrive 15 minutes early and bring your insurance card`` tells nothing of anybody; an appointment with a
speciality does. So a reminder's standing words hardly count while nothing near them says what the appointment is for.

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
_NOTICE: Final = frozenset(b"confidential confidentiality intended destinatario".split())
_CLOSING: Final = frozenset(
    b"regards sincerely thanks thank cheers respectfully best yours saludos atentamente".split()
)
_STANDING: Final = frozenset(
    b"reschedule rescheduling cancel cancelling canceling cancellation arrive arrival early minutes bring "
    b"insurance card photo id copay copays copayment paperwork forms reminder remind confirm upcoming scheduled "
    b"notice hours list late fee questions office portal appointment appt llegar temprano traiga tarjeta confirmar "
    b"recordatorio cancelar cita reprogramar minutos antes seguro".split()
)
_REMINDS: Final = frozenset(
    b"reschedule rescheduling appointment appt copay arrive reminder cita recordatorio reprogramar".split()
)
MARKS: Final = _NOTICE | _CLOSING | _REMINDS
"""Words at which such a place may be; whoever passes over the words gathers where they stand."""
_STANDING_WORDS: Final = 4  # different ones in a paragraph that make it a reminder
_SAYS_WHAT_FOR: Final = 600  # characters around a reminder in which nothing may say what the appointment is for
_GENERAL: Final = frozenset({"care", "exam", "age"})
_LEGAL_WORDS: Final = 4  # different ones in a paragraph that make it a legal notice
_CLOSES: Final = re.compile(
    rb"[ \t]{0,8}(?:(?:best|kind|kindest|warm|warmest|with|many|respectfully)[ \t])?(?:kind )?(?:regards|sincerely"
    rb"|thanks|thank you|cheers|respectfully|best|yours truly|saludos|atentamente)(?:[ \t]yours)?[ \t]?[,.!]?[ \t]*",
    re.IGNORECASE,
)
_DASH: Final = b"\n--"
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
    if not marks and _DASH not in data:
        return hits
    notices = list(_paragraphs(data, [place for place, word in marks if word in _NOTICE], _LEGAL, _LEGAL_WORDS))
    signatures = list(_signatures(data, [place for place, word in marks if word in _CLOSING]))
    reminders = list(_reminders(data, [place for place, word in marks if word in _REMINDS], hits))
    if not notices and not signatures and not reminders:
        return hits
    return [
        hit._replace(weight=min(hit.weight, _HARDLY))
        if (hit.kind in _IN_NOTICES and _inside(hit.start, notices))
        or (hit.kind in _OF_SENDER and _inside(hit.start, signatures))
        or (hit.kind in _GENERAL and _inside(hit.start, reminders))
        else hit
        for hit in hits
    ]


def _inside(place: int, zones: list[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in zones)


def _paragraphs(data: bytes, places: list[int], words: frozenset[bytes], least: int) -> Iterator[tuple[int, int]]:
    """The paragraphs around these places that have so many different ones of the words."""
    end = 0
    for place in places:
        if place < end:
            continue
        start = max(0, data.rfind(b"\n\n", 0, place))
        end = data.find(b"\n\n", place)
        end = len(data) if end < 0 else end
        if len(words.intersection(data[start:end].translate(FOLD).split())) >= least:
            yield start, end


def _reminders(data: bytes, places: list[int], hits: list[Hit]) -> Iterator[tuple[int, int]]:
    for start, end in _paragraphs(data, places, _STANDING, _STANDING_WORDS):
        if not any(
            hit.group is FindingGroup.HEALTH
            and hit.kind not in _GENERAL
            and start - _SAYS_WHAT_FOR <= hit.start < end + _SAYS_WHAT_FOR
            for hit in hits
        ):
            yield start, end


def _signatures(data: bytes, places: list[int]) -> Iterator[tuple[int, int]]:
    for place in places:
        start = data.rfind(b"\n", 0, place) + 1
        end = data.find(b"\n", place)
        if end >= 0 and _CLOSES.fullmatch(data, start, end):
            yield end, _signed_until(data, end)
    for dashes in _DASHES if _DASH in data else ():
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
