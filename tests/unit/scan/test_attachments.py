"""What is attached: read by content, bounded, and never silently skipped."""

import io
import zipfile
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.phi import FindingGroup, Phi
from relay.extract.budget import AttachmentLimits
from relay.extract.engine import ScanEngine, load_judge
from relay.extract.extractor import Extractor
from tests.support import documents as d
from tests.unit.scan.test_engine import mail

PHI = ["Patient: Maribel Quintana", "DOB: 03/14/1962   MRN: 4471829", "Diagnosis: type 2 diabetes, on metformin"]
PLAIN = ["Agenda for Friday", "1. Parking permits", "2. Holiday rota"]
ROWS = [["Patient name", "DOB", "MRN", "Diagnosis"], ["Maribel Quintana", "03/14/1962", "4471829", "diabetes"]]
PLAIN_ROWS = [["Item", "Price"], ["Chair", "120"], ["Desk", "310"]]

BY_LINES = {"docx": d.docx, "pptx": d.pptx, "odf": d.odt, "rtf": d.rtf, "pdf": d.pdf, "doc": d.doc}


@pytest.fixture(scope="module")
def judge():
    return load_judge(lambda plain: plain)


@pytest.fixture(scope="module")
def engine(judge):
    return ScanEngine(judge, extractor=Extractor())


def attached(engine, data, name="file.bin"):
    return engine.scan(mail("See attached.", **{name: data}))


@pytest.mark.parametrize(("kind", "make"), BY_LINES.items(), ids=BY_LINES)
def test_documents_with_phi_and_without(engine, kind, make):
    report = attached(engine, make(PHI))
    assert report.verdict.phi is Phi.CERTAIN
    assert {"date-of-birth", "mrn"} <= set(report.verdict.counts())
    assert [attachment.type for attachment in report.attachments] == [kind]
    assert not report.attachments[0].unreadable
    plain = attached(engine, make(PLAIN))
    assert plain.verdict.phi is Phi.NONE, plain.verdict


@pytest.mark.parametrize(
    ("kind", "phi", "plain"),
    [
        ("xlsx", d.xlsx(ROWS), d.xlsx(PLAIN_ROWS)),
        ("zip", d.zipped({"a.txt": "\n".join(PHI)}), d.zipped({"a.txt": "\n".join(PLAIN)})),
        (
            "zip",
            d.zipped({"in.zip": d.zipped({"a.pdf": d.pdf(PHI)})}),
            d.zipped({"in.zip": d.zipped({"a.pdf": d.pdf(PLAIN)})}),
        ),
        ("tar", d.tar({"a.txt": "\n".join(PHI).encode()}), d.tar({"a.txt": "\n".join(PLAIN).encode()})),
        ("gzip", d.gz("\n".join(PHI).encode()), d.gz("\n".join(PLAIN).encode())),
        ("msg", d.msg("Your visit", PHI), d.msg("Friday", PLAIN)),
        ("msg", d.msg("Fwd", ["see"], ("a.pdf", d.pdf(PHI))), d.msg("Fwd", ["see"], ("a.pdf", d.pdf(PLAIN)))),
        ("pdf", d.pdf(["Form"], field=("MRN", "4471829, diabetes, asthma")), d.pdf(["Form"], field=("Colour", "blue"))),
    ],
)
def test_containers_and_forms(engine, kind, phi, plain):
    report = attached(engine, phi)
    assert report.verdict.phi >= Phi.LIKELY, report.verdict
    assert report.attachments[0].type == kind
    assert not report.verdict.is_unreadable
    plain_report = attached(engine, plain)
    assert plain_report.verdict.phi is Phi.NONE, plain_report.verdict


@pytest.mark.parametrize(
    ("kind", "phi", "plain"),
    [
        ("hl7v2", d.hl7(), d.hl7("", "", "")),
        ("x12", d.x12(), d.x12("")),
        ("fhir", d.fhir(), d.fhir(patient=False)),
        ("c-cda", d.cda(), d.cda(patient=False)),
        ("dicom", d.dicom(), d.dicom("")),
    ],
)
def test_clinical_formats_are_certain_when_they_name_a_patient(engine, kind, phi, plain):
    report = attached(engine, phi, name="export.dat")
    assert report.verdict.phi is Phi.CERTAIN
    assert report.attachments[0].type == kind
    (structure,) = [finding for finding in report.verdict.findings if finding.group is FindingGroup.STRUCTURE]
    assert structure.kind == kind
    assert {"date-of-birth", "mrn"} & set(report.verdict.counts()) or kind == "x12"
    assert attached(engine, plain).verdict.phi < Phi.LIKELY


