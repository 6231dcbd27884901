"""Bytes to text when the label may lie."""

import codecs
import functools
from typing import Final

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ESCAPED: Final = ("iso2022", "utf_7", "hz")  # codecs whose text is ASCII on the wire
_SINGLE_BYTE: Final = frozenset({"ascii", "iso8859-1", "cp1252", "latin_1"})
_SAMPLE: Final = 4096  # bytes looked at for the pattern of UTF-16 without a mark


@functools.lru_cache(maxsize=256)
def codec_name(label: str) -> str:
    """The codec for a MIME charset label, empty when there is none or when it is not a text encoding."""
    try:
        info = codecs.lookup(label.strip(" \"'").lower()[:64])
        "".encode(info.name)  # refuses the bytes-to-bytes codecs, which are none of mail's
    except (LookupError, ValueError):
        return ""
    return info.name


def decode(data: bytes, label: str) -> str:
    """Text of ``data``, whose charset is said to be ``label``. Never raises, and never loses a byte's place.

    The order: a byte-order mark; UTF-16 told by its zero bytes; well-formed UTF-8, which almost nothing else happens
    to be; the label; Windows-1252, with U+FFFD for what that cannot read either. Charsets that escape into ASCII
    (ISO-2022, UTF-7) go by their label.
    """
    name = codec_name(label) if label else ""
    if data.isascii() and b"\0" not in data and not name.startswith(_ESCAPED):
        return data.decode("ascii")
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return data.decode(codec, "replace")
    if name.startswith(_ESCAPED):
        text = data.decode(name, "replace")
        return text.encode("utf-8", "replace").decode("utf-8")  # UTF-7 can spell lone surrogates
    wide = _wide(data)
    if wide:
        return data.decode(wide, "replace")
    candidates = ["utf-8"]
    if name and name not in _SINGLE_BYTE and not name.startswith(("utf-8", "utf-16", "utf-32")):
        candidates.append(name)
    for codec in candidates:
        read = _strictly(data, codec)
        if read is not None:
            return read
    return data.decode("cp1252", "replace")


def _strictly(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _wide(data: bytes) -> str:
    """``utf-16-le`` or ``-be`` when every other byte of the beginning is mostly zero, else empty."""
    sample = data[:_SAMPLE]
    half = len(sample) // 2
    if half < 2 or b"\0" not in sample:
        return ""
    even, odd = sample[0 : 2 * half : 2].count(0), sample[1 : 2 * half : 2].count(0)
    if odd > half * 0.4 and even < half * 0.1:
        return "utf-16-le"
    if even > half * 0.4 and odd < half * 0.1:
        return "utf-16-be"
    return ""
