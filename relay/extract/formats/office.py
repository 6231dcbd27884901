"""Office documents that are ZIP archives of XML: Word, Excel and PowerPoint (ECMA-376) and OpenDocument (ISO 26300)."""

import re
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final
from xml.etree.ElementTree import Element

from relay.extract.budget import Budget, Extracted, UnreadableError
from relay.extract.formats.image import is_picture_of_something
from relay.extract.formats.xml import local, parse_xml

_WORD: Final = re.compile(
    r"word/(?:document|header\d*|footer\d*|footnotes|endnotes|comments|glossary/document)\d*\.xml\Z"
)
_SLIDES: Final = re.compile(r"ppt/(?:slides|notesSlides|comments|diagrams)/[^/]+\.xml\Z")
_SHEETS: Final = re.compile(r"xl/(?:worksheets/[^/]+|comments\d*|threadedComments/[^/]+|drawings/[^/]+)\.xml\Z")
_PROPERTIES: Final = re.compile(r"docProps/(?:core|app|custom)\.xml\Z")
_MEDIA: Final = re.compile(r"(?:word|ppt|xl)/media/|Pictures/")
_EMBEDDED: Final = re.compile(r"(?:word|ppt|xl)/embeddings/|Object \d+/content\.xml\Z")
_BUILT_IN_DATES: Final = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
_SERIAL: Final = re.compile(r"\d{1,6}(?:\.\d+)?\Z")
_EPOCH: Final = date(1899, 12, 30)  # day 0 of Excel's calendar, which counts a 29 February 1900 that never was
_BREAKS: Final = {"p": "\n", "br": "\n", "cr": "\n", "tr": "\n", "row": "\n", "tc": "\t", "tab": "\t", "h": "\n",
                  "table-row": "\n", "table-cell": "\t", "line-break": "\n", "s": " ", "si": "\n", "comment": "\n",
                  "list-item": "\n"}  # fmt: skip
_MAIN: Final = {"docx": _WORD, "pptx": _SLIDES, "xlsx": _SHEETS}
_CELLS: Final = frozenset({"tc", "table-cell"})


def office_kind(names: frozenset[str]) -> str:
    """``docx``, ``xlsx``, ``pptx`` or ``odf`` by the archive's members; empty for another archive."""
    if "[Content_Types].xml" in names:
        for folder, kind in (("word/", "docx"), ("xl/", "xlsx"), ("ppt/", "pptx")):
            if any(name.startswith(folder) for name in names):
                return kind
    return "odf" if {"mimetype", "content.xml"} <= names else ""


def read_office(archive: zipfile.ZipFile, kind: str, budget: Budget) -> Extracted:
    """Text of all that a reader would see, with headers, notes, comments and properties; embedded files as children.

    Raises:
        UnreadableError: ``malformed``, ``encrypted`` or ``bomb``.
    """
    names = archive.namelist()
    texts: list[str] = []
    if kind in _MAIN and not any(map(_MAIN[kind].match, names)):
        raise UnreadableError("malformed")  # its text lies where nobody looks for it
    if kind == "odf":
        if b"encryption-data" in _member(archive, "META-INF/manifest.xml", budget):
            raise UnreadableError("encrypted")
        texts = [_flat(parse_xml(_member(archive, name, budget))) for name in ("content.xml", "styles.xml", "meta.xml")
                 if name in names]  # fmt: skip
    elif kind == "xlsx":
        texts = list(_workbook(archive, names, budget))
    else:
        wanted = _MAIN[kind]
        texts = [_flat(parse_xml(_member(archive, name, budget))) for name in names if wanted.match(name)]
    texts += [_flat(parse_xml(_member(archive, name, budget))) for name in names if _PROPERTIES.match(name)]
    children = tuple((name, _member(archive, name, budget)) for name in names if _EMBEDDED.match(name))
    media = (_member(archive, name, budget) for name in names if _MEDIA.match(name) and not name.endswith("/"))
    pictures = tuple(("", picture) for picture in media if is_picture_of_something(picture))
    if budget.pictures.reader is None:
        return Extracted(type=kind, text="\n".join(texts), children=children, faults=("image",) if pictures else ())
    return Extracted(type=kind, text="\n".join(texts), children=children + pictures)


def _member(archive: zipfile.ZipFile, name: str, budget: Budget) -> bytes:
    try:
        with archive.open(name) as stream:
            return budget.read(stream)  # type: ignore[arg-type]  # ZipExtFile reads like any binary stream
    except KeyError:
        return b""


def _flat(root: Element) -> str:
    """Text in document order: runs joined, paragraphs and rows on lines, cells apart by tabs.

    What breaks lines inside a cell is a blank: a row is one line, so that its cells stand under their headings.
    """
    out: list[str] = []
    _gather(root, out)
    return "".join(out)


def _gather(root: Element, out: list[str]) -> None:
    stack: list[tuple[Element, bool]] = [(root, False)]
    cells = 0
    while stack:
        element, done = stack.pop()
        name = local(element)
        if done:
            cells -= name in _CELLS
            if name in _BREAKS:
                out.append(_BREAKS[name] if not cells or name == "tab" else " ")
            if element.tail and element.tail.strip():
                out.append(element.tail)
            continue
        if element.text and (name != "instrText"):
            out.append(element.text)
        cells += name in _CELLS
        stack.append((element, True))
        stack.extend((child, False) for child in reversed(element))


def _workbook(archive: zipfile.ZipFile, names: list[str], budget: Budget) -> Iterator[str]:
    shared: list[str] = []
    if "xl/sharedStrings.xml" in names:
        root = parse_xml(_member(archive, "xl/sharedStrings.xml", budget))
        shared = ["".join(text.text or "" for text in item.iter() if local(text) == "t") for item in root]
    dates = _date_styles(archive, names, budget)
    for name in names:
        if not _SHEETS.match(name):
            continue
        root = parse_xml(_member(archive, name, budget))
        if "worksheets/" not in name:
            yield _flat(root)
            continue
        for row in (element for element in root.iter() if local(element) == "row"):
            yield "\t".join(_cell(cell, shared, dates) for cell in row if local(cell) == "c")


def _date_styles(archive: zipfile.ZipFile, names: list[str], budget: Budget) -> frozenset[int]:
    """Cell styles that show a number as a date (ECMA-376 part 1, 18.8.30 and 18.8.31)."""
    if "xl/styles.xml" not in names:
        return frozenset()
    root = parse_xml(_member(archive, "xl/styles.xml", budget))
    formats = set(_BUILT_IN_DATES)
    for element in root.iter():
        code = element.attrib.get("formatCode", "").lower()
        if local(element) == "numFmt" and "y" in code and element.attrib.get("numFmtId", "").isdigit():
            formats.add(int(element.attrib["numFmtId"]))
    styles = next((list(element) for element in root.iter() if local(element) == "cellXfs"), [])
    return frozenset(
        place for place, style in enumerate(styles) if style.attrib.get("numFmtId", "").isdigit()
        and int(style.attrib["numFmtId"]) in formats
    )  # fmt: skip


def _cell(cell: Element, shared: list[str], dates: frozenset[int]) -> str:
    value = "".join(part.text or "" for part in cell.iter() if local(part) in {"v", "t"})
    style = cell.attrib.get("s", "")
    if cell.attrib.get("t") == "s" and value.isdigit() and int(value) < len(shared):
        return shared[int(value)]
    if style.isdigit() and int(style) in dates and _SERIAL.match(value):
        return f"{_EPOCH + timedelta(days=int(float(value))):%m/%d/%Y}"
    return value