def table(rows):
    cells = "".join(
        "<w:tr>" + "".join(f"<w:tc><w:p><w:r><w:t>{cell}</w:t></w:r></w:p></w:tc>" for cell in row) + "</w:tr>"
        for row in rows
    )
    document = f'<w:document xmlns:w="{d.W}"><w:body><w:tbl>{cells}</w:tbl></w:body></w:document>'
    return d.zipped({"[Content_Types].xml": "<Types/>", "word/document.xml": document})


def test_a_table_in_a_document_keeps_its_rows(engine):
    report = attached(engine, table(ROWS))
    assert {"date-of-birth", "mrn", "name-field"} <= set(report.verdict.counts())
    assert attached(engine, table(PLAIN_ROWS)).verdict.phi is Phi.NONE


@pytest.mark.parametrize("part", ["docProps/custom.xml", "customXml/item1.xml", "word/charts/chart1.xml"])
@pytest.mark.parametrize("damaged", ["", "<a><br></a>", '<!DOCTYPE a [<!ENTITY b "c">]><a/>'])
def test_a_damaged_part_beside_a_document_s_own_is_told_and_takes_nothing_from_it(engine, part, damaged):
    def with_part(data):
        with zipfile.ZipFile(io.BytesIO(data)) as document:
            parts = {name: document.read(name) for name in document.namelist()}
        return d.zipped({**parts, part: damaged})

    report = attached(engine, with_part(d.docx(PHI)))
    assert report.verdict.phi is Phi.CERTAIN
    assert report.attachments[0].unreadable == "malformed"
    plain = attached(engine, with_part(d.docx(PLAIN)))
    assert (plain.verdict.phi, plain.attachments[0].unreadable) == (Phi.POSSIBLE, "malformed")


@pytest.mark.parametrize("damage", [0, 1, 200, -3])
def test_what_stands_before_the_damage_in_a_winmail_is_judged(engine, damage):
    whole = d.tnef("Result", PHI, [("a.txt", b"x" * 500)])
    spoiled = whole[: damage or None] if damage <= 0 else whole[:-300] + bytes([damage]) + whole[-299:]
    report = attached(engine, spoiled)
    assert report.verdict.phi is Phi.CERTAIN
    assert ("unreadable: malformed" in report.verdict.counts()) == (damage != 0)


def test_a_winmail_is_read_whatever_its_name_and_no_deeper_than_the_limit(engine):
    nested = d.tnef("Result", PHI)
    for _ in range(9):
        nested = d.tnef("Fwd", nested=nested)
    report = attached(engine, nested, name="part.1.2")
    assert report.attachments[0].unreadable == "depth"
    assert report.verdict.phi >= Phi.POSSIBLE


def test_rich_text_that_unpacks_beyond_the_limit_is_a_bomb(judge):
    engine = ScanEngine(judge, extractor=Extractor(AttachmentLimits(octets=50_000)))
    packed = d.packed_rtf(d.rtf(["x" * 60_000]))
    assert attached(engine, d.tnef("s", rich=packed)).attachments[0].unreadable == "bomb"


def bomb(octets):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", b"0" * octets)
    return out.getvalue()


def deep(levels):
    data = "\n".join(PHI).encode()
    for _ in range(levels):
        data = d.gz(data)
    return data


ENTITIES = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (d.locked_zip("a.txt", "secret"), "encrypted"),
        (d.locked_office(), "encrypted"),
        (d.zipped({"a": "x"})[:-12], "malformed"),
        (b"%PDF-1.7\nnothing more", "malformed"),
        (d.docx(PLAIN, {"word/header1.xml": "<unclosed"}), "malformed"),
        (d.docx(PLAIN, {"word/header1.xml": ENTITIES}), "malformed"),
        (ENTITIES, "malformed"),
        (d.zipped({"[Content_Types].xml": "<Types/>", "ppt/elsewhere/slide1.xml": "<a>text</a>"}), "malformed"),
        (d.zipped({"[Content_Types].xml": "<Types/>", "xl/elsewhere.xml": "<a>text</a>"}), "malformed"),
        (bomb(3_000_000), "bomb"),
        (deep(9), "depth"),
        (d.zipped({f"{number}.txt": "x" for number in range(60)}), "files"),
        (d.pdf([], image=True), "image"),
        (d.png(1200, 1600), "image"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(50), "archive"),
        (bytes(range(256)), "format"),
        (d.gz(b"x" * 100)[:-20], "malformed"),
        (bytes(128) + b"DICM" + b"\xff" * 40, "malformed"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "malformed"),
    ],
)
def test_what_cannot_be_read_is_said_and_never_none(judge, data, reason):
    engine = ScanEngine(judge, extractor=Extractor(AttachmentLimits(octets=1_000_000, files=50, depth=5)))
    report = attached(engine, data)
    assert f"unreadable: {reason}" in report.verdict.counts(), report.verdict
    assert report.verdict.phi >= Phi.POSSIBLE
    assert report.attachments[0].unreadable == reason


