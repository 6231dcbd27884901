"""The mail of the benchmark: made up, all different, a third with patients' data, the same for every contender."""

import base64
import random
from dataclasses import dataclass
from typing import Final

SENDER: Final = "results@clinic.example"
_TEXT: Final = (
    "the quarterly report shows that our team in the northern building has moved the delivery of chairs from march to "
    "april because stock was late and the budget of 1200 was not approved before we met on tuesday at 14:30 please "
    "send comments to the front desk or call extension 4471 thank you for your patience regards see "
    "https://intranet.clinic.example/wiki/chairs for the plan of the rooms and who sits where when we move in"
)
_ESCAPED: Final = str.maketrans({"(": r"\(", ")": r"\)", "\\": r"\\"})
_WORDS: Final = tuple(_TEXT.split())
_FIRST: Final = ("Jane", "Omar", "Lucia", "Peter", "Aiko", "Grace", "Ivan", "Noor", "Maria", "Tom")
_LAST: Final = ("Roe", "Haddad", "Marin", "Fields", "Tanaka", "Okafor", "Petrov", "Khan", "Silva", "Berg")
_MAX_PROSE: Final = 60_000
_FINDINGS: Final = (
    "HbA1c 8.1 %, please go on with metformin for your type 2 diabetes",
    "the biopsy showed a carcinoma in situ; chemotherapy starts next week",
    "your lisinopril 20 mg for hypertension was renewed for 90 days",
    "the echocardiogram confirms atrial fibrillation, ICD-10 I48.91",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What one case sends.

    Attributes:
        size: octets of a message, about.
        html: multipart/alternative with an HTML part instead of plain text.
        pdf: multipart/mixed with a page of text and an image in a PDF.
        recipients: recipients of a message, ten at each domain.
        domains: how many domains single recipients are spread over.
    """

    size: int = 4096
    html: bool = False
    pdf: bool = False
    recipients: int = 1
    domains: int = 10


def recipients(number: int, kind: Kind) -> list[str]:
    """Whom a message goes to."""
    if kind.recipients == 1:
        return [f"pat{number}@mail{number % kind.domains}.example"]
    return [f"pat{number}.{one}@mail{one // 10 % 10}.example" for one in range(kind.recipients)]


def message(number: int, kind: Kind) -> bytes:
    """Message ``number``, with CRLF and without dot-stuffing (no line begins with a dot)."""
    chance = random.Random(number)
    lines = _prose(chance, min(kind.size, _MAX_PROSE) - 500)
    if number % 3 == 0:
        lines[len(lines) // 2 : len(lines) // 2] = _clinical(chance)
    head = [
        f"From: Clinic <{SENDER}>",
        f"To: {recipients(number, kind)[0]}",
        f"Subject: Note {number} on {chance.choice(_WORDS)}",
        "Date: Mon, 02 Mar 2026 10:00:00 +0000",
        f"Message-ID: <bench.{number}@clinic.example>",
        "MIME-Version: 1.0",
    ]
    if kind.pdf:
        body = _with_pdf(number, lines, chance.randbytes(kind.size * 3 // 4))
    else:
        body = _html(number, lines) if kind.html else _plain(lines)
    return "\r\n".join([*head, *body, ""]).encode("ascii")


def _prose(chance: random.Random, size: int) -> list[str]:
    lines = []
    left = size
    while left > 0:
        line = " ".join(chance.choices(_WORDS, k=11))
        lines.append(line)
        left -= len(line) + 2
    return lines


def _clinical(chance: random.Random) -> list[str]:
    name = f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"
    born = f"{chance.randint(1, 12):02}/{chance.randint(1, 28):02}/{chance.randint(1930, 2015)}"
    return [
        f"Patient: {name}, date of birth: {born}, MRN: {chance.randint(10**6, 10**7 - 1)}",
        f"{chance.choice(_FINDINGS)}.",
    ]


def _plain(lines: list[str]) -> list[str]:
    return ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 7bit", "", *lines]


def _html(number: int, lines: list[str]) -> list[str]:
    mark = f"=_bench_{number}"
    short = lines[: len(lines) // 8]
    rows = [f'<tr><td style="padding:4px"><p class="note">{line}</p></td></tr>' for line in lines]
    return [
        f'Content-Type: multipart/alternative; boundary="{mark}"', "", f"--{mark}", *_plain(short), f"--{mark}",
        "Content-Type: text/html; charset=utf-8", "Content-Transfer-Encoding: 7bit", "",
        "<html><head><style>p.note { color: #222 }</style></head><body><table>", *rows, "</table></body></html>",
        f"--{mark}--",
    ]  # fmt: skip


def _with_pdf(number: int, lines: list[str], noise: bytes) -> list[str]:
    """Half of the text in the body, half in the PDF; what fills it up is the image."""
    mark, half = f"=_bench_{number}", len(lines) // 2
    encoded = base64.b64encode(_pdf(lines[half:], noise)).decode("ascii")
    return [
        f'Content-Type: multipart/mixed; boundary="{mark}"', "", f"--{mark}", *_plain(lines[:half]), f"--{mark}",
        'Content-Type: application/pdf; name="note.pdf"', "Content-Transfer-Encoding: base64",
        'Content-Disposition: attachment; filename="note.pdf"', "",
        *(encoded[start : start + 76] for start in range(0, len(encoded), 76)), f"--{mark}--",
    ]  # fmt: skip


def _pdf(lines: list[str], noise: bytes) -> bytes:
    """A page with text and a grey image of noise (ISO 32000-1 section 7.5)."""
    shown = "".join(f"({line.translate(_ESCAPED)}) Tj T*\n" for line in lines)
    text = f"BT /F1 10 Tf 12 TL 40 800 Td\n{shown}ET\nq 1 0 0 1 40 40 cm /I1 Do Q\n".encode("ascii")
    width = 1000
    pixels = noise[: len(noise) // width * width]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R /Resources 7 0 R >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(text), text),
        b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8"
        b" /Length %d >>\nstream\n%b\nendstream" % (width, len(pixels) // width, len(pixels), pixels),
        b"<< /Font << /F1 4 0 R >> /XObject << /I1 6 0 R >> >>",
    ]
    file, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    end = b"xref\n0 %d\n0000000000 65535 f \n%btrailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return file + end % (size, table, size, len(file))
