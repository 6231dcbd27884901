"""What a PDF shows beside the text of its pages: form fields, notes, stamps, XFA forms, bookmarks, files."""

import ctypes
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final
from xml.etree.ElementTree import Element

import pypdfium2
import pypdfium2.raw as pdfium

from relay.extract.budget import Budget, UnreadableError
from relay.extract.formats.xml import local, parse_xml

_MOST_OCTETS: Final = 1 << 20  # of one string, in UTF-16
_MOST_BOOKMARKS: Final = 5000
_TEXTLESS: Final = frozenset({pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP})
_WRAPPINGS: Final = frozenset(
    {"preamble", "postamble", "config", "localeSet", "xmpmeta", "connectionSet", "stylesheet"}
)
"""Packets of an XFA form (XFA 3.3, chapter 2) in which nothing is that a reader sees."""


class Annotations:
    """What stands on one page.

    Attributes:
        texts: values of fields as ``name: value``, notes.
        files: (name, content) of files that notes carry.
        is_drawn: whether something on it may have a look of its own, which only the flattened page's text has.
    """

    def __init__(self, document: Any, page: Any, budget: Budget) -> None:
        self.texts: list[str] = []
        self.files: list[tuple[str, bytes]] = []
        self.is_drawn = False
        self._document = document
        for place in range(pdfium.FPDFPage_GetAnnotCount(page)):
            annotation = pdfium.FPDFPage_GetAnnot(page, place)
            if not annotation:
                continue
            try:
                self._take(annotation, budget)
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)

    def _take(self, annotation: Any, budget: Budget) -> None:
        self.is_drawn = self.is_drawn or pdfium.FPDFAnnot_GetSubtype(annotation) not in _TEXTLESS
        form = self._document.formenv
        if form is not None:
            value = _text(partial(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation))
            if value:
                name = _text(partial(pdfium.FPDFAnnot_GetFormFieldAlternateName, form, annotation)) or _text(
                    partial(pdfium.FPDFAnnot_GetFormFieldName, form, annotation)
                )
                self.texts.append(f"{name}: {value}")
        notes = [_key(annotation, key) for key in (b"Contents", b"RC", b"Subj")]
        self.texts += filter(None, notes)
        if attached := pdfium.FPDFAnnot_GetFileAttachment(annotation):
            self.files.append(_file(pypdfium2.PdfAttachment(attached, self._document), budget))


def embedded(document: Any, budget: Budget) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the document's files.

    Raises:
        UnreadableError: ``bomb``.
    """
    for place in range(document.count_attachments()):
        yield _file(document.get_attachment(place), budget)


def bookmarks(document: Any) -> Iterator[str]:
    """The titles of its outline, which stand beside the pages."""
    return (mark.get_title() for mark in islice(document.get_toc(), _MOST_BOOKMARKS))


def xfa_texts(document: Any) -> Iterator[str]:
    """What a form in XFA holds, of which the pages show nothing but a request to wait.

    Raises:
        UnreadableError: ``malformed``.
    """
    for place in range(max(0, pdfium.FPDF_GetXFAPacketCount(document))):
        name = _octets(partial(pdfium.FPDF_GetXFAPacketName, document, place))
        if name.rstrip(b"\0").decode("latin-1") in _WRAPPINGS:
            continue
        needed = ctypes.c_ulong()
        pdfium.FPDF_GetXFAPacketContent(document, place, None, 0, needed)
        buffer = ctypes.create_string_buffer(needed.value)
        if not pdfium.FPDF_GetXFAPacketContent(document, place, buffer, needed.value, needed):
            raise UnreadableError("malformed")
        yield from _labelled(parse_xml(buffer.raw[: needed.value]))


def _labelled(root: Element) -> Iterator[str]:
    for element in root.iter():
        for text in (element.text, element.tail):
            if text and text.strip():
                yield f"{local(element)}: {text.strip()}" if text is element.text else text.strip()


def _file(attachment: Any, budget: Budget) -> tuple[str, bytes]:
    try:
        data = bytes(attachment.get_data())
    except pypdfium2.PdfiumError:  # its way to say that the file is empty, or not there
        data = b""
    budget.spend(len(data))
    return attachment.get_name(), data


def _key(annotation: Any, key: bytes) -> str:
    return _text(partial(pdfium.FPDFAnnot_GetStringValue, annotation, key))


def _text(fill: Callable[..., int]) -> str:
    """A string as PDFium hands them over: UTF-16, two octets of zero behind it."""
    octets = fill(None, 0)
    if octets > _MOST_OCTETS:  # a smaller buffer would be left as it is
        raise UnreadableError("size")
    if octets <= 2:
        return ""
    buffer = (ctypes.c_ushort * (octets // 2))()
    fill(buffer, octets)
    return bytes(buffer)[:-2].decode("utf-16-le", "replace")


def _octets(fill: Callable[..., int]) -> bytes:
    octets = fill(None, 0)
    if octets > _MOST_OCTETS:
        raise UnreadableError("size")
    buffer = ctypes.create_string_buffer(max(octets, 1))
    fill(buffer, octets)
    return buffer.raw
