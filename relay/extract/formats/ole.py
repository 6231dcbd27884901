"""OLE containers: Outlook messages, Word, Excel and PowerPoint of 97 to 2003, and encrypted Office documents."""

import io
import re
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import olefile
import xlrd

from relay.extract.budget import Budget, Extracted, UnreadableError
from relay.extract.formats.image import is_picture_of_something
from relay.extract.formats.rtf import rtf_text, unpack_rtf
from relay.mail.charset import decode
from relay.mail.text import text_of

_PROPERTY: Final = "__substg1.0_"
_ATTACHMENT: Final = "__attach_version1.0_"
_MAIL: Final = (("Subject", "0037"), ("From", "0C1A"), ("To", "0E04"), ("Cc", "0E03"))
_TABLE_BIT, _ENCRYPTED_BIT = 0x0200, 0x0100  # [MS-DOC] FibBase
_FC_CLX: Final = 0x01A2
_COMPRESSED: Final = 0x4000_0000
_TEXT_ATOMS: Final = {
    0x0FA0: "utf-16-le",
    0x0FA8: "cp1252",
    0x0FBA: "utf-16-le",
}  # [MS-PPT] TextChars, TextBytes, CString
_PICTURES: Final = ("Data", "Pictures", "Workbook", "WordDocument")
"""Streams in which pictures lie ([MS-DOC] 2.1.6, [MS-PPT] 2.1.3, [MS-XLS] 2.4.170)."""
_PICTURE: Final = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff[\xdb\xe0\xe1]")
_PICTURE_HEAD: Final = 65_536
_MOST_PICTURES: Final = 500
_DOCUMENTS: Final = frozenset(
    {"WordDocument", "Workbook", "Book", "PowerPoint Document", "CONTENTS", "\x01Ole10Native"}
)
"""Streams of documents inside others, which are not put together again."""
_STRINGS: Final = re.compile(rf"{_PROPERTY}(?:8[0-9A-F]{{3}}|3A[0-9A-F]{{2}})001[FE]\Z")
"""Named properties and those of contacts: where a meeting is, what is known of a person."""
_PPT_CONTAINER: Final = 0xF


def read_ole(data: bytes, budget: Budget) -> Extracted:
    """Text and attachments by what the container holds.

    Raises:
        UnreadableError: ``encrypted``, ``malformed``, or ``format`` for a container of something else.
    """
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as container:
            return _read(container, data, budget)
    except (OSError, struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError, xlrd.XLRDError,
            AssertionError, OverflowError) as error:  # fmt: skip
        # olefile and xlrd answer damage with whatever they stumble over.
        raise UnreadableError("malformed") from error


def _read(container: Any, data: bytes, budget: Budget) -> Extracted:
    streams = {"/".join(path): path for path in container.listdir()}
    if "EncryptedPackage" in streams:
        raise UnreadableError("encrypted")
    if "__properties_version1.0" in streams:
        return _message(container, streams, "", budget)
    if "WordDocument" in streams:
        kind, text = "doc", _word(container, streams)
    elif "PowerPoint Document" in streams:
        kind, text = "ppt", "\n".join(_slides(_stream(container, streams, "PowerPoint Document")))
    elif {"Workbook", "Book"} & streams.keys():
        kind, text = "xls", _sheets(data)
    else:
        raise UnreadableError("format")
    faults = {"image"} if any(_shows_something(_stream(container, streams, name)) for name in _PICTURES) else set()
    children = []
    for name in streams:
        _, _, inside = name.rpartition("/")
        if inside == "Package":
            content = _stream(container, streams, name)
            budget.spend(len(content))
            children.append(("", content))
        elif inside != name and inside in _DOCUMENTS:
            faults.add("format")
    return Extracted(type=kind, text=text, children=tuple(children), faults=tuple(sorted(faults)))


def _shows_something(stream: bytes) -> bool:
    """Whether a picture larger than an icon stands in it."""
    found = islice(_PICTURE.finditer(stream), _MOST_PICTURES)
    return any(is_picture_of_something(stream[picture.start() : picture.start() + _PICTURE_HEAD]) for picture in found)


def _stream(container: Any, streams: dict[str, list[str]], name: str) -> bytes:
    if name not in streams:
        return b""
    with container.openstream(streams[name]) as stream:
        content: bytes = stream.read()
    return content


