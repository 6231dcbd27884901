"""Persons on no list, and whom a text is about."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core.phi import FindingGroup, Phi
from relay.extract.engine import ScanEngine, load_judge
from relay.scan import strangers
from relay.scan.words import SIZE, Words, places_of


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain))


def identifiers(engine, text):
    """Kind, text and weight of each identifier."""
    return [
        (finding.kind, text[finding.start : finding.end], finding.weight)
        for finding in engine.scan_text(text).findings
        if finding.group is FindingGroup.IDENTIFIER
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Zorvka Wiecelsky", "Zorvka Wiecelsky called, her insulin ran out and her blood sugar is high."),
        ("Ngodzi Okwuosha", "Can you refill metformin for Ngodzi Okwuosha? She takes two pills."),
        ("Anaherra", "my daughter Anaherra has asthma and a fever."),
        ("Thurzo-Linnacker", "The wife of Thurzo-Linnacker says he needs morphine, the lung cancer is back."),
        ("NAKAMUTO, Harutsu", "NAKAMUTO, Harutsu - INR 4.8, hold warfarin tonight."),
        ("Esparenza de la Gorza", "Please schedule Esparenza de la Gorza for a mammogram and a biopsy."),
        ("Ibraheeb bin Yussaf", "Ibraheeb bin Yussaf was seen in clinic today for gout."),
        ("T. Vanderzloot", "preop: colonoscopy for T. Vanderzloot, he has diabetes and asthma"),
        ("Priyamvadi S.", "Spoke with Priyamvadi S. about her migraine and depression."),
        ("Castellanos-Whitfeld", "Baby boy Castellanos-Whitfeld has jaundice, bilirubin 14."),
        ("Diopsi", "Papa Diopsi came in with a migraine and pneumonia."),
        ("Dagni Solhaim", "Her name is Dagni Solhaim, broken pelvis, pneumonia."),
        ("Kwabeno Asanti-Mensa", "Kwabeno Asanti-Mensa's creatinine is 3.1, he may need dialysis."),
        ("Li Xiuyong", "Please call Li Xiuyong regarding her HIV viral load and hepatitis."),
        ("BEGONIAZ, Maridela", "Redraw for BEGONIAZ, Maridela please, the potassium was hemolyzed."),
        ("Thornquistl", "Bed 6 Thornquistl: morphine at nine, pneumonia is better."),
        ("OSTREGO-VANDAL, G.", "OSTREGO-VANDAL, G. 44F lap chole, latex allergy, asthma."),
        ("Ottolinia", "Thank you for sending Ottolinia. She has asthma and her pneumonia is back."),
        ("Wojtasky", "the Wojtasky kids have asthma, and the older one needs a root canal"),
        ("novotnik", "rm 14 mr novotnik has pneumonia and needs insulin"),
        ("vasquellian", "ms vasquellian flies on friday, she is on methotrexate for arthritis"),
        ("T.K.", "T.K. told me that he is using heroin again, his methadone ran out."),
        ("ricardo jimenez", "can you add ricardo jimenez to the list, he has asthma and pneumonia"),
    ],
)
def test_a_person_on_no_list_is_found_near_health(engine, name, text):
    assert name in [found for _, found, _ in identifiers(engine, text)]
    assert engine.scan_text(text).phi >= Phi.LIKELY


@pytest.mark.parametrize(
    "text",
    [
        "Our speaker is Zorvka Wiecelsky, who will talk about diabetes prevention at noon.",
        "The Oosterhuys Foundation gave two million for cancer research.",
        "Dr. Pietra Zanetto treats varicose veins and asthma.",
        "The rash of burglaries near Pine Hollow has neighbors worried, said Kurt Vandermeer.",
        "Proposal from Vanderzloot Architects for the new dialysis unit, floor plan attached.",
        "Zimmer Biomet will recall the hip implant after infection.",
        "Webinar with Priyamvadi Rau, PharmD: new drugs for obesity and diabetes.",
        "Trial of asthma drugs: Kaltenbrunnen Pharma stock fell.",
        "Interview with Chiwettel Mbekki, head of malaria research at Gilden Institute.",
        "On call this week: Achterbarg (cardiology), Bhat (neurology), Okaforo (surgery).",
        "Invoice from Lindqvest Medical Supplies: 12 boxes of gloves, 4 blood pressure cuffs.",
        "The film stars Amarra Nwosi as a surgeon who has cancer.",
    ],
)
def test_who_speaks_treats_or_makes_news_is_no_patient(engine, text):
    assert engine.scan_text(text).phi < Phi.LIKELY


@pytest.mark.parametrize(
    ("about", "not_about"),
    [
        ("Ellen Marsh came by, she has asthma.", "Ellen Marsh came by. Asthma is the topic."),
        ("Mr. Marsh is here, he has asthma.", "Mr. Marsh is here for the asthma talk."),
        ("This is Ellen Marsh. My asthma is worse.", "This is Ellen Marsh. The asthma talk is at 9."),
        ("My asthma is worse.\nEllen Marsh", "The asthma talk is at 9.\nEllen Marsh"),
        ("Dear Ellen, your biopsy showed cancer.", "Dear Ellen, the biopsy course is on cancer."),
        ("Hi Ellen, your cholesterol is high.", "Hi Ellen, your order of cholesterol tests came."),
        ("Ellen Marsh, 4/11/1963, has asthma.", "Ellen Marsh, 4/11/2031, on asthma."),
        ("Bed 4 Ellen Marsh: asthma.", "Booth 4 Ellen Marsh: asthma."),
        ("Grandma (Ellen Marsh) needs an inhaler.", "Speaker (Ellen Marsh) on the inhaler."),
        ("My son has asthma.\nRegards,\nEllen Marsh", "The asthma talk is at 9.\nRegards,\nEllen Marsh"),
        ("My asthma is worse.\nRegards,\nMrs. Ellen Marsh", "The asthma talk is at 9.\nRegards,\nMrs. Ellen Marsh"),
        ("Ellen Marsh has asthma.", "Ellen Marsh has asthma. This is a press office, for media inquiries call us."),
    ],
)
def test_a_name_weighs_more_where_the_text_is_about_it(engine, about, not_about):
    def weight(text):
        return max(weight for kind, _, weight in identifiers(engine, text) if kind in {"name", "name-self"})

    assert weight(about) > weight(not_about)


def test_the_mailbox_and_phone_of_who_complains_are_a_patients(engine):
    mine = "I have asthma and my Zoloft ran out. Call me at 212-736-5000 or ellen@mail.example"
    assert [kind for kind, _, _ in identifiers(engine, mine)] == ["patient-contact"] * 2
    assert engine.scan_text(mine).phi >= Phi.LIKELY
    theirs = "The clinic treats asthma and depression. Call us at 212-736-5000 or desk@mail.example"
    assert [kind for kind, _, _ in identifiers(engine, theirs)] == ["phone", "email"]
    assert engine.scan_text(theirs).phi < Phi.LIKELY


def test_the_only_way_to_reach_one_person_with_an_illness_is_that_persons(engine):
    one = "The caller at 212-736-5000 ran out of insulin and has pneumonia, she sounds confused."
    assert [kind for kind, _, _ in identifiers(engine, one)] == ["patient-contact"]
    assert engine.scan_text(one).phi >= Phi.LIKELY
    all_of_them = "Call 212-736-5000 for insulin and pneumonia shots."
    assert [kind for kind, _, _ in identifiers(engine, all_of_them)] == ["phone"]


def test_a_number_without_dashes_is_a_phone_where_one_is_asked_to_call(engine):
    text = "my son has asthma and pneumonia, please call me at 2127365000"
    assert [(kind, found) for kind, found, _ in identifiers(engine, text)] == [("patient-contact", "2127365000")]
    assert identifiers(engine, "my son has asthma and pneumonia, order 2127365000") == []


def test_what_is_said_to_all_is_found_and_not_told(engine):
    verdict = engine.scan_text("We are hiring: Ellen Marsh has asthma.")
    assert verdict.phi < Phi.LIKELY
    assert "public" not in {finding.kind for finding in verdict.findings}


def test_the_newest_name_found_leaves_mail_without_health_alone(engine):
    assert identifiers(engine, "Zorvka Wiecelsky called, she is late for the meeting.") == []


def test_words_are_known_with_their_endings():
    bits = bytearray(SIZE // 8)
    for word in (b"insure", b"berry", b"walk", b"card"):
        for place in places_of(word):
            bits[place >> 3] |= 1 << (place & 7)
    words = Words(memoryview(bits))
    known = (b"insure", b"insured", b"insuring", b"berries", b"walks", b"walked", b"walker", b"cards", b"card's")
    assert [word for word in known if word not in words] == []
    assert [word for word in (b"zorvka", b"wiecelsky", b"insurance", b"ca", b"s") if word in words] == []


RUNS = st.lists(
    st.sampled_from(
        ["Jane", "Roe", "ROE", "McFee", "O'Hara", "de", "la", "St.", "J.", "x", "9", "_", "@", "-", "'s", "\xc9va",
         "\xdf", "\n", " ", " ", ",", "(", '"', "/", "."]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@given(RUNS, st.integers(0, 40), st.integers(0, 60))
@example("Roe", 0, 3)
@example("xJane Roe ROE, Jane", 1, 19)
@example("Jane Roe\xc9va Roe", 0, 17)
def test_runs_of_capitals_are_those_of_the_pattern(text, start, size):
    data = text.encode("latin-1")
    end = min(start + size, len(data))
    found = [run.span() for run in strangers._runs(data)(start, end)]
    assert found == [run.span() for run in strangers._RUN.finditer(data, start, end)]
