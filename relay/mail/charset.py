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
_WIDE: Final = ("utf-16", "utf-32")
_WIDE_CODECS: Final = ("utf-16-le", "utf-16-be")
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

    The order: a byte-order mark; UTF-16 and UTF-32 told by their zero bytes; well-formed UTF-8, which almost nothing
    else happens to be; the label; Windows-1252, with U+FFFD for what that cannot read either. Charsets that escape into
    ASCII (ISO-2022, UTF-7) go by their label. Where programs differ in what they show, the readings follow one another:
    UTF-7, which many do not know, and UTF-16 that only its label tells.
    """
    name = codec_name(label) if label else ""
    if data.isascii() and b"\0" not in data and not name.startswith(_ESCAPED):
        return data.decode("ascii")
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return data.decode(codec, "replace")
    if name.startswith(_ESCAPED):
        text = (
            data.decode(name, "replace").encode("utf-8", "replace").decode("utf-8")
        )  # UTF-7 can spell lone surrogates
        plain = data.decode("cp1252", "replace")
        return text if text == plain or name.startswith("iso2022") else f"{text}\n{plain}"
    wide = wide_codec(data)
    if wide:
        return data.decode(wide, "replace")
    candidates = ["utf-8"]
    if name and name not in _SINGLE_BYTE and not name.startswith(("utf-8", *_WIDE)):
        candidates.append(name)
    for codec in candidates:
        read = _strictly(data, codec)
        if read is not None:
            return read
    plain = data.decode("cp1252", "replace")
    readings = [_strictly(data, codec) for codec in _WIDE_CODECS] if name.startswith(_WIDE) else []
    return "\n".join((*filter(None, readings), plain))


def _strictly(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def wide_codec(data: bytes) -> str:
    """``utf-16-le``, ``utf-32-be`` and so on when the zero bytes of the beginning tell of it, else empty."""
    sample = data[:_SAMPLE]
    half = len(sample) // 2
    if half < 2 or b"\0" not in sample:
        return ""
    even, odd = sample[0 : 2 * half : 2].count(0), sample[1 : 2 * half : 2].count(0)
    if odd > half * 0.4 and even < half * 0.1:
        return "utf-16-le"
    if even > half * 0.4 and odd < half * 0.1:
        return "utf-16-be"
    zeros = [sample[place : 4 * (half // 2) : 4].count(0) for place in range(4)]
    if min(zeros[2:]) > half * 0.45 and zeros[0] < half * 0.05:
        return "utf-32-le"
    if min(zeros[:2]) > half * 0.45 and zeros[3] < half * 0.05:
        return "utf-32-be"
    return ""
