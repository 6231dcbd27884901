"""What fuzzing found stays mended; and each target holds for a few inputs of hypothesis's own."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import portal
from tests.fuzz.targets import TARGETS

CASES = sorted((Path(__file__).parent / "cases").glob("*/*"))


@pytest.fixture(scope="module", autouse=True)
def ended():
    yield
    portal.end()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_what_was_found_stays_mended(case):
    TARGETS[case.parent.name](case.read_bytes())


PIECES = st.sampled_from(
    [
        b"\r\n", b"\r\n.\r\n", b"\n", b"\r", b"\0", b"EHLO a\r\n", b"MAIL FROM:<ehr@clinic.example>\r\n", b"DATA\r\n",
        b"RCPT TO:<a@b.example>\r\n", b"BDAT 9 LAST\r\n", b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n",
        b"--b--\r\n", b"Content-Type: message/delivery-status\r\n\r\n", b"Final-Recipient: rfc822; a@b.example\r\n",
        b"Status: 5.1.1\r\n", b"Content-Transfer-Encoding: base64\r\n", b"rules:\n  - ", b"id: x\n", b"when: {", b"}",
        b"version: STSv1\r\n", b"mode: enforce\r\n", b"mx: *.example\r\n", b"Subject: =?utf-8?q?=FF?=\r\n", b"\xff\xfe",
        b"<feedback>", b'{"policies":[', b"PK\x03\x04", b"\x1f\x8b\x08",
        b"POST /inbox/@D/reply\ncookie: @S\n", b"content-type: multipart/form-data; boundary=b\n\n", b"csrf=@C&text=",
    ]
)  # fmt: skip
OCTETS = st.lists(PIECES | st.binary(max_size=20), max_size=12).map(b"".join)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=OCTETS)
def test_each_target_holds(name, data):
    TARGETS[name](data)
