"""Persons told by the form in which notes have them, and whom a short message is about."""

import pytest

from relay.core.phi import FindingGroup, Phi
from relay.extract.engine import ScanEngine, load_judge
from relay.scan import forms


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain))


def named(engine, text):
    return [
        text[finding.start : finding.end]
        for finding in engine.scan_text(text).findings
        if finding.group is FindingGroup.IDENTIFIER and finding.kind.startswith("name") and finding.weight >= 0.3
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("L1 Okonjo G3P2, epidural in\nL2 Pfeiffer cytotec x3, contractions", "Okonjo"),
        ("Signing out: GI bleed next. Kessler: GI bleed, scope in AM, keep npo", "Kessler"),
        ("Sal had a stroke last night, please feed the cat", "Sal"),
        ("Cust: Buddy Rexroth, COPD, concentrator alarm", "Buddy Rexroth"),
        ("wants hiv testing and goes by Reyhan, syphilis too", "Reyhan"),
        ("in crisis with dad, suicidal. Name's Caden W. We're keeping him", "Caden W"),
        ("PID|1||300417||Castaneda-Holm^Freya||19930418\nbeta hCG, pregnancy", "Freya"),
        ("Zuzanna (10th, my class) has been making herself sick", "Zuzanna"),
        ("Visited with Arlo and his wife; morphine, hospice", "Arlo"),
        ("med log: form for Isla Rutherford says Zoloft, asthma", "Isla Rutherford"),
        ("Odell's wife called. He has pneumonia and a fever.", "Odell"),
        ("Hi it's Verla, week 5 of chemo, the nausea is bad", "Verla"),
        ("Visited with the Obermeyer family. Father is not expected to live, hospice called.", "Obermeyer"),
        ("Copay assistance approved for Vikram Sundaresan-Poe: Cosentyx, psoriasis", "Vikram Sundaresan-Poe"),
        ("We lost Gerald's dentures, the upper plate", "Gerald"),
        ("I have treated Anselm Brody for depression since 2019", "Anselm Brody"),
        ("FYI, Pemberton in 4B has had no bowel movement", "Pemberton"),
        ("I write about my father-in-law, Desmond Quaye, who had a stroke", "Desmond Quaye"),
        ("Name (last, first): Winterbourne, Jethro\nadenocarcinoma", "Winterbourne, Jethro"),
    ],
)
def test_a_name_is_told_by_its_form(engine, text, name):
    assert name in named(engine, text)
    assert engine.scan_text(text).phi >= Phi.LIKELY


@pytest.mark.parametrize(
    "text",
    [
        "Thrombophilia is an increased tendency to form blood clots.",
        "Fundraiser: walk for asthma and diabetes on Saturday.",
        "Template for Dr. Hallam: no new diabetes or asthma on Fridays.",
        "Mouth ulcers and gangrene, named Takahara disease, are rare.",
        "Workup has included imaging of the spine, and radiculopathy was found.",
        "Ludwig's angina and diabetes were treated last year.",
        "Boyfriend is on Lexapro and has headaches.",
    ],
)
def test_what_only_looks_like_it_is_nobody(engine, text):
    assert named(engine, text) == []
    assert engine.scan_text(text).phi < Phi.LIKELY


@pytest.mark.parametrize(
    ("about", "not_about"),
    [
        ("Hi Noreen,\nyour chemo starts Monday, call me.", "Hi Noreen,\nhis chemo starts Monday."),
        ("Hi Noreen, port placement is Monday and chemo after. Call me if you need a ride.",
         "Hi Noreen, port placement is Monday and chemo after. She has a ride."),
        ("Hi Noreen! Your mother's insulin and her Eliquis are ready.", "Hi Noreen! Insulin and Eliquis are ready."),
        ("I tested positive for covid and can't stop coughing.\n- Thaddeus", "Positive for covid.\n- Thaddeus"),
        ("My mom had a stroke and can't talk.\n- Thaddeus", "Had a stroke and can't talk.\n- Thaddeus"),
    ],
)  # fmt: skip
def test_who_is_spoken_to_or_speaks_is_the_one_it_is_about(engine, about, not_about):
    def weight(text):
        return max(
            finding.weight for finding in engine.scan_text(text).findings if finding.group is FindingGroup.IDENTIFIER
        )

    assert weight(about) > weight(not_about)


def test_a_long_text_is_not_looked_at_for_forms(engine):
    line = "L1 Okonjo G3P2, epidural in. "
    assert engine.scan_text(line).phi >= Phi.LIKELY
    assert "Okonjo" not in named(engine, line + "The meeting is at noon and the room is booked. " * 60)


def test_the_end_of_a_line_is_looked_for_no_further_than_it_counts(engine, monkeypatch):
    class Bounded:
        pattern, looked = forms._LINE_END, 0

        def search(self, data, start=0, stop=None):
            self.looked += (len(data) if stop is None else min(stop, len(data))) - start
            return self.pattern.search(data, start, len(data) if stop is None else stop)

    bounded = Bounded()
    monkeypatch.setattr(forms, "_LINE_END", bounded)
    engine.scan_text("asthma, diabetes, on metformin " + (":" * 5000 + "Sal had a stroke") * 50)
    assert 0 < bounded.looked <= 50 * 2 * forms._IN_LINE
