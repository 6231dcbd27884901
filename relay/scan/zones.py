"""Places in mail that speak of nobody's health: legal notices, the sender's own signature, what reminders always say.

``Please arrive 15 minutes early and bring your insurance card`` tells nothing of anybody; an appointment with a
speciality does. So a reminder's standing words hardly count while nothing near them says what the appointment is for.

Quoted replies are no such place: what somebody wrote of a patient is as much of a patient when it is quoted. Their
lines of attribution are told by the names' roles (:mod:`relay.scan.names`).
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final

from relay.core.octets import holds
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
CLOSES: Final = _CLOSING - _NOTICE - _REMINDS
"""Those of them that are marks of the end of a text alone."""
_STANDING_WORDS: Final = 4  # different ones in a paragraph that make it a reminder
_SAYS_WHAT_FOR: Final = 600  # characters around a reminder in which nothing may say what the appointment is for
_GENERAL: Final = frozenset({"care", "exam", "age"})
_LEGAL_WORDS: Final = 4  # different ones in a paragraph that make it a legal notice
_CLOSES: Final = re.compile(
    rb"[ \t]{0,8}(?:(?:best|kind|kindest|warm|warmest|with|many|respectfully)[ \t])?(?:kind )?(?:regards|sincerely"
    rb"|thanks|thank you|cheers|respectfully|best|yours truly|saludos|atentamente)(?:[ \t]yours)?[ \t]?[,.!]?[ \t]*",
    re.IGNORECASE,
)
CLOSES_WITHIN: Final = 40
"""Characters of a line in which the last word of a closing begins, and blanks apart, ends."""
_DASH: Final = b"\n--"
_DASHES: Final = (b"\n-- \n", b"\n--\n")
_GOES_ON: Final = (b">", b"P.S", b"p.s", b"PS", b"Ps:", b"ps:")
"""What a line begins with that is no signature's: what is quoted, what was forgotten."""
_SIGNATURE_LINES: Final = 10
_LONG_LINE: Final = 90  # characters: prose, no line of a signature
_OF_SENDER: Final = frozenset({"name", "phone", "email", "address", "zip", "facility", "url"})
_TRADE: Final = frozenset({"care", "exam", "visit"})
_OFFICES: Final = frozenset(
    b"manager director inc llc ltd corp corporation company president vp sales marketing supervisor coordinator "
    b"representative specialist analyst assistant officer engineer administrator attorney accountant recruiter "
    b"executive associate consultant technician generalist buyer department dept services solutions".split()
)
_OF_STAFF: Final = _TRADE | {"patient-contact", "name-self", "name-of-kin"}
"""What is nobody's health, and nobody who speaks of his own, in the signature of somebody at work."""
_WAYS: Final = _OF_SENDER - {"name"}
"""Of a provider who signs without a closing: he is no patient, another name below his may be."""
_IN_NOTICES: Final = frozenset({"care", "phone", "email", "address", "zip", "url"})
_HARDLY: Final = 0.05
_START: Final = itemgetter(2)
_PLACES: Final = 50  # of one word in one text


def without_boilerplate(hits: list[Hit], data: bytes, marks: Sequence[tuple[int, bytes]]) -> list[Hit]:
    """The hits, those of a sender's signature and of legal notices with hardly a weight.

    Args:
        hits: what was found.
        data: the text.
        marks: where words of :data:`MARKS` stand, in order.
    """
    signed = _Zones(_signed_by_provider(hits, data))
    if not marks and not holds(data, _DASH) and not signed.spans:
        return hits
    notices = _Zones(_paragraphs(data, [place for place, word in marks if word in _NOTICE], _LEGAL, _LEGAL_WORDS))
    closed = _Zones(_signatures(data, [place for place, word in marks if word in _CLOSING]))
    reminders = _Zones(_reminders(data, [place for place, word in marks if word in _REMINDS], hits))
    if not (notices.spans or closed.spans or signed.spans or reminders.spans):
        return hits
    houses = _Zones(zone for zone in (*closed.spans, *signed.spans) if _is_of_house(zone, hits, data))
    return [
        hit._replace(weight=min(hit.weight, _HARDLY))
        if (hit.kind in _IN_NOTICES and hit.start in notices)
        or (hit.kind in _OF_SENDER and hit.start in closed and (hit.kind != "name" or _is_signed(hit, data)))
        or (hit.kind in _WAYS and hit.start in signed)
        or (hit.start in houses and (hit.kind in _OF_STAFF or _is_slogan(hit, hits, data)))
        or (hit.kind in _GENERAL and hit.start in reminders)
        else hit
        for hit in hits
    ]


class _Zones:
    """Places of a text, in order and apart, so that one look-up tells whether a character is in one."""

    __slots__ = ("_starts", "spans")

    def __init__(self, zones: Iterable[tuple[int, int]]) -> None:
        self.spans: list[tuple[int, int]] = []
        for start, end in sorted(zones):
            if self.spans and start < self.spans[-1][1]:
                self.spans[-1] = (self.spans[-1][0], max(end, self.spans[-1][1]))
            elif start < end:
                self.spans.append((start, end))
        self._starts = [start for start, _ in self.spans]

    def __contains__(self, place: int) -> bool:
        number = bisect_right(self._starts, place) - 1
        return number >= 0 and place < self.spans[number][1]


