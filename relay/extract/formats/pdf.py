"""PDF: text of all pages with what stands on them, document properties, bookmarks and embedded files."""

import logging
import re
from itertools import islice
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as pdfium

from relay.extract.budget import Budget, Extracted, UnreadableError
from relay.extract.formats.pdf_extras import Annotations, bookmarks, embedded, xfa_texts

_LITTLE_TEXT: Final = 12  # characters: a page with an image and less text than this is a scanned page
_BROKEN: Final = "\ufffe"
"""What PDFium gives for a hyphen at the end of a line, and the line's end."""
_SCALE: Final = 2.0  # of 72 dots an inch
_MAX_SIDE: Final = 2400.0  # pixels
_MUCH_TEXT: Final = 200  # characters: with less, a picture over most of the page is the page; faxes have a line above
_MOST_OF_IT: Final = 0.5  # of the page's area
_MEANINGLESS: Final = re.compile("[\x01-\x08\x0e-\x1f\ufffd\ue000-\uf8ff]")
"""What comes of letters whose font does not say what they are: a reader sees them all the same."""
_SAMPLE: Final = 2000  # characters
_TOO_MANY: Final = 0.1  # of them
_MANY_LINES: Final = 100  # drawn things on a page without text: letters as outlines
_MOST_ITEMS: Final = 1000  # that are looked at
_OWN_FORMS: Final = frozenset({pdfium.FORMTYPE_NONE, pdfium.FORMTYPE_ACRO_FORM})

logging.getLogger("pypdfium2").setLevel(logging.CRITICAL + 1)  # it tells of forms that are read in another way


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
    texts += bookmarks(document)
    files = list(embedded(document, budget))
    if document.get_formtype() not in _OWN_FORMS:
        try:
            texts += xfa_texts(document)
        except UnreadableError as error:  # the pages may say something all the same
            faults.append(error.reason)
    if len(document) > budget.limits.pages:
        faults.append("pages")
    characters = 0
    for number in range(min(len(document), budget.limits.pages)):
        beside, text, scanned = _page(document, number, budget)
        characters += len(text)
        if characters > budget.limits.characters:
            faults.append("size")
            break
        texts += [text, *beside.texts]
        files += beside.files
        if scanned and "image" not in faults:
            faults.append("image")
    return Extracted(type="pdf", text="\n".join(texts), children=tuple(files), faults=tuple(faults))


def _page(document: Any, number: int, budget: Budget) -> tuple[Annotations, str, bool]:
    """What stands beside a page's text, the text, and whether there is more on the page that was not read."""
    page = document[number]
    try:
        beside = Annotations(document, page, budget)
        if beside.is_drawn and pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) == pdfium.FLATTEN_SUCCESS:
            page.close()
            page = document[number]
        text = _text(page)
        scanned = _is_scanned(page, text)
        if scanned and (seen := _seen(page, budget)):
            text, scanned = f"{text}\n{seen}", False
    finally:
        page.close()
    return beside, text, scanned


def _text(page: Any) -> str:
    reader = page.get_textpage()
    try:
        # All of it: what is asked for by a rectangle lacks what lies beyond the page's edge, and full stops.
        text: str = reader.get_text_range().replace(_BROKEN, "-\n")
    finally:
        reader.close()
    return text


def _is_scanned(page: Any, text: str) -> bool:
    """Whether it shows more than its text says: a picture of a page, letters drawn as lines, or without meaning."""
    letters = text.strip()
    if len(letters) >= _LITTLE_TEXT and len(_MEANINGLESS.findall(text[:_SAMPLE])) > len(text[:_SAMPLE]) * _TOO_MANY:
        return True
    if len(letters) >= _MUCH_TEXT:
        return False
    items = list(islice(page.get_objects(max_depth=3), _MOST_ITEMS))
    pictures = [item for item in items if item.type == pdfium.FPDF_PAGEOBJ_IMAGE]
    if len(letters) < _LITTLE_TEXT:
        return bool(pictures) or len(items) >= _MANY_LINES
    area = page.get_width() * page.get_height() * _MOST_OF_IT
    return any(_area(picture) > area for picture in pictures)


def _area(item: Any) -> float:
    left, bottom, right, top = item.get_bounds()
    return float((right - left) * (top - bottom))


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
