"""Excel workbooks (ECMA-376 part 1, chapter 18): rows of cells as they are shown, each below its heading."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final
from xml.etree.ElementTree import Element

from relay.extract.formats.xml import local

_BUILT_IN_DATES: Final = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
_SERIAL: Final = re.compile(r"\d{1,6}(?:\.\d+)?\Z")
_EPOCH: Final = date(1899, 12, 30)  # day 0 of Excel's calendar, which counts a 29 February 1900 that never was
_COLUMN: Final = re.compile(r"([A-Z]{1,3})\d")
_EMPTY: Final = " "  # several tabs in a row would count as one, as people type them
_WIDEST: Final = 512  # columns that are kept apart where cells between are missing
_LITERAL: Final = re.compile(r'\\(.)|"([^"]*)"|\[[^\]]*\]|_.|\*.')
_MASK: Final = re.compile(r"[0#()/ -]*\Z")
_MASKED: Final = 5  # digits: record numbers, social security numbers, telephones


@dataclass(frozen=True, slots=True, kw_only=True)
class Styles:
    """How numbers are shown, by the number of a cell's style.

    Attributes:
        dates: styles of dates.
        masks: patterns of digits, such as ``000-00-0000``.
    """

    dates: frozenset[int] = frozenset()
    masks: Mapping[int, str] = field(default_factory=dict)


def read_styles(root: Element) -> Styles:
    """The styles of a workbook (18.8.30 and 18.8.31)."""
    codes = {
        int(element.attrib["numFmtId"]): element.attrib.get("formatCode", "")
        for element in root.iter()
        if local(element) == "numFmt" and element.attrib.get("numFmtId", "").isdigit()
    }
    dates = _BUILT_IN_DATES | {number for number, code in codes.items() if "y" in code.lower()}
    masks = {number: mask for number, code in codes.items() if (mask := _mask(code))}
    styles = next((list(element) for element in root.iter() if local(element) == "cellXfs"), [])
    formats = [int(style.attrib["numFmtId"]) if style.attrib.get("numFmtId", "").isdigit() else 0 for style in styles]
    return Styles(
        dates=frozenset(place for place, number in enumerate(formats) if number in dates),
        masks={place: masks[number] for place, number in enumerate(formats) if number in masks},
    )


def _mask(code: str) -> str:
    """A format that only puts marks between digits, or zeros before them; else empty."""
    mask = _LITERAL.sub(lambda found: found[1] or found[2] or "", code.rpartition(";")[2])
    return mask if _MASK.match(mask) and sum(map(mask.count, "0#")) >= _MASKED else ""


def rows(root: Element, shared: list[str], styles: Styles) -> Iterator[str]:
    """Each row, cells apart by tabs, those that are missing as empty ones; then what stands around the rows."""
    for row in (element for element in root.iter() if local(element) == "row"):
        cells: list[str] = []
        for cell in row:
            if local(cell) != "c":
                continue
            place = _place(cell.attrib.get("r", ""))
            cells += [_EMPTY] * (place - len(cells))
            cells.append(_cell(cell, shared, styles) or _EMPTY)
        yield "\t".join(cells)
    for element in root.iter():
        if local(element) == "headerFooter":
            yield from (part.text for part in element if part.text)


def _place(reference: str) -> int:
    """The column's number from 0; 0 where it is not said, or too far away to be a heading's."""
    found = _COLUMN.match(reference)
    if found is None:
        return 0
    place = 0
    for letter in found[1]:
        place = place * 26 + ord(letter) - 64
    return place - 1 if place <= _WIDEST else 0


def _cell(cell: Element, shared: list[str], styles: Styles) -> str:
    value = "".join(part.text or "" for part in cell.iter() if local(part) in {"v", "t"})
    if cell.attrib.get("t") == "s" and value.isdigit() and int(value) < len(shared):
        return shared[int(value)]
    style = int(cell.attrib["s"]) if cell.attrib.get("s", "").isdigit() else 0
    if style in styles.dates and _SERIAL.match(value):
        return f"{_EPOCH + timedelta(days=int(float(value))):%m/%d/%Y}"
    return _masked(value, styles.masks[style]) if style in styles.masks and value.isdigit() else value


def _masked(digits: str, mask: str) -> str:
    """The digits as they are shown, from the right."""
    left = list(digits.zfill(mask.count("0")))
    out: list[str] = []
    for mark in reversed(mask):
        if mark not in "0#":
            out.append(mark)
        elif left:
            out.append(left.pop())
    return "".join((*left, *reversed(out)))


def shared_strings(root: Element) -> list[str]:
    """The strings that cells name by number (18.4.8)."""
    return ["".join(text.text or "" for text in item.iter() if local(text) == "t") for item in root]


def sheet_names(root: Element) -> Iterator[str]:
    """What stands on the sheets' tabs, of a workbook's own part."""
    return (element.attrib["name"] for element in root.iter() if local(element) == "sheet" and "name" in element.attrib)
