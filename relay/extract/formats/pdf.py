"""PDF: text of all pages, form fields, document properties and embedded files."""

import ctypes
from collections.abc import Iterator
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as pdfium

from relay.extract.budget import Budget, Extracted, UnreadableError

_LITTLE_TEXT: Final = 12  # characters: a page with an image and less text than this is a scanned page
_BROKEN: Final = "\ufffe"
"""What PDFium gives for a hyphen at the end of a line, and the line's end."""
_SCALE: Final = 2.0  # of 72 dots an inch
_MAX_SIDE: Final = 2400.0  # pixels
_BUFFER: Final = 65_536  # octets of one form field's value


def read_pdf(data: bytes, budget: Budget) -> Extracted:
    """Text, fields as ``name: value``, properties; embedded files as children. Scanned pages are the fault ``image``.

    Raises:
        UnreadableError: ``encrypted``, ``malformed``, or over a limit.
    """
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise UnreadableError("encrypted" if "password" in str(error).lower() else "malformed") from error
    try:
        return _read(document, budget)
    except pypdfium2.PdfiumError as error:
        raise UnreadableError("malformed") from error
    finally:
        document.close()


def _read(document: Any, budget: Budget) -> Extracted:
    document.init_forms()
    faults: list[str] = []
    texts = [f"{name}: {value}" for name, value in document.get_metadata_dict(skip_empty=True).items()]
    if len(document) > budget.limits.pages:
        faults.append("pages")
    characters = 0
    for number in range(min(len(document), budget.limits.pages)):
        page = document[number]
        try:
            text, scanned = _page(page)
            fields = list(_fields(document, page))
            if scanned and (seen := _seen(page, budget)):
                text, scanned = seen, False
        finally:
            page.close()
        characters += len(text)
        if characters > budget.limits.characters:
            faults.append("size")
            break
        texts += [text, *fields]
        if scanned and "image" not in faults:
            faults.append("image")
    return Extracted(
        type="pdf", text="\n".join(texts), children=tuple(_embedded(document, budget)), faults=tuple(faults)
    )


def _page(page: Any) -> tuple[str, bool]:
    reader = page.get_textpage()
    try:
        # All of it: what is asked for by a rectangle lacks what lies beyond the page's edge, and full stops.
        text: str = reader.get_text_range().replace(_BROKEN, "-\n")
    finally:
        reader.close()
    scanned = len(text.strip()) < _LITTLE_TEXT and any(
        item.type == pdfium.FPDF_PAGEOBJ_IMAGE for item in page.get_objects(max_depth=3)
    )
    return text, scanned


def _seen(page: Any, budget: Budget) -> str:
    """The text in a scanned page's picture; empty when nothing reads pictures."""
    reader = budget.pictures.reader
    if reader is None:
        return ""
    longest = max(page.get_size())
    bitmap = page.render(scale=min(_SCALE, _MAX_SIDE / max(longest, 1)))
    try:
        return reader.read(bitmap.to_numpy()[:, :, :3])
    finally:
        bitmap.close()


def _fields(document: Any, page: Any) -> Iterator[str]:
    if document.formenv is None:
        return
    for place in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, place)
        if not annotation:
            continue
        try:
            name = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, document.formenv, annotation) or _string(
                pdfium.FPDFAnnot_GetFormFieldName, document.formenv, annotation
            )
            value = _string(pdfium.FPDFAnnot_GetFormFieldValue, document.formenv, annotation)
            note = _key(annotation, b"Contents")
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)
        if value:
            yield f"{name}: {value}"
        if note:
            yield note


def _string(function: Any, form: Any, annotation: Any) -> str:
    buffer = (ctypes.c_ushort * (_BUFFER // 2))()
    return _wide(buffer, function(form, annotation, buffer, _BUFFER))


def _key(annotation: Any, key: bytes) -> str:
    buffer = (ctypes.c_ushort * (_BUFFER // 2))()
    return _wide(buffer, pdfium.FPDFAnnot_GetStringValue(annotation, key, buffer, _BUFFER))


def _wide(buffer: Any, octets: int) -> str:
    return bytes(buffer)[: max(0, min(octets, _BUFFER) - 2)].decode("utf-16-le", "replace")


def _embedded(document: Any, budget: Budget) -> Iterator[tuple[str, bytes]]:
    for place in range(document.count_attachments()):
        attachment = document.get_attachment(place)
        data = bytes(attachment.get_data())
        budget.spend(len(data))
        yield attachment.get_name(), data
