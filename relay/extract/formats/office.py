"""Office documents that are ZIP archives of XML: Word, Excel and PowerPoint (ECMA-376) and OpenDocument (ISO 26300)."""

import re
import zipfile
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element

from relay.extract.budget import Budget, Extracted, UnreadableError
from relay.extract.formats.image import is_picture_of_something
from relay.extract.formats.sheet import Styles, read_styles, rows, shared_strings, sheet_names
from relay.extract.formats.xml import labelled, local, parse_xml
from relay.extract.sniff import sniff
from relay.mail.charset import decode
from relay.mail.html import html_to_text

_WORD: Final = re.compile(r"word/(?:document|header|footer|footnotes|endnotes|comments|glossary/document)\d*\.xml\Z")
_SLIDES: Final = re.compile(r"ppt/(?:slides|notesSlides|comments|diagrams)/[^/]+\.xml\Z")
_SHEETS: Final = re.compile(r"xl/(?:worksheets/.+|comments\d*|threadedComments/[^/]+|drawings/[^/]+)\.xml\Z")
_MEDIA: Final = re.compile(r"(?:word|ppt|xl)/media/|Pictures/")
_OBJECT: Final = re.compile(r"Object \d+/content\.xml\Z")
_DULL: Final = re.compile(
    r"(?:.*/)?(?:_rels|theme|fonts|printerSettings|activeX|ctrlProps|ObjectReplacements|Thumbnails|Configurations2|Basic|"
    r"Object \d+|META-INF)/|\[Content_Types\]\.xml\Z|mimetype\Z|docProps/thumbnail|"
    r"(?:.*/)?(?:styles|stylesWithEffects|settings|webSettings|fontTable|numbering|sharedStrings|workbook|calcChain|"
    r"metadata|presentation|presProps|viewProps|tableStyles|people|persons?|itemProps\d*|vbaData|manifest|content|meta)"
    r"\.(?:xml|rdf|bin)\Z|(?:.*/)?vbaProject.*\.bin\Z"
)
"""Parts that show nothing of their own, or are read elsewhere. What is no such part, and no known one, is read."""
_BREAKS: Final = {"p": "\n", "br": "\n", "cr": "\n", "tr": "\n", "row": "\n", "tc": "\t", "tab": "\t", "h": "\n",
                  "table-row": "\n", "table-cell": "\t", "line-break": "\n", "s": " ", "si": "\n", "comment": "\n",
                  "list-item": "\n", "Row": "\n", "Cell": "\t", "v": "\n"}  # fmt: skip
_MAIN: Final = {"docx": _WORD, "pptx": _SLIDES, "xlsx": _SHEETS}
_CELLS: Final = frozenset({"tc", "table-cell", "Cell"})
_SPOKEN: Final = frozenset({"descr", "tooltip", "prompt", "promptTitle", "display", "string"})
"""Attributes of shapes, cells and drawn letters that are shown or spoken."""
_MOST_REPEATED: Final = 512  # cells: what is repeated oftener fills a row up to its end


def office_kind(names: frozenset[str]) -> str:
    """``docx``, ``xlsx``, ``pptx`` or ``odf`` by the archive's members; empty for another archive."""
    if "[Content_Types].xml" in names:
        for folder, kind in (("word/", "docx"), ("xl/", "xlsx"), ("ppt/", "pptx")):
            if any(name.startswith(folder) for name in names):
                return kind
    return "odf" if {"mimetype", "content.xml"} <= names else ""


