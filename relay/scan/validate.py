"""What tells a number, date or name from its look-alikes: the work that a regular expression cannot do."""

import re
from collections.abc import Callable
from typing import Final

from relay.scan.lexicon import FOLD

Validator = Callable[[bytes], bool]

_NO_DIGITS: Final = bytes(code for code in range(256) if not 48 <= code <= 57)
_NUMBERS: Final = re.compile(rb"\d+")
_MONTH: Final = re.compile(rb"[A-Za-z]{3}")
_SEPARATORS: Final = re.compile(rb"[^0-9A-Za-z]+")
_KNOWN_FAKE_SSN: Final = frozenset({b"078051120", b"219099999", b"123456789", b"987654321", b"111111111"})
_TOLL_FREE: Final = frozenset({b"800", b"822", b"833", b"844", b"855", b"866", b"877", b"888", b"900"})
_NPI_PREFIX: Final = b"80840"  # the card issuer prefix of US health numbers (45 CFR 162.406)
_BIRTH: Final = re.compile(
    rb"\b(?:d\.?o\.?b\.?|birth\s?da(?:te|y)|date\s+of\s+birth|born(?:\s+on)?|nacimiento|nacid[oa](?:\s+el)?"
    rb"|b\.(?<=[,(]b.)|b\.(?<=, b.))"
    rb"(?:\s+(?:is|was|of))?[^\w]{0,12}\Z"
)
_BIRTH_HAS: Final = (b"ob", b"o.b", b"birth", b"born", b"naci", b"b.")  # one of these stands in whatever tells a birth
_DEATH: Final = frozenset(b"died deceased death dod expired passed".split())
_VISIT: Final = frozenset(
    b"seen admitted admission admit discharge discharged visit visits visited evaluated diagnosed dx appointment appt "
    b"follow followup surgery underwent hospitalized hospitalised presented treated encounter procedure service dos "
    b"collected consult consultation consulted operated operation exam examined scan imaging vaccinated chart notes "
    b"note cita ingreso alta".split()
)
_NO_NAME: Final = re.compile(
    rb"\b(?:name|id|number|date|phone|address|portal|care|services?|center|centre|hospital|clinic|health|medical|support"
    rb"|information|account|records?|history|education|safety|advocate|protection|privacy|rights|university|department"
    rb"|monday|tuesday|wednesday|thursday|friday|saturday|sunday|the|this|please|has|was|is|and|with|in|of|for|on|we|i"
    rb"|access|act|bill|affordable|satisfaction|experience|experiences|assistance|financial|billing|relations|intake"
    rb"|form|forms|instructions|guide|summary|report|reports|results?|status|dob|mrn|ssn|dear|hello|subject|to|from)\b",
    re.IGNORECASE,
)


def compact(value: bytes) -> bytes:
    """Letters and digits only, upper case: equal numbers compare equal however they were written."""
    return _SEPARATORS.sub(b"", value).upper()


def digits_of(value: bytes) -> bytes:
    """The digits alone."""
    return value.translate(None, _NO_DIGITS)


def is_ssn(value: bytes) -> bool:
    """Area, group and serial that SSA can have issued (20 CFR 422.103; never 000, 666, 900 and up); no known fake."""
    digits = digits_of(value)
    return (
        len(digits) == 9
        and digits[:3] not in {b"000", b"666"}
        and digits[0] != ord("9")
        and digits[3:5] != b"00"
        and digits[5:] != b"0000"
        and digits not in _KNOWN_FAKE_SSN
        and len(set(digits)) > 1
    )


def is_filled(value: bytes) -> bool:
    """Nine digits of a labelled SSN that was filled in, be it with a number that SSA never issued."""
    digits = digits_of(value)
    return len(digits) == 9 and len(set(digits)) > 1


def is_itin(value: bytes) -> bool:
    """An IRS taxpayer number: 9, then a group of 50 to 65, 70 to 88, 90 to 92 or 94 to 99."""
    digits = digits_of(value)
    group = int(digits[3:5]) if len(digits) == 9 else 0
    return digits[:1] == b"9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


def has_digits(value: bytes) -> bool:
    """A number by label: at least three digits that are not all the same."""
    digits = digits_of(value)
    return len(digits) >= 3 and len(set(digits)) > 1


def is_phone(value: bytes) -> bool:
    """A number of the North American Numbering Plan of one subscriber: no toll-free area, no exchange below 200."""
    digits = digits_of(value)
    if len(digits) == 11 and digits[:1] == b"1":
        digits = digits[1:]
    return len(digits) == 10 and digits[0] > ord("1") and digits[3] > ord("1") and digits[:3] not in _TOLL_FREE


def luhn(digits: bytes) -> bool:
    """ISO/IEC 7812-1 annex B."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = (char - 48) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_npi(value: bytes) -> bool:
    """A National Provider Identifier: ten digits that begin with 1 or 2, Luhn over 80840 and the number."""
    digits = digits_of(value)
    return len(digits) == 10 and digits[:1] in {b"1", b"2"} and luhn(_NPI_PREFIX + digits)


def is_dea(value: bytes) -> bool:
    """A DEA registration: two letters and seven digits, the last of which is a checksum over the others."""
    digits = [char - 48 for char in digits_of(value)]
    return len(digits) == 7 and (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]


def is_date(value: bytes) -> bool:
    """Any date whose numbers can be a day, a month and a year."""
    numbers = [int(number) for number in _NUMBERS.findall(value)]
    if _MONTH.search(value):
        return len(numbers) == 2 and _is_year(numbers[1]) and 1 <= numbers[0] <= 31
    if len(numbers) != 3:
        return False
    if numbers[0] > 31:
        return 1890 <= numbers[0] <= 2100 and 1 <= numbers[1] <= 12 and 1 <= numbers[2] <= 31
    return 1 <= max(numbers[:2]) <= 31 and 1 <= min(numbers[:2]) <= 12 and _is_year(numbers[2])


def _is_year(number: int) -> bool:
    return number < 100 or 1890 <= number <= 2100


def date_kind(before: bytes, value: bytes) -> str:
    """A birth, a death, a visit, or any date, by the words before it (45 CFR 164.514(b)(2)(i)(C))."""
    del value
    lower = before.lower()
    if any(map(lower.__contains__, _BIRTH_HAS)) and _BIRTH.search(lower):
        return "date-of-birth"
    line = before.rpartition(b"\n")[2].translate(FOLD).split()
    if not _DEATH.isdisjoint(line):
        return "date-of-death"
    return "date" if _VISIT.isdisjoint(line) else "visit-date"


def is_name(value: bytes) -> bool:
    """Capitalised words after a label that are no heading and no other field."""
    return _NO_NAME.search(value) is None


def is_old(value: bytes) -> bool:
    """An age over 89, which is an identifier of its own (45 CFR 164.514(b)(2)(i)(C))."""
    return 90 <= int(digits_of(value) or b"0") <= 120


def is_ip(value: bytes) -> bool:
    """An IPv4 address of the public Internet or of a network of one's own, none of the reserved beginnings."""
    octets = [int(part) for part in value.split(b".")]
    return all(octet < 256 for octet in octets) and octets[0] not in {0, 127, 255} and octets != [1, 2, 3, 4]
