"""What an attachment is, by its content; its name and label decide only what content leaves open."""

import re
from typing import Final

from relay.mail.charset import decode, wide_codec

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF-", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"{\\rtf", "rtf"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"GIF8", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"II*\x00", "image"),
    (b"MM\x00*", "image"),
    (b"\x78\x9f\x3e\x22", "tnef"),
)
_FIRST: Final = frozenset(magic[0] for magic, _ in _MAGIC)
_COMMENT: Final = rb"<!--(?:(?!-->).){0,2000}+-->"  # to its first end: one that could go on is tried in each way
_XML: Final = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}\?>|" + _COMMENT + rb"|<!DOCTYPE[^>\[]{0,200}>|\s){0,8}<([\w:.-]+)([^>]{0,2000})",
    re.DOTALL,
)
_HTML: Final = re.compile(
    rb"\s*(?:"
    + _COMMENT
    + rb"\s*){0,8}<(?:!doctype\s+html|(?:html|head|body|title|meta|link|base|style|script|div|p|span|"
    rb"font|center|table|h[1-6]|br|hr|ul|ol|pre|form|img|strong|em|b|i|u)[\s/>])",
    re.IGNORECASE | re.DOTALL,
)
"""How HTML may begin: browsers, and spreadsheet programs, ask for no more."""
_HTML_NAMES: Final = (".html", ".htm", ".xhtml", ".shtml", ".hta")
_HL7: Final = re.compile(rb"[\x0b\s]{0,8}(?:FHS|BHS|MSH)([^\w\s])[^\r\n]*")
_X12: Final = re.compile(rb"\s{0,8}ISA([^\w\s])(?:[^\r\n]{0,15}\1){15}")
_FHIR: Final = re.compile(rb'"resourceType"\s*:\s*"[A-Z][A-Za-z]+"')
_CONTROL: Final = bytes(set(range(32)) - set(b"\t\n\r\f\x0b\x1b\x1c\x1d\x1e"))
_SAMPLE: Final = 8192
_FEW_CONTROLS: Final = 0.05  # of all octets: what no text in octets has
_BOMS: Final = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")

TEXT: Final = frozenset({"text", "html", "hl7v2", "x12", "fhir"})
"""Formats that are text and are read on the spot; all others are the helper's."""


def sniff(data: bytes, content_type: str, name: str = "") -> str:
    """The format's name.

    Args:
        data: all of the file.
        content_type: its label, lower case, or empty.
        name: its name, by which programs open it, or empty.

    Returns:
        One of :data:`TEXT`; a container or document (``pdf``, ``zip``, ``ole``, ``gzip``, ``tar``, ``rtf``, ``dicom``,
        ``c-cda``, ``fhir-xml``, ``xml``, ``image``, ``tnef`` ...); or ``unknown``.
    """
    if data[:1] and data[0] in _FIRST:
        for magic, kind in _MAGIC:
            if data.startswith(magic):
                return kind
    if data[128:132] == b"DICM":
        return "dicom"
    if data[257:262] == b"ustar":
        return "tar"
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if not _is_text(data, content_type):
        return _binary(data, content_type)
    return _text_format(data, content_type, is_named_html=name.lower().endswith(_HTML_NAMES))


def _is_text(data: bytes, content_type: str) -> bool:
    sample = data[:_SAMPLE]
    if content_type.startswith("text/"):
        return _is_legible(sample)
    if not sample.translate(None, _CONTROL) or content_type.startswith(("image/", "audio/", "video/", "font/")):
        return False
    if len(sample.translate(None, _CONTROL)) == len(sample):
        return True
    return sample.startswith(_BOMS) or bool(wide_codec(sample))


def _is_legible(sample: bytes) -> bool:
    """Whether what is called text may be that: a picture that is called so is saved and opened all the same."""
    if len(sample) - len(sample.translate(None, _CONTROL)) <= len(sample) * _FEW_CONTROLS:
        return True
    return sample.startswith(_BOMS) or bool(wide_codec(sample))


def _text_format(data: bytes, content_type: str, *, is_named_html: bool) -> str:
    head = data[:_SAMPLE]
    if b"\0" in head:
        head = decode(head, "").encode("utf-8", "replace")
    head = head.removeprefix(b"\xef\xbb\xbf")
    if _HL7.match(head):
        return "hl7v2"
    if _X12.match(head):
        return "x12"
    if head.lstrip()[:1] in {b"{", b"["} and _FHIR.search(head):
        return "fhir"
    if content_type in {"text/html", "application/xhtml+xml"}:
        return "html"
    xml = _XML.match(head)
    if is_named_html or (_HTML.match(head) and not content_type.endswith("xml")):
        return "html"
    if xml is None:
        return "xml" if head.lstrip().startswith(b"<?xml") else "text"
    name, attributes = xml[1].rpartition(b":")[2].lower(), xml[2]
    if name == b"html":
        return "html"
    if name == b"clinicaldocument":
        return "c-cda"
    if b"http://hl7.org/fhir" in attributes:
        return "fhir-xml"
    is_xml = head.lstrip().startswith(b"<?xml") or b"xmlns" in attributes or content_type.endswith("xml")
    return "xml" if is_xml else "text"


def _binary(data: bytes, content_type: str) -> str:
    if content_type.startswith("image/") or data[:4] == b"RIFF" or data[4:8] == b"ftyp":
        return "image" if content_type.startswith("image/") or data[8:12] == b"WEBP" else "unknown"
    return "unknown"
