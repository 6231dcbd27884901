"""TNEF: the winmail.dat in which Outlook and Exchange send body, properties and attachments ([MS-OXTNEF])."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from relay.extract.budget import Budget, Extracted, UnreadableError
from relay.extract.formats.rtf import rtf_text, unpack_rtf
from relay.mail.charset import decode
from relay.mail.text import text_of

_SIGNATURE: Final = b"\x78\x9f\x3e\x22"
_ATTRIBUTE: Final = struct.Struct("<BII")  # 2.1.3.2: level, identifier, length; the data and a checksum follow
_SUBJECT, _BODY, _PROPERTIES, _CODE_PAGE = 0x8004, 0x800C, 0x9003, 0x9007
_NEXT_FILE, _FILE_TITLE, _FILE_DATA, _FILE_PROPERTIES = 0x9002, 0x8010, 0x800F, 0x9005
_NESTED: Final = 8  # messages inside one another in one file
_MOST_PROPERTIES: Final = 5000

_STRING8, _UNICODE, _OBJECT, _BINARY = 0x1E, 0x1F, 0x0D, 0x0102
_SIZES: Final = {
    0x02: 4, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x0A: 4, 0x0B: 4, 0x14: 8, 0x40: 8, 0x48: 16,
}  # fmt: skip
"""[MS-OXCDATA] 2.11.1: octets of the types of fixed size, padded to four as TNEF writes them."""
_VARIABLE: Final = frozenset({_STRING8, _UNICODE, _OBJECT, _BINARY})
_MANY: Final = 0x1000
_NAMED: Final = 0x8000
_CONTACT: Final = 0x3A  # the first octet of the tags of what is known of a person ([MS-OXPROPS])
_TEXTS: Final = frozenset({_STRING8, _UNICODE})

_LINES: Final = {0x0037: "Subject", 0x0C1A: "From", 0x0E04: "To", 0x0E03: "Cc"}
_BODY_TEXT, _BODY_HTML, _BODY_RTF = 0x1000, 0x1013, 0x1009
_LONG_NAME, _SHORT_NAME, _NAME, _DATA = 0x3707, 0x3704, 0x3001, 0x3701
_INTERFACE: Final = 16  # octets of an identifier before an object's data


@dataclass(slots=True)
class _File:
    """An attachment while it is read."""

    name: str = ""
    data: bytes = b""
    nested: bytes = b""


@dataclass(slots=True)
class _Message:
    """What was read until now; what comes after damage is lost, and said."""

    charset: str = ""
    lines: list[str] = field(default_factory=list)
    text: str = ""
    html: bytes = b""
    rtf: bytes = b""
    files: list[_File] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_tnef(data: bytes, budget: Budget) -> Extracted:
    """Body and fields as text, the attachments as children. Damage is the fault ``malformed``, after what was read.

    Raises:
        UnreadableError: over a limit.
    """
    return _read(data, budget, 1)


def _read(data: bytes, budget: Budget, depth: int) -> Extracted:
    if depth > _NESTED:
        raise UnreadableError("depth")
    message = _Message()
    try:
        for identifier, value in _attributes(data):
            _take(message, identifier, value)
    except (struct.error, IndexError):
        message.faults.append("malformed")
    lines = [*message.lines, _body(message, budget)]
    children: list[tuple[str, bytes]] = []
    for file in message.files:
        if file.nested.startswith(_SIGNATURE):
            inner = _read(file.nested, budget, depth + 1)
            lines += [file.name, inner.text]
            children += inner.children
            message.faults += inner.faults
        elif file.data or file.nested or file.name:
            content = file.data or file.nested
            budget.spend(len(content))
            children.append((file.name, content))
    faults = tuple(dict.fromkeys(message.faults))
    return Extracted(type="tnef", text="\n".join(filter(None, lines)), children=tuple(children), faults=faults)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(identifier, value) of each.

    Raises:
        struct.error: the end comes too soon.
        IndexError: an attribute is not what its checksum says.
    """
    place = len(_SIGNATURE) + 2
    while place < len(data):
        _, identifier, length = _ATTRIBUTE.unpack_from(data, place)
        place += _ATTRIBUTE.size
        value = data[place : place + length]
        (checksum,) = struct.unpack_from("<H", data, place + length)
        yield identifier & 0xFFFF, value
        if sum(value) & 0xFFFF != checksum:
            raise IndexError
        place += length + 2