def test_an_empty_sheet_is_no_damage(engine):
    empty = d.zipped(
        {"[Content_Types].xml": "<Types/>", "xl/worksheets/sheet1.xml": "<worksheet><sheetData/></worksheet>"}
    )
    assert attached(engine, empty).verdict.phi is Phi.NONE


def test_a_decoration_needs_no_reading(engine):
    assert attached(engine, d.png(200, 60)).verdict.phi is Phi.NONE


def test_all_text_of_a_pdf_is_read_with_its_points_and_beyond_the_edge_of_the_page(judge):
    lines = [
        "write to jane.roe@mail.example",
        *["and so on"] * 90,
        "Born 03.04.1961",
        "MRN 4471-",
        "829 and diabe-",
        "tes",
    ]
    reading = ScanEngine(judge, extractor=Extractor()).read(mail("x", **{"a.pdf": d.pdf(lines)}))
    text = next(passage.text for passage in reading.passages if passage.part == "2")
    assert text.count("and so on") == 90
    assert "jane.roe@mail.example" in text
    assert "Born 03.04.1961" in text
    assert "MRN 4471-\n829 and diabetes" in text


def test_a_damaged_xfa_form_takes_nothing_from_the_pages_of_a_pdf(engine):
    content = Path(__file__).parents[2].joinpath("corpus/attached-pdf-xfa.eml").read_bytes()
    sent = message_from_bytes(content, policy=default)
    data = next(sent.iter_attachments()).get_content().replace(b"</DOB>", b"</DOC>")
    shown = b"Please wait... If this message is not eventually replaced by the proper contents"
    assert shown in data
    page = b"Patient: Maribel Quintana, DOB: 03/14/1962, MRN: 4471829, type 2 diabetes"
    report = attached(engine, data.replace(shown, page.ljust(len(shown))))
    assert report.verdict.phi is Phi.CERTAIN
    assert report.attachments[0].unreadable == "malformed"


def test_without_an_extractor_an_attachment_waits_for_the_helper(judge):
    reading = ScanEngine(judge).read(mail("x", **{"a.pdf": d.pdf(PLAIN)}))
    assert reading.deferred
    assert reading.faults == (("2", "deferred"),)


def test_the_worker_does_not_load_the_parsers():
    import subprocess
    import sys

    code = (
        "import sys; import relay.extract.client\n"
        "print([name for name in ('pypdfium2', 'pydicom', 'olefile', 'xlrd', 'striprtf') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


SEEDS = [make(PHI) for make in BY_LINES.values()] + [
    d.xlsx(ROWS), d.hl7(), d.x12(), d.fhir(), d.cda(), d.dicom(), d.msg("s", PHI),
    d.gz(b"\n".join(map(str.encode, PHI))), d.tar({"a.txt": b"x"}), d.pdf(["Form"], field=("MRN", "4471829")),
    d.tnef("s", PHI, [("a.txt", b"x")]), d.tnef("s", rich=d.packed_rtf(d.rtf(PHI))),
]  # fmt: skip


@given(st.sampled_from(SEEDS), st.data())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_spoiled_files_never_raise_and_are_never_silently_clean(judge, seed, data):
    spoiled = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(spoiled) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "drop", "repeat"]))
        if how == "set":
            spoiled[place] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del spoiled[max(place, 1) :]
        elif how == "drop":
            del spoiled[place : place + 9]
            spoiled = spoiled or bytearray(b"x")
        else:
            spoiled[place:place] = spoiled[place : place + 40]
    engine = ScanEngine(judge, extractor=Extractor(AttachmentLimits(octets=2_000_000)))
    report = attached(engine, bytes(spoiled))
    assert "unreadable: crash" not in report.verdict.counts()