def said(text: str) -> str:
    """A text without its legal notices and what stands below a closing: what somebody wrote for this message."""
    data = text.encode("latin-1", "replace")
    lower = data.lower()
    zones = _Zones(
        [
            *_paragraphs(data, _places(lower, _NOTICE), _LEGAL, _LEGAL_WORDS),
            *_signatures(data, _places(lower, _CLOSING)),
        ]
    )
    kept, last = [], 0
    for start, end in zones.spans:
        kept.append(text[last:start])
        last = end
    return "".join(kept) + text[last:]


def _places(lower: bytes, words: frozenset[bytes]) -> list[int]:
    """Where these words stand, in order; the first so many of each."""
    found = []
    for word in words:
        place = lower.find(word)
        for _ in range(_PLACES):
            if place < 0:
                break
            found.append(place)
            place = lower.find(word, place + len(word))
    return sorted(found)


def _signed_by_provider(hits: list[Hit], data: bytes) -> list[tuple[int, int]]:
    """The signature at the end of a text that no closing announces: ``Anna Keller, RN``, a house, a number."""
    start = data.rstrip().rfind(b"\n\n") + 2
    lines = data[start : start + _SIGNATURE_LINES * _LONG_LINE + 1].rstrip().split(b"\n")
    if start < 2 or not 1 < len(lines) <= _SIGNATURE_LINES or max(map(len, lines)) > _LONG_LINE:
        return []
    if any(word[:1].islower() for word in lines[0].split()):
        return []  # Dr. Lee saw somebody
    near = hits[bisect_left(hits, start, key=_START) : bisect_right(hits, start + len(lines[0]), key=_START)]
    return [(start, len(data))] if any(hit.group is FindingGroup.PROVIDER for hit in near) else []


def _is_of_house(zone: tuple[int, int], hits: list[Hit], data: bytes) -> bool:
    """Whether somebody at work signs: a line, written as titles are, names a trade of care or an office."""
    start, end = zone
    within = hits[bisect_left(hits, start, key=_START) : bisect_left(hits, end, key=_START)]
    trades = {data.rfind(b"\n", 0, hit.start) for hit in within if hit.kind in _TRADE}
    return any(
        (place in trades or not _OFFICES.isdisjoint(_line(data, place).translate(FOLD).split()))
        and _is_title(data, place)
        for place in _line_starts(data, start, end)
    )


def _line(data: bytes, place: int) -> bytes:
    """The line after the line end at ``place``."""
    return data[place + 1 : place + 1 + _LONG_LINE].partition(b"\n")[0]


def _line_starts(data: bytes, start: int, end: int) -> Iterator[int]:
    """Where the lines of a zone begin, each told by the line end before it."""
    place = max(data.rfind(b"\n", 0, start + 1), -1)
    while place < end:
        yield place
        place = data.find(b"\n", place + 1)
        if place < 0:
            return


def _is_slogan(hit: Hit, hits: list[Hit], data: bytes) -> bool:
    """Whether what was found stands in a line that a house says to everybody: ``Get your flu shot today!``."""
    if hit.group is not FindingGroup.HEALTH:
        return False
    place = data.rfind(b"\n", 0, hit.start)
    line = _line(data, place)
    folded = b" %b " % line.translate(FOLD)
    if b" your " not in folded and b" our " not in folded:
        return False
    beside = hits[bisect_left(hits, place, key=_START) : bisect_right(hits, place + len(line) + 1, key=_START)]
    return not any(other.group is FindingGroup.IDENTIFIER for other in beside)


def _is_signed(hit: Hit, data: bytes) -> bool:
    """Whether a name below a closing stands as one who signs does, and in no sentence."""
    return _is_title(data, data.rfind(b"\n", 0, hit.start))


def _is_title(data: bytes, start: int) -> bool:
    """Whether the line that begins there is written as titles are: most of its words with a capital."""
    words = _line(data, start).split()
    return 2 * sum([word[:1].isupper() for word in words]) >= len(words)


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
        first = place - CLOSES_WITHIN
        start = data.rfind(b"\n", max(0, first), place) + 1
        if not start and first > 0:
            continue  # the word stands too far behind in its line
        end = data.find(b"\n", place)
        if end >= 0 and _CLOSES.fullmatch(data, start, end):
            yield end, _signed_until(data, end)
    for dashes in _DASHES if holds(data, _DASH) else ():
        place = data.find(dashes)
        if place >= 0:
            yield place, _signed_until(data, place + len(dashes) - 1)


def _signed_until(data: bytes, place: int) -> int:
    """Where a signature that begins with the line after ``place`` ends."""
    for _ in range(_SIGNATURE_LINES):
        stop = data.find(b"\n", place + 1)
        line = data[place : stop if stop >= 0 else len(data)]
        if len(line) > _LONG_LINE or line.lstrip().startswith(_GOES_ON):
            break
        if stop < 0:
            return len(data)
        place = stop
    return place
