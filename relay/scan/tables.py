"""Values whose label stands at the head of their column: spreadsheets, CSV, HTML tables."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from relay.scan import validate
from relay.scan.lexicon import FOLD

_LABELS: Final[dict[bytes, str]] = {
    label: kind
    for kind, labels in {
        "date-of-birth": b"dob|date of birth|birth date|birthdate|d o b|patient dob|fecha de nacimiento",
        "mrn": b"mrn|medical record|medical record number|medical record no|patient id|chart number|patient number"
        b"|chart no|mr number|patient mrn|encounter|encounter id",
        "ssn": b"ssn|social security|social security number|ss number|patient ssn",
        "member-number": b"member id|member number|subscriber id|policy number|insurance id|medicaid id|medicare id"
        b"|group number|policy no|member no",
        "account-number": b"account number|account no|acct|account",
        "claim-number": b"claim number|claim no|claim id|claim",
        "name-field": b"patient|patient name|patientname|member name|subscriber|subscriber name",
        "name-column": b"name|full name|last name|first name|lastname|firstname|client|client name",
        "phone": b"phone|telephone|cell|mobile|home phone|phone number",
        "visit-date": b"date of service|dos|service date|admit date|admission date|discharge date|visit date"
        b"|appointment date|encounter date",
    }.items()
    for label in labels.split(b"|")
}
_STRONG: Final = frozenset({"date-of-birth", "mrn", "ssn", "member-number", "claim-number", "name-field"})
_DATES: Final = frozenset({"date-of-birth", "visit-date"})
_NAME: Final = re.compile(rb"[A-Za-z\xc0-\xff][A-Za-z\xc0-\xff' .,-]{1,60}\Z")
_SPLIT: Final = {b"\t": re.compile(rb"\t+"), b"|": re.compile(rb"\|"), b",": re.compile(rb","), b";": re.compile(rb";")}
_SPLIT_HTML: Final = re.compile(rb"\t")
"""Of HTML each cell has a tab before it and one behind: a row begins with one, and an empty cell is two."""
_MAX_ROWS: Final = 300
_LONGEST_LABEL: Final = 40
_NEWLINE: Final = 10
_MISSES: Final = 3  # rows in a row that fit no column: the table is over

_BEFORE_CELL: Final = b" \"'>*\r"
_DELIMITERS: Final = b"\t|,;"
ANCHORS: Final = frozenset(label.split(b" ")[0] for label, kind in _LABELS.items() if kind in _STRONG)
"""Words with which a label begins that makes a line of cells the head of a table."""


def header_at(data: bytes, place: int) -> tuple[int, int] | None:
    """The line around an anchor word, if the word begins a cell with a patient's label."""
    start = place
    while start and data[start - 1] in _BEFORE_CELL:
        start -= 1
    if start and data[start - 1] != _NEWLINE and data[start - 1] not in _DELIMITERS:
        return None
    stop = data.find(b"\n", place)
    first = data.rfind(b"\n", 0, place) + 1
    if stop < 0:
        return None
    end = next((at for at in range(place, min(stop, place + _LONGEST_LABEL)) if data[at] in _DELIMITERS), stop)
    label = b" ".join(data[place:end].translate(FOLD).split())
    return (first, stop) if _LABELS.get(label) in _STRONG else None


def _is_person(value: bytes) -> bool:
    return _NAME.match(value) is not None


def _validator(kind: str) -> Callable[[bytes], bool]:
    if kind in _DATES:
        return validate.is_date
    if kind in {"name-field", "name-column"}:
        return _is_person
    return {"ssn": validate.is_filled, "phone": validate.is_phone}.get(kind, validate.has_digits)


def rows(data: bytes, start: int, end: int) -> tuple[list[tuple[str, int, int]], int]:
    """The values below a header line, if the line at this span is one.

    A header has two labels at least, one of them of a patient's field.

    Returns:
        (kind, span) of each value, and where the table ends: no header is looked for before that.
    """
    line = data[start:end]
    delimiter = next((mark for mark in _SPLIT if mark in line), b"")
    split = _SPLIT_HTML if line.lstrip(b" ").startswith(b"\t") else _SPLIT[delimiter or b"|"]
    kinds = [_LABELS.get(b" ".join(cell.translate(FOLD).split()), "") for cell in split.split(line)]
    if sum(map(bool, kinds)) < 2 or _STRONG.isdisjoint(kinds):
        return [], end
    found: list[tuple[str, int, int]] = []
    place, misses = end + 1, 0
    for _ in range(_MAX_ROWS):
        stop = data.find(b"\n", place)
        stop = len(data) if stop < 0 else stop
        if data[place:stop].strip():
            cells = list(_cells(data, place, stop, split, kinds))
            found += cells
            misses = 0 if cells else misses + 1
        place = stop + 1
        if place >= len(data) or misses >= _MISSES:
            break
    return found, place


def _cells(
    data: bytes, start: int, stop: int, split: re.Pattern[bytes], kinds: list[str]
) -> Iterator[tuple[str, int, int]]:
    place = start
    cells = []
    for mark in split.finditer(data, start, stop):
        cells.append((place, mark.start()))
        place = mark.end()
    cells.append((place, stop))
    for kind, (first, last) in zip(kinds, cells, strict=False):
        if not kind:
            continue
        raw = data[first:last]
        value = raw.strip(b' "\r')
        if value and _validator(kind)(value):
            offset = first + raw.index(value)
            yield kind, offset, offset + len(value)
