"""Names beside words of health in ordinary mail, and the same words where they are somebody's health."""

import pytest

from relay.core.phi import Phi
from relay.extract.engine import ScanEngine, load_judge

PROSE = "The afternoon went by with small talk about trains, and nobody minded that the tea was cold. " * 30


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(lambda plain: plain))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Asthma made simple: Rosa Whitcombe's garden club talk on pollen, Monday at six.", id="a-talk"),
        pytest.param(
            'Exhibit "Iron Lungs: Polio in the Valley". Curator Wilhelmina Tack leads the tour of the 1952 ward.',
            id="an-office",
        ),
        pytest.param("The prior authorization form for MRI is new. Questions: Tina Marsh 555-0144", id="who-answers"),
        pytest.param(
            'Mock code at 2:15, 3 North. Manikin "Mr. Plumley" is in vfib, first shock by 2:00.', id="a-manikin"
        ),
        pytest.param("Our vet says Bella's limp is a torn ligament, surgery is $3,200. Poor dog.", id="an-animal"),
        pytest.param('Testimonials! "Since March my hot flashes are gone." Dr. Mark Born', id="an-advertisement"),
        pytest.param("it's me again mark down the hernia leaflet for the stall", id="no-name-in-small"),
        pytest.param("Merged in MR 816, reported by Ian Kent: icons for disabled states.", id="a-merge-request"),
        pytest.param(
            '"ResourceArn": "arn:aws:s3:::lf-emr-athena-result-123", "Resource": "diabetes"', id="part-of-a-word"
        ),
        pytest.param(
            "If men are in a hurry, they find them a wife within a week. "
            "Lynch says clients he has found wives for include a man with post-traumatic stress disorder. " + PROSE,
            id="quoted",
        ),
    ],
)
def test_ordinary_mail_is_not_called_phi(engine, text):
    assert engine.scan_text(text).phi < Phi.LIKELY


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Rosa Whitcombe's leukemia is back, she talked about it at the garden club.", id="who-talked"),
        pytest.param("MR 81633 needs his insulin refilled.", id="a-record-number"),
        pytest.param("Mark Whitcombe Born: 4/2/1961, asthma, needs his inhaler.", id="a-birth"),
        pytest.param("EMR#88172 discharged with CHF.", id="a-labelled-number"),
        pytest.param("Bramwell says his epilepsy is worse, he wants a call.", id="who-says-so"),
        pytest.param(
            "hi its me again jimmy halloran, the hernia needs the operation, whats the fax number", id="in-small"
        ),
        pytest.param(
            "I was hospitalized with colitis and am on prednisone. Sincerely, Annelise Bergquist, student no. 4410",
            id="who-signs-with-an-office",
        ),
        pytest.param("Tina Marsh has questions about her MRI, the tumor has grown.", id="who-asks"),
    ],
)
def test_somebodys_health_in_the_same_words_is(engine, text):
    assert engine.scan_text(text).phi >= Phi.LIKELY