def _message(container: Any, streams: dict[str, list[str]], prefix: str, budget: Budget) -> Extracted:
    """[MS-OXMSG]: properties are streams named by their tag and type."""

    def text(tag: str, at: str = "") -> str:
        wide = _stream(container, streams, f"{prefix}{at}{_PROPERTY}{tag}001F")
        return (
            wide.decode("utf-16-le", "replace")
            if wide
            else decode(_stream(container, streams, f"{prefix}{at}{_PROPERTY}{tag}001E"), "")
        )

    html = _stream(container, streams, f"{prefix}{_PROPERTY}10130102")
    lines = [f"{label}: {text(tag)}" for label, tag in _MAIL if text(tag)]
    lines += [text("1000"), text("1013"), text_of(html, "text/html", "") if html else ""]
    others = (name[len(prefix) :] for name in streams if name.startswith(prefix))
    lines += [text(name[len(_PROPERTY) :][:4]) for name in others if _STRINGS.match(name)]
    children = []
    faults: list[str] = []
    for folder in sorted(
        {name[len(prefix) :].split("/")[0] for name in streams if name.startswith(prefix + _ATTACHMENT)}
    ):
        at = folder + "/"
        content = _stream(container, streams, f"{prefix}{at}{_PROPERTY}37010102")
        inner = f"{prefix}{at}{_PROPERTY}3701000D/"
        if content:
            budget.spend(len(content))
            children.append((text("3707", at) or text("3704", at), content))
        elif any(name.startswith(inner) for name in streams):
            nested = _message(container, streams, inner, budget)
            lines.append(nested.text)
            children += nested.children
            faults += nested.faults
    rich = _stream(container, streams, f"{prefix}{_PROPERTY}10090102")
    if rich:
        try:
            lines.append(rtf_text(unpack_rtf(rich, budget)))
        except UnreadableError as error:
            faults.append(error.reason)
    return Extracted(type="msg", text="\n".join(lines), children=tuple(children), faults=tuple(faults))


def _word(container: Any, streams: dict[str, list[str]]) -> str:
    """[MS-DOC] 2.4.1: the text is in pieces that the CLX of the table stream lists."""
    document = _stream(container, streams, "WordDocument")
    (flags,) = struct.unpack_from("<H", document, 0x0A)
    if flags & _ENCRYPTED_BIT:
        raise UnreadableError("encrypted")
    table = _stream(container, streams, "1Table" if flags & _TABLE_BIT else "0Table")
    offset, size = struct.unpack_from("<II", document, _FC_CLX)
    clx = table[offset : offset + size]
    place = 0
    while clx[place : place + 1] == b"\x01":
        place += 3 + struct.unpack_from("<H", clx, place + 1)[0]
    if clx[place : place + 1] != b"\x02":
        raise UnreadableError("malformed")
    pieces = clx[place + 5 :]
    count = (struct.unpack_from("<I", clx, place + 1)[0] - 4) // 12
    ends = struct.unpack_from(f"<{count + 1}I", pieces, 0)
    texts = []
    for number in range(count):
        (start,) = struct.unpack_from("<I", pieces, 4 * (count + 1) + 8 * number + 2)
        length = ends[number + 1] - ends[number]
        if start & _COMPRESSED:
            first = (start & ~_COMPRESSED) // 2
            texts.append(document[first : first + length].decode("cp1252", "replace"))
        else:
            texts.append(document[start : start + 2 * length].decode("utf-16-le", "replace"))
    return "".join(texts).replace("\r", "\n").replace("\x07", "\t")


def _slides(data: bytes) -> Iterator[str]:
    """[MS-PPT] 2.3: records of version and instance, type and length; containers hold records."""
    place = 0
    while place + 8 <= len(data):
        version, kind, size = struct.unpack_from("<HHI", data, place)
        place += 8
        if version & 0xF == _PPT_CONTAINER:
            continue
        if kind in _TEXT_ATOMS:
            yield data[place : place + size].decode(_TEXT_ATOMS[kind], "replace").replace("\r", "\n")
        place += size


def _sheets(data: bytes) -> str:
    try:
        book = xlrd.open_workbook(file_contents=data, on_demand=True, logfile=io.StringIO())
    except xlrd.XLRDError as error:
        raise UnreadableError("encrypted" if "encrypt" in str(error).lower() else "malformed") from error
    lines: list[str] = []
    for sheet in book.sheets():
        lines.append(sheet.name)
        lines += (
            "\t".join(_value(cell, book.datemode) or " " for cell in sheet.row(row)) for row in range(sheet.nrows)
        )
        lines += (note.text for note in sheet.cell_note_map.values())
    return "\n".join(lines)


def _value(cell: Any, datemode: int) -> str:
    if cell.ctype == xlrd.XL_CELL_DATE:
        year, month, day, *_ = xlrd.xldate_as_tuple(cell.value, datemode)
        return f"{month:02}/{day:02}/{year}"
    if isinstance(cell.value, float) and cell.value.is_integer():
        return str(int(cell.value))
    return str(cell.value)