def _take(message: _Message, identifier: int, value: bytes) -> None:
    charset = message.charset
    if identifier == _CODE_PAGE:
        message.charset = f"cp{struct.unpack_from('<I', value)[0]}"
    elif identifier == _SUBJECT:
        message.lines.append(f"Subject: {_string(value, charset)}")
    elif identifier == _BODY:
        message.text = _string(value, charset)
    elif identifier == _PROPERTIES:
        _take_properties(message, value)
    elif identifier == _NEXT_FILE:
        message.files.append(_File())
    elif message.files:
        file = message.files[-1]
        if identifier == _FILE_TITLE:
            file.name = file.name or _string(value, charset)
        elif identifier == _FILE_DATA:
            file.data = value
        elif identifier == _FILE_PROPERTIES:
            _take_file_properties(file, value, charset)


def _take_properties(message: _Message, value: bytes) -> None:
    for kind, tag, content in _properties(value):
        if tag in _LINES:
            message.lines.append(f"{_LINES[tag]}: {_typed(kind, content, message.charset)}")
        elif tag == _BODY_TEXT:
            message.text = _typed(kind, content, message.charset)
        elif tag == _BODY_HTML:
            message.html = content if kind == _BINARY else _typed(kind, content, message.charset).encode()
        elif tag == _BODY_RTF:
            message.rtf = content
        elif kind in _TEXTS and (tag >= _NAMED or tag >> 8 == _CONTACT):
            message.lines.append(_typed(kind, content, message.charset))


def _take_file_properties(file: _File, value: bytes, charset: str) -> None:
    names = {}
    for kind, tag, content in _properties(value):
        if tag in {_LONG_NAME, _SHORT_NAME, _NAME}:
            names[tag] = _typed(kind, content, charset)
        elif tag == _DATA and kind == _OBJECT:
            file.nested = content[_INTERFACE:]
        elif tag == _DATA:
            file.data = file.data or content
    file.name = names.get(_LONG_NAME) or file.name or names.get(_SHORT_NAME) or names.get(_NAME) or ""


def _properties(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """[MS-OXTNEF] 2.1.3.4: (type, tag, value) of each; of one with several values, each.

    Raises:
        struct.error: the end comes too soon.
        IndexError: a type that there is not, or more than can be.
    """
    (count,) = struct.unpack_from("<I", data)
    if count > _MOST_PROPERTIES:
        raise IndexError
    place = 4
    for _ in range(count):
        kind, tag = struct.unpack_from("<HH", data, place)
        place += 4
        if tag >= _NAMED:
            place = _after_name(data, place)
        many, kind = kind & _MANY, kind & ~_MANY
        values = 1
        if many or kind in _VARIABLE:
            (values,) = struct.unpack_from("<I", data, place)
            place += 4
        if values > _MOST_PROPERTIES or (kind not in _SIZES and kind not in _VARIABLE):
            raise IndexError
        for _ in range(values):
            length = _SIZES.get(kind, 0)
            if kind in _VARIABLE:
                (length,) = struct.unpack_from("<I", data, place)
                place += 4
            if place + length > len(data):
                raise IndexError
            yield kind, tag, data[place : place + length]
            place += _padded(length)


def _after_name(data: bytes, place: int) -> int:
    """Behind a named property's set, and its number or name."""
    kind, length = struct.unpack_from("<II", data, place + 16)
    return place + 24 + (_padded(length) if kind else 0)


def _padded(length: int) -> int:
    return length + -length % 4


def _typed(kind: int, value: bytes, charset: str) -> str:
    return value.decode("utf-16-le", "replace").rstrip("\0") if kind == _UNICODE else _string(value, charset)


def _string(value: bytes, charset: str) -> str:
    return decode(value.rstrip(b"\0"), charset)


def _body(message: _Message, budget: Budget) -> str:
    """The body in all its forms: programs differ in which they show."""
    lines = [message.text, text_of(message.html, "text/html", "") if message.html else ""]
    if message.rtf:
        try:
            lines.append(rtf_text(unpack_rtf(message.rtf, budget)))
        except UnreadableError as error:
            message.faults.append(error.reason)
    return "\n".join(line for line in lines if line.strip())
