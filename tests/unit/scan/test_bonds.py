"""A name and somebody's health in one sentence."""

import pytest

from relay.core.phi import Phi
from relay.extract.engine import ScanEngine, load_judge


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain))


def weight_of_name(engine, text):
    return max(finding.weight for finding in engine.scan_text(text).findings if finding.kind == "name")


@pytest.mark.parametrize(
    ("tied", "loose"),
    [
        ("Ellen Marsh has pneumonia.", "Ellen Marsh has the keys. Someone has a question. It is about pneumonia."),
        ("Ellen Marsh was seen for asthma and gout.", "Ellen Marsh was here.\n\nAsthma is in the guideline."),
        (
            "Attached is the colonoscopy report of Ellen Marsh.",
            "The colonoscopy course was moved, so Ellen Marsh left.",
        ),
        ("Dear Mr. Marsh, your biopsy results are back.", "Dear Mr. Marsh, your order is back."),
        ("Can you see Ellen Marsh? Migraine and nausea since May.", "Can you see Ellen Marsh? It is about the rota."),
        ("Dear Mrs. Marsh,\n\nyour mammogram is due.", "Mrs. Marsh is here.\n\nThe mammogram unit is closed."),
        ("Tom A. Marsh takes warfarin.", "- Tom A. Marsh\n- the warfarin guideline"),
    ],
)
def test_in_one_sentence_a_name_says_more(engine, tied, loose):
    assert weight_of_name(engine, tied) > weight_of_name(engine, loose)
    assert engine.scan_text(tied).phi >= Phi.LIKELY
    assert engine.scan_text(loose).phi < Phi.LIKELY


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Ellen Marsh treats pneumonia.",
        "Ellen Marsh, RN, teaches the course on asthma.",
        "The asthma talk was good.\n\nRegards,\nEllen Marsh",
        "Reporter: Ellen Marsh. The medication list is empty.",
        "Ellen Marsh in medical records has a new phone.",
        "Please welcome Ellen Marsh, our new diabetes educator.",
        "Mr. Marsh, your quote for six EKG machines is ready.",
        "Project plan: sepsis alert, owner Ellen Marsh.",
        "Edited by Ellen Marsh. This week: measles, insulin prices.",
    ],
)
def test_who_treats_writes_or_works_there_is_no_patient(engine, text):
    assert engine.scan_text(text).phi < Phi.LIKELY


def test_who_is_greeted_is_not_who_is_spoken_of(engine):
    assert engine.scan_text("Hi, Ellen Marsh called about her Percocet.").phi >= Phi.LIKELY
    assert engine.scan_text("Hi Ellen, the Percocet shipment is late.").phi < Phi.LIKELY


@pytest.mark.parametrize("name", ["Priya Raghunathan", "Kofi Mensah", "Jayden Nguyen", "Oluwaseun Adeyemi"])
def test_names_of_today_are_known(engine, name):
    assert engine.scan_text(f"{name} has asthma and takes prednisone.").phi >= Phi.LIKELY


def test_a_full_name_without_capitals_after_a_word_that_leads_to_one(engine):
    assert engine.scan_text("pls call jose ramirez re: his biopsy results").phi >= Phi.LIKELY
    assert engine.scan_text("call rose about the biopsy results of the study").phi < Phi.LIKELY


def test_a_word_that_begins_like_the_name_of_a_test_does_not_hide_a_name(engine):
    assert "name" in engine.scan_text("Jordan Whitfield tested positive for strep.").counts()
    assert "name" not in engine.scan_text("The Jordan Whitfield test was positive for strep.").counts()
