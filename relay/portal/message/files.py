"""Names and types under which parts leave the portal: nothing that a browser would run or that hides what it is."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|;%]')
_SPACE: Final = re.compile(r"\s+")
_MAX_NAME: Final = 120  # characters
_WRITTEN: Final = 4 * _MAX_NAME  # characters at either end of a long name: at the most four become one
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.IGNORECASE)

SAFE_TYPES: Final[Mapping[str, str]] = {
    "application/pdf": "pdf",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/heic": "heic",
    "image/tiff": "tif",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/rtf": "rtf",
    "application/zip": "zip",
    "application/dicom": "dcm",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "video/mp4": "mp4",
    "text/plain": "txt",
    "text/csv": "csv",
    "text/calendar": "ics",
    "text/vcard": "vcf",
    "message/rfc822": "eml",
}
"""Types that are named to the browser; all else leaves as ``application/octet-stream``."""

_RISKY: Final = re.compile(
    r"(?:ade|adp|apk|app|application|appref-ms|bas|bat|chm|cmd|com|cpl|dll|dmg|docm|dotm|exe|gadget|hta|htm|"
    r"html|inf|ins|iso|isp|jar|jnlp|jpi|js|jse|lnk|mde|msc|msi|msp|mst|ocx|pif|potm|ppam|ppsm|pptm|ps1|"
    r"psc1|py|reg|scf|scr|sct|sh|shb|svg|svgz|swf|sys|url|vb|vbe|vbs|vhd|vhdx|ws|wsc|wsf|wsh|xhtml|xlam|"
    r"xll|xlsm|xltm|xml|xsl)\Z",
    re.IGNORECASE,
)
"""Endings of files that can run something where they are opened."""


def safe_name(name: str, content_type: str, otherwise: str) -> str:
    """A file name for any system: no path, no control or direction character, not hidden, not too long, with an ending.

    Args:
        name: as the message gives it.
        content_type: for the ending when the name has none.
        otherwise: the name for a part without one.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    if len(last) > 2 * _WRITTEN:  # normalising takes the square of the marks that stand in a row
        last = last[:_WRITTEN] + last[-_WRITTEN:]
    shown = "".join(
        character
        for character in unicodedata.normalize("NFC", last)
        if unicodedata.category(character) not in {"Cf", "Cs"}
    )
    shown = _SPACE.sub(" ", _UNSAFE.sub("_", shown)).strip(" .") or otherwise
    if _RESERVED.match(shown):
        shown = f"_{shown}"
    stem, dot, ending = shown.rpartition(".")
    if not dot or not stem or len(ending) > 12:
        stem, ending = shown, SAFE_TYPES.get(content_type, "")
    room = _MAX_NAME - len(ending) - 1
    return f"{stem[:room].rstrip()}.{ending}" if ending else stem[:_MAX_NAME]


def served_type(content_type: str) -> str:
    """The media type a part leaves with."""
    if content_type not in SAFE_TYPES:
        return "application/octet-stream"
    return f"{content_type}; charset=utf-8" if content_type == "text/plain" else content_type


def is_risky(name: str) -> bool:
    """Whether opening a file of this name can run something."""
    stem, _, ending = name.rpartition(".")
    return bool(stem) and _RISKY.match(ending) is not None


def download_headers(name: str) -> dict[str, str]:
    """Headers that make a browser save a response and do nothing else with it (RFC 6266, RFC 8187)."""
    plain = name.encode("ascii", "replace").decode("ascii").replace("?", "_").replace('"', "_").replace("\\", "_")
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
