"""The readers of what is attached, each by itself: what a stranger's file may do to them, and what it may not."""

from relay.extract.budget import AttachmentLimits, Budget, Extracted, UnreadableError
from relay.extract.extractor import Extractor
from relay.extract.sniff import sniff
from relay.mail.leaf import Leaf
from relay.mail.text import normalise
from tests.support import documents as made

LIMITS = AttachmentLimits(octets=4_000_000, files=50, depth=5, characters=2_000_000, pages=20)
REASONS = {
    "encrypted", "image", "format", "archive", "malformed", "encoding", "bomb", "depth", "files", "parts", "pages",
    "size",
}  # fmt: skip
LINES = ["Patient: Maribel Quintana", "DOB: 03/14/1962   MRN: 4471829", "Diagnosis: type 2 diabetes"]
ROWS = [["Patient name", "DOB", "MRN"], ["Maribel Quintana", "03/14/1962", "4471829"]]

SEEDS = {
    "pdf": [made.pdf(LINES), made.pdf(["Form"], field=("MRN", "4471829")), made.pdf([], image=True)],
    "zip": [made.docx(LINES), made.xlsx(ROWS), made.pptx(LINES), made.odt(LINES), made.zipped({"a.txt": "x"})],
    "ole": [made.msg("s", LINES, ("a.txt", b"x")), made.doc(LINES), made.locked_office()],
    "tar": [made.tar({"a.txt": b"x"})],
    "rtf": [made.rtf(LINES)],
    "xml": [b"<?xml version='1.0'?><a b='c'>d<e/>f</a>"],
    "dicom": [made.dicom()],
    "c-cda": [made.cda(), made.cda(patient=False)],
    "fhir-xml": [b'<Patient xmlns="http://hl7.org/fhir"><name><family value="Roe"/></name></Patient>'],
    "gzip": [made.gz(b"x" * 100)],
    "bzip2": [],
    "xz": [],
    "tnef": [made.tnef("s", LINES, [("a.txt", b"x")], made.tnef("t", LINES), "<p>x", made.packed_rtf(made.rtf(LINES)))],
    "image": [made.png(1200, 1600)],
    "hl7v2": [made.hl7()],
    "x12": [made.x12()],
    "fhir": [made.fhir()],
    "html": [b"<p>Pa<b>ti</b>ent</p><table><tr><td>DOB<td>03/14/1962</table>"],
    "text": ["\n".join(",".join(row) for row in ROWS).encode(), b"BEGIN:VCALENDAR\nSUMMARY:x\nEND:VCALENDAR\n",
             b"From: a@b.example\nSubject: x\nTo: c@d.example\n\nhello\n"],
    "office": [b"\0" + made.W.encode(), b"\1<c t='s'><v>0</v></c>", b"\2<a:t>x</a:t>", b"\3<text:p>x</text:p>"],
}  # fmt: skip
"""What the runs of the readers begin with, by format."""

_INSIDE = (
    {"[Content_Types].xml": b"<Types/>", "word/document.xml": None},
    {"[Content_Types].xml": b"<Types/>", "xl/sharedStrings.xml": None, "xl/styles.xml": None,
     "xl/worksheets/sheet1.xml": None},
    {"[Content_Types].xml": b"<Types/>", "ppt/slides/slide1.xml": None, "docProps/core.xml": None},
    {"mimetype": b"x", "content.xml": None, "META-INF/manifest.xml": None},
)  # fmt: skip


def _told(found: Extracted) -> None:
    """What is found can be judged, and what is wrong with it has a reason that the manual knows."""
    normalise(found.text)
    assert set(found.faults) <= REASONS, found.faults
    assert all(isinstance(content, bytes) for _, content in found.children)


def _of(kind: str):
    """The target for one format: its reader gives something, or says why not, and stays within the limits."""
    from relay.extract.extractor import read_as

    def target(data: bytes) -> None:
        budget = Budget(LIMITS)
        try:
            found = read_as(data, kind, "", budget)
        except UnreadableError as error:
            found = Extracted(type=kind, faults=(error.reason,))
        _told(found)
        assert sum(len(content) for _, content in found.children) <= LIMITS.octets + len(data)

    target.__name__ = f"extract_{kind}"
    return target


def extract_office(data: bytes) -> None:
    """XML as it stands inside Office documents, past the checksums of their archive."""
    inside = _INSIDE[data[0] % 4 if data else 0]
    archive = made.zipped({name: data[1:] if content is None else content for name, content in inside.items()})
    _of("zip")(archive)


def extract_anything(data: bytes) -> None:
    """A file of any kind, told by its content, and the files inside it."""
    leaf = Leaf(number="2", data=data, content_type="application/octet-stream", attached=True)
    kind = sniff(data, leaf.content_type)
    extractor = Extractor(LIMITS)
    contents = extractor.read(leaf, kind, extractor.budget())
    assert {reason for _, reason in contents.faults} <= REASONS
    for piece in contents.pieces:
        assert piece.part.startswith(leaf.number)


EXTRACTORS = {target.__name__: target for target in (*map(_of, SEEDS.keys() - {"office"}), extract_office)}
EXTRACTORS["extract_anything"] = extract_anything
