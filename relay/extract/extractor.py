"""A file to its text: by format, and through the files inside it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from relay.extract.budget import AttachmentLimits, Budget, Contents, Extracted, Piece, UnreadableError
from relay.extract.formats.archive import read_compressed, read_tar, read_zip
from relay.extract.formats.dicom import read_dicom
from relay.extract.formats.image import is_picture_of_something
from relay.extract.formats.message import is_message, read_message_file
from relay.extract.formats.ocr import PictureReader
from relay.extract.formats.office import flat
from relay.extract.formats.ole import read_ole
from relay.extract.formats.pdf import read_pdf
from relay.extract.formats.rtf import read_rtf
from relay.extract.formats.tnef import read_tnef
from relay.extract.formats.xml import labelled, local, parse_xml, read_clinical_xml
from relay.extract.inline import read_text_format
from relay.extract.opaque import holds_pgp_message
from relay.extract.sniff import TEXT, sniff
from relay.mail.card import card_files, is_card
from relay.mail.charset import decode
from relay.mail.leaf import Leaf

_DOCUMENTS: Final = frozenset({"wordDocument", "package", "document", "Workbook", "svg"})
"""Roots of XML that is shown as a page, its words in pieces: Word's, Excel's and OpenDocument's own, and drawings."""


class Extractor:
    """Reads attachments. It parses what strangers wrote: it belongs into the helper, where a fault costs one job."""

    def __init__(self, limits: AttachmentLimits | None = None, pictures: PictureReader | None = None) -> None:
        self._limits = limits or AttachmentLimits()
        self._pictures = pictures

    def budget(self) -> Budget:
        """A fresh budget, for all attachments of one message."""
        return Budget(self._limits, self._pictures)

    def read(self, leaf: Leaf, kind: str, budget: Budget) -> Contents:
        """Read a part and what is inside it. Never raises :class:`UnreadableError`: it is in ``faults``."""
        walk = _Walk(budget)
        found = walk.file(leaf.number, leaf.data, leaf.content_type, kind, 1, leaf.charset)
        return Contents(
            type=found or kind,
            pieces=tuple(walk.pieces),
            structures=tuple(walk.structures),
            faults=tuple(dict.fromkeys(walk.faults)),
        )


class _Walk:
    """One attachment's tree of files."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.pieces: list[Piece] = []
        self.structures: list[tuple[str, str, bool]] = []
        self.faults: list[tuple[str, str]] = []

    def file(self, part: str, data: bytes, content_type: str, kind: str, depth: int, charset: str = "") -> str:
        """Read a file and those inside it; what it is."""
        try:
            self.budget.file(depth)
            extracted = read_as(data, kind, content_type, self.budget, charset)
        except UnreadableError as error:
            self.faults.append((part, error.reason))
            return ""
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - parsers answer damage with whatever they stumble over (law 3)
            self.faults.append((part, "malformed"))
            return ""
        if extracted.text.strip():
            self.pieces.append(Piece(part=part, text=extracted.text))
        if extracted.structure:
            self.structures.append((part, extracted.structure, extracted.patient))
        self.faults += [(part, reason) for reason in extracted.faults]
        separator = "." if ":" in part else ":"
        for number, (name, content) in enumerate(extracted.children, 1):
            inner = f"{part}{separator}{number}"
            if name:
                self.pieces.append(Piece(part=inner, text=name.replace("_", " ")))
            if content:
                self.file(inner, content, "", sniff(content, "", name), depth + 1)
        return extracted.type


def read_as(data: bytes, kind: str, content_type: str, budget: Budget, charset: str = "") -> Extracted:
    """Read one file as what :func:`~relay.extract.sniff.sniff` took it for.

    Raises:
        UnreadableError: why it cannot be read.
    """
    reader = _READERS.get(kind)
    if reader is not None:
        return reader(data, budget)
    if kind in TEXT:
        if kind == "text" and is_message(data):
            return read_message_file(data, budget)
        found = read_text_format(data, kind, content_type, charset)
        if is_card(data):
            found = replace(found, children=tuple(card_files(decode(data, charset))))
        return replace(found, faults=(*found.faults, "encrypted")) if holds_pgp_message(data) else found
    if kind == "image":
        return _read_image(data, budget) if is_picture_of_something(data) else Extracted(type="image")
    raise UnreadableError("format")


def _read_image(data: bytes, budget: Budget) -> Extracted:
    """Its text. A picture without text stays unreadable: it may show a face or a wound."""
    reader = budget.pictures.reader
    text, is_whole = reader.read_file(data) if reader else ("", True)
    if not text:
        raise UnreadableError("image")
    return Extracted(type="image", text=text, faults=() if is_whole else ("image",))


def _read_xml(data: bytes, budget: Budget) -> Extracted:
    del budget
    root = parse_xml(data)
    text = "\n".join(labelled(root))
    is_document = local(root) in _DOCUMENTS or any(element.tail and element.tail.strip() for element in root.iter())
    return Extracted(type="xml", text=f"{flat(root)}\n{text}" if is_document else text)


def _refuse(reason: str) -> Callable[[bytes, Budget], Extracted]:
    def read(data: bytes, budget: Budget) -> Extracted:
        del data, budget
        raise UnreadableError(reason)

    return read


_READERS: Final[dict[str, Callable[[bytes, Budget], Extracted]]] = {
    "pdf": read_pdf,
    "zip": read_zip,
    "ole": read_ole,
    "tar": read_tar,
    "rtf": read_rtf,
    "xml": _read_xml,
    "dicom": lambda data, _: read_dicom(data),
    "c-cda": lambda data, _: read_clinical_xml(data, "c-cda"),
    "fhir-xml": lambda data, _: read_clinical_xml(data, "fhir-xml"),
    "gzip": lambda data, budget: read_compressed(data, "gzip", budget),
    "bzip2": lambda data, budget: read_compressed(data, "bzip2", budget),
    "xz": lambda data, budget: read_compressed(data, "xz", budget),
    "7z": _refuse("archive"),
    "rar": _refuse("archive"),
    "tnef": read_tnef,
}