def read_office(archive: zipfile.ZipFile, kind: str, budget: Budget) -> Extracted:
    """Text of all that a reader would see, with headers, notes, comments and properties; files inside as children.

    A part beside the document's own that is not well formed is the fault ``malformed``; the rest is read.

    Raises:
        UnreadableError: ``malformed``, ``encrypted`` or ``bomb``.
    """
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if kind in _MAIN and not any(map(_MAIN[kind].match, names)):
        raise UnreadableError("malformed")  # its text lies where nobody looks for it
    texts: list[str] = []
    if kind == "odf":
        if b"encryption-data" in _member(archive, "META-INF/manifest.xml", budget):
            raise UnreadableError("encrypted")
        texts = [flat(parse_xml(_member(archive, name, budget))) for name in ("content.xml", "styles.xml", "meta.xml")
                 if name in names]  # fmt: skip
    elif kind == "xlsx":
        texts = list(_workbook(archive, names, budget))
    else:
        wanted = _MAIN[kind]
        texts = [flat(parse_xml(_member(archive, name, budget))) for name in names if wanted.match(name)]
    read = _MAIN.get(kind, _OBJECT)
    children: list[tuple[str, bytes]] = []
    pictures: list[tuple[str, bytes]] = []
    faults: set[str] = set()
    for name in names:
        if kind != "odf" and read.match(name):
            continue
        if _OBJECT.match(name) or not _DULL.match(name):
            content = _member(archive, name, budget)
            try:
                _beside(name, content, texts, children, pictures)
            except UnreadableError as error:  # a damaged chart takes nothing from what the document says
                faults.add(error.reason)
    if budget.pictures.reader is not None:
        children += pictures
    elif pictures:
        faults.add("image")
    return Extracted(type=kind, text="\n".join(texts), children=tuple(children), faults=tuple(sorted(faults)))


def _beside(
    name: str, content: bytes, texts: list[str], children: list[tuple[str, bytes]], pictures: list[tuple[str, bytes]]
) -> None:
    """Take a part that is not the document's own: charts, diagrams, data that fields show, files inside.

    Raises:
        UnreadableError: ``malformed``.
    """
    if name.startswith("customXml/") and name.endswith(".xml"):
        texts.append("\n".join(labelled(parse_xml(content))))
    elif name.endswith(".xml") and not _OBJECT.match(name):
        texts.append(flat(parse_xml(content)))
    elif name.endswith(".vml"):
        texts.append(html_to_text(decode(content, "")))
    elif (found := sniff(content, "", name)) == "image" or _MEDIA.match(name):
        if is_picture_of_something(content):
            pictures.append(("", content))
    elif found != "unknown" or "/embeddings/" in name:
        children.append((name, content))


def _member(archive: zipfile.ZipFile, name: str, budget: Budget) -> bytes:
    try:
        with archive.open(name) as stream:
            return budget.read(stream)  # type: ignore[arg-type]  # ZipExtFile reads like any binary stream
    except KeyError:
        return b""


def flat(root: Element) -> str:
    """Text in document order: runs joined, paragraphs and rows on lines, cells apart by tabs.

    What breaks lines inside a cell is a blank: a row is one line, so that its cells stand under their headings.
    """
    out: list[str] = []
    _gather(root, out)
    return "\n".join(("".join(out), *_spoken(root)))


def _spoken(root: Element) -> Iterator[str]:
    """Attributes that are shown or spoken, and the values that a pivot table keeps."""
    for element in root.iter():
        for key, value in element.attrib.items():
            if value and (key.rpartition("}")[2] in _SPOKEN or (key == "v" and local(element) == "s")):
                yield value


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
                if name == "table-cell" and not cells:
                    out.append(" \t" * (_repeated(element) - 1))
            if element.tail and element.tail.strip():
                out.append(element.tail)
            continue
        if element.text and (name != "instrText"):
            out.append(element.text)
        elif name == "noBreakHyphen":
            out.append("-")
        if name in _CELLS:
            cells += 1
            out.append(" ")  # so that an empty one is one
        stack.append((element, True))
        stack.extend((child, False) for child in reversed(element))


def _repeated(element: Element) -> int:
    """How many empty cells an OpenDocument cell stands for (ISO 26300-1, 19.675), so that others keep their columns."""
    told = next((value for key, value in element.attrib.items() if key.endswith("number-columns-repeated")), "")
    return int(told) if not len(element) and told.isdigit() and len(told) < 4 and int(told) <= _MOST_REPEATED else 1


def _workbook(archive: zipfile.ZipFile, names: list[str], budget: Budget) -> Iterator[str]:
    def part(name: str) -> Element | None:
        return parse_xml(_member(archive, name, budget)) if name in names else None

    strings, looks, book = part("xl/sharedStrings.xml"), part("xl/styles.xml"), part("xl/workbook.xml")
    shared = shared_strings(strings) if strings is not None else []
    styles = read_styles(looks) if looks is not None else Styles()
    if book is not None:
        yield from sheet_names(book)
    for name in names:
        if not _SHEETS.match(name):
            continue
        root = parse_xml(_member(archive, name, budget))
        if local(root) == "worksheet":
            yield from rows(root, shared, styles)
            yield from _spoken(root)
        else:
            yield flat(root)
