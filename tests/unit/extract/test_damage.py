"""Damaged attachments: a reader gives text or a reason, and nothing else ever comes out of it (law 3).

A longer run: ``bench/fuzz.py --minutes 10``.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.phi import Phi
from relay.extract.engine import ScanEngine, load_judge
from relay.extract.extractor import Extractor
from relay.extract.sniff import sniff
from relay.mail.leaf import Leaf
from tests.unit.extract.damage import SEEDS, damaged
from tests.unit.scan.test_engine import mail


def read(data, content_type="application/octet-stream"):
    """Read it as the helper does, without the net that the engine spreads below."""
    extractor = Extractor()
    leaf = Leaf(number="2", content_type=content_type, data=data, attached=True)
    return extractor.read(leaf, sniff(data, content_type), extractor.budget())


def check(data, content_type="application/octet-stream"):
    """What holds for every input: reasons are words, and a file that gave nothing gives a reason."""
    contents = read(data, content_type)
    assert all(reason.isalpha() for _, reason in contents.faults), contents.faults
    assert all(isinstance(piece.text, str) for piece in contents.pieces)
    return contents


@pytest.mark.parametrize("kind", SEEDS)
def test_the_undamaged_document_is_read(kind):
    contents = check(SEEDS[kind])
    assert contents.pieces or contents.faults


@pytest.mark.parametrize("kind", SEEDS)
@given(seed=st.integers(min_value=0, max_value=1 << 32))
@settings(max_examples=15, deadline=None)
def test_a_damaged_document_gives_text_or_a_reason(kind, seed):
    check(damaged(kind, seed))


@given(data=st.binary(max_size=600))
@settings(max_examples=150, deadline=None)
def test_any_octets_give_text_or_a_reason(data):
    check(data)


@given(kind=st.sampled_from(sorted(SEEDS)), cut=st.floats(min_value=0.0, max_value=1.0))
@settings(max_examples=60, deadline=None)
def test_a_truncated_binary_document_is_never_taken_for_nothing(engine, kind, cut):
    data = SEEDS[kind][: int(len(SEEDS[kind]) * cut)]
    report = engine.scan(mail("See attached.", **{"file.bin": data}))
    if data and not any(attachment.unreadable for attachment in report.attachments):
        return
    assert not data or report.verdict.phi >= Phi.POSSIBLE


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain), extractor=Extractor())


def test_a_reader_that_finds_a_value_odd_repeats_it_nowhere(recwarn, caplog, capfd):
    odd = SEEDS["dicom"].replace(b"4471829", b"44\x01\xff829")
    contents = check(odd + SEEDS["dicom"][132:])
    assert contents.structures or contents.faults
    shown = "".join([*(str(warning.message) for warning in recwarn), caplog.text, *capfd.readouterr()])
    assert "829" not in shown
    assert not recwarn
