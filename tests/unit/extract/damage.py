"""Well-formed documents of every kind that is read, and the damage done to them."""

import random
import zlib
from collections.abc import Callable

from tests.support import documents

LINES = ["Patient: Maribel Quintana", "DOB 03/14/1962", "MRN 4471829", "type 2 diabetes, metformin 500 mg"]
ROWS = [["Patient name", "DOB", "MRN"], ["Maribel Quintana", "03/14/1962", "4471829"]]
TEXT = "\r\n".join(LINES).encode()

SEEDS: dict[str, bytes] = {
    "pdf": documents.pdf(LINES, field=("MRN", "4471829")),
    "pdf-scanned": documents.pdf([], image=True),
    "docx": documents.docx(LINES),
    "xlsx": documents.xlsx(ROWS),
    "pptx": documents.pptx(LINES),
    "odt": documents.odt(LINES),
    "rtf": documents.rtf(LINES),
    "doc": documents.doc(LINES),
    "msg": documents.msg("Your visit", LINES, ("a.txt", TEXT)),
    "locked-office": documents.locked_office(),
    "zip": documents.zipped({"a.docx": documents.docx(LINES), "b.txt": TEXT}),
    "locked-zip": documents.locked_zip("a.txt", "x"),
    "tar": documents.tar({"a.txt": TEXT}),
    "gzip": documents.gz(TEXT),
    "hl7v2": documents.hl7(),
    "x12": documents.x12(),
    "fhir": documents.fhir(),
    "c-cda": documents.cda(),
    "dicom": documents.dicom(),
    "png": documents.png(800, 600),
    "eml": b"From: a@b.example\r\nSubject: Result\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n"
    + TEXT + b"\r\n--x--\r\n",
    "html": b"<html><body><table><tr><td>DOB<td>03/14/1962</table>&#77;RN 4471829<script>x</script></body></html>",
    "ics": b"BEGIN:VCALENDAR\r\nSUMMARY:Colonoscopy\\, MRN 4471829\r\nEND:VCALENDAR\r\n",
}  # fmt: skip


def flip(data: bytearray, chance: random.Random) -> None:
    """Some octets become others."""
    for _ in range(chance.randint(1, 8)):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)


def cut(data: bytearray, chance: random.Random) -> None:
    """The end is missing."""
    del data[chance.randrange(len(data) + 1) :]


def drop(data: bytearray, chance: random.Random) -> None:
    """A piece is missing."""
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.randint(1, 64)]


def repeat(data: bytearray, chance: random.Random) -> None:
    """A piece stands there again, elsewhere."""
    start, place = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
    data[place:place] = data[start : start + chance.randint(1, 512)]


def extreme(data: bytearray, chance: random.Random) -> None:
    """A length or offset becomes the largest, the smallest, or a little less than nothing."""
    width = chance.choice((1, 2, 4, 8))
    start = chance.randrange(len(data) + 1)
    data[start : start + width] = chance.choice((b"\xff", b"\x00", b"\x7f")) * width


def join(data: bytearray, chance: random.Random) -> None:
    """Half of another document follows."""
    other = chance.choice(list(SEEDS.values()))
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other) + 1) :]


DAMAGE: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, cut, drop, repeat, extreme, join)


def damaged(kind: str, seed: int) -> bytes:
    """A document with one to four damages; the same for the same seed."""
    chance = random.Random(zlib.crc32(f"{kind} {seed}".encode()))
    data = bytearray(SEEDS[kind])
    for _ in range(chance.randint(1, 4)):
        chance.choice(DAMAGE)(data, chance)
    return bytes(data)
