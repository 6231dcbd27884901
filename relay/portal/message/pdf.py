"""A copy of a message as PDF: what it says and shows, and which files belong to it."""

import datetime as dt
import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from io import BytesIO
from typing import Final

from fpdf import FPDF
from fpdf.fonts import TTFFont
from PIL import Image

from relay.portal.message.reader import Section
from relay.portal.moments import Moments, size
from relay.portal.words import Words

_FONT: Final = resources.files(__package__).joinpath("fonts", "DejaVuSans.ttf")
_FORMATS: Final = ("JPEG", "PNG")
_MARGIN: Final = 18.0  # millimetres
_UNSEEN: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))  # variation selectors
_EDGE: Final = 1600  # pixels of a picture's longer side in the document

for _name in ("fpdf", "fontTools", "PIL"):  # they log characters of what they write (law 4)
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfLimits:
    """What a copy may hold (law 6); what is left out is said in it.

    Attributes:
        characters: of text: about 20 pages.
        pictures: how many.
        picture_bytes: octets of one.
        pixels: of one, as its header says.
    """

    characters: int = 40_000
    pictures: int = 12
    picture_bytes: int = 6 * 1024 * 1024
    pixels: int = 24_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What a copy is made of.

    Attributes:
        section: the message.
        pictures: octets of those that it shows.
        left_out: others that it shows, which are too large or too many.
        brand: whose portal.
        at: when it is made, unix seconds.
    """

    section: Section
    pictures: Sequence[bytes] = field(repr=False)
    left_out: int = 0
    brand: str
    at: float


def write_pdf(copy: Copy, words: Words, moments: Moments, limits: PdfLimits) -> bytes:
    """Write the document. It takes about a second for a long message: call it in a thread."""
    return _Writer(copy, words, moments, limits).write()


class _Document(FPDF):
    """A page with a line at its foot."""

    def __init__(self, foot: str, language: str) -> None:
        super().__init__(format="letter" if language == "en" else "A4")
        self._foot = foot
        self.set_margin(_MARGIN)
        self.set_auto_page_break(auto=True, margin=_MARGIN + 8)
        self.add_font("Portal", fname=str(_FONT))
        self.alias_nb_pages()

    def can_show(self, text: str) -> bool:
        """Whether the font has each letter, and all are written from left to right: others would stand in disorder."""
        font = self.fonts["portal"]
        known = font.cmap if isinstance(font, TTFFont) else {}
        seen = {one for one in set(text) if not (one.isspace() or one in _UNSEEN or unicodedata.category(one) == "Cf")}
        return all(ord(one) in known and unicodedata.bidirectional(one) not in {"R", "AL"} for one in seen)

    def footer(self) -> None:
        """Called by the library at the end of each page."""
        self.set_y(-_MARGIN)
        self.set_font("Portal", size=8)
        self.cell(0, 5, f"{self._foot}   {self.page_no()}/{{nb}}")


class _Writer:
    def __init__(self, copy: Copy, words: Words, moments: Moments, limits: PdfLimits) -> None:
        self._copy = copy
        self._words = words
        self._moments = moments
        self._limits = limits
        self._room = limits.characters
        self._is_faithful = True
        self._page = _Document(str(words("pdf.private")), words.language)

    def write(self) -> bytes:
        page = self._page
        page.set_creation_date(dt.datetime.fromtimestamp(self._copy.at, dt.UTC))
        page.set_lang(self._words.language)
        page.set_title(self._subject(self._copy.section))
        page.add_page()
        self._section(self._copy.section)
        self._pictures()
        self._files()
        if not self._is_faithful:
            self._line(str(self._words("pdf.letters")), 10)
        if self._room <= 0:
            self._line(str(self._words("pdf.cut")), 10)
        self._line(str(self._words("pdf.printed", brand=self._copy.brand)), 9)
        return bytes(page.output())

    def _section(self, section: Section) -> None:
        self._line(self._spent(self._subject(section)), 16)
        for name, key in (("from", "message.from"), ("to", "message.to"), ("cc", "message.cc")):
            if value := section.message.header(name):
                self._line(self._spent(f"{self._words(key)}: {value}"), 10)
        if date := section.message.header("date"):
            self._line(self._spent(f"{self._words('message.date')}: {self._moments.plain(date, self._words)}"), 10)
        self._rule()
        self._line(self._spent(section.text or str(self._words("message.no_text"))), 11)
        for inner in section.inner:
            if self._room > 0:
                self._rule()
                self._section(inner)

    def _spent(self, text: str) -> str:
        """As much of it as the document has room for, headers of messages inside included: they may be many."""
        shown, self._room = text[: max(0, self._room)], self._room - len(text)
        return shown

    def _subject(self, section: Section) -> str:
        return section.message.header("subject") or str(self._words("common.no_subject"))

    def _line(self, text: str, points: float) -> None:
        self._page.set_font("Portal", size=points)
        text = _printable(text)
        self._is_faithful = self._is_faithful and self._page.can_show(text)
        self._page.multi_cell(0, points * 0.5, text, align="L", new_x="LMARGIN", new_y="NEXT")
        self._page.ln(1.5)

    def _rule(self) -> None:
        self._page.ln(1)
        self._page.line(_MARGIN, self._page.get_y(), self._page.w - _MARGIN, self._page.get_y())
        self._page.ln(3)

    def _pictures(self) -> None:
        shown = self._copy.pictures[: self._limits.pictures]
        left_out = self._copy.left_out + len(self._copy.pictures) - len(shown)
        for octets in shown:
            picture = _picture(octets, self._limits.pixels)
            if picture is None:
                left_out += 1
                continue
            width = min(self._page.epw, picture.width * 0.2646)  # 96 pixels an inch
            height = width * picture.height / picture.width
            if height > self._page.eph:
                width, height = width * self._page.eph / height, self._page.eph
            self._page.image(picture, w=width, h=height)
            self._page.ln(3)
        if left_out:
            self._line(str(self._words("pdf.left_out")), 10)

    def _files(self) -> None:
        found = [file for section in _sections(self._copy.section) for file in section.files]
        if not found:
            return
        self._rule()
        self._line(str(self._words("pdf.files")), 10)
        for file in found[:100]:
            self._line(f"•  {file.name} ({size(file.octets, self._words)})", 10)


def _sections(section: Section) -> list[Section]:
    return [section, *(one for inner in section.inner for one in _sections(inner))]


def _printable(text: str) -> str:
    """Without control characters, which would be printed as boxes."""
    return "".join(character for character in text if character >= " " or character in "\n\t").replace("\t", "    ")


def _picture(octets: bytes, pixels: int) -> "Image.Image | None":
    """The picture, no larger than it is printed; ``None`` for one that is too large or that cannot be read.

    Only two decoders are let near a stranger's octets, and the size that the header says is looked at first. They raise
    whatever their authors did not think of (struct.error, IndexError, zlib.error ...): a copy without one picture is
    better than none.
    """
    try:
        with Image.open(BytesIO(octets), formats=_FORMATS) as picture:
            if picture.width * picture.height > pixels:
                return None
            picture.draft("RGB", (_EDGE, _EDGE))  # a JPEG is decoded no larger than needed
            shown = picture.convert("RGB")
            shown.thumbnail((_EDGE, _EDGE))
            return shown if shown.width and shown.height else None
    except Exception:  # noqa: BLE001  as above
        return None
