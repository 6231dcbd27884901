"""Pictures that break their decoders, or would fill the memory: the copy as PDF goes without them, and says so."""

import struct
import tracemalloc
import zlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from relay.portal.message.outline import Part
from relay.portal.message.pdf import Copy, PdfLimits, write_pdf
from relay.portal.message.reader import Section
from relay.portal.moments import Moments
from relay.portal.words import words

MIB = 1024 * 1024
SAID = {"en": "Some pictures could not be put here", "es": "Algunas im\u00e1genes no se pudieron poner"}


def encoded(kind, size=(60, 40)):
    held = BytesIO()
    Image.effect_noise(size, 90).convert("RGB" if kind != "GIF" else "P").save(held, kind)
    return held.getvalue()


def chunk(kind, data):
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))


def huge_png(width=60_000, height=60_000):
    """A few octets that say that they are a wall."""
    head = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def huge_jpeg():
    whole = bytearray(encoded("JPEG"))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    return bytes(whole)


def huge_gif():
    whole = bytearray(encoded("GIF"))
    whole[6:10] = b"\xff\xff\xff\xff"
    return bytes(whole)


def text_bomb():
    """A PNG whose compressed comment is a hundred megabytes."""
    good = encoded("PNG")
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 * MIB), 9))
    return good[:33] + bomb + good[33:]


def copied(*pictures, left_out=0, language="en", text="planted-text"):
    message = Part(index=0, parent=-1, content_type="text/plain", start=0, end=0)
    section = Section(message=message, text=text, html="", pictures=(), files=(), inner=())
    copy = Copy(section=section, pictures=pictures, left_out=left_out, brand="River Clinic", at=1_772_442_000.0)
    return write_pdf(copy, words(language), Moments(), PdfLimits())


def says(pdf):
    import pypdfium2

    document = pypdfium2.PdfDocument(pdf)
    try:
        return " ".join(" ".join(page.get_textpage().get_text_bounded() for page in document).split())
    finally:
        document.close()


BROKEN = {
    "cut png": lambda: encoded("PNG", (400, 300))[:3000],
    "cut jpeg": lambda: encoded("JPEG", (400, 300))[:3000],
    "cut gif": lambda: encoded("GIF", (400, 300))[:3000],
    "huge png": huge_png,
    "huge jpeg": huge_jpeg,
    "huge gif": huge_gif,
    "thin png": lambda: huge_png(16_000_000, 1),
    "text bomb": text_bomb,
    "no picture": lambda: b"nothing of the kind",
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_copy_goes_without_a_picture_that_breaks_and_says_so(name):
    good, broken = encoded("JPEG"), BROKEN[name]()
    tracemalloc.start()
    pdf = copied(broken, good)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pdf.count(b"/Subtype /Image") == 1, "the other one is there"
    assert SAID["en"] in says(pdf)
    assert "planted-text" in says(pdf)
    assert peak < 40 * MIB


@pytest.mark.parametrize("language", ["en", "es"])
def test_pictures_beyond_the_limits_are_told_of_too(language):
    good = encoded("PNG")
    assert SAID[language] not in says(copied(good, language=language))
    assert SAID[language] in says(copied(good, left_out=1, language=language))
    many = copied(*[good] * (PdfLimits().pictures + 1), language=language)
    assert SAID[language] in says(many)


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("HbA1c: 5.4 %, todo está bien. Всё хорошо. Tiếng Việt \U0001f600\ufe0f a\u00adb\u200bc", False),
        ("\u7ed3\u679c\u6b63\u5e38", True),  # the font has no such letters
        ("\u0928\u092e\u0938\u094d\u0924\u0947", True),
        ("\u05e9\u05dc\u05d5\u05dd 12", True),  # it has these, and they would stand backwards
        ("\u0645\u0631\u062d\u0628\u0627", True),
    ],
)
@pytest.mark.parametrize("language", ["en", "es"])
def test_a_copy_says_when_it_does_not_show_all_letters(text, is_told, language):
    told = {"en": "Some letters of this message", "es": "Algunas letras de este mensaje"}[language]
    assert (told in says(copied(text=text, language=language))) is is_told


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF"]),
    hits=st.lists(st.tuples(st.integers(min_value=0, max_value=1500), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_octets_that_are_changed_anywhere_break_no_copy(kind, hits):
    picture = bytearray(_WHOLE[kind])
    for at, value in hits:
        picture[at % len(picture)] = value
    assert copied(bytes(picture)).startswith(b"%PDF-")


_WHOLE = {kind: encoded(kind) for kind in ("PNG", "JPEG", "GIF")}
