"""Reading pictures: with a stand-in for the reader, and with the real one where ``postern[ocr]`` is installed."""

import pytest

from relay.core.phi import Phi
from relay.extract.budget import AttachmentLimits
from relay.extract.engine import ScanEngine, load_judge
from relay.extract.extractor import Extractor
from relay.extract.formats.ocr import PictureReader
from relay.extract.helper import ExtractLimits
from tests.support import documents
from tests.unit.scan.test_engine import mail
from tests.unit.scan.test_helper import digest, helper, in_helper

PAGE = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (1200).to_bytes(4, "big") + (900).to_bytes(4, "big")
RESULT = "Patient: Jane Roe\nDOB 03/04/1961\nHbA1c 8.1 %"


class Reads(PictureReader):
    """A reader that sees the same in every picture."""

    def __init__(self, text):
        self.text = text

    def read_file(self, data):
        return self.text, not data.endswith(b"page 2")

    def read(self, pixels):
        return self.text


def scan(content, text, **limits):
    extractor = Extractor(AttachmentLimits(**limits), Reads(text))
    return ScanEngine(load_judge(lambda plain: plain), extractor=extractor).scan(content)


def test_text_in_a_picture_is_judged():
    report = scan(mail("See attached.", **{"scan.png": PAGE}), RESULT)
    assert report.verdict.phi >= Phi.LIKELY
    assert not report.verdict.is_unreadable
    assert report.attachments[0].unreadable == ""


def test_a_fax_of_several_pages_is_judged_by_the_first_and_stays_unreadable():
    report = scan(mail("See attached.", **{"fax.tif": PAGE + b"page 2"}), RESULT)
    assert report.verdict.phi >= Phi.LIKELY
    assert report.attachments[0].unreadable == "image"


def test_a_picture_without_text_stays_unreadable():
    report = scan(mail("See attached.", **{"wound.png": PAGE}), "")
    assert report.attachments[0].unreadable == "image"
    assert report.verdict.phi >= Phi.POSSIBLE


def test_pictures_beyond_the_time_stay_unreadable():
    report = scan(mail("See attached.", **{"scan.png": PAGE}), RESULT, picture_seconds=0.0)
    assert report.attachments[0].unreadable == "image"


def test_a_picture_in_a_document_is_judged():
    report = scan(mail("See attached.", **{"a.docx": documents.docx(["Results"], {"word/media/a.png": PAGE})}), RESULT)
    assert report.verdict.phi >= Phi.LIKELY
    assert not report.verdict.is_unreadable
    without = scan(mail("See attached.", **{"a.docx": documents.docx(["Hello"], {"word/media/a.png": PAGE})}), "")
    assert without.attachments[0].unreadable == "image"


def test_a_scanned_page_is_judged_by_its_picture():
    pytest.importorskip("numpy")
    report = scan(mail("See attached.", **{"fax.pdf": documents.pdf([], image=True)}), RESULT)
    assert report.verdict.phi >= Phi.LIKELY
    assert not report.verdict.is_unreadable


@pytest.fixture(scope="module")
def picture():
    pytest.importorskip("rapidocr_onnxruntime")
    import cv2
    import numpy as np

    page = np.full((600, 1200, 3), 255, np.uint8)
    for number, line in enumerate(["Patient: Jane Roe", "DOB 03/04/1961", "MRN 4471829", "diabetes mellitus"]):
        cv2.putText(page, line, (60, 100 + 100 * number), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (0, 0, 0), 2, cv2.LINE_AA)
    return cv2.imencode(".png", page)[1].tobytes()


def test_the_models_in_the_wheel_read_a_page(picture):
    text, is_whole = PictureReader().read_file(picture)
    assert is_whole
    assert "4471829" in text
    assert "diabetes" in text


def test_damage_is_no_text(picture):
    reader = PictureReader()
    assert reader.read_file(picture[: len(picture) // 2])[0] == ""
    assert reader.read_file(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)[0] == ""


async def test_a_confined_job_reads_a_picture(picture, tmp_path):
    engine = ScanEngine(load_judge(digest))
    async with helper(tmp_path / "s", ExtractLimits(seconds=60.0, cpu_seconds=60)):
        report = await in_helper(engine, tmp_path / "s", deadline=60.0).scan(mail("See.", **{"scan.png": picture}))
    assert report.verdict.phi >= Phi.LIKELY
    assert not report.verdict.is_unreadable
